// Package stones reads from the records what the ledger has issued: the last drops, the supply, and the openings with which an auditor
// finds whose it is.
//
// It computes nothing that the settler decides and writes nothing.
package stones

import (
	"context"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

// A Drop is a block as the dashboard shows it.
type Drop struct {
	ledger.Block
	// Number is its entry in the log.
	Number uint64
	// Cosigned counts its cosignatures.
	Cosigned int
}

func newDrop(e *ledger.Entry) (Drop, error) {
	sealed, err := e.Sealed()
	if err != nil {
		return Drop{}, err
	}
	b, err := ledger.DecodeBlock(sealed.Payload)
	return Drop{*b, e.Number, len(sealed.Cosignatures)}, err
}

// Drops returns the last blocks, newest first.
func Drops(ctx context.Context, db *store.DB, limit int) (drops []Drop, err error) {
	err = db.View(ctx, func(tx *store.Tx) error {
		entries, err := tx.LastEntries(ctx, ledger.TypeBlock, limit)
		if err != nil {
			return err
		}
		for _, e := range entries {
			d, err := newDrop(&e)
			if err != nil {
				return err
			}
			drops = append(drops, d)
		}
		return nil
	})
	return drops, err
}

// A Supply compares what was issued with the schedule, in milli-stones.
type Supply struct {
	// Issued is the supply so far, Scheduled S(h) at the height reached, Most what mileage may ever mine.
	Issued, Scheduled, Most uint64
	// Height is h.
	Height uint64
}

// SupplyOf returns the supply after a block; the zero block stands for none.
func SupplyOf(b ledger.Block) Supply {
	h := b.Height
	if b.Weight > 0 {
		h++
	}
	return Supply{Issued: b.Supply, Scheduled: reward.Emission(h), Most: reward.MinedSupply, Height: h}
}
