// Package migration brings a database's schema up to date with goose, on either engine.
//
// Migrations are goose's files, one set for each engine with the same versions. Only the part that leads upwards is ever run. The package
// refuses a database that a newer program has migrated.
package migration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// Up runs the migrations in files that the database lacks, each in a transaction of its own.
func Up(ctx context.Context, dialect goose.Dialect, db *sql.DB, files fs.FS, options ...goose.ProviderOption) error {
	p, err := goose.NewProvider(dialect, db, files, append(options, goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))...)
	if err != nil {
		return fmt.Errorf("cannot read migrations: %w", err)
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("cannot read schema version: %w", err)
	}
	if newest := newest(p.ListSources()); have > newest {
		return fmt.Errorf("its schema is version %d and this program knows %d: use the newer program that wrote it", have, newest)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("cannot migrate schema: %w", err)
	}
	return nil
}

// newest returns the version of the last migration, which goose has sorted.
func newest(all []*goose.Source) int64 { return all[len(all)-1].Version }

// Newest returns the version of the newest of the migrations in files.
func Newest(files fs.FS) (version int64, err error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		v, err := goose.NumericComponent(name)
		if err != nil {
			return 0, fmt.Errorf("cannot read migration %s: %w", name, err)
		}
		version = max(version, v)
	}
	if version == 0 {
		return 0, errors.New("cannot read migrations: there are none")
	}
	return version, nil
}
