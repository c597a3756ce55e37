package budget

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"rawstone/pkg/dp"
)

// Permit is the permission to draw one epoch's noise once. It exists only in memory: after a crash the epoch stays charged and
// is never drawn again.
type Permit struct {
	ledger *Ledger
	charge charge

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
func (p *Permit) Epoch() uint64 { return p.charge.epoch }

// Release draws the epoch's one noised vector from g. A mechanism that costs more than was charged, or a vector of the wrong
// length, is refused and leaves the permit unused; a second draw is refused.
func (p *Permit) Release(g *dp.Gaussian, x []int64) ([]int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != fresh {
		return nil, fmt.Errorf("cannot draw noise for epoch %d: it was drawn before; send the stored bytes", p.charge.epoch)
	}
	if mu := g.Mu(); mu*mu*1e9 > float64(p.charge.nano) {
		return nil, fmt.Errorf("cannot draw noise for epoch %d: the mechanism (epsilon %g, delta %g) costs more than was charged; charge its own cost",
			p.charge.epoch, g.Epsilon(), g.Delta())
	}
	if len(x) != g.Dim() {
		return nil, fmt.Errorf("cannot draw noise for epoch %d: %d coordinates, want %d", p.charge.epoch, len(x), g.Dim())
	}
	p.state = drawn
	return g.Release(x)
}

// Store keeps the sealed bytes of the permit's draw, synced, for sending and for retries. It succeeds once a permit, after its
// draw. sealed is 1 to MaxSealed bytes.
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
		return fmt.Errorf("nothing was drawn for epoch %d", p.charge.epoch)
	case stored:
		return fmt.Errorf("epoch %d is stored already", p.charge.epoch)
	}
	if err := writeStored(l.db, p.charge, sealed); err != nil {
		return err
	}
	p.state = stored
	return nil
}

// Stored returns the sealed bytes of epoch, and false where there are none: it was not charged, or a crash came before Store,
// or they were dropped. Damaged bytes are ErrCorrupt: that report is lost, the budget is not.
func (l *Ledger) Stored(ctx context.Context, epoch uint64) ([]byte, bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, false, fmt.Errorf("cannot read stored report of epoch %d: %w", epoch, err)
	}
	sealed, found, err := readStored(l.db, epoch)
	if err != nil {
		return nil, false, fmt.Errorf("cannot read stored report of epoch %d: %w", epoch, err)
	}
	return sealed, found, nil
}

// Drop frees the stored bytes of epoch once nothing will send them again. The charge stays. Dropping what is not there succeeds.
func (l *Ledger) Drop(ctx context.Context, epoch uint64) error {
	err := ctx.Err()
	if err == nil {
		err = deleteStored(l.db, epoch)
	}
	if err != nil {
		return fmt.Errorf("cannot drop stored report of epoch %d: %w", epoch, err)
	}
	return nil
}
