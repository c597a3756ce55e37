package store

import (
	"context"
	"errors"
	"fmt"

	"rawstone/collector/internal/database"
	"rawstone/pkg/ledger"
)

// A Draft is an entry that waits for cosignatures, with the number that is kept for it.
type Draft struct {
	Number  uint64
	Type    ledger.Type
	Payload []byte
}

// AddEntry puts an entry's body into the outbox and returns the row's identifier, which rises with each entry. The settler gives
// the entry its number in the log.
func (t *Tx) AddEntry(ctx context.Context, typ ledger.Type, body []byte) (id int64, err error) {
	if len(body) > ledger.MaxBodyLen {
		return 0, fmt.Errorf("cannot add ledger entry: body of %d bytes, at most %d allowed", len(body), ledger.MaxBodyLen)
	}
	err = t.tx.Get(ctx, "add ledger entry", `INSERT INTO outbox (type, body) VALUES ($1, $2) RETURNING id`, []any{int64(typ), body}, &id)
	return id, err
}

// NumberEntries gives the next numbers, dense and in the order in which the rows came, to at most limit rows that have none. It fails
// while a draft waits, whose number is taken.
func (t *Tx) NumberEntries(ctx context.Context, limit int) error {
	if _, waits, err := t.Draft(ctx); err != nil {
		return err
	} else if waits {
		return errors.New("cannot number entries: a draft waits")
	}
	_, err := t.tx.Exec(ctx, "number entries",
		`UPDATE outbox SET number = (SELECT coalesce(max(number), -1) FROM outbox) + f.place
		 FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM outbox WHERE number IS NULL ORDER BY id LIMIT $1) f
		 WHERE outbox.id = f.id`, limit)
	return err
}

// NumberEntry gives one row the next number, before those that came earlier.
func (t *Tx) NumberEntry(ctx context.Context, id int64) error {
	return t.tx.ExecOne(ctx, "number entry",
		`UPDATE outbox SET number = (SELECT coalesce(max(number), -1) + 1 FROM outbox) WHERE id = $1 AND number IS NULL`, id)
}

// HasEntry reports whether the outbox holds an entry of that type and body, numbered or not.
func (t *Tx) HasEntry(ctx context.Context, typ ledger.Type, body []byte) (has bool, err error) {
	err = t.tx.Get(ctx, "read entry", `SELECT count(*) > 0 FROM outbox WHERE type = $1 AND body = $2`, []any{int64(typ), body}, &has)
	return has, err
}

// NextNumber returns the first number that no entry has.
func (t *Tx) NextNumber(ctx context.Context) (n uint64, err error) {
	err = t.tx.Get(ctx, "read next number", `SELECT coalesce(max(number), -1) + 1 FROM outbox`, nil, database.Uint64(&n))
	return n, err
}

// Unnumbered reports whether entries wait for a number.
func (t *Tx) Unnumbered(ctx context.Context) (has bool, err error) {
	err = t.tx.Get(ctx, "read entries", `SELECT EXISTS (SELECT 1 FROM outbox WHERE number IS NULL)`, nil, &has)
	return has, err
}

func scanEntry(e *ledger.Entry, scan database.Scanner) error {
	return scan(database.Uint64(&e.Number), &e.Type, &e.Body)
}

// Entries returns at most limit numbered entries from a number on, in order.
func (t *Tx) Entries(ctx context.Context, from uint64, limit int) ([]ledger.Entry, error) {
	return database.List(ctx, t.tx, "read entries", scanEntry,
		`SELECT number, type, body FROM outbox WHERE number >= $1 ORDER BY number LIMIT $2`, int64(from), limit)
}

// LastEntries returns the last numbered entries of a type, newest first.
func (t *Tx) LastEntries(ctx context.Context, typ ledger.Type, limit int) ([]ledger.Entry, error) {
	return database.List(ctx, t.tx, "read entries", scanEntry,
		`SELECT number, type, body FROM outbox WHERE type = $1 AND number IS NOT NULL ORDER BY number DESC LIMIT $2`, int64(typ), limit)
}

// MarkAppended notes that the log holds all entries below a number.
func (t *Tx) MarkAppended(ctx context.Context, below uint64) error {
	_, err := t.tx.Exec(ctx, "mark entries as appended", `UPDATE outbox SET appended = 1 WHERE appended = 0 AND number < $1`, int64(below))
	return err
}

// AddDraft keeps a draft; there may be only one, and its number must be the next.
func (t *Tx) AddDraft(ctx context.Context, d Draft) error {
	return t.tx.ExecOne(ctx, "add draft",
		`INSERT INTO draft (id, number, type, payload) SELECT 1, $1, $2, $3 WHERE (SELECT coalesce(max(number), -1) + 1 FROM outbox) = $1`,
		int64(d.Number), int64(d.Type), d.Payload)
}

// Draft returns the draft, if one waits.
func (t *Tx) Draft(ctx context.Context) (d Draft, found bool, err error) {
	err = t.tx.Get(ctx, "read draft", `SELECT number, type, payload FROM draft`, nil, database.Uint64(&d.Number), &d.Type, &d.Payload)
	if errors.Is(err, ErrNotFound) {
		return d, false, nil
	}
	return d, err == nil, err
}

// FinishDraft replaces the draft by its entry.
func (t *Tx) FinishDraft(ctx context.Context, d Draft, body []byte) error {
	if err := t.tx.ExecOne(ctx, "finish draft", `DELETE FROM draft WHERE number = $1`, int64(d.Number)); err != nil {
		return err
	}
	return t.tx.ExecOne(ctx, "finish draft", `INSERT INTO outbox (type, body, number) VALUES ($1, $2, $3)`, int64(d.Type), body, int64(d.Number))
}
