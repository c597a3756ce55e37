package database

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/session"
)

// ErrNotFound is returned for a row that is not there.
var ErrNotFound = session.ErrNotFound

// A Tx is a transaction: one state of the database, and with Update the right to change it. Its arguments are numbers, texts, bytes or
// nil. A text must be UTF-8 without zeros, which PostgreSQL cannot keep.
type Tx struct {
	db *DB
	s  runner
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
	return session.Say(s, do())
}

// maxQueued bounds the statements that wait for a flush.
const maxQueued = 4096

// Exec runs a statement that changes any number of rows, and returns how many.
func (t *Tx) Exec(ctx context.Context, s firewall.Statement, args ...any) (int64, error) {
	return t.ExecEach(ctx, s, [][]any{args})
}

// ExecEach runs a statement that changes any number of rows with each list of arguments, and returns how many were changed. Several
// lists at once cost hardly more than one where the statement has a text for many.
func (t *Tx) ExecEach(ctx context.Context, s firewall.Statement, lists [][]any) (n int64, err error) {
	if err := t.Flush(ctx); err != nil {
		return 0, err
	}
	err = t.run(ctx, s, slices.Concat(lists...), func() (err error) {
		if len(lists) > 0 {
			n, err = t.s.Exec(ctx, s, lists)
		}
		return err
	})
	return n, err
}

// ExecOne runs a statement that changes exactly one row. When it changes another number of rows the transaction must not be committed,
// and is not: that may be reported only by the next Flush, Exec or read, or at the latest by Update. Until then bytes among the arguments
// must not be changed.
//
// On PostgreSQL those that wait and have no text for many are run first, in their order, and then the others, each kind together, in the
// order in which the program lists them: what depends on a row of theirs must be listed later or come after a Flush.
func (t *Tx) ExecOne(ctx context.Context, s firewall.Statement, args ...any) error {
	return t.Add(ctx, s, nil, args...)
}

// Add does what ExecOne does with a statement that adds a row and returns its serial number, which is known after the next Flush or read.
// With a nil serial the statement returns nothing.
func (t *Tx) Add(ctx context.Context, s firewall.Statement, serial *int64, args ...any) error {
	if err := t.run(ctx, s, args, func() error { return t.s.ExecOne(ctx, s, args, serial) }); err != nil {
		return err
	}
	return t.s.Flush(ctx, maxQueued)
}

// Flush reports what ExecOne has not reported yet.
func (t *Tx) Flush(ctx context.Context) error { return t.s.Flush(ctx, 1) }

// Get reads one row into dest; a missing one is ErrNotFound.
func (t *Tx) Get(ctx context.Context, s firewall.Statement, args []any, dest ...any) error {
	return t.run(ctx, s, args, func() error { return t.s.Get(ctx, s, args, dest) })
}

// Each calls fn with each row. fn must not use the transaction.
func (t *Tx) Each(ctx context.Context, s firewall.Statement, args []any, fn func(Scanner) error) error {
	return t.EachOf(ctx, s, [][]any{args}, fn)
}

// EachOf calls fn with the rows for each list of arguments, in any order. fn must not use the transaction.
func (t *Tx) EachOf(ctx context.Context, s firewall.Statement, lists [][]any, fn func(Scanner) error) error {
	if err := t.Flush(ctx); err != nil {
		return err
	}
	return t.run(ctx, s, slices.Concat(lists...), func() error {
		if len(lists) == 0 {
			return nil
		}
		return t.s.Each(ctx, s, lists, fn)
	})
}

// A Scanner copies a row's columns.
type Scanner = session.Scanner

// One reads one row by the function row; a missing one is ErrNotFound.
func One[T any](ctx context.Context, t *Tx, s firewall.Statement, row func(*T, Scanner) error, args ...any) (v T, err error) {
	err = row(&v, func(dest ...any) error { return t.Get(ctx, s, args, dest...) })
	return v, err
}

// List reads all rows, each by the function row.
func List[T any](ctx context.Context, t *Tx, s firewall.Statement, row func(*T, Scanner) error, args ...any) ([]T, error) {
	return ListOf(ctx, t, s, row, [][]any{args})
}

// ListOf reads all rows for each list of arguments, in any order.
func ListOf[T any](ctx context.Context, t *Tx, s firewall.Statement, row func(*T, Scanner) error, lists [][]any) (out []T, err error) {
	err = t.EachOf(ctx, s, lists, func(scan Scanner) error {
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

// Optional scans a blob into an array of its length, which stays as it is where the column is NULL.
func Optional(array []byte) sql.Scanner { return optional(array) }

type optional []byte

func (b optional) Scan(v any) error {
	if v == nil {
		return nil
	}
	return Fixed(b).Scan(v)
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

// Bit returns what Flag scans, as an argument.
func Bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

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
