// Package reveal reads out of a collector's records what is behind entries of the ledger, for validators: the openings, the secrets of accounts
// that are named first, claims, and in place of what was destroyed at a person's request, that it was.
//
// It decides nothing, and keeps nothing but what the next validator will want in a moment.
package reveal

import (
	"context"
	"errors"
	"fmt"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

// read reads what is behind at least one entry; they follow each other.
func read(ctx context.Context, db *store.DB, entries []ledger.Entry) ([]disclosure.Entry, error) {
	from := entries[0].Number
	out := make([]disclosure.Entry, len(entries))
	credits := false
	for i, e := range entries {
		if e.Number != from+uint64(i) {
			return nil, errors.New("cannot disclose entries: they do not follow each other")
		}
		out[i] = disclosure.Public(e)
		credits = credits || e.Type == ledger.TypeCredit
	}
	err := db.View(ctx, func(tx *store.Tx) error {
		if credits {
			list, err := tx.ClaimedCredits(ctx, from, from+uint64(len(entries)))
			if err != nil {
				return err
			}
			for _, c := range list {
				e := &out[c.Number-from]
				e.Claim = c.Claim
				if err := e.Open(&c.Opening); err != nil {
					return err
				}
			}
		}
		gone, err := tx.ErasedEntries(ctx, from, from+uint64(len(entries))-1)
		if err != nil {
			return err
		}
		for _, e := range gone {
			out[e.Number-from].Erased = true
		}
		for i := range out {
			if out[i].Erased {
				continue
			}
			if err := one(ctx, tx, &out[i]); err != nil {
				return fmt.Errorf("cannot disclose entry %d: %w", out[i].Number, err)
			}
		}
		return nil
	})
	return out, err
}

// leaves discloses what the tree of a day holds of erased accounts.
func leaves(ctx context.Context, tx *store.Tx, e *disclosure.Entry) error {
	entry := e.Ledger()
	s, err := entry.Sealed()
	if err != nil {
		return err
	}
	l, err := ledger.DecodeLeaves(s.Payload)
	if err != nil {
		return err
	}
	list, err := tx.ErasedLeaves(ctx, l.Day)
	for _, leaf := range list {
		e.AddLeaf(leaf)
	}
	return err
}

// one discloses an entry that is no credit.
func one(ctx context.Context, tx *store.Tx, e *disclosure.Entry) error {
	switch e.Type {
	case ledger.TypeLeaves:
		return leaves(ctx, tx, e)
	case ledger.TypeBinding:
		o, err := tx.BindingOpening(ctx, e.Number)
		if err != nil {
			return err
		}
		e.Account = o.Account
		if err := e.Open(&o); err != nil {
			return err
		}
	case ledger.TypeAccount:
		o, err := tx.ChangeOpening(ctx, e.Number)
		if err != nil {
			return err
		}
		e.Account = o.Account
		if err := e.Open(&o); err != nil {
			return err
		}
	case ledger.TypeHandover:
		o, err := tx.HandoverOpening(ctx, e.Number)
		if err != nil {
			return err
		}
		return e.Open(&o)
	case ledger.TypeGrant:
		o, err := tx.GrantOpening(ctx, e.Number)
		if err != nil {
			return err
		}
		return e.Open(&o)
	case ledger.TypeBox, ledger.TypeRedemption:
		o, err := tx.RequestOpening(ctx, e.Number)
		if err != nil {
			return err
		}
		return e.Open(&o)
	default:
		return nil
	}
	secret, err := tx.AccountSecret(ctx, e.Account)
	e.Secret = secret[:]
	return err
}

// Leaves returns what the tree of a day holds of erased accounts.
func (r *Records) Leaves(ctx context.Context, day uint32) (out []reward.Leaf, err error) {
	err = r.DB.View(ctx, func(tx *store.Tx) error {
		out, err = tx.ErasedLeaves(ctx, day)
		return err
	})
	return out, err
}
