// Package hold keeps a car that is switched on from speaking at that moment.
//
// What was to leave while the car was off is overdue when it is switched on, and would tell, by leaving at once, when a drive began. A Gate
// holds it for a further random time of the time for which the car is on, uniform from 0 to twice the mean and drawn anew at each start, so
// that nothing is stored. In a drive that is no longer than that it leaves with a chance in proportion to the drive's length, at a point of
// which each is as likely as any other; in a longer one it leaves within the first part. A hold with an exponential distribution, which has no
// memory within a drive either, would not do: it makes the beginning of each drive likelier than its end, and a year shows it.
//
// Invariants: what becomes due while the car is on, and is asked about before and after, leaves when it is due. Whatever else is due when it
// is first asked about is held; so is everything again after a sleep, in which the host's clock goes on and powered time stands still. A
// clock that is set forward looks like one. Nothing leaves before it is due.
//
// The package sends nothing and knows nothing of what it holds. It does not hide that the car is on when it speaks, nor that it has come
// back to where there is a network.
package hold

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"
)

const (
	// Share is the part of the longest random delay of a dispatch that a hold lasts on average.
	Share = 6
	// asleep is how much further the host's clock must have gone than powered time to be taken for a sleep.
	asleep = 30 * time.Second
	// Beyond most things, those not asked about for stale are forgotten: were they asked about again, they would be held anew.
	most  = 1024
	stale = time.Hour
)

// Config says how long things are held. Fields without a default are required.
type Config struct {
	// Mean is the mean of a hold, which is at most twice as long; above 0.
	Mean time.Duration
	// Now is the host's clock, by which things are due.
	Now func() time.Time
	// Powered returns the time for which the car has been on; nil means the time since New by the monotonic clock, which stands still while
	// the machine sleeps.
	Powered func() time.Duration
	// Uniform draws from (0, 1]; nil means the system's random numbers.
	Uniform func() float64
}

// A Gate says when things may leave. It is safe for concurrent use.
type Gate struct {
	cfg Config

	mu     sync.Mutex
	wall   time.Time // of the last look, without its monotonic part
	up     time.Duration
	things map[string]thing
	swept  time.Duration
}

type thing struct {
	// pending says that it was seen before it was due, held that release was drawn.
	pending, held bool
	release       time.Duration // of powered time
	asked         time.Duration
}

// New begins when the car is switched on.
func New(cfg Config) (*Gate, error) {
	if cfg.Now == nil || cfg.Mean <= 0 {
		return nil, errors.New("cannot hold what is overdue: no clock or mean given")
	}
	if cfg.Powered == nil {
		began := time.Now()
		cfg.Powered = func() time.Duration { return time.Since(began) }
	}
	if cfg.Uniform == nil {
		cfg.Uniform = uniform
	}
	return &Gate{cfg: cfg, wall: cfg.Now().Round(0), up: cfg.Powered(), things: make(map[string]thing)}, nil
}

// uniform returns a multiple of 2⁻⁵³ in (0, 1].
func uniform() float64 {
	var b [8]byte
	rand.Read(b[:])
	return float64(binary.BigEndian.Uint64(b[:])>>11+1) / (1 << 53)
}

// Until returns the time until the thing of a name may leave, not above 0 where it may now. due is when it is to leave by the host's clock.
// Who waits asks again at least every minute, as the clock may be set and the machine may sleep.
func (g *Gate) Until(name string, due time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.look()
	t := g.things[name]
	t.asked = g.up
	wait := due.Sub(now)
	switch {
	case wait > 0:
		t.pending, t.held = true, false
	case t.pending:
	case !t.held:
		t.held, t.release = true, g.up+g.draw()
		fallthrough
	default:
		wait = t.release - g.up
	}
	g.things[name] = t
	if len(g.things) > most && g.up-g.swept > stale {
		g.swept = g.up
		maps.DeleteFunc(g.things, func(_ string, t thing) bool { return g.up-t.asked > stale })
	}
	return wait
}

// look notes both clocks, forgets all after a sleep, and returns the host's.
func (g *Gate) look() time.Time {
	now, up := g.cfg.Now().Round(0), g.cfg.Powered()
	if now.Sub(g.wall)-(up-g.up) > asleep {
		clear(g.things)
	}
	g.wall, g.up = now, up
	return now
}

// draw returns a hold.
func (g *Gate) draw() time.Duration {
	return time.Duration(min(2*g.cfg.Uniform()*float64(g.cfg.Mean), math.MaxInt64/4))
}

// Mean returns the mean of the holds of a car whose dispatches are delayed by up to maxDelay. Error: a delay that is not positive.
func Mean(maxDelay time.Duration) (time.Duration, error) {
	if maxDelay <= 0 {
		return 0, fmt.Errorf("cannot hold what is overdue: a longest delay of %v", maxDelay)
	}
	return max(maxDelay/Share, 1), nil
}
