// Package fault tells the faults of a database, or of the way to it, from those of what was asked of it. It knows both engines' codes and
// imports neither.
package fault

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
)

// Systemic reports whether an error lies in the database, or the way to it, and not in what was asked of it: it says nothing of the
// submission during which it came. Engines say what failed by a code; the codes for what a statement has brought upon itself, such
// as a broken constraint, are the few.
func Systemic(err error) bool {
	for _, e := range []error{
		context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, driver.ErrBadConn, sql.ErrConnDone, sql.ErrTxDone,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	if way := net.Error(nil); errors.As(err, &way) {
		return true
	}
	var postgres interface{ SQLState() string }
	if errors.As(err, &postgres) {
		switch class := postgres.SQLState(); class[:min(len(class), 2)] {
		case "22", "23", "P0": // data exception, integrity constraint violation, PL/pgSQL error (PostgreSQL 15, appendix A)
			return false
		}
		return true
	}
	var sqlite interface{ Code() int }
	if errors.As(err, &sqlite) {
		switch sqlite.Code() & 0xff { // the primary result code
		case 1, 18, 19, 20: // SQLITE_ERROR, SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH (sqlite.org/rescode.html)
			return false
		}
		return true
	}
	return false
}
