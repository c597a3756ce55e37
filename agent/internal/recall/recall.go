// Package recall hears from the collector what it holds of the car's privacy budget, and has the ledger compared with it: an older copy of
// the ledger, put back in the place of a newer one, would give spent privacy back and cannot be told from within.
//
// Invariants: the record is asked for once in a process, and only when a report is about to be made; until it was compared, Heard says why
// reports wait. A ledger that is known to be rolled back is not asked about again.
//
// The moment of asking tells nothing of when the car was switched on: the car asks while it is connected anyway (Wake), or after the random
// time for which package hold keeps what is overdue. That is asked again after each request in vain: a sleep of the machine begins it anew.
//
// The package refuses answers that are too long or no records, web pages of captive portals among them. What a rolled back ledger means is
// package budget's to say. Neither vehicle nor charge is ever logged.
package recall

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/budget"
	"rawstone/agent/internal/hold"
	"rawstone/agent/internal/https"
	"rawstone/pkg/wire"
)

// Defaults of Config, and bounds.
const (
	DefaultTimeout    = time.Minute
	DefaultBackoffMin = 5 * time.Second
	DefaultBackoffMax = time.Hour
	// window is how long after Wake the car counts as connected.
	window = time.Minute
	// lookEvery is how often a wait is looked at again: the clock may be set and the machine may sleep.
	lookEvery = time.Minute
)

// A Ledger is compared with the record; *budget.Ledger is one.
type Ledger interface {
	Compare(index uint64, head [32]byte) error
	Err() error
}

// A Gate holds what is overdue (*hold.Gate).
type Gate interface {
	// Until returns the time until what has a name and was due at an instant may leave, not above 0 where it may now.
	Until(name string, due time.Time) time.Duration
}

// Config says whose record is asked for. Fields without a default are required.
type Config struct {
	Ledger Ledger
	// URL is the collector's, https://HOST:PORT; TLS shows the car's client certificate, and Ready says whether there is one.
	URL   string
	TLS   *tls.Config
	Ready func() bool
	// Hold keeps the car from connecting for the record at the moment at which it is wanted, and Now is the clock that it goes by.
	Hold Gate
	Now  func() time.Time
	// Changed is called once the ledger was compared, from Run.
	Changed func()
	// Tell tells the driver, in one sentence.
	Tell func(text string)
	// Timeout bounds a request from the connection to the last byte.
	Timeout time.Duration
	// BackoffMin is the wait after a first request in vain; it doubles up to BackoffMax.
	BackoffMin, BackoffMax time.Duration
	Logger                 *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

func (c *Config) complete() error {
	if c.Ledger == nil || c.TLS == nil || c.Ready == nil || c.Hold == nil || c.Now == nil || c.Changed == nil || c.Tell == nil || c.Logger == nil {
		return errors.New("no ledger, TLS, readiness, gate, clock, driver or logger given, or nobody to tell that it was compared")
	}
	if c.Timeout < 0 || c.BackoffMin < 0 || c.BackoffMax < 0 {
		return errors.New("a time to wait is negative")
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.BackoffMin == 0 {
		c.BackoffMin = DefaultBackoffMin
	}
	if c.BackoffMax == 0 {
		c.BackoffMax = max(DefaultBackoffMax, c.BackoffMin)
	}
	if c.BackoffMax < c.BackoffMin {
		return errors.New("the longest back-off is shorter than the first")
	}
	return https.CheckURL(c.URL)
}

// ErrWaiting: the record has not been heard yet.
var ErrWaiting = errors.New("the collector's record of this car's privacy budget is not heard yet")

// A Recall hears the record. Its methods are safe for concurrent use; Run runs once.
type Recall struct {
	cfg      Config
	client   *http.Client
	requests *prometheus.CounterVec
	wake     chan struct{}

	mu        sync.Mutex
	wanted    time.Time   // since when, by the host's clock
	connected hold.Moment // when Wake was called last
	heard     bool
	failure   error // of the last request
}

// New checks cfg. It does not connect.
func New(cfg Config) (*Recall, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("cannot hear the record of the privacy budget: %w", err)
	}
	r := &Recall{cfg: cfg, client: https.Client(cfg.TLS), wake: make(chan struct{}, 1)}
	r.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rawstone_agent_charge_requests_total", Help: "Requests for the collector's record of the privacy budget, by outcome.",
	}, []string{"outcome"})
	for _, o := range []string{outcomeCompared, outcomeRolledBack, outcomeFailed} {
		r.requests.WithLabelValues(o)
	}
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(r.requests); err != nil {
			return nil, fmt.Errorf("cannot hear the record of the privacy budget: %w", err)
		}
	}
	return r, nil
}

// What became of a request.
const (
	outcomeCompared   = "compared"
	outcomeRolledBack = "rolled_back"
	outcomeFailed     = "failed"
)

// Heard returns nil once the ledger was compared with the record, or is known to be rolled back, which it says itself. Otherwise the error
// wraps ErrWaiting, and the record is asked for. It does not block.
func (r *Recall) Heard() error {
	if errors.Is(r.cfg.Ledger.Err(), budget.ErrRolledBack) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.heard:
		return nil
	case r.wanted.IsZero():
		r.wanted = r.cfg.Now()
		r.notify()
		return ErrWaiting
	case r.failure != nil:
		return fmt.Errorf("%w: %w", ErrWaiting, r.failure)
	}
	return ErrWaiting
}

// Wake tells that the car is connected anyway.
func (r *Recall) Wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.connected = hold.At(r.cfg.Now())
	r.notify()
}

func (r *Recall) notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run asks for the record when it is wanted, until it was compared, and returns when ctx is done, which is no error.
func (r *Recall) Run(ctx context.Context) error {
	fails, again := 0, time.Time{}
	for ctx.Err() == nil {
		wait := r.wait()
		if fails > 0 {
			wait = max(wait, time.Until(again))
		}
		if wait <= 0 && r.cfg.Ready() {
			if r.turn(ctx) {
				<-ctx.Done()
				return nil
			}
			again = time.Now().Add(r.backoff(fails))
			fails++
			continue
		}
		timer := time.NewTimer(min(max(wait, r.cfg.BackoffMin), lookEvery))
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// wait returns the time until the record may be asked for, not above 0 where it may now.
func (r *Recall) wait() time.Duration {
	r.mu.Lock()
	wanted := r.wanted
	connected := r.connected.Within(window, r.cfg.Now())
	r.mu.Unlock()
	switch {
	case wanted.IsZero():
		return lookEvery
	case connected:
		return 0
	}
	return r.cfg.Hold.Until("charge", wanted)
}

// turn asks and compares, and reports whether that is done.
func (r *Recall) turn(ctx context.Context) bool {
	record, err := r.fetch(ctx)
	if err == nil {
		err = r.cfg.Ledger.Compare(record.Charge.Index(), record.Charge.Head())
	}
	if ctx.Err() != nil {
		return false
	}
	rolledBack := errors.Is(err, budget.ErrRolledBack)
	outcome := outcomeCompared
	switch {
	case rolledBack:
		outcome = outcomeRolledBack
		r.cfg.Logger.Error("usage reports are off", "reason", "the privacy budget ledger was rolled back", "error", err)
		r.cfg.Tell("The car's record of what its usage reports have cost in privacy is an older copy than the collector has seen: no usage report is made any more, " +
			"and claims go on. Have the vehicle enrolled anew for reports.")
	case err != nil:
		r.requests.WithLabelValues(outcomeFailed).Inc()
		r.cfg.Logger.Info("record of the privacy budget cannot be heard", "error", err)
		r.mu.Lock()
		r.failure = err
		r.mu.Unlock()
		return false
	}
	r.requests.WithLabelValues(outcome).Inc()
	r.mu.Lock()
	r.heard = true
	r.mu.Unlock()
	r.cfg.Changed()
	return true
}

// fetch asks the collector for the record.
func (r *Recall) fetch(ctx context.Context) (*wire.ChargeRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.cfg.URL+wire.ChargePath, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "") // which would name the program's build
	resp, err := r.client.Do(req)
	if err != nil {
		if wrapped := new(url.Error); errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, fmt.Errorf("cannot reach the collector: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %d; is the network behind a login page?", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxChargeRecordLen+1))
	if err != nil {
		return nil, fmt.Errorf("the collector's answer broke off: %w", err)
	}
	record := new(wire.ChargeRecord)
	if err := wire.Unmarshal(body, record, wire.MaxChargeRecordLen); err != nil {
		return nil, fmt.Errorf("the answer is no record; is the network behind a login page? %w", err)
	}
	return record, nil
}

// backoff returns the wait after the given number of requests in vain before this one: half of it fixed, half by chance.
func (r *Recall) backoff(fails int) time.Duration {
	d := r.cfg.BackoffMax
	if fails < 32 && r.cfg.BackoffMin < d>>fails {
		d = r.cfg.BackoffMin << fails
	}
	return d/2 + time.Duration(rand.Float64()*float64(d-d/2))
}
