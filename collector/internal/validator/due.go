package validator

import (
	"context"
	"time"

	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
)

// maxAwait is how far a validator's clock may be behind the settler's at no cost. It is below the settler's patience.
const maxAwait = 2 * time.Second

// Due returns what the schedule asks for next.
func (v *Validator) Due() audit.Due {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.replay.Due()
}

// Await returns at once, or when what the schedule asks for next is due if that is within two seconds: a clock that is a little behind that
// of the settler does not cost the validator its day. Nothing is promised by it; whether it is time is for Prove and Cosign to say.
func (v *Validator) Await(ctx context.Context) {
	wait := v.wait()
	if wait <= 0 || wait > maxAwait {
		return
	}
	// The timer may run a little faster than a clock that is being set right.
	timer := time.NewTimer(wait + wait/100)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// wait returns how long it is until what is next is due.
func (v *Validator) wait() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	p, _ := v.replay.Program()
	if p == nil {
		return 0
	}
	due := v.replay.Due()
	at := p.Timing.DayStart(due.Day)
	if due.Type == ledger.TypeBlock {
		at = p.Timing.DropTime(due.Drop)
	}
	return at.Sub(v.now())
}
