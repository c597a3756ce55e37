package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
)

// maxRecent bounds the batches that are kept because the next validator will want them too.
const maxRecent = 8

// Records is a Source that reads the collector's records, opened for the role Settle. It is shared by the clients of all validators, which
// want the same entries within a moment.
type Records struct {
	DB *store.DB

	mu     sync.Mutex
	recent []*shared
}

// Entries returns the next numbered entries of the records.
func (r *Records) Entries(ctx context.Context, from uint64) (out []ledger.Entry, err error) {
	err = r.DB.View(ctx, func(tx *store.Tx) error {
		out, err = tx.Entries(ctx, from, disclosure.MaxBatch)
		return err
	})
	return out, err
}

// shared is what is behind some entries; the first who wants it reads it.
type shared struct {
	from, to uint64
	mu       sync.Mutex
	batches  [][]byte
}

// Batches reads what is behind entries that follow each other.
func (r *Records) Batches(ctx context.Context, entries []ledger.Entry) ([][]byte, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	s := r.shared(entries[0].Number, entries[len(entries)-1].Number+1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.batches != nil {
		return s.batches, nil
	}
	open, err := r.disclose(ctx, entries, s.from, s.to)
	if err != nil {
		return nil, err
	}
	s.batches, err = Batches(open)
	return s.batches, err
}

func (r *Records) shared(from, to uint64) *shared {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.recent {
		if s.from == from && s.to == to {
			return s
		}
	}
	s := &shared{from: from, to: to}
	if r.recent = append(r.recent, s); len(r.recent) > maxRecent {
		r.recent = r.recent[1:]
	}
	return s
}

func (r *Records) disclose(ctx context.Context, entries []ledger.Entry, from, to uint64) ([]disclosure.Entry, error) {
	out := make([]disclosure.Entry, len(entries))
	credits := false
	for i, e := range entries {
		if e.Number != from+uint64(i) {
			return nil, errors.New("cannot disclose entries: they do not follow each other")
		}
		out[i] = disclosure.Public(e)
		credits = credits || e.Type == ledger.TypeCredit
	}
	err := r.DB.View(ctx, func(tx *store.Tx) error {
		if credits {
			list, err := tx.ClaimedCredits(ctx, from, to)
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
		for i := range out {
			if err := one(ctx, tx, &out[i]); err != nil {
				return fmt.Errorf("cannot disclose entry %d: %w", out[i].Number, err)
			}
		}
		return nil
	})
	return out, err
}

// one discloses an entry that is no credit.
func one(ctx context.Context, tx *store.Tx, e *disclosure.Entry) error {
	switch e.Type {
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
