package settle

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

// weights returns the day's leaves by the records, of the credits numbered below a number, and their accounts.
func (s *Settler) weights(ctx context.Context, day uint32, below uint64) (accounts []string, leaves []reward.Leaf, err error) {
	from, to, ok := reward.Window(day)
	if !ok {
		return nil, nil, nil
	}
	var weights []store.Weight
	err = s.view(ctx, func(tx *store.Tx) error {
		weights, err = tx.Weights(ctx, from, to, below)
		return err
	})
	for _, w := range weights {
		accounts = append(accounts, w.ID)
		leaves = append(leaves, reward.Leaf{Pseudonym: reward.Pseudonym(w.Secret, day), Weight: w.Km})
	}
	return accounts, leaves, err
}

// order returns the leaves of the day whose leaves entry is logged, in the order of a day entry: accounts, intervals and root.
func (s *Settler) order(ctx context.Context, d *ledger.Day) (accounts []string, line reward.Line, root reward.Root, err error) {
	accounts, leaves, err := s.weights(ctx, d.Day, s.replay.LeavesNumber())
	if err != nil {
		return nil, line, root, err
	}
	owner := make(map[wire.Hash]string, len(leaves))
	for i, l := range leaves {
		owner[l.Pseudonym] = accounts[i]
	}
	ordered := reward.Order(d.Order, leaves)
	for i, l := range ordered {
		accounts[i] = owner[l.Pseudonym]
	}
	tree, err := reward.NewTree(ordered)
	if err != nil {
		return nil, line, root, err
	}
	return accounts, tree.Line(), tree.Root(), nil
}

// apply replays an entry that is final in the records and keeps account of what it gives to whom.
func (s *Settler) apply(ctx context.Context, e *ledger.Entry) error {
	due := s.replay.Due()
	if err := s.replay.Apply(e); err != nil {
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
		s.mu.Lock()
		defer s.mu.Unlock()
		s.today = &day{accounts: accounts, line: line, next: due.Drop, gains: make(map[string]uint64)}
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

// credit adds a block's shares to the day's gains, and settles the day when it is over.
func (s *Settler) credit(ctx context.Context, b *ledger.Block) error {
	s.metrics.supply.Set(float64(b.Supply))
	if s.today == nil {
		return nil
	}
	owners := 0
	if b.Weight > 0 {
		draw, err := reward.NewDraw(b.Seed, b.Units, b.Weight)
		if err != nil {
			return err
		}
		wins, err := draw.Wins(s.today.line)
		if err != nil {
			return err
		}
		owners = len(wins)
		s.mu.Lock()
		for _, w := range wins {
			s.today.gains[s.today.accounts[w.Index]] += w.Units * reward.Unit
		}
		s.mu.Unlock()
	}
	s.today.next = b.Drop + 1
	if s.live {
		s.metrics.blocks.Inc()
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
	next, gains := s.today.next, s.today.gains
	if err := s.update(ctx, func(tx *store.Tx) error { return tx.Settle(ctx, s.settled, next, gains) }); err != nil {
		return err
	}
	s.settled, s.today = next, nil
	return nil
}

// Balance returns an account's stones in milli-stones: the settled ones and those of the current day's drops.
func (s *Settler) Balance(ctx context.Context, account string) (milli uint64, err error) {
	// The lock keeps the day from being settled between the two.
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.c.Store.View(ctx, func(tx *store.Tx) error {
		milli, err = tx.Balance(ctx, account)
		return err
	})
	if s.today != nil {
		milli += s.today.gains[account]
	}
	return milli, err
}

type metrics struct {
	entries, blocks, withheld, errors, jumps prometheus.Counter
	supply                                   prometheus.Gauge
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "rawstone", Subsystem: "settle", Name: name, Help: help})
	}
	return &metrics{
		entries:  counter("entries_total", "Entries appended to the log."),
		blocks:   counter("blocks_total", "Blocks drawn."),
		withheld: counter("withheld_total", "VRF proofs that a validator of the day did not give."),
		errors:   counter("errors_total", "Steps that failed, a missing quorum included."),
		jumps:    counter("clock_jumps_total", "Times that the clock ran ahead of the time that had passed and drops waited."),
		supply:   prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "rawstone", Subsystem: "settle", Name: "supply_milli_stones", Help: "Milli-stones issued so far."}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	return errors.Join(r.Register(m.entries), r.Register(m.blocks), r.Register(m.withheld), r.Register(m.errors), r.Register(m.jumps), r.Register(m.supply))
}
