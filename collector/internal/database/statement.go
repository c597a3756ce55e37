package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ErrNotFound is returned for a row that is not there.
var ErrNotFound = errors.New("not found")

// A Tx is a transaction: one state of the database, and with Update the right to change it. The argument what of its statements says
// in an error what could not be done, as "add account".
type Tx struct{ tx *sql.Tx }

// Exec runs a statement that changes any number of rows, and returns how many.
func (t *Tx) Exec(ctx context.Context, what, query string, args ...any) (int64, error) {
	r, err := t.tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("cannot %s: %w", what, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("cannot %s: %w", what, err)
	}
	return n, nil
}

// ExecOne runs a statement that changes exactly one row. When it changes another number of rows the transaction must not be committed.
func (t *Tx) ExecOne(ctx context.Context, what, query string, args ...any) error {
	n, err := t.Exec(ctx, what, query, args...)
	if err == nil && n != 1 {
		err = fmt.Errorf("cannot %s: %d rows changed, want 1: %w", what, n, ErrNotFound)
	}
	return err
}

// Get reads one row into dest; a missing one is ErrNotFound.
func (t *Tx) Get(ctx context.Context, what, query string, args []any, dest ...any) error {
	err := t.tx.QueryRowContext(ctx, query, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("cannot %s: %w", what, err)
	}
	return nil
}

// Each calls fn with each row.
func (t *Tx) Each(ctx context.Context, what, query string, args []any, fn func(Scanner) error) error {
	rows, err := t.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("cannot %s: %w", what, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return fmt.Errorf("cannot %s: %w", what, err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("cannot %s: %w", what, err)
	}
	return nil
}

// A Scanner copies a row's columns.
type Scanner = func(...any) error

// One reads one row by the function row; a missing one is ErrNotFound.
func One[T any](ctx context.Context, t *Tx, what string, row func(*T, Scanner) error, query string, args ...any) (v T, err error) {
	err = row(&v, func(dest ...any) error { return t.Get(ctx, what, query, args, dest...) })
	return v, err
}

// List reads all rows, each by the function row.
func List[T any](ctx context.Context, t *Tx, what string, row func(*T, Scanner) error, query string, args ...any) (out []T, err error) {
	err = t.Each(ctx, what, query, args, func(scan Scanner) error {
		var v T
		if err := row(&v, scan); err != nil {
			return err
		}
		out = append(out, v)
		return nil
	})
	return out, err
}

// Fixed scans a blob into an array of its length.
func Fixed(array []byte) sql.Scanner { return fixed(array) }

type fixed []byte

func (f fixed) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != len(f) {
		return fmt.Errorf("column holds %T of %d bytes, want %d bytes", v, len(b), len(f))
	}
	copy(f, b)
	return nil
}

// Uint64 scans an unsigned number kept as its two's complement.
func Uint64(n *uint64) sql.Scanner { return unsigned{n} }

type unsigned struct{ n *uint64 }

func (u unsigned) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("column holds %T, want a number", v)
	}
	*u.n = uint64(n)
	return nil
}
