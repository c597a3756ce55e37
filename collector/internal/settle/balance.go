package settle

import (
	"context"
	"fmt"

	"rawstone/collector/internal/outbox"
	"rawstone/collector/internal/settle/internal/share"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

// weights returns the day's leaves by the records, of the credits numbered below a number, and their accounts.
func (s *Settler) weights(ctx context.Context, day uint32, below uint64) (accounts []string, leaves []reward.Leaf, err error) {
	from, to, ok := reward.Window(day)
	if !ok {
		return nil, nil, nil
	}
	weights, erased := []store.Weight(nil), []reward.Leaf(nil)
	err = s.view(ctx, func(tx *store.Tx) error {
		if weights, err = tx.Weights(ctx, from, to, below); err == nil {
			erased, err = tx.ErasedLeaves(ctx, day)
		}
		return err
	})
	accounts, leaves = share.Leaves(day, weights, s.gate.Hold(day, erased))
	return accounts, leaves, err
}

// order returns the leaves of the day whose leaves entry is logged, in the order of a day entry: accounts, intervals and root.
func (s *Settler) order(ctx context.Context, d *ledger.Day) (accounts []string, line reward.Line, root reward.Root, err error) {
	accounts, leaves, err := s.weights(ctx, d.Day, s.replay.LeavesNumber())
	if err != nil {
		return nil, line, root, err
	}
	return share.Order(d.Order, accounts, leaves)
}

// apply replays an entry that is final in the records and keeps account of what it gives to whom.
func (s *Settler) apply(ctx context.Context, e *outbox.Row) error {
	due := s.replay.Due()
	s.gate.At(e.ID, e.Number)
	if err := s.replay.Apply(&e.Entry); err != nil {
		return err
	}
	switch e.Type {
	case ledger.TypeDay:
		if due.Drop < s.settled {
			return nil // an old day
		}
		d := s.replay.Day()
		accounts, line, root, err := s.order(ctx, d)
		if err != nil {
			return err
		}
		if root.Hash != d.Root {
			return fmt.Errorf("cannot settle day %d: its root in the log is not that of the records' credits: restore the records that belong to this log", d.Day)
		}
		s.setToday(share.NewDay(accounts, line, due.Drop))
	case ledger.TypeBlock:
		sealed, err := e.Sealed()
		if err != nil {
			return err
		}
		b, err := ledger.DecodeBlock(sealed.Payload)
		if err != nil {
			return err
		}
		return s.credit(ctx, b)
	}
	return nil
}

func (s *Settler) setToday(d *share.Day) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.today = d
}

// credit adds a block's shares to the day's gains, and settles the day when it is over.
func (s *Settler) credit(ctx context.Context, b *ledger.Block) error {
	s.metrics.Block(b)
	if opened := s.replay.Opened(); s.live && len(opened) > 0 {
		s.metrics.Boxes.Add(float64(len(opened)))
		s.c.Logger.Info("boxes opened", "drop", b.Drop, "boxes", len(opened))
	}
	if s.today == nil {
		return nil
	}
	owners, err := s.today.Take(b)
	if err != nil {
		return err
	}
	if s.live {
		s.metrics.Blocks.Inc()
		s.c.Logger.Info("drop drawn", "drop", b.Drop, "units", b.Units, "owners", owners)
		if b.Units > 0 {
			s.c.Logger.Info("stones credited", "milli_stones", b.Units*reward.Unit, "owners", owners)
		}
	}
	if s.replay.Due().Type != ledger.TypeBlock {
		return s.closeDay(ctx)
	}
	return nil
}

// closeDay moves the gains of the day that is over into the balances.
func (s *Settler) closeDay(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, gains := s.today.Gains()
	if err := s.update(ctx, func(tx *store.Tx) error { return tx.Settle(ctx, s.settled, next, gains) }); err != nil {
		return err
	}
	s.settled, s.today = next, nil
	return nil
}
