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

// maxAnnounced bounds the offers that are announced at once.
const maxAnnounced = 32

// A Ledger knows the entries that have a number. store.Tx is one.
type Ledger interface {
	LastEntries(ctx context.Context, t ledger.Type, limit int) ([]ledger.Entry, error)
	EntriesAfter(ctx context.Context, t ledger.Type, after uint64, limit int) ([]ledger.Entry, error)
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

// Block returns the block that opened the box whose request is the entry of a number: the second after it.
func Block(ctx context.Context, l Ledger, number uint64, drop uint64) (*view.Block, error) {
	list, err := l.EntriesAfter(ctx, ledger.TypeBlock, number, 2)
	if err != nil {
		return nil, err
	}
	if len(list) < 2 {
		return nil, fmt.Errorf("cannot read the block of drop %d: it is not among the ledger's entries", drop)
	}
	e := list[1]
	sealed, err := e.Sealed()
	if err != nil {
		return nil, err
	}
	b, err := ledger.DecodeBlock(sealed.Payload)
	if err != nil {
		return nil, err
	}
	if b.Drop != drop {
		return nil, fmt.Errorf("cannot read the block of drop %d: the second after entry %d is of drop %d", drop, number, b.Drop)
	}
	return &view.Block{Entry: e.Number, Seed: b.Seed.String()}, nil
}
