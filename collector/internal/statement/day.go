package statement

import (
	"context"
	"fmt"
	"time"

	"rawstone/collector/internal/statement/internal/dayfile"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

// share returns the units that a place, nil for none, gets of a block of its day.
func share(p *dayfile.Place, b *ledger.Block) (uint64, error) {
	if p == nil || b.Weight == 0 {
		return 0, nil
	}
	d, err := reward.NewDraw(b.Seed, b.Units, b.Weight)
	if err != nil {
		return 0, err
	}
	return d.Share(p.Interval)
}

// place returns a pseudonym's place on the day of a block, out of a tree that is made from the records' credits as the settler makes it.
func (d *Desk) place(ctx context.Context, pseudonym wire.Hash, b *ledger.Block, order *ledger.Day) (*dayfile.Place, error) {
	if b.Weight == 0 {
		return nil, nil
	}
	if order == nil {
		return nil, fmt.Errorf("the order of day %d is not in the records", b.Day)
	}
	day := dayfile.Day{Number: b.Day, Order: order.Order, Root: reward.Root{Hash: b.Root, Sum: b.Weight, Count: b.Count}}
	return d.days.Find(ctx, day, pseudonym, func(ctx context.Context) (leaves []reward.Leaf, err error) {
		from, to, _ := reward.Window(b.Day)
		err = d.cfg.Records.View(ctx, func(tx *store.Tx) error {
			weights, err := tx.Weights(ctx, from, to, b.CreditTo)
			if err != nil {
				return err
			}
			erased, err := tx.ErasedLeaves(ctx, b.Day)
			leaves = make([]reward.Leaf, 0, len(weights)+len(erased))
			for _, w := range weights {
				leaves = append(leaves, reward.Leaf{Pseudonym: reward.Pseudonym(w.Secret, b.Day), Weight: w.Km})
			}
			leaves = append(leaves, erased...)
			return err
		})
		return leaves, err
	})
}

// Prepare makes the tree of the newest block's day unless it is there, so that owners who ask do not wait for it.
func (d *Desk) Prepare(ctx context.Context) error {
	var newest block
	var orders map[uint32]*ledger.Day
	err := d.cfg.Records.View(ctx, func(tx *store.Tx) error {
		list, err := tx.LastEntries(ctx, ledger.TypeBlock, 1)
		if err != nil || len(list) == 0 {
			return err
		}
		if newest, err = open(&list[0]); err != nil {
			return err
		}
		orders, err = readOrders(ctx, tx, candidates)
		return err
	})
	if err == nil && newest.Block != nil {
		_, err = d.place(ctx, wire.Hash{}, newest.Block, orders[newest.Day])
	}
	if err != nil {
		return fmt.Errorf("cannot prepare statements: %w", err)
	}
	return nil
}

// interval is how often Run looks for a new day.
const interval = 30 * time.Second

// Run prepares each day until ctx ends. What fails is logged and tried again.
func (d *Desk) Run(ctx context.Context) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := d.Prepare(ctx); err != nil && ctx.Err() == nil {
			d.cfg.Logger.WarnContext(ctx, "statements' day is not prepared", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
