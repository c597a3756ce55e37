// Package poll decides when a vehicle is asked for what it does not say by itself, over OBD-II, UDS or J1939.
//
// One request is open at a time. A request that is not answered is asked for less and less often; one that the ECU refuses for good
// is left alone for a day and said once; "busy" is asked again soon, a few times; "response pending" is waited for. Answers to
// somebody else's questions count as well: what is known is not asked for.
//
// Every question may keep control units awake that would sleep and empty the battery. A vehicle that has not moved for
// Config.ParkAfter is therefore asked for one thing in every Config.Idle and left alone between, until it moves.
//
// The package sends nothing itself, reads no values and refuses to guess whether the vehicle moves: its owner says so.
package poll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/can/obd"
)

// The bounds of the package's patience.
const (
	// MaxPending is how many times in a row an ECU may say that its answer is pending.
	MaxPending = 10
	// MaxBusy is how many times in a row a busy ECU is asked again after BusyRetry.
	MaxBusy = 3
	// BusyRetry is that pause.
	BusyRetry = 250 * time.Millisecond

	inbox = 64 // answers that wait for Run
)

// A Request is something that can be asked for.
type Request struct {
	// Name is what people call it: "PID A6".
	Name string
	// Every is the time from one question to the next, above 0.
	Every time.Duration
	// Motion says that an answer shows whether the vehicle moves; a parked one is asked for such a thing first of all.
	Motion bool
}

// Config describes a Poller. Ask is required.
type Config struct {
	// Requests are what to ask for.
	Requests []Request
	// Ask sends a request by its index and does not wait for the answer.
	Ask func(ctx context.Context, request int) error
	// Timeout is how long an answer may take, default 1 s; PendingTimeout how long after "response pending", default 6 s (P2* of
	// ISO 14229-2 and some).
	Timeout, PendingTimeout time.Duration
	// MaxBackoff bounds the time between two questions that are not answered, default 10 min; longer where Every is.
	MaxBackoff time.Duration
	// RefusedFor is how long what an ECU refuses for good is left alone, default 24 h.
	RefusedFor time.Duration
	// ParkAfter is the time without movement after which the vehicle is taken for parked, default 5 min. Idle is the time between
	// two questions to a parked vehicle, default 30 min: control units sleep within minutes of silence.
	ParkAfter, Idle time.Duration
	// Now is the clock, default time.Now. Timers run by the host's clock.
	Now func() time.Time
	// Logger takes what is worth saying once; nil discards.
	Logger *slog.Logger
	// Metrics takes the counters; nil for none.
	Metrics prometheus.Registerer
}

// answer is what an ECU said.
type answer struct {
	request int
	code    obd.NRC
}

// item is a request and what is known of it.
type item struct {
	Request
	next    time.Time     // when to ask
	pause   time.Duration // between unanswered questions, 0 while they are answered
	busy    int           // refusals for being busy in a row
	refused time.Time     // until when it is left alone
	said    bool          // that it is refused
}

// A Poller asks. Run is for one goroutine; Answered and Moved are safe for concurrent use and do not block.
type Poller struct {
	cfg     Config
	items   []item
	probed  time.Time // when anything was asked for last
	answers chan answer
	wake    chan struct{}
	moved   atomic.Int64 // Unix nanoseconds of Now
	metrics *metrics
}

// New checks cfg.
func New(cfg Config) (*Poller, error) {
	if cfg.Ask == nil {
		return nil, errors.New("cannot poll: Ask is required")
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"Timeout", &cfg.Timeout, time.Second}, {"PendingTimeout", &cfg.PendingTimeout, 6 * time.Second}, {"MaxBackoff", &cfg.MaxBackoff, 10 * time.Minute},
		{"RefusedFor", &cfg.RefusedFor, 24 * time.Hour}, {"ParkAfter", &cfg.ParkAfter, 5 * time.Minute}, {"Idle", &cfg.Idle, 30 * time.Minute},
	} {
		if *d.value < 0 {
			return nil, fmt.Errorf("cannot poll: %s %v is negative", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Poller{cfg: cfg, answers: make(chan answer, inbox), wake: make(chan struct{}, 1)}
	now := cfg.Now()
	for _, r := range cfg.Requests {
		if r.Every <= 0 {
			return nil, fmt.Errorf("cannot poll %s: its interval %v is not above 0", r.Name, r.Every)
		}
		p.items = append(p.items, item{Request: r, next: now})
	}
	p.moved.Store(now.UnixNano())
	var err error
	p.metrics, err = newMetrics(cfg.Metrics, p)
	return p, err
}

// Answered notes an answer to a request, whoever asked: code 0 for data, else why the ECU refuses.
func (p *Poller) Answered(request int, code obd.NRC) {
	select {
	case p.answers <- answer{request, code}:
	default: // Run is behind; the question is asked again
	}
}

// Moved notes that the vehicle moves. It is cheap enough for every sample.
func (p *Poller) Moved() {
	now := p.cfg.Now()
	before := time.Unix(0, p.moved.Swap(now.UnixNano()))
	if now.Sub(before) < p.cfg.ParkAfter {
		return
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Parked reports whether the vehicle has not moved for Config.ParkAfter.
func (p *Poller) Parked() bool {
	return p.cfg.Now().Sub(time.Unix(0, p.moved.Load())) >= p.cfg.ParkAfter
}

// Run asks until ctx ends, and returns its error.
func (p *Poller) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		i, at := p.due()
		if now := p.cfg.Now(); i >= 0 && !now.Before(at) {
			p.ask(ctx, i, timer)
			continue
		} else if i >= 0 {
			timer.Reset(at.Sub(now))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-p.wake:
		case a := <-p.answers:
			p.note(a)
		}
	}
}

// due returns what to ask for next and when, -1 for nothing at all.
func (p *Poller) due() (int, time.Time) {
	if p.Parked() {
		return p.probe()
	}
	best := -1
	for i := range p.items {
		if best < 0 || p.items[i].next.Before(p.items[best].next) {
			best = i
		}
	}
	if best < 0 {
		return -1, time.Time{}
	}
	return best, p.items[best].next
}

// probe returns the one thing that a parked vehicle is asked for.
func (p *Poller) probe() (int, time.Time) {
	at := p.probed.Add(p.cfg.Idle)
	best := -1
	for i := range p.items {
		it := &p.items[i]
		if it.refused.After(at) {
			continue
		}
		if best < 0 || it.Motion && !p.items[best].Motion {
			best = i
		}
	}
	if best >= 0 || len(p.items) == 0 {
		return best, at
	}
	best = 0
	for i := range p.items {
		if p.items[i].refused.Before(p.items[best].refused) {
			best = i
		}
	}
	return best, p.items[best].refused
}

// ask sends a request and waits for what becomes of it.
func (p *Poller) ask(ctx context.Context, i int, timer *time.Timer) {
	it := &p.items[i]
	p.probed = p.cfg.Now()
	it.next = p.probed.Add(it.Every)
	p.metrics.asked.Inc()
	if err := p.cfg.Ask(ctx, i); err != nil {
		if ctx.Err() != nil {
			return
		}
		if it.pause == 0 {
			p.cfg.Logger.Warn("cannot ask the vehicle", "request", it.Name, "error", err)
		}
		p.metrics.failed.Inc()
		p.backOff(it)
		return
	}
	pending := 0
	timer.Reset(p.cfg.Timeout)
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			p.metrics.silent.Inc()
			p.backOff(it)
			return
		case a := <-p.answers:
			if a.request == i && a.code.Pending() && pending < MaxPending {
				pending++
				timer.Reset(p.cfg.PendingTimeout)
				continue
			}
			p.note(a)
			if a.request == i {
				return
			}
		}
	}
}

// note takes an answer.
func (p *Poller) note(a answer) {
	if a.request < 0 || a.request >= len(p.items) {
		return
	}
	it, now := &p.items[a.request], p.cfg.Now()
	switch {
	case a.code == 0:
		p.metrics.answered.Inc()
		it.next, it.pause, it.busy, it.refused, it.said = now.Add(it.Every), 0, 0, time.Time{}, false
	case final(a.code):
		p.metrics.refused.Inc()
		if !it.said {
			it.said = true
			p.cfg.Logger.Info("the vehicle does not have what it is asked for", "request", it.Name, "reason", a.code.String(), "asked_again_in", p.cfg.RefusedFor)
		}
		it.refused = now.Add(p.cfg.RefusedFor)
		it.next, it.pause, it.busy = it.refused, 0, 0
	case a.code == obd.BusyRepeatRequest && it.busy < MaxBusy:
		p.metrics.busy.Inc()
		it.busy++
		it.next = now.Add(BusyRetry)
	default:
		p.metrics.busy.Inc()
		it.busy = 0
		p.backOff(it)
	}
}

// final reports whether asking again is pointless for long: the ECU does not have it, or does not give it to us.
func final(c obd.NRC) bool {
	switch c {
	case obd.ServiceNotSupported, 0x12, obd.IncorrectMessageLength, obd.RequestOutOfRange, obd.SecurityAccessDenied, 0x34, 0x7E, obd.NotSupportedInSession:
		return true
	}
	return false
}

// backOff doubles the time until an unanswered request is asked for again.
func (p *Poller) backOff(it *item) {
	it.pause = min(max(2*it.pause, it.Every), max(p.cfg.MaxBackoff, it.Every))
	it.next = p.cfg.Now().Add(it.pause)
}
