// Package resend asks the attestation ECU to repeat snapshots that are missing, and says how long sealing waits for its answer.
//
// Invariants: after each request sealing is held until the ECU has fallen silent or Config.Wait is over, whichever is first. A missing
// snapshot is asked for MaxTries times at most in the life of a process, so that an ECU that cannot repeat holds nothing up for ever.
// An ECU that speaks only after the wait was over never heard the first request, and is asked for everything again. A clock set back
// does not lengthen the wait.
//
// The package sees sequence numbers and days alone; it keeps nothing on flash.
package resend

import (
	"context"
	"errors"
	"sync"
	"time"

	"rawstone/pkg/attest"
	"rawstone/pkg/terms"
)

// MaxTries bounds how often a missing snapshot is asked for in the life of a process.
const MaxTries = 3

// Config says how the ECU is asked. All fields are required.
type Config struct {
	// Request asks the ECU for its last n snapshots, 1 to attest.MaxLast. A failure is its own to report.
	Request func(ctx context.Context, n uint8)
	// Wait bounds the wait for an answer, above 0.
	Wait time.Duration
	// Now is the host's clock.
	Now func() time.Time
}

// Asker is the conversation with one ECU. It is safe for concurrent use.
type Asker struct {
	cfg   Config
	daily uint32 // the program day on which Daily asked

	mu sync.Mutex
	// The last request, the end of the wait for its answer, whether one ever came, whether to ask for everything again, and how
	// often each missing snapshot was asked for.
	asked, gate  time.Time
	heard, again bool
	tries        map[uint64]int
}

// New returns an asker that has not asked yet.
func New(cfg Config) (*Asker, error) {
	if cfg.Request == nil || cfg.Now == nil || cfg.Wait <= 0 {
		return nil, errors.New("cannot ask the ECU: no request, clock or time to wait given")
	}
	return &Asker{cfg: cfg, tries: make(map[uint64]int)}, nil
}

// Ask requests the ECU's last n snapshots and holds sealing until the answer has had its time.
func (a *Asker) Ask(ctx context.Context, n uint8) {
	now := a.cfg.Now()
	a.mu.Lock()
	a.asked, a.gate, a.again = now, now.Add(a.cfg.Wait), false
	a.mu.Unlock()
	a.cfg.Request(ctx, n)
}

// Spoke says whether the ECU has answered a request in the life of this process.
func (a *Asker) Spoke() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.heard
}

// quiet is the silence after which an answer counts as complete.
func (a *Asker) quiet() time.Duration { return a.cfg.Wait / 5 }

// Daily asks once a program day for the newest snapshot where today's has not come: a transfer that failed leaves no gap to be seen. newest
// returns the day of the newest one held, false where there is none. It returns how long sealing must wait for the answer, and is called by
// one goroutine.
func (a *Asker) Daily(ctx context.Context, t terms.Timing, newest func() (day uint32, ok bool)) time.Duration {
	now := a.cfg.Now()
	today := t.Day(now)
	if a.daily == today || !a.Spoke() || now.Before(t.DayStart(today).Add(a.cfg.Wait)) {
		return 0
	}
	if day, ok := newest(); ok && day >= today {
		return 0
	}
	a.daily = today
	a.Ask(ctx, 1)
	return a.cfg.Wait
}

// Heard notes that the ECU spoke and says whether that may be an answer; a pending one is complete after a moment's silence.
func (a *Asker) Heard() (answer bool) {
	now := a.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	end := a.asked.Add(a.cfg.Wait)
	switch {
	case !now.After(end) && !now.Before(a.asked):
		a.heard = true
		if a.gate = now.Add(a.quiet()); a.gate.After(end) {
			a.gate = end
		}
		return true
	case !a.heard:
		a.again = true
	}
	return false
}

// Attend asks for what is missing, given with the newest sequence number held, and returns how long sealing must still wait for an
// answer; 0 means that it need not.
func (a *Asker) Attend(ctx context.Context, missing []uint64, newest uint64) time.Duration {
	now := a.cfg.Now()
	a.mu.Lock()
	gate, again := a.gate, a.again
	// A clock set back must not hold sealing for long.
	if wait := gate.Sub(now); wait > 0 && wait <= a.cfg.Wait {
		a.mu.Unlock()
		return wait
	}
	n := a.wanted(missing, newest)
	a.mu.Unlock()
	if again {
		n = attest.MaxLast
	}
	if n == 0 {
		return 0
	}
	a.Ask(ctx, n)
	return a.cfg.Wait
}

// wanted returns how many snapshots back the oldest missing one is that may still be asked for, and counts the request. The
// caller holds mu.
func (a *Asker) wanted(missing []uint64, newest uint64) (n uint8) {
	for _, seq := range missing {
		if a.tries[seq] < MaxTries {
			n = max(n, uint8(newest-seq+1))
		}
	}
	tries := make(map[uint64]int, len(missing))
	for _, seq := range missing {
		tries[seq] = a.tries[seq]
		if n > 0 {
			tries[seq]++
		}
	}
	a.tries = tries
	return n
}
