package drive

import (
	"context"
	"time"
)

const (
	// minSleep makes batches: no sleep is shorter.
	minSleep = 5 * time.Millisecond
	// A step of frame time that leaves -maxBack to maxGap is a clock that was set, or a recorder that was switched off: it is handed
	// out as recorded, but nobody waits for it.
	maxGap, maxBack = int64(time.Hour), int64(time.Second)
)

// A pace relates frame time to the host's clock.
type pace struct {
	running bool
	frame   int64     // frame time at
	host    time.Time // this moment
	last    int64     // frame time of the frame before
	horizon int64     // frames up to here are due without a look at the clock
	timer   *time.Timer
}

// await returns when the frame of a time is due.
func (d *Drive) await(ctx context.Context, at int64) error {
	p := &d.pace
	step := at - p.last
	p.last = at
	if !p.running || step < -maxBack || step > maxGap {
		p.running, p.frame, p.host, p.horizon = true, at, d.now(), at
		return nil
	}
	if at <= p.horizon {
		return nil
	}
	passed := d.now().Sub(p.host)
	wait := time.Duration(float64(at-p.frame)/d.speed) - passed
	if wait <= 0 {
		p.horizon = p.frame + int64(float64(passed)*d.speed)
		return nil
	}
	d.publish()
	if wait = max(wait, minSleep); p.timer == nil {
		p.timer = time.NewTimer(wait)
	} else {
		p.timer.Reset(wait)
	}
	defer p.timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-d.closed:
		return d.errClosed()
	case <-p.timer.C:
		return nil
	}
}
