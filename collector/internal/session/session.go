// Package session runs registered statements within one transaction of either engine, for package database, which begins and ends
// transactions and says who may run what.
//
// What the engines do alike is the meaning: a statement that is to change one row and changes another number fails, at the latest before
// the transaction is committed. When it is sent differs: PostgreSQL gets many statements in one journey, and those that have a text
// for many as one. The package begins, commits and checks nothing.
package session

import (
	"errors"
	"fmt"

	"rawstone/collector/internal/firewall"
)

// ErrNotFound is returned for a row that is not there.
var ErrNotFound = errors.New("not found")

// A Scanner copies a row's columns.
type Scanner = func(...any) error

// said is an error that names its statement.
type said struct{ error }

func (e said) Unwrap() error { return e.error }

// Say returns an error that names the statement that failed: s, unless a session says that it was an earlier one.
func Say(s firewall.Statement, err error) error {
	if earlier, ok := err.(said); ok { //nolint:errorlint // as a session returns it
		return earlier.error
	}
	if err != nil {
		return fmt.Errorf("cannot %s: %w", s.Name, err)
	}
	return nil
}

// want is the error of a statement that was to change so many rows and changed n.
func want(rows int, n int64) error {
	if n != int64(rows) {
		return fmt.Errorf("%d rows changed, want %d: %w", n, rows, ErrNotFound)
	}
	return nil
}
