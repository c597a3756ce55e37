// Package database opens a program's database and runs transactions in it. There are two engines: SQLite, in this process, and
// PostgreSQL. Both run the same statements, a few in another text on PostgreSQL (firewall.Statement says why).
//
// It is opened for a role, and runs only statements that are registered for it: package firewall. On SQLite that guards against faults in
// the program and not against somebody who has taken over the process, who has the file. On PostgreSQL each role is a login of its own
// that the server limits (package schema), so that a stolen connection is limited too.
//
// A transaction that Update reports as done is on disk. There is one writer at a time, on PostgreSQL by an advisory lock, so that
// serial numbers become visible in their order and what one writer has read, no other changes; readers see the last committed state and
// never wait for it.
//
// The package knows no table: its user brings the schema's migrations and the statements. It refuses to open a database that a newer
// program has migrated.
package database

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/postgres"
	"rawstone/collector/internal/sqlite"
)

const (
	defaultBusyTimeout      = 5 * time.Second
	defaultStatementTimeout = 30 * time.Second

	firstReaders = 2 // connections of ViewFirst
)

// ErrBusy is for a transaction, given up, that waited for another for longer than BusyTimeout or had a statement that took longer than
// StatementTimeout. Nothing is wrong with it: it may be run again.
var ErrBusy = errors.New("the database is busy")

// Config says where the database lives and who opens it.
type Config struct {
	// Path is SQLite's file; it and its directory are made when missing, readable by their owner alone. URL is PostgreSQL's address in
	// the form of package postgres. Exactly one is required.
	Path, URL string
	// Migrations holds goose's files, at least one, in the folders sqlite and postgres. Required.
	Migrations fs.FS
	// Statements are all that the program has. Required.
	Statements []firewall.Statement
	// Role is who opens it. Required.
	Role firewall.Role
	// BusyTimeout is how long a writer waits for another process's transaction; 5 s when zero.
	BusyTimeout time.Duration
	// StatementTimeout is how long PostgreSQL works on one statement; 30 s when zero.
	StatementTimeout time.Duration
	// Logger takes refusals; nil discards them. Registerer takes rawstone_database_refused_total; nil keeps it unseen.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// A DB is an open database. It may be used from several goroutines.
type DB struct {
	engine engine
	wall   *firewall.Firewall
	role   firewall.Role
}

// An engine runs transactions.
type engine interface {
	update(context.Context, func(runner) error) error
	// view reads over connections of their own when it comes first.
	view(ctx context.Context, first bool, fn func(runner) error) error
	backup(ctx context.Context, path string) error
	lock(ctx context.Context, name string) (*Lock, error)
	close() error
}

// A runner runs statements within one transaction.
type runner interface {
	// Exec runs a statement with each list of arguments and returns the number of rows that were changed.
	Exec(ctx context.Context, s firewall.Statement, lists [][]any) (int64, error)
	// ExecOne may leave the work to flush, which comes before each exec and each, and to get. With a serial, the statement returns it.
	ExecOne(ctx context.Context, s firewall.Statement, args []any, serial *int64) error
	// Flush does what was left to it, when that are at least so many statements.
	Flush(ctx context.Context, least int) error
	Get(ctx context.Context, s firewall.Statement, args, dest []any) error
	Each(ctx context.Context, s firewall.Statement, lists [][]any, fn func(Scanner) error) error
}

// Open opens the database. It brings SQLite's schema up to date; PostgreSQL's must be, because only its owner may change it.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if (cfg.Path == "") == (cfg.URL == "") || cfg.Migrations == nil {
		return nil, errors.New("cannot open records: give a database file or a PostgreSQL address, and migrations")
	}
	cfg.BusyTimeout = cmp.Or(cfg.BusyTimeout, defaultBusyTimeout)
	cfg.StatementTimeout = cmp.Or(cfg.StatementTimeout, defaultStatementTimeout)
	d := &DB{role: cfg.Role}
	var err error
	d.wall, err = firewall.New(firewall.Config{Role: cfg.Role, Statements: cfg.Statements, Logger: cfg.Logger, Registerer: cfg.Registerer})
	if err != nil {
		return nil, fmt.Errorf("cannot open records: %w", err)
	}
	if cfg.Path != "" {
		d.engine, err = openSQLite(ctx, cfg)
	} else {
		d.engine, err = openPostgres(ctx, cfg)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Close waits for the transactions under way and closes the database.
func (d *DB) Close() error { return d.engine.close() }

// Update runs fn in a write transaction and commits it when fn returns nil. It waits for the writer before it. The transaction is
// on disk when Update returns nil. Otherwise nothing of it is, except that nobody knows when PostgreSQL is lost while it commits.
// PostgreSQL may ask to run fn again, which happens at most five times.
func (d *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	return busy(d.engine.update(ctx, d.transaction(ctx, fn)))
}

func (d *DB) transaction(ctx context.Context, fn func(*Tx) error) func(runner) error {
	return func(s runner) error {
		tx := &Tx{d, s}
		if err := fn(tx); err != nil {
			return err
		}
		return tx.Flush(ctx)
	}
}

// busy marks an error that says nothing but to come again later.
func busy(err error) error {
	if sqlite.Busy(err) || postgres.Busy(err) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}

// View runs fn over the last committed state. Writing in it fails.
func (d *DB) View(ctx context.Context, fn func(*Tx) error) error { return d.look(ctx, false, fn) }

// ViewFirst does what View does over few connections of its own: it does not wait for any number of slow readers. It is for short reads
// on which somebody waits who is not the cause, as a vehicle that connects.
func (d *DB) ViewFirst(ctx context.Context, fn func(*Tx) error) error { return d.look(ctx, true, fn) }

func (d *DB) look(ctx context.Context, first bool, fn func(*Tx) error) error {
	return busy(d.engine.view(ctx, first, d.transaction(ctx, fn)))
}

// Backup writes the last committed state of SQLite's database to a file that must not exist, readable by its owner alone, while others
// read and write. It is for the role Admin; PostgreSQL has its own tools.
func (d *DB) Backup(ctx context.Context, path string) error {
	if d.role&firewall.Admin == 0 {
		return d.wall.Refuse(ctx, "back up records")
	}
	if err := d.engine.backup(ctx, path); err != nil {
		return fmt.Errorf("cannot back up records: %w", err)
	}
	return nil
}

// A Lock is held until it is released or its holder dies.
type Lock struct {
	lost    <-chan struct{}
	release func() error
}

// Lost returns a channel that is closed when the lock is held no more: PostgreSQL can be lost, a file cannot. From that moment on, and
// however late the holder notices, its database refuses to commit; it must be opened anew.
func (l *Lock) Lost() <-chan struct{} { return l.lost }

// Release lets the next one have the lock.
func (l *Lock) Release() error { return l.release() }

// Lock waits until nobody else holds the lock of that name, of letters only. A database holds at most one.
func (d *DB) Lock(ctx context.Context, name string) (*Lock, error) {
	for _, c := range name {
		if c < 'a' || c > 'z' {
			return nil, fmt.Errorf("cannot lock %q: a name is made of a to z", name)
		}
	}
	l, err := d.engine.lock(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", name, err)
	}
	return l, nil
}
