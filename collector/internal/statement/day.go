package statement

import (
	"context"
	"fmt"
	"slices"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

// A day is the tree over a day's leaves.
type day struct {
	number  uint32
	ordered []reward.Leaf
	tree    *reward.Tree
}

// A place is an account's among a day's leaves. A nil place is none.
type place struct {
	weight   uint64
	interval reward.Interval
	path     reward.Path
}

// share returns the account's units of a block of the day.
func (p *place) share(b *ledger.Block) (uint64, error) {
	if p == nil || b.Weight == 0 {
		return 0, nil
	}
	d, err := reward.NewDraw(b.Seed, b.Units, b.Weight)
	if err != nil {
		return 0, err
	}
	return d.Share(p.interval)
}

// place returns the account's place on the day of a block.
func (d *Desk) place(ctx context.Context, s *draft, b *ledger.Block) (*place, error) {
	if b.Weight == 0 {
		return nil, nil
	}
	t, err := d.day(ctx, b, s.orders[b.Day])
	if err != nil {
		return nil, err
	}
	pseudonym := reward.Pseudonym(s.secret, b.Day)
	i := slices.IndexFunc(t.ordered, func(l reward.Leaf) bool { return l.Pseudonym == pseudonym })
	if i < 0 {
		return nil, nil
	}
	path, err := t.tree.Path(i)
	return &place{t.ordered[i].Weight, t.tree.Interval(i), path}, err
}

// day returns the tree of the day of a block, made from the records' credits as the settler makes it.
func (d *Desk) day(ctx context.Context, b *ledger.Block, order *ledger.Day) (*day, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, t := range d.days {
		if t.number == b.Day {
			d.days = append(slices.Delete(d.days, i, i+1), t)
			return t, nil
		}
	}
	if order == nil {
		return nil, fmt.Errorf("the order of day %d is not in the records", b.Day)
	}
	from, to, _ := reward.Window(b.Day)
	var leaves []reward.Leaf
	err := d.cfg.Settle.View(ctx, func(tx *store.Tx) error {
		weights, err := tx.Weights(ctx, from, to, b.CreditTo)
		for _, w := range weights {
			leaves = append(leaves, reward.Leaf{Pseudonym: reward.Pseudonym(w.Secret, b.Day), Weight: w.Km})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	t := &day{number: b.Day, ordered: reward.Order(order.Order, leaves)}
	if t.tree, err = reward.NewTree(t.ordered); err != nil {
		return nil, err
	}
	if t.tree.Root() != (reward.Root{Hash: b.Root, Sum: b.Weight, Count: b.Count}) {
		return nil, fmt.Errorf("weights root of day %d in the log is not that of the records' credits: restore the records that belong to this log", b.Day)
	}
	d.days = append(d.days, t)
	kept := 0
	for i := len(d.days) - 1; i >= 0; i-- {
		if kept += len(d.days[i].ordered); kept > keptLeaves && i < len(d.days)-1 {
			d.days = slices.Delete(d.days, 0, i+1)
			break
		}
	}
	return t, nil
}
