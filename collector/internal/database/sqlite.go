package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"github.com/pressly/goose/v3"

	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/migration"
	"rawstone/collector/internal/sqlite"
)

// file is the engine in this process: a write-ahead log, synchronous=FULL.
type file struct {
	path        string
	write, read pool // write has one connection
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
	if err := migration.Up(ctx, goose.DialectSQLite3, s.write.DB, migrations); err != nil {
		return nil, err
	}
	if s.read.DB, err = sqlite.Open(path, cfg.BusyTimeout, "deferred", "query_only(1)"); err != nil {
		return nil, err
	}
	s.read.SetMaxOpenConns(readers())
	s.read.SetMaxIdleConns(readers())
	for _, p := range []*pool{&s.write, &s.read} {
		if err := p.prepare(ctx, cfg.Statements, cfg.Role); err != nil {
			return nil, err
		}
	}
	return s, nil
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
	for _, p := range []pool{s.read, s.write} {
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

func (s *file) update(ctx context.Context, fn func(session) error) error {
	return s.write.run(ctx, fn)
}
func (s *file) view(ctx context.Context, fn func(session) error) error { return s.read.run(ctx, fn) }

func (p *pool) run(ctx context.Context, fn func(session) error) error {
	tx, err := p.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("cannot begin transaction: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit it has nothing to do
	if err := fn(&sqliteSession{p, tx}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("cannot commit transaction: %w", err)
	}
	return nil
}

type sqliteSession struct {
	pool *pool
	tx   *sql.Tx
}

func (t *sqliteSession) stmt(ctx context.Context, s firewall.Statement) *sql.Stmt {
	return t.tx.StmtContext(ctx, t.pool.statements[string(s.Name)])
}

func (t *sqliteSession) exec(ctx context.Context, s firewall.Statement, args []any) (int64, error) {
	r, err := t.stmt(ctx, s).ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (t *sqliteSession) execOne(ctx context.Context, s firewall.Statement, args []any) error {
	n, err := t.exec(ctx, s, args)
	if err != nil {
		return err
	}
	return one(n)
}

func (t *sqliteSession) flush(context.Context, int) error { return nil }

func (t *sqliteSession) get(ctx context.Context, s firewall.Statement, args, dest []any) error {
	err := t.stmt(ctx, s).QueryRowContext(ctx, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

func (t *sqliteSession) each(ctx context.Context, s firewall.Statement, args []any, fn func(Scanner) error) error {
	rows, err := t.stmt(ctx, s).QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
