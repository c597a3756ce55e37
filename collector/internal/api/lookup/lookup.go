// Package lookup finds, among the ledger's entries, what the accounts' API shows beside accounts: the offers that are announced, and the block that
// opened a box.
//
// It reads the records within its caller's transaction and verifies no cosignature: they are the records' own.
package lookup

import (
	"context"
	"fmt"

	"rawstone/collector/internal/api/view"
	"rawstone/collector/internal/estate"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
)

const (
	// MaxBlocks bounds how far back a block is looked up: a week of drops of ten minutes.
	MaxBlocks = 7 * 144
	// maxAnnounced bounds the offers that are announced at once.
	maxAnnounced = 32
)

// A Ledger knows the entries that have a number. store.Tx is one.
type Ledger interface {
	LastEntries(ctx context.Context, t ledger.Type, limit int) ([]ledger.Entry, error)
}

// Announced returns the logged offers that come into force after today, the last first.
func Announced(ctx context.Context, l Ledger, r estate.Rules, today uint32) (later []*cultivation.Offers, err error) {
	list, err := l.LastEntries(ctx, ledger.TypeOffers, maxAnnounced)
	if err != nil {
		return nil, err
	}
	for _, e := range list {
		o, err := cultivation.OpenOffers(r.Program.Policy, r.ID, e.Body)
		if err != nil {
			return nil, fmt.Errorf("cannot read offers of entry %d: %w", e.Number, err)
		}
		if o.FromDay <= today {
			break
		}
		later = append(later, o)
	}
	return later, nil
}

// Block returns the block of a drop; nil for one that is older than MaxBlocks, which the log itself shows.
func Block(ctx context.Context, l Ledger, drop uint64) (*view.Block, error) {
	// Blocks are one a drop, without gaps, so the last one says how far back another is.
	for limit := 1; limit <= MaxBlocks; {
		list, err := l.LastEntries(ctx, ledger.TypeBlock, limit)
		if err != nil || len(list) < limit {
			return nil, err
		}
		e := list[limit-1]
		sealed, err := e.Sealed()
		if err != nil {
			return nil, err
		}
		b, err := ledger.DecodeBlock(sealed.Payload)
		if err != nil {
			return nil, err
		}
		if b.Drop <= drop {
			if b.Drop < drop {
				return nil, fmt.Errorf("cannot read the block of drop %d: it is not among the ledger's entries", drop)
			}
			return &view.Block{Entry: e.Number, Seed: b.Seed.String()}, nil
		}
		limit += int(min(b.Drop-drop, MaxBlocks))
	}
	return nil, nil
}
