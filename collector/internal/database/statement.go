package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"rawstone/collector/internal/firewall"
)

// ErrNotFound is returned for a row that is not there.
var ErrNotFound = errors.New("not found")

// A Tx is a transaction: one state of the database, and with Update the right to change it. Its arguments are numbers, texts, bytes or
// nil. A text must be UTF-8 without zeros, which PostgreSQL cannot keep.
type Tx struct {
	db *DB
	s  session
}

// run checks a statement and its arguments before do runs it.
func (t *Tx) run(ctx context.Context, s firewall.Statement, args []any, do func() error) error {
	if err := t.db.wall.Admit(ctx, s); err != nil {
		return err
	}
	for _, a := range args {
		if text, ok := a.(string); ok && (!utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0) {
			return fmt.Errorf("cannot %s: a text is not UTF-8 or holds a zero", s.Name)
		}
	}
	return say(s, do())
}

// maxQueued bounds the statements that wait for a flush.
const maxQueued = 512

// said is an error that names its statement.
type said struct{ error }

func (e said) Unwrap() error { return e.error }

func say(s firewall.Statement, err error) error {
	if earlier, ok := err.(said); ok { //nolint:errorlint // as the engine returns it
		return earlier.error
	}
	if err != nil {
		return fmt.Errorf("cannot %s: %w", s.Name, err)
	}
	return nil
}

// Exec runs a statement that changes any number of rows, and returns how many.
func (t *Tx) Exec(ctx context.Context, s firewall.Statement, args ...any) (n int64, err error) {
	if err := t.Flush(ctx); err != nil {
		return 0, err
	}
	err = t.run(ctx, s, args, func() (err error) {
		n, err = t.s.exec(ctx, s, args)
		return err
	})
	return n, err
}

// ExecOne runs a statement that changes exactly one row. When it changes another number of rows the transaction must not be committed,
// and is not: that may be reported only by the next Flush, Exec or read, or at the latest by Update. Until then bytes among the arguments
// must not be changed.
func (t *Tx) ExecOne(ctx context.Context, s firewall.Statement, args ...any) error {
	if err := t.run(ctx, s, args, func() error { return t.s.execOne(ctx, s, args) }); err != nil {
		return err
	}
	return t.s.flush(ctx, maxQueued)
}

// one is the error of a statement that was to change one row and changed n.
func one(n int64) error {
	if n != 1 {
		return fmt.Errorf("%d rows changed, want 1: %w", n, ErrNotFound)
	}
	return nil
}

// Flush reports what ExecOne has not reported yet.
func (t *Tx) Flush(ctx context.Context) error { return t.s.flush(ctx, 1) }

// Get reads one row into dest; a missing one is ErrNotFound.
func (t *Tx) Get(ctx context.Context, s firewall.Statement, args []any, dest ...any) error {
	return t.run(ctx, s, args, func() error { return t.s.get(ctx, s, args, dest) })
}

// Each calls fn with each row. fn must not use the transaction.
func (t *Tx) Each(ctx context.Context, s firewall.Statement, args []any, fn func(Scanner) error) error {
	if err := t.Flush(ctx); err != nil {
		return err
	}
	return t.run(ctx, s, args, func() error { return t.s.each(ctx, s, args, fn) })
}

// A Scanner copies a row's columns.
type Scanner = func(...any) error

// One reads one row by the function row; a missing one is ErrNotFound.
func One[T any](ctx context.Context, t *Tx, s firewall.Statement, row func(*T, Scanner) error, args ...any) (v T, err error) {
	err = row(&v, func(dest ...any) error { return t.Get(ctx, s, args, dest...) })
	return v, err
}

// List reads all rows, each by the function row.
func List[T any](ctx context.Context, t *Tx, s firewall.Statement, row func(*T, Scanner) error, args ...any) (out []T, err error) {
	err = t.Each(ctx, s, args, func(scan Scanner) error {
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

// Flag scans a truth, kept as 0 or 1; every other number counts as a truth.
func Flag(b *bool) sql.Scanner { return flag{b} }

type flag struct{ b *bool }

func (f flag) Scan(v any) error {
	switch v := v.(type) {
	case bool:
		*f.b = v
	case int64:
		*f.b = v != 0
	default:
		return fmt.Errorf("column holds %T, want 0 or 1", v)
	}
	return nil
}
