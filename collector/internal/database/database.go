// Package database opens a program's database file and runs transactions in it. It is SQLite, in this process.
//
// A transaction that Update reports as done is on disk (write-ahead log, synchronous=FULL). There is one writer at a time; readers see
// the last committed state and never wait for it.
//
// The package knows no table: its user brings the schema's migrations and the statements. It refuses to open a database that a newer
// program has migrated.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

const defaultBusyTimeout = 5 * time.Second

// Config says where the database lives.
type Config struct {
	// Path is the database file; it and its directory are made when missing, readable by their owner alone. Required.
	Path string
	// Migrations holds goose's files, at least one. Required.
	Migrations fs.FS
	// BusyTimeout is how long a writer waits for another process's transaction; 5 s when zero.
	BusyTimeout time.Duration
}

// A DB is an open database. It may be used from several goroutines.
type DB struct {
	write *sql.DB // one connection
	read  *sql.DB
}

// Open opens the database and brings its schema up to date.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Path == "" || cfg.Migrations == nil {
		return nil, errors.New("cannot open records: no database file or no migrations given")
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot open records: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("cannot open records: %w", err)
	}
	// SQLite would make the file readable for everybody.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open records: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("cannot open records: %w", err)
	}
	busy := cfg.BusyTimeout
	if busy == 0 {
		busy = defaultBusyTimeout
	}
	d := &DB{}
	if d.write, err = sql.Open("sqlite", dsn(path, busy, "immediate", "journal_mode(WAL)")); err != nil {
		return nil, fmt.Errorf("cannot open records %s: %w", path, err)
	}
	d.write.SetMaxOpenConns(1)
	if err := migrate(ctx, d.write, cfg.Migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open records %s: %w", path, err), d.write.Close())
	}
	if d.read, err = sql.Open("sqlite", dsn(path, busy, "deferred", "query_only(1)")); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open records %s: %w", path, err), d.write.Close())
	}
	d.read.SetMaxOpenConns(max(4, runtime.GOMAXPROCS(0)))
	d.read.SetMaxIdleConns(max(4, runtime.GOMAXPROCS(0)))
	return d, nil
}

func dsn(path string, busy time.Duration, lock, pragma string) string {
	q := url.Values{"_txlock": {lock}, "_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busy.Milliseconds()), pragma, "synchronous(FULL)", "foreign_keys(1)",
	}}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

func migrate(ctx context.Context, db *sql.DB, migrations fs.FS) error {
	p, err := goose.NewProvider(goose.DialectSQLite3, db, migrations, goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("cannot read migrations: %w", err)
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("cannot read schema version: %w", err)
	}
	sources := p.ListSources()
	if newest := sources[len(sources)-1].Version; have > newest {
		return fmt.Errorf("its schema is version %d and this program knows %d: use the newer program that wrote it", have, newest)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("cannot migrate schema: %w", err)
	}
	return nil
}

// Close waits for the transactions under way and closes the database.
func (d *DB) Close() error { return errors.Join(d.read.Close(), d.write.Close()) }

// Update runs fn in a write transaction and commits it when fn returns nil. It waits for the writer before it. The transaction is
// on disk when Update returns nil; in every other case nothing of it is.
func (d *DB) Update(ctx context.Context, fn func(*Tx) error) error { return run(ctx, d.write, fn) }

// View runs fn over the last committed state. Writing in it fails.
func (d *DB) View(ctx context.Context, fn func(*Tx) error) error { return run(ctx, d.read, fn) }

func run(ctx context.Context, db *sql.DB, fn func(*Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("cannot begin transaction: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it has nothing to do
	if err := fn(&Tx{tx}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("cannot commit transaction: %w", err)
	}
	return nil
}
