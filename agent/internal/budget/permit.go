package budget

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"rawstone/agent/internal/budget/internal/chain"
	"rawstone/agent/internal/budget/internal/charge"
)

// Mechanism draws noise: a *dp.Gaussian or a *dp.Categorical.
type Mechanism interface {
	// Mu is what one release costs in Gaussian differential privacy, at most; Epsilon and Delta are its guarantee.
	Mu() float64
	Epsilon() float64
	Delta() float64
	// Dim is the length of the vector that Release takes.
	Dim() int
	// Release draws anew at each call. It looks at the vector's values only under noise: its errors say nothing of them.
	Release(x []int64) ([]int64, error)
}

// Permit is the permission to draw one epoch's noise once. It exists only in memory: after a crash the epoch stays charged and
// is never drawn again.
type Permit struct {
	ledger *Ledger
	charge charge.Charge

	mu    sync.Mutex
	state permitState
}

type permitState int

const (
	fresh permitState = iota
	drawn
	stored
)

// Epoch returns the epoch charged.
func (p *Permit) Epoch() uint64 { return p.charge.Epoch }

// Index returns the charge's number in the ledger, from 1.
func (p *Permit) Index() uint64 { return p.charge.Index }

// Hash returns the charge's hash, which stands for the whole chain up to it.
func (p *Permit) Hash() [32]byte { return p.charge.Hash }

// Release draws the epoch's one noised vector from m. A mechanism that costs more than was charged, one with a δ where none was
// charged, and a vector of the wrong length are refused and leave the permit unused; a second draw is refused.
func (p *Permit) Release(m Mechanism, x []int64) ([]int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != fresh {
		return nil, fmt.Errorf("cannot draw noise for epoch %d: it was drawn before; send the stored bytes", p.charge.Epoch)
	}
	if !covers(p.charge, m) {
		return nil, fmt.Errorf("cannot draw noise for epoch %d: the mechanism (epsilon %g, delta %g) costs more than was charged; charge its own cost",
			p.charge.Epoch, m.Epsilon(), m.Delta())
	}
	if len(x) != m.Dim() {
		return nil, fmt.Errorf("cannot draw noise for epoch %d: %d coordinates, want %d", p.charge.Epoch, len(x), m.Dim())
	}
	p.state = drawn
	return m.Release(x)
}

// covers says whether m costs no more than c; the comparisons are written so that NaN fails them.
func covers(c charge.Charge, m Mechanism) bool {
	if c.PicoDelta == 0 && !(m.Delta() == 0 && m.Epsilon() <= float64(c.MicroEpsilon)/1e6) {
		return false
	}
	mu := m.Mu()
	return mu > 0 && mu*mu*1e9 <= float64(c.Nano)
}

// Store keeps the sealed bytes of the permit's draw, synced together with the charge's place in the chain, for sending and for
// retries. It succeeds once a permit, after its draw. sealed is 1 to MaxSealed bytes.
func (l *Ledger) Store(ctx context.Context, p *Permit, sealed []byte) error {
	if err := l.store(ctx, p, sealed); err != nil {
		return fmt.Errorf("cannot store report: %w", err)
	}
	return nil
}

func (l *Ledger) store(ctx context.Context, p *Permit, sealed []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p == nil || p.ledger != l {
		return errors.New("the permit is not of this ledger")
	}
	if len(sealed) < 1 || len(sealed) > MaxSealed {
		return fmt.Errorf("%d bytes is outside [1, %d]", len(sealed), MaxSealed)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case fresh:
		return fmt.Errorf("nothing was drawn for epoch %d", p.charge.Epoch)
	case stored:
		return fmt.Errorf("epoch %d is stored already", p.charge.Epoch)
	}
	if err := chain.Store(l.db, p.charge, sealed); err != nil {
		return err
	}
	p.state = stored
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last.Index == p.charge.Index {
		l.pending = false
	}
	return nil
}

// Stored returns the sealed bytes of epoch, and false where there are none: it was not charged, or a crash came before Store,
// or they were dropped. Damaged bytes are ErrCorrupt: that report is lost, the budget is not.
func (l *Ledger) Stored(ctx context.Context, epoch uint64) ([]byte, bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, false, fmt.Errorf("cannot read stored report of epoch %d: %w", epoch, err)
	}
	sealed, found, err := chain.Stored(l.db, epoch)
	if err != nil {
		return nil, false, fmt.Errorf("cannot read stored report of epoch %d: %w", epoch, err)
	}
	return sealed, found, nil
}

// Drop frees the stored bytes of epoch once nothing will send them again. The charge stays. Dropping what is not there succeeds.
func (l *Ledger) Drop(ctx context.Context, epoch uint64) error {
	err := ctx.Err()
	if err == nil {
		err = chain.Drop(l.db, epoch)
	}
	if err != nil {
		return fmt.Errorf("cannot drop stored report of epoch %d: %w", epoch, err)
	}
	return nil
}
