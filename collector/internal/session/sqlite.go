package session

import (
	"context"
	"database/sql"
	"errors"

	"rawstone/collector/internal/firewall"
)

// A SQLite is a session in SQLite's file. Nothing waits in it.
type SQLite struct {
	statements map[string]*sql.Stmt
	tx         *sql.Tx
	bound      map[string]*sql.Stmt // those of statements that the transaction has run
}

// NewSQLite returns the session of a transaction with the role's prepared statements, by their names.
func NewSQLite(statements map[string]*sql.Stmt, tx *sql.Tx) *SQLite {
	return &SQLite{statements, tx, make(map[string]*sql.Stmt)}
}

func (t *SQLite) stmt(ctx context.Context, s firewall.Statement) *sql.Stmt {
	name := string(s.Name)
	bound := t.bound[name]
	if bound == nil {
		bound = t.tx.StmtContext(ctx, t.statements[name])
		t.bound[name] = bound
	}
	return bound
}

// Exec runs a statement with each list of arguments and returns the number of rows that were changed.
func (t *SQLite) Exec(ctx context.Context, s firewall.Statement, lists [][]any) (n int64, err error) {
	stmt := t.stmt(ctx, s)
	for _, args := range lists {
		r, err := stmt.ExecContext(ctx, args...)
		if err != nil {
			return 0, err
		}
		changed, err := r.RowsAffected()
		if err != nil {
			return 0, err
		}
		n += changed
	}
	return n, nil
}

// ExecOne runs a statement that changes one row or, with a serial, adds one and returns its number.
func (t *SQLite) ExecOne(ctx context.Context, s firewall.Statement, args []any, serial *int64) error {
	if serial != nil {
		return t.Get(ctx, s, args, []any{serial})
	}
	n, err := t.Exec(ctx, s, [][]any{args})
	if err != nil {
		return err
	}
	return want(1, n)
}

// Flush has nothing to do.
func (t *SQLite) Flush(context.Context, int) error { return nil }

// Get reads one row.
func (t *SQLite) Get(ctx context.Context, s firewall.Statement, args, dest []any) error {
	err := t.stmt(ctx, s).QueryRowContext(ctx, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// Each reads the rows for each list of arguments.
func (t *SQLite) Each(ctx context.Context, s firewall.Statement, lists [][]any, fn func(Scanner) error) error {
	stmt := t.stmt(ctx, s)
	for _, args := range lists {
		if err := eachRow(ctx, stmt, args, fn); err != nil {
			return err
		}
	}
	return nil
}

func eachRow(ctx context.Context, stmt *sql.Stmt, args []any, fn func(Scanner) error) error {
	rows, err := stmt.QueryContext(ctx, args...)
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
