// Package store keeps the collector's records: accounts, vehicles, ECU keys, their bindings and heads, submissions with their receipts,
// credits, usage reports, and the outbox from which the settler writes the ledger. Package outbox, whose statements have their tables
// here, and this one are the only ones with SQL in them.
//
// The records are the truth; queues and the ledger follow from them. Methods take and return typed values; a row that was written is
// never changed except for heads, flags and counters.
//
// The package decides nothing: whether a claim earns a credit is package credit's question. A statement that breaks a uniqueness rule
// fails the whole transaction.
package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/outbox"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrNotFound is returned for a record that is not there.
var ErrNotFound = database.ErrNotFound

// Config says where the records live.
type Config struct {
	// Path is the database file; it and its directory are made when missing, readable by their owner alone: it holds the
	// accounts' secrets. Required.
	Path string
	// BusyTimeout is how long a writer waits for another process's transaction; 5 s when zero.
	BusyTimeout time.Duration
}

// A DB is the open records. It may be used from several goroutines.
type DB struct{ db *database.DB }

// Open opens the records and brings their schema up to date. It refuses those that a newer program has written.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("cannot open records: %w", err)
	}
	db, err := database.Open(ctx, database.Config{Path: cfg.Path, Migrations: dir, BusyTimeout: cfg.BusyTimeout})
	if err != nil {
		return nil, err
	}
	return &DB{db}, nil
}

// Close waits for the transactions under way and closes the records.
func (d *DB) Close() error { return d.db.Close() }

// A Tx is a transaction: one state of the records, and with Update the right to change it.
type Tx struct {
	outbox.Box
	tx *database.Tx
}

// Update runs fn in a write transaction and commits it when fn returns nil. It waits for the writer before it. The transaction is
// on disk when Update returns nil; in every other case nothing of it is.
func (d *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	return d.db.Update(ctx, func(tx *database.Tx) error { return fn(&Tx{outbox.In(tx), tx}) })
}

// View runs fn over the last committed state. Writing in it fails.
func (d *DB) View(ctx context.Context, fn func(*Tx) error) error {
	return d.db.View(ctx, func(tx *database.Tx) error { return fn(&Tx{outbox.In(tx), tx}) })
}
