// Package store keeps the collector's records: accounts, vehicles, ECU keys, their bindings and heads, spans and credits. Packages inbox,
// outbox, opening, balance, handover, admission and summary, whose tables are in this package's schema, keep what vehicles sent, what the ledger is
// to get, what its blinded entries hide, what accounts earned, what keys are bound to no more and how vehicles may connect, and count; package erasure destroys what a person asks it to. So do estate, unboxing, history and answer
// with what owners ask for, get and were answered. These are the only ones with SQL in them.
//
// The records are the truth; queues and the ledger follow from them. Methods take and return typed values; a row that was written is
// never changed except for heads, flags and counters, which PostgreSQL enforces.
//
// The package decides nothing: whether a claim earns a credit is package credit's question. A statement that breaks a uniqueness rule
// fails the whole transaction, and so does one that is not the role's.
package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/admission"
	"rawstone/collector/internal/answer"
	"rawstone/collector/internal/balance"
	"rawstone/collector/internal/database"
	"rawstone/collector/internal/erasure"
	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/handover"
	"rawstone/collector/internal/history"
	"rawstone/collector/internal/inbox"
	"rawstone/collector/internal/opening"
	"rawstone/collector/internal/outbox"
	"rawstone/collector/internal/schema"
	"rawstone/collector/internal/summary"
	"rawstone/collector/internal/unboxing"
)

//go:embed migrations
var migrations embed.FS

// Errors of package database: a record that is not there, a statement that the role may not run.
var (
	ErrNotFound = database.ErrNotFound
	ErrRefused  = firewall.ErrRefused
)

// A Role says what its holder may do with the records. Several together may do what each of them may.
type Role = firewall.Role

// The roles of package database.
const (
	Ingest = firewall.Ingest
	Settle = firewall.Settle
	Web    = firewall.Web
	Audit  = firewall.Audit
	Admin  = firewall.Admin
	// Account does what owners ask for.
	Account = firewall.Account
	// Statements reads what owners' statements are made of.
	Statements = firewall.Statements
	// Person reads all that is kept of a person who asks for it.
	Person = firewall.Person
)

// What vehicles have sent is kept by package inbox.
type (
	Submission = inbox.Submission
	Report     = inbox.Report
	Charges    = inbox.Charges
	Usage      = inbox.Usage
	Refusals   = inbox.Refusals
)

// Openings and weights are read by packages opening and balance, enrolments kept by package admission; package summary counts.
type (
	Openings   = opening.Openings
	Weight     = balance.Weight
	Enrolment  = admission.Enrolment
	Summary    = summary.Summary
	Balances   = balance.Book // which both are called Book
	Admissions = admission.Book
	Estates    = estate.Book
	Answers    = answer.Book
	Erasures   = erasure.Book
)

type statement = firewall.Statement

// statements returns every statement that a collector ever runs.
func statements() []firewall.Statement {
	return append(slices.Concat(outbox.Statements(), inbox.Statements(), opening.Statements(), balance.Statements(), admission.Statements(),
		summary.Statements(), estate.Statements(), unboxing.Statements(), history.Statements(), answer.Statements(), handover.Statements(), erasure.Statements()),
		addVehicle(), vehicle(), hasVehicle(), vehicleOfDevice(), vehicles(), setSeen(),
		bindings(), keyBindings(), openBinding(), addECU(), ecuKey(), addBinding(),
		moveHead(), addSpan(), addCredit(), readSpan(), spanCredits(),
	)
}

// Config says where the records live and who opens them.
type Config struct {
	// Path is SQLite's file; it and its directory are made when missing, readable by their owner alone: it holds the
	// accounts' secrets. URL is PostgreSQL's address in the form of package postgres. Exactly one is required.
	Path, URL string
	// Role is who opens them. Required.
	Role Role
	// BusyTimeout is how long a writer waits for another process's transaction; 5 s when zero.
	BusyTimeout time.Duration
	// StatementTimeout is how long PostgreSQL works on one statement; 30 s when zero.
	StatementTimeout time.Duration
	// Logger takes refused statements; nil discards them. Registerer takes their count; nil keeps it unseen.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// A DB is the open records. It may be used from several goroutines.
type DB struct{ db *database.DB }

// Open opens the records. It brings SQLite's schema up to date and wants PostgreSQL's to be. It refuses those that a newer program has
// written. Who is Audit, Statements or Person only wants to see records that there are: it makes none.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Path != "" && cfg.Role&^(Audit|Statements|Person) == 0 {
		if _, err := os.Stat(cfg.Path); err != nil {
			return nil, fmt.Errorf("there are no records: %w; correct state_dir in the configuration", err)
		}
	}
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("cannot open records: %w", err)
	}
	db, err := database.Open(ctx, database.Config{
		Path: cfg.Path, URL: cfg.URL, Migrations: dir, Statements: statements(), Role: cfg.Role,
		BusyTimeout: cfg.BusyTimeout, StatementTimeout: cfg.StatementTimeout, Logger: cfg.Logger, Registerer: cfg.Registerer,
	})
	if err != nil {
		return nil, err
	}
	return &DB{db}, nil
}

// Migrate brings the schema and the roles' rights in PostgreSQL up to date, as firewall.Owner.
func Migrate(ctx context.Context, url string) error {
	dir, err := fs.Sub(migrations, "migrations/postgres")
	if err != nil {
		return fmt.Errorf("cannot migrate records: %w", err)
	}
	return schema.Migrate(ctx, schema.Config{URL: url, Migrations: dir, Statements: statements()})
}

// Close waits for the transactions under way and closes the records.
func (d *DB) Close() error { return d.db.Close() }

// Backup writes the last committed state of SQLite's records to a file that must not exist, readable by its owner alone: it holds the
// accounts' secrets. It may be called while others read and write, and is for the role Admin.
func (d *DB) Backup(ctx context.Context, path string) error { return d.db.Backup(ctx, path) }

// Lock waits until nobody else holds the lock of that name, of letters a to z: there is one settler at a time.
func (d *DB) Lock(ctx context.Context, name string) (*database.Lock, error) {
	return d.db.Lock(ctx, name)
}

// A Tx is a transaction: one state of the records, and with Update the right to change it.
type Tx struct {
	outbox.Box
	inbox.Inbox
	opening.Reader
	Balances
	Admissions
	summary.Counter
	unboxing.Hand
	handover.Desk
	Erasures
	tx    *database.Tx
	seen  map[string]bool // vehicles of which SetSeen was called
	ahead ahead
}

func in(tx *database.Tx) *Tx {
	box := outbox.In(tx)
	return &Tx{box, inbox.In(tx), opening.In(tx), balance.In(tx), admission.In(tx), summary.In(tx), unboxing.In(tx, box), handover.In(tx, box), erasure.In(tx), tx, make(map[string]bool), ahead{}}
}

// An Estate is what accounts hold beside their mileage, what happened to it, and what clients were answered.
type Estate struct {
	Estates
	history.Reader
	Answers
}

// Estate returns what accounts hold, under a program's rules.
func (t *Tx) Estate(r estate.Rules) Estate {
	return Estate{estate.In(t.tx, t.Box, r), history.In(t.tx), answer.In(t.tx)}
}

// History reads what the ledger says of accounts, for who has no need of their rules.
func (t *Tx) History() history.Reader { return history.In(t.tx) }

// Flush reports what failed of that which was written, as far as it has not been reported: a method that writes may leave that to the next
// one that reads, to Flush and to Update.
func (t *Tx) Flush(ctx context.Context) error { return t.tx.Flush(ctx) }

// Update runs fn in a write transaction and commits it when fn returns nil. It waits for the writer before it. The transaction is
// on disk when Update returns nil. Otherwise nothing of it is, except that nobody knows when PostgreSQL is lost while it commits.
// PostgreSQL may ask to run fn again, which happens at most five times.
func (d *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	return d.db.Update(ctx, func(tx *database.Tx) error { return fn(in(tx)) })
}

// View runs fn over the last committed state. Writing in it fails.
func (d *DB) View(ctx context.Context, fn func(*Tx) error) error {
	return d.db.View(ctx, func(tx *database.Tx) error { return fn(in(tx)) })
}

// viewFirst does what View does without waiting for slow readers.
func (d *DB) viewFirst(ctx context.Context, fn func(*Tx) error) error {
	return d.db.ViewFirst(ctx, func(tx *database.Tx) error { return fn(in(tx)) })
}
