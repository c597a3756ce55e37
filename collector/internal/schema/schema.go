// Package schema makes the tables of a PostgreSQL database, the logins of its roles, and their rights.
//
// The rights follow from the statements that are registered for a role, column by column: there is no other list. A role may run its own
// statements and hardly anything else; package store's tests hold that no role may run another's. What a right on columns cannot say, the
// migrations say with triggers, which hold for the owner too: what is appended is not changed. Whoever can change the schema, the
// owner and the server's superuser, can take the triggers away.
//
// Everybody else may do nothing in the database: no tables, no temporary ones, no functions. A statement that calls a function gives its role
// that function, which may do more than the role because it works as the owner.
//
// It works as the owner: package migration with goose first, and then all rights in one transaction. What it was stopped in, another run
// completes; until then a role lacks rights, and programs refuse to open an older schema.
package schema

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/migration"
	"rawstone/collector/internal/postgres"
)

const (
	patience       = 10 * time.Minute // a migration may rewrite a table
	workTime       = 30 * time.Second // a login's for one statement, and for waiting within a transaction
	maxConnections = 64               // of a login, over all processes
)

// Config says what is made; every field is required.
type Config struct {
	// URL is an address in the form of package postgres.
	URL string
	// Migrations holds goose's files.
	Migrations fs.FS
	Statements []firewall.Statement
}

// Migrate brings tables, logins and rights up to date. Logins are made when they are missing, for which the owner needs CREATEROLE.
func Migrate(ctx context.Context, cfg Config) (err error) {
	c, err := postgres.Parse(cfg.URL, firewall.Owner, postgres.Limits{Statement: patience, Lock: patience})
	if err != nil {
		return fmt.Errorf("cannot migrate records: %w", err)
	}
	if err := up(ctx, c, cfg.Migrations); err != nil {
		return fmt.Errorf("cannot migrate records: %w", err)
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return fmt.Errorf("cannot grant rights on records: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Two that change rights at once would fail each other.
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lock.DefaultLockID)); err != nil {
			return err
		}
		return grant(ctx, tx, cfg.Statements)
	})
	if err != nil {
		return fmt.Errorf("cannot grant rights on records: %w", err)
	}
	return nil
}

// up runs goose under a lock of its own, which keeps two from migrating at once.
func up(ctx context.Context, c *pgx.ConnConfig, files fs.FS) (err error) {
	db := stdlib.OpenDB(*c)
	defer func() { err = errors.Join(err, db.Close()) }()
	// Asked for each second, for as long as a migration may take.
	one, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, uint64(patience/time.Second)))
	if err != nil {
		return err
	}
	return migration.Up(ctx, goose.DialectPostgres, db, files, goose.WithSessionLocker(one))
}
