package reveal

import (
	"context"
	"sync"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/feed"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
)

// maxRecent bounds the batches that are kept because the next validator will want them too.
const maxRecent = 8

// Records is a feed.Source that reads the collector's records, opened for the role Settle. It is shared by the clients of all validators, which
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

// Erasure returns the numbers of the entries of an erasure, ascending, none when there was none; the first is 1.
func (r *Records) Erasure(ctx context.Context, erasure uint64) (numbers []uint64, err error) {
	err = r.DB.View(ctx, func(tx *store.Tx) error {
		numbers, err = tx.Erasure(ctx, erasure)
		return err
	})
	if len(numbers) > 0 { // what was read before may be of the account
		r.mu.Lock()
		defer r.mu.Unlock()
		r.recent = nil
	}
	return numbers, err
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
	open, err := read(ctx, r.DB, entries)
	if err != nil {
		return nil, err
	}
	s.batches, err = feed.Batches(open)
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
