package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"

	"github.com/pressly/goose/v3"

	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/migration"
	"rawstone/collector/internal/session"
	"rawstone/collector/internal/sqlite"
)

// file is the engine in this process: a write-ahead log, synchronous=FULL.
type file struct {
	path        string
	write, read pool // write has one connection
	first       pool // for those who wait for no other reader
}

// A pool keeps its connections' statements prepared.
type pool struct {
	*sql.DB
	statements map[string]*sql.Stmt
}

func openSQLite(ctx context.Context, cfg Config) (_ *file, err error) {
	path, err := sqlite.Create(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot open records: %w", err)
	}
	s := &file{path: path}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot open records %s: %w", path, err), s.close())
		}
	}()
	if s.write.DB, err = sqlite.Open(path, cfg.BusyTimeout, "immediate", "journal_mode(WAL)"); err != nil {
		return nil, err
	}
	s.write.SetMaxOpenConns(1)
	migrations, err := fs.Sub(cfg.Migrations, "sqlite")
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx, migrations); err != nil {
		return nil, err
	}
	for p, size := range map[*pool]int{&s.read: readers(), &s.first: firstReaders} {
		if p.DB, err = sqlite.Open(path, cfg.BusyTimeout, "deferred", "query_only(1)"); err != nil {
			return nil, err
		}
		p.SetMaxOpenConns(size)
		p.SetMaxIdleConns(size)
	}
	for _, p := range []*pool{&s.write, &s.read, &s.first} {
		if err := p.prepare(ctx, cfg.Statements, cfg.Role); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// migrate brings the schema up to date while no other process does, which would run the same migrations and fail. It locks the file's
// directory: a lock file would be one more thing to back up, and the file itself must not be opened beside SQLite.
func (s *file) migrate(ctx context.Context, files fs.FS) error {
	unlock, err := sqlite.Lock(ctx, filepath.Dir(s.path))
	if err != nil {
		return fmt.Errorf("cannot lock schema: %w", err)
	}
	return errors.Join(migration.Up(ctx, goose.DialectSQLite3, s.write.DB, files), unlock())
}

func readers() int { return max(4, runtime.GOMAXPROCS(0)) }

// prepare prepares a role's statements on one connection; others prepare them when they first run them.
func (p *pool) prepare(ctx context.Context, list []firewall.Statement, role firewall.Role) error {
	p.statements = make(map[string]*sql.Stmt)
	for _, s := range list {
		if s.Roles&role == 0 {
			continue
		}
		stmt, err := p.PrepareContext(ctx, string(s.SQL))
		if err != nil {
			return fmt.Errorf("cannot prepare %s: %w", s.Name, err)
		}
		p.statements[string(s.Name)] = stmt
	}
	return nil
}

func (s *file) close() error {
	var errs []error
	for _, p := range []pool{s.first, s.read, s.write} {
		for _, stmt := range p.statements {
			errs = append(errs, stmt.Close())
		}
		if p.DB != nil {
			errs = append(errs, p.Close())
		}
	}
	return errors.Join(errs...)
}

func (s *file) backup(ctx context.Context, path string) error {
	return sqlite.Backup(ctx, s.path, path)
}

func (s *file) lock(ctx context.Context, name string) (*Lock, error) {
	release, err := sqlite.Lock(ctx, s.path+"."+name+".lock")
	if err != nil {
		return nil, err
	}
	return &Lock{make(chan struct{}), release}, nil
}

func (s *file) update(ctx context.Context, fn func(runner) error) error {
	return s.write.run(ctx, fn)
}
func (s *file) view(ctx context.Context, first bool, fn func(runner) error) error {
	if first {
		return s.first.run(ctx, fn)
	}
	return s.read.run(ctx, fn)
}

func (p *pool) run(ctx context.Context, fn func(runner) error) error {
	tx, err := p.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("cannot begin transaction: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it has nothing to do
	if err := fn(session.NewSQLite(p.statements, tx)); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("cannot commit transaction: %w", err)
	}
	return nil
}
