// Package store keeps the collector's records: accounts, vehicles, ECU keys and their heads, submissions with their receipts,
// credits, usage reports, and the outbox from which the settler writes the ledger. It is the only package with SQL in it.
//
// The records are the truth; queues and the ledger follow from them. A transaction that Update reports as done is on disk
// (write-ahead log, synchronous=FULL). There is one writer at a time; readers see the last committed state and never wait for it.
// Methods take and return typed values; a row that was written is never changed except for heads, flags and counters.
//
// The package decides nothing: whether a claim earns a credit is package credit's question. It refuses to open a database that a
// newer program has migrated, and a statement that breaks a uniqueness rule fails the whole transaction.
package store

import (
	"context"
	"database/sql"
	"embed"
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

//go:embed migrations/*.sql
var migrations embed.FS

// ErrNotFound is returned for a record that is not there.
var ErrNotFound = errors.New("not found")

const defaultBusyTimeout = 5 * time.Second

// Config says where the records live.
type Config struct {
	// Path is the database file; it and its directory are made when missing, readable by their owner alone: it holds the
	// accounts' secrets. Required.
	Path string
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
	if cfg.Path == "" {
		return nil, errors.New("cannot open records: no database file given")
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
	if err := migrate(ctx, d.write); err != nil {
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

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir, goose.WithLogger(goose.NopLogger()))
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

// A Tx is a transaction: one state of the records, and with Update the right to change it.
type Tx struct{ tx *sql.Tx }

// Update runs fn in a write transaction and commits it when fn returns nil. It waits for the writer before it. The transaction is
// on disk when Update returns nil; in every other case nothing of it is.
func (d *DB) Update(ctx context.Context, fn func(*Tx) error) error { return run(ctx, d.write, fn) }

// View runs fn over the last committed state. Writing in it fails.
func (d *DB) View(ctx context.Context, fn func(*Tx) error) error { return run(ctx, d.read, fn) }

func run(ctx context.Context, db *sql.DB, fn func(*Tx) error) (err error) {
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

// exec runs a statement that changes exactly one row.
func (t *Tx) exec(ctx context.Context, what, query string, args ...any) (sql.Result, error) {
	r, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("cannot %s: %w", what, err)
	}
	if n, err := r.RowsAffected(); err != nil {
		return nil, fmt.Errorf("cannot %s: %w", what, err)
	} else if n != 1 {
		return nil, fmt.Errorf("cannot %s: %d rows changed, want 1: %w", what, n, ErrNotFound)
	}
	return r, nil
}

// get reads one row into dest and maps a missing one to ErrNotFound.
func (t *Tx) get(ctx context.Context, what, query string, args []any, dest ...any) error {
	err := t.tx.QueryRowContext(ctx, query, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", what, err)
	}
	return nil
}

// one reads one row with a row's scan function.
func one[T any](ctx context.Context, t *Tx, what, query string, args []any, row func(*T, scanner) error) (v T, err error) {
	err = row(&v, func(dest ...any) error { return t.get(ctx, what, query, args, dest...) })
	return v, err
}

// each reads rows one by one.
func (t *Tx) each(ctx context.Context, what, query string, args []any, row func(scan scanner) error) error {
	rows, err := t.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", what, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return fmt.Errorf("cannot read %s: %w", what, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("cannot read %s: %w", what, err)
	}
	return nil
}

// list reads all rows with a row's scan function.
func list[T any](ctx context.Context, t *Tx, what, query string, args []any, row func(*T, scanner) error) (out []T, err error) {
	err = t.each(ctx, what, query, args, func(scan scanner) error {
		var v T
		if err := row(&v, scan); err != nil {
			return err
		}
		out = append(out, v)
		return nil
	})
	return out, err
}

// A scanner copies a row's columns.
type scanner = func(...any) error

// fixed scans a blob into an array of its length.
type fixed []byte

func (f fixed) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != len(f) {
		return fmt.Errorf("column holds %T of %d bytes, want %d bytes", v, len(b), len(f))
	}
	copy(f, b)
	return nil
}

// seq scans an unsigned 64-bit number kept as its two's complement.
type seq struct{ v *uint64 }

func (s seq) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("column holds %T, want a number", v)
	}
	*s.v = uint64(n)
	return nil
}
