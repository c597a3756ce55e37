// Package poll decides when a vehicle is asked for what it does not say by itself, over OBD-II, UDS or J1939.
//
// One request is open at a time. A request that is not answered is asked for less and less often; one that the ECU refuses for good
// is left alone for a day and said once; "busy" is asked again soon, a few times; "response pending" is waited for. Answers to
// somebody else's questions count as well: what is known is not asked for.
//
// Every question may keep control units awake that would sleep, or wake those that do, and empty the battery; but who does not ask
// does not learn that the vehicle drives away. A vehicle that has not moved for Config.ParkAfter is therefore parked: it is asked for
// one thing only, after pauses of a fifth of the time it has stood, up to Config.Idle. Control units find ever longer quiet in
// which to sleep, and a halt in a queue costs little. Two signs of life make the pauses short again: frames on buses that were
// silent although nothing was asked, at which the vehicle is asked at once, and an answer where there had been none. Once such frames
// have shown that the vehicle talks by itself, its silence is sleep and is left alone for all of Config.Idle. Only movement brings back
// the full pace, so that a vehicle which answers or talks whatever its state is not held awake. What remains: one whose buses are
// silent unless asked (behind a gateway) and that drives off after a long rest may be noticed as late as Config.Idle.
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
	// MaxUnsent bounds the time between two tries to send, as what is not sent wakes nobody; longer where Every is.
	MaxUnsent = 10 * time.Second

	inbox = 64               // answers that wait for Run
	look  = 10 * time.Second // between two looks at Config.Heard while parked
	share = 5                // a parked vehicle is left alone for this part of the time it has stood
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
	// ParkAfter is the time without movement after which the vehicle is taken for parked, default 5 min. Idle is the longest time
	// between two questions to a parked vehicle, default 30 min: control units sleep within minutes of silence.
	ParkAfter, Idle time.Duration
	// Heard counts the frames that the buses have carried, whoever they are for; only whether it stands still matters. nil: unknown.
	Heard func() uint64
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
	asked   time.Time     // when it was asked for last
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
	silent  bool      // a question was not answered, and none since
	lively  time.Time // when the vehicle last showed life after silence
	looked  time.Time // when Config.Heard was last read
	heard   uint64    // what it said
	carried time.Time // when it was last seen to have grown, or may have by a question of ours
	talks   bool      // it grew without a question: an awake vehicle's buses are not silent
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
		parked := p.Parked()
		if parked {
			p.listen()
		}
		i, at := p.due(parked)
		if now := p.cfg.Now(); i >= 0 && !now.Before(at) {
			p.ask(ctx, i, timer)
			continue
		} else if i >= 0 {
			wait := at.Sub(now)
			if parked && p.cfg.Heard != nil {
				wait = min(wait, look)
			}
			timer.Reset(wait)
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

// listen looks for frames that end the silence of a parked vehicle. A look that follows a question tells nothing: the frames may be
// its doing.
func (p *Poller) listen() {
	now := p.cfg.Now()
	if p.cfg.Heard == nil || now.Sub(p.looked) < look {
		return
	}
	heard, asked := p.cfg.Heard(), !p.probed.Before(p.looked)
	if heard != p.heard && !asked && now.Sub(p.carried) >= p.cfg.ParkAfter {
		p.lively, p.talks = now, true // long after the last question: the next is due now
	}
	if heard != p.heard || asked {
		p.carried = now
	}
	p.looked, p.heard = now, heard
}

// due returns what to ask for next and when, -1 for nothing at all.
func (p *Poller) due(parked bool) (int, time.Time) {
	best, now := -1, p.cfg.Now()
	for i := range p.items {
		if best < 0 || p.items[i].before(&p.items[best], parked, now) {
			best = i
		}
	}
	switch {
	case best < 0:
		return -1, time.Time{}
	case parked:
		at := p.probed.Add(p.rest(now))
		if it := &p.items[best]; it.refused.After(at) {
			at = it.refused
		}
		return best, at
	}
	return best, p.items[best].next
}

// before reports whether it is asked for before other. Of a parked vehicle that is, of what is not refused, what shows motion, and of
// that what was answered last, or else each in turn, lest one that never answers hides those that do.
func (it *item) before(other *item, parked bool, now time.Time) bool {
	if parked {
		switch a, b := it.refused.After(now), other.refused.After(now); {
		case a != b:
			return b
		case a:
			return it.refused.Before(other.refused)
		case it.Motion != other.Motion:
			return it.Motion
		case (it.pause == 0) != (other.pause == 0):
			return it.pause == 0
		}
		return it.asked.Before(other.asked)
	}
	return it.next.Before(other.next)
}

// rest returns how long a parked vehicle is left alone after the last question.
func (p *Poller) rest(now time.Time) time.Duration {
	if p.talks && now.Sub(p.carried) >= look {
		return p.cfg.Idle
	}
	since := time.Unix(0, p.moved.Load())
	if life := p.lively.Add(-p.cfg.ParkAfter); life.After(since) {
		since = life
	}
	return min(max(p.probed.Sub(since), p.cfg.ParkAfter)/share, p.cfg.Idle)
}

// ask sends a request and waits for what becomes of it.
func (p *Poller) ask(ctx context.Context, i int, timer *time.Timer) {
	it := &p.items[i]
	p.probed = p.cfg.Now()
	it.asked, it.next = p.probed, p.probed.Add(it.Every)
	p.metrics.asked.Inc()
	if err := p.cfg.Ask(ctx, i); err != nil {
		if ctx.Err() != nil {
			return
		}
		if it.pause == 0 {
			p.cfg.Logger.Warn("cannot ask the vehicle", "request", it.Name, "error", err)
		}
		p.metrics.failed.Inc()
		p.backOff(it, MaxUnsent)
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
			p.silent = true
			p.backOff(it, p.cfg.MaxBackoff)
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
	if p.silent {
		p.silent, p.lively = false, now
	}
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
		p.backOff(it, p.cfg.MaxBackoff)
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

// backOff doubles the time until an unanswered request is asked for again, up to a bound.
func (p *Poller) backOff(it *item, bound time.Duration) {
	bound = max(bound, it.Every)
	it.pause = min(max(2*it.pause, it.Every), bound)
	it.next = p.cfg.Now().Add(it.pause)
}
