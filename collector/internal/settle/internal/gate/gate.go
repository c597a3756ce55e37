// Package gate has the settler look behind blinded entries before they are final: it reads, many at once, what the outbox's rows hide, and
// tells it to the settler's replay, so that the settler takes what the validators who hold the openings take, and nothing else.
//
// What the replay refuses is set aside: the row stays in the outbox with the reason and gets no number, and what follows goes on. One row in
// the outbox, put there by whoever stole a login, must not stop the ledger. It decides nothing: the replay does. It reads in the transaction that it is given, before the replay asks, so that a database that does
// not answer is an error and never an opening that is not there. What was destroyed at a person's request the replay does without; only of
// entries that have numbers, so that nothing is numbered unseen.
package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/erasure"
	"rawstone/collector/internal/opening"
	"rawstone/collector/internal/outbox"
	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	known "rawstone/pkg/opening"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

// Records reads openings within a transaction; that of package store is one.
type Records interface {
	// Between is that of opening.Reader.
	Between(ctx context.Context, t ledger.Type, first, last int64) (opening.Openings, error)
	// ErasedEntries, ErasedLeaves and ErasedKeys are those of erasure.Book.
	ErasedEntries(ctx context.Context, first, last uint64) ([]erasure.Entry, error)
	ErasedLeaves(ctx context.Context, day uint32) ([]reward.Leaf, error)
	ErasedKeys(ctx context.Context) ([]ledger.ErasedKey, error)
	// AccountSecret returns what an account's pseudonyms are made from, or database.ErrNotFound.
	AccountSecret(ctx context.Context, id string) ([32]byte, error)
}

// Box is the outbox within a transaction: outbox.Box says what each does.
type Box interface {
	Records
	Waiting(ctx context.Context, limit int) ([]outbox.Row, error)
	SetAside(ctx context.Context, id int64, reason string) error
	NumberEntries(ctx context.Context, limit int) error
}

// Replay is the log so far; *audit.Replay is one. An entry that it refuses changes nothing.
type Replay interface {
	Next() uint64
	Apply(e *ledger.Entry) error
}

// Number gives numbers to the first rows that wait, at most limit, and replays them. It returns the encoded entries, and how many rows of
// which type were set aside instead. After an error the replay is ahead of the records, and both are to be thrown away.
func (g *Gate) Number(ctx context.Context, box Box, r Replay, limit int) (entries [][]byte, aside map[ledger.Type]int, err error) {
	rows, err := box.Waiting(ctx, limit)
	if err != nil {
		return nil, nil, err
	}
	if err := g.Read(ctx, box, rows); err != nil {
		return nil, nil, err
	}
	aside = make(map[ledger.Type]int)
	for _, row := range rows {
		row.Number = r.Next()
		g.At(row.ID, row.Number)
		b, why := accept(r, &row.Entry)
		if why == nil {
			entries = append(entries, b)
			continue
		}
		if err := box.SetAside(ctx, row.ID, why.Error()); err != nil {
			return nil, nil, err
		}
		aside[row.Type]++
	}
	// They are the first that wait, now that the others do no more.
	return entries, aside, box.NumberEntries(ctx, len(entries))
}

func accept(r Replay, e *ledger.Entry) ([]byte, error) {
	if e.Type >= ledger.TypeLeaves && e.Type <= ledger.TypeBlock {
		return nil, fmt.Errorf("%v is made by the settler alone", e.Type)
	}
	b, err := e.Encode()
	if err == nil {
		err = r.Apply(e)
	}
	return b, err
}

// A Gate is the audit.Opener of the settler's replay. It is used by one goroutine at a time.
type Gate struct {
	secrets map[string][32]byte // of all accounts that an opening has named
	rows    known.Set           // openings by rows, and erased entries by numbers
	leaves  map[uint32][]reward.Leaf
	row     uint64 // the one in hand, and its entry's number
	number  uint64
}

// New returns a Gate that knows nothing.
func New() *Gate {
	return &Gate{secrets: make(map[string][32]byte), leaves: make(map[uint32][]reward.Leaf)}
}

// Read reads the openings of rows, in place of those read before.
func (g *Gate) Read(ctx context.Context, from Records, rows []outbox.Row) error {
	g.rows, g.leaves = known.Set{}, make(map[uint32][]reward.Leaf)
	if err := g.readErased(ctx, from, rows); err != nil {
		return err
	}
	type span struct{ first, last int64 }
	spans := make(map[ledger.Type]span)
	for _, r := range rows {
		s, ok := spans[r.Type]
		if !ok {
			s.first = r.ID
		}
		spans[r.Type] = span{min(s.first, r.ID), max(s.last, r.ID)}
	}
	for t, s := range spans {
		o, err := from.Between(ctx, t, s.first, s.last)
		if err != nil {
			return err
		}
		if err := g.add(ctx, from, &o); err != nil {
			return err
		}
	}
	return nil
}

// readErased reads which entries' openings were destroyed, of rows that have numbers, what days' trees hold of their accounts, and what is left
// of their keys.
func (g *Gate) readErased(ctx context.Context, from Records, rows []outbox.Row) error {
	if len(rows) == 0 {
		return nil
	}
	gone, err := from.ErasedEntries(ctx, rows[0].Number, rows[len(rows)-1].Number)
	if err != nil {
		return err
	}
	for _, e := range gone {
		g.rows.AddErased(e.Number)
	}
	keys, err := from.ErasedKeys(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		g.rows.AddErasedKey(k)
	}
	for i := range rows {
		if rows[i].Type != ledger.TypeLeaves {
			continue
		}
		s, err := rows[i].Sealed()
		if err != nil {
			continue // the replay refuses it
		}
		if l, err := ledger.DecodeLeaves(s.Payload); err == nil {
			leaves, err := from.ErasedLeaves(ctx, l.Day)
			if err != nil {
				return err
			}
			g.Hold(l.Day, leaves)
		}
	}
	return nil
}

// Hold keeps what the tree of a day holds of erased accounts until Read is called, and returns it.
func (g *Gate) Hold(day uint32, leaves []reward.Leaf) []reward.Leaf {
	g.leaves[day] = leaves
	return leaves
}

func (g *Gate) add(ctx context.Context, from Records, o *opening.Openings) error {
	accounts := make(map[string]struct{})
	for _, b := range o.Bindings {
		g.rows.AddBinding(b.Number, b.Opening)
		accounts[b.Opening.Account] = struct{}{}
	}
	for _, h := range o.Handovers {
		g.rows.AddHandover(h.Number, h.Opening)
	}
	for _, c := range o.Credits {
		g.rows.AddCredit(c.Number, c.Opening)
		accounts[c.Opening.Account] = struct{}{}
	}
	for _, c := range o.Changes {
		g.rows.AddChange(c.Number, c.Opening)
		accounts[c.Opening.Account] = struct{}{}
	}
	for _, r := range o.Grants {
		g.rows.AddGrant(r.Number, r.Opening)
		accounts[r.Opening.Account] = struct{}{}
	}
	for _, r := range o.Requests {
		g.rows.AddRequest(r.Number, r.Opening)
		accounts[r.Opening.Account] = struct{}{}
	}
	for id := range accounts {
		have, ok := g.secrets[id]
		if ok && !named(o, id) {
			continue
		}
		secret, err := from.AccountSecret(ctx, id)
		if errors.Is(err, database.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		if ok && secret != have {
			return errors.New("an account was erased, and another has its name: what was replayed has to be replayed anew")
		}
		g.secrets[id] = secret
	}
	return nil
}

// named reports whether a binding or a change of an account names one, as the first entry of every account does.
func named(o *opening.Openings, id string) bool {
	return slices.ContainsFunc(o.Bindings, func(b opening.OpenedBinding) bool { return b.Opening.Account == id }) ||
		slices.ContainsFunc(o.Changes, func(c opening.OpenedChange) bool { return c.Opening.Account == id })
}

// At says which row the replay is asked about next, and the number of its entry.
func (g *Gate) At(row int64, number uint64) { g.row, g.number = uint64(row), number }

// at returns the opening of the row in hand, when that is the entry of the number.
func at[T any](g *Gate, number uint64, get func(uint64) (T, bool)) (o T, ok bool) {
	if number != g.number {
		return o, false
	}
	return get(g.row)
}

// Credit returns the opening of the credit in hand.
func (g *Gate) Credit(number uint64) (ledger.CreditOpening, bool) {
	return at(g, number, g.rows.Credit)
}

// Binding returns the opening of the binding in hand.
func (g *Gate) Binding(number uint64) (ledger.BindingOpening, bool) {
	return at(g, number, g.rows.Binding)
}

// Handover returns the opening of the hand-over in hand.
func (g *Gate) Handover(number uint64) (ledger.HandoverOpening, bool) {
	return at(g, number, g.rows.Handover)
}

// Change returns the opening of the change of an account in hand.
func (g *Gate) Change(number uint64) (account.ChangeOpening, bool) {
	return at(g, number, g.rows.Change)
}

// Grant returns the opening of the grant in hand.
func (g *Gate) Grant(number uint64) (account.GrantOpening, bool) {
	return at(g, number, g.rows.Grant)
}

// Request returns the opening of the box or redemption in hand.
func (g *Gate) Request(number uint64) (account.RequestOpening, bool) {
	return at(g, number, g.rows.Request)
}

// Secret returns an account's secret, of those that openings have named so far.
func (g *Gate) Secret(id string) ([32]byte, bool) {
	s, ok := g.secrets[id]
	return s, ok
}

// Erased reports whether the opening of the entry in hand was destroyed.
func (g *Gate) Erased(number uint64) bool { return number == g.number && g.rows.Erased(number) }

// ErasedLeaves returns what the tree of a day holds of erased accounts, when Read or Hold came upon it.
func (g *Gate) ErasedLeaves(day uint32) []reward.Leaf { return g.leaves[day] }

// ErasedKey returns what is kept of an ECU key, if its last binding was erased.
func (g *Gate) ErasedKey(id wire.KeyID) (ledger.ErasedKey, bool) { return g.rows.ErasedKey(id) }
