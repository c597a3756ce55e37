// Package outbox keeps, among the collector's records, the entries that the ledger is to get: the transaction that decides something puts
// the entry there, and the settler numbers it and appends it to the log.
//
// Numbers are dense and never change; entries get them in the order in which they came, unless NumberEntry puts one first. At most one
// draft waits, under the next number, and NumberEntries refuses to give that number to another. Entries are never removed.
//
// The tables belong to package store's schema, whose transactions embed a Box. The package knows no more of an entry than its type: what
// a body says, and who cosigns a draft, is its users' business.
package outbox

import (
	"context"
	"errors"
	"fmt"

	"rawstone/collector/internal/database"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
)

// A Box is the outbox within one transaction.
type Box struct{ tx *database.Tx }

// In returns the outbox as a transaction sees it.
func In(tx *database.Tx) Box { return Box{tx} }

// A Draft is an entry that waits for cosignatures, with the number that is kept for it.
type Draft struct {
	Number  uint64
	Type    ledger.Type
	Payload []byte
}

// AddEntry puts an entry's body into the outbox and returns the row's identifier, which rises with each entry. The settler gives
// the entry its number in the log.
func (b Box) AddEntry(ctx context.Context, typ ledger.Type, body []byte) (id int64, err error) {
	if len(body) > ledger.MaxBodyLen {
		return 0, fmt.Errorf("cannot add ledger entry: body of %d bytes, at most %d allowed", len(body), ledger.MaxBodyLen)
	}
	err = b.tx.Get(ctx, "add ledger entry", `INSERT INTO outbox (type, body) VALUES ($1, $2) RETURNING id`, []any{int64(typ), body}, &id)
	return id, err
}

// AddEncoded does what AddEntry does with a body that is yet to be encoded, such as a ledger.Credit.
func (b Box) AddEncoded(ctx context.Context, typ ledger.Type, body any) (id int64, err error) {
	encoded, err := codec.Encode(body)
	if err != nil {
		return 0, err
	}
	return b.AddEntry(ctx, typ, encoded)
}

// NumberEntries gives the next numbers, dense and in the order in which the rows came, to at most limit rows that have none. It fails
// while a draft waits, whose number is taken.
func (b Box) NumberEntries(ctx context.Context, limit int) error {
	if _, waits, err := b.Draft(ctx); err != nil {
		return err
	} else if waits {
		return errors.New("cannot number entries: a draft waits")
	}
	_, err := b.tx.Exec(ctx, "number entries",
		`UPDATE outbox SET number = (SELECT coalesce(max(number), -1) FROM outbox) + f.place
		 FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM outbox WHERE number IS NULL ORDER BY id LIMIT $1) f
		 WHERE outbox.id = f.id`, limit)
	return err
}

// NumberEntry gives one row the next number, before those that came earlier.
func (b Box) NumberEntry(ctx context.Context, id int64) error {
	return b.tx.ExecOne(ctx, "number entry",
		`UPDATE outbox SET number = (SELECT coalesce(max(number), -1) + 1 FROM outbox) WHERE id = $1 AND number IS NULL`, id)
}

// NextNumber returns the first number that no entry has.
func (b Box) NextNumber(ctx context.Context) (n uint64, err error) {
	err = b.tx.Get(ctx, "read next number", `SELECT coalesce(max(number), -1) + 1 FROM outbox`, nil, database.Uint64(&n))
	return n, err
}

// Unnumbered reports whether entries wait for a number.
func (b Box) Unnumbered(ctx context.Context) (has bool, err error) {
	err = b.tx.Get(ctx, "read entries", `SELECT EXISTS (SELECT 1 FROM outbox WHERE number IS NULL)`, nil, &has)
	return has, err
}

func scanEntry(e *ledger.Entry, scan database.Scanner) error {
	return scan(database.Uint64(&e.Number), &e.Type, &e.Body)
}

// Entries returns at most limit numbered entries from a number on, in order.
func (b Box) Entries(ctx context.Context, from uint64, limit int) ([]ledger.Entry, error) {
	return database.List(ctx, b.tx, "read entries", scanEntry,
		`SELECT number, type, body FROM outbox WHERE number >= $1 ORDER BY number LIMIT $2`, int64(from), limit)
}

// LastEntries returns the last numbered entries of a type, newest first.
func (b Box) LastEntries(ctx context.Context, typ ledger.Type, limit int) ([]ledger.Entry, error) {
	return database.List(ctx, b.tx, "read entries", scanEntry,
		`SELECT number, type, body FROM outbox WHERE type = $1 AND number IS NOT NULL ORDER BY number DESC LIMIT $2`, int64(typ), limit)
}

// MarkAppended notes that the log holds all entries below a number.
func (b Box) MarkAppended(ctx context.Context, below uint64) error {
	_, err := b.tx.Exec(ctx, "mark entries as appended", `UPDATE outbox SET appended = 1 WHERE appended = 0 AND number < $1`, int64(below))
	return err
}

// AddDraft keeps a draft; there may be only one, and its number must be the next.
func (b Box) AddDraft(ctx context.Context, d Draft) error {
	return b.tx.ExecOne(ctx, "add draft",
		`INSERT INTO draft (id, number, type, payload) SELECT 1, $1, $2, $3 WHERE (SELECT coalesce(max(number), -1) + 1 FROM outbox) = $1`,
		int64(d.Number), int64(d.Type), d.Payload)
}

// Draft returns the draft, if one waits.
func (b Box) Draft(ctx context.Context) (d Draft, found bool, err error) {
	err = b.tx.Get(ctx, "read draft", `SELECT number, type, payload FROM draft`, nil, database.Uint64(&d.Number), &d.Type, &d.Payload)
	if errors.Is(err, database.ErrNotFound) {
		return d, false, nil
	}
	return d, err == nil, err
}

// FinishDraft replaces the draft by its entry.
func (b Box) FinishDraft(ctx context.Context, d Draft, body []byte) error {
	if err := b.tx.ExecOne(ctx, "finish draft", `DELETE FROM draft WHERE number = $1`, int64(d.Number)); err != nil {
		return err
	}
	return b.tx.ExecOne(ctx, "finish draft", `INSERT INTO outbox (type, body, number) VALUES ($1, $2, $3)`, int64(d.Type), body, int64(d.Number))
}
