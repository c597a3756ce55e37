package store

import (
	"context"
	"errors"
	"fmt"

	"rawstone/pkg/ledger"
)

// A Draft is an entry that waits for cosignatures, with the number that is kept for it.
type Draft struct {
	Number  uint64
	Type    ledger.Type
	Payload []byte
}

// A Weight is an account's kilometres on a day.
type Weight struct {
	Account
	Km uint64
}

// NumberEntries gives the next numbers, dense and in the order in which the rows came, to at most limit rows that have none. It fails
// while a draft waits, whose number is taken.
func (t *Tx) NumberEntries(ctx context.Context, limit int) error {
	if _, waits, err := t.Draft(ctx); err != nil {
		return err
	} else if waits {
		return errors.New("cannot number entries: a draft waits")
	}
	if _, err := t.tx.ExecContext(ctx,
		`UPDATE outbox SET number = (SELECT coalesce(max(number), -1) FROM outbox) + f.place
		 FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM outbox WHERE number IS NULL ORDER BY id LIMIT $1) f
		 WHERE outbox.id = f.id`, limit); err != nil {
		return fmt.Errorf("cannot number entries: %w", err)
	}
	return nil
}

// NumberEntry gives one row the next number, before those that came earlier.
func (t *Tx) NumberEntry(ctx context.Context, id int64) error {
	_, err := t.exec(ctx, "number entry",
		`UPDATE outbox SET number = (SELECT coalesce(max(number), -1) + 1 FROM outbox) WHERE id = $1 AND number IS NULL`, id)
	return err
}

// HasEntry reports whether the outbox holds an entry of that type and body, numbered or not.
func (t *Tx) HasEntry(ctx context.Context, typ ledger.Type, body []byte) (has bool, err error) {
	err = t.get(ctx, "entry", `SELECT count(*) > 0 FROM outbox WHERE type = $1 AND body = $2`, []any{int64(typ), body}, &has)
	return has, err
}

// NextNumber returns the first number that no entry has.
func (t *Tx) NextNumber(ctx context.Context) (n uint64, err error) {
	err = t.get(ctx, "next number", `SELECT coalesce(max(number), -1) + 1 FROM outbox`, nil, seq{&n})
	return n, err
}

// Unnumbered reports whether entries wait for a number.
func (t *Tx) Unnumbered(ctx context.Context) (has bool, err error) {
	err = t.get(ctx, "entries", `SELECT EXISTS (SELECT 1 FROM outbox WHERE number IS NULL)`, nil, &has)
	return has, err
}

func scanEntry(e *ledger.Entry, scan scanner) error { return scan(seq{&e.Number}, &e.Type, &e.Body) }

// Entries returns at most limit numbered entries from a number on, in order.
func (t *Tx) Entries(ctx context.Context, from uint64, limit int) ([]ledger.Entry, error) {
	return list(ctx, t, "entries", `SELECT number, type, body FROM outbox WHERE number >= $1 ORDER BY number LIMIT $2`,
		[]any{int64(from), limit}, scanEntry)
}

// LastEntries returns the last numbered entries of a type, newest first.
func (t *Tx) LastEntries(ctx context.Context, typ ledger.Type, limit int) ([]ledger.Entry, error) {
	return list(ctx, t, "entries",
		`SELECT number, type, body FROM outbox WHERE type = $1 AND number IS NOT NULL ORDER BY number DESC LIMIT $2`,
		[]any{int64(typ), limit}, scanEntry)
}

// MarkAppended notes that the log holds all entries below a number.
func (t *Tx) MarkAppended(ctx context.Context, below uint64) error {
	if _, err := t.tx.ExecContext(ctx, `UPDATE outbox SET appended = 1 WHERE appended = 0 AND number < $1`, int64(below)); err != nil {
		return fmt.Errorf("cannot mark entries as appended: %w", err)
	}
	return nil
}

// AddDraft keeps a draft; there may be only one, and its number must be the next.
func (t *Tx) AddDraft(ctx context.Context, d Draft) error {
	_, err := t.exec(ctx, "add draft",
		`INSERT INTO draft (id, number, type, payload) SELECT 1, $1, $2, $3 WHERE (SELECT coalesce(max(number), -1) + 1 FROM outbox) = $1`,
		int64(d.Number), int64(d.Type), d.Payload)
	return err
}

// Draft returns the draft, if one waits.
func (t *Tx) Draft(ctx context.Context) (d Draft, found bool, err error) {
	err = t.get(ctx, "draft", `SELECT number, type, payload FROM draft`, nil, seq{&d.Number}, &d.Type, &d.Payload)
	if errors.Is(err, ErrNotFound) {
		return d, false, nil
	}
	return d, err == nil, err
}

// FinishDraft replaces the draft by its entry.
func (t *Tx) FinishDraft(ctx context.Context, d Draft, body []byte) error {
	if _, err := t.exec(ctx, "finish draft", `DELETE FROM draft WHERE number = $1`, int64(d.Number)); err != nil {
		return err
	}
	_, err := t.exec(ctx, "finish draft", `INSERT INTO outbox (type, body, number) VALUES ($1, $2, $3)`, int64(d.Type), body, int64(d.Number))
	return err
}

// Weights returns the accounts whose credits numbered below a number and effective on the days from to to, both included, have
// kilometres, in the order of their names.
func (t *Tx) Weights(ctx context.Context, from, to uint32, below uint64) ([]Weight, error) {
	return list(ctx, t, "weights",
		`SELECT a.id, a.secret, w.km FROM accounts a JOIN (
			SELECT c.account, sum(c.km) AS km FROM credits c JOIN outbox o ON o.id = c.outbox_id
			WHERE c.effective BETWEEN $1 AND $2 AND o.number < $3 GROUP BY c.account) w ON w.account = a.id
		 WHERE w.km > 0 ORDER BY a.id`, []any{int64(from), int64(to), int64(below)},
		func(w *Weight, scan scanner) error { return scan(&w.ID, fixed(w.Secret[:]), seq{&w.Km}) })
}

// Settled returns the first drop that the balances do not contain.
func (t *Tx) Settled(ctx context.Context) (drop uint64, err error) {
	err = t.get(ctx, "settled drop", `SELECT next_drop FROM settled`, nil, seq{&drop})
	return drop, err
}

// Settle adds milli-stones to balances and moves the settled drop; it fails when the balances do not stand at the drop from.
func (t *Tx) Settle(ctx context.Context, from, next uint64, gains map[string]uint64) error {
	if _, err := t.exec(ctx, "settle drops", `UPDATE settled SET next_drop = $1 WHERE next_drop = $2`, int64(next), int64(from)); err != nil {
		return err
	}
	for account, milli := range gains {
		if _, err := t.exec(ctx, "settle drops",
			`INSERT INTO balances (account, milli) VALUES ($1, $2) ON CONFLICT (account) DO UPDATE SET milli = milli + excluded.milli`,
			account, int64(milli)); err != nil {
			return err
		}
	}
	return nil
}

// Balance returns an account's settled milli-stones, 0 when it never had any.
func (t *Tx) Balance(ctx context.Context, account string) (milli uint64, err error) {
	err = t.get(ctx, "balance", `SELECT coalesce((SELECT milli FROM balances WHERE account = $1), 0)`, []any{account}, seq{&milli})
	return milli, err
}
