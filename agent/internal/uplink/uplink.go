// Package uplink carries sealed submissions from the spool to the collector over MQTT 3.1.1 and brings signed receipts back.
//
// It connects when something in the spool is due and disconnects when nothing is. A session subscribes to the vehicle's receipts
// first and publishes nothing unless the broker grants that. One submission of each kind is in flight; it stays in flight until a
// receipt signed by one of the program's receipt keys names this vehicle and that submission, and has been acted upon. A session
// in which a receipt does not come in time, or anything else fails, ends, and the next one begins after a back-off with jitter
// and sends the same bytes again: that covers cut and half-open links, brokers that acknowledge what they drop, and collectors
// that are down.
//
// The package never frees anything: a PUBACK proves custody at best (and a token of the MQTT client not even that). It ignores and
// counts receipts that are forged, for another vehicle, or for what is not in flight. It holds no password, never looks inside a
// submission and must not learn how: it may not import can, trip, dp or seal.
package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/wire"
)

// Defaults of Config.
const (
	DefaultReceiptWait = time.Minute
	DefaultLinger      = 5 * time.Second
	DefaultBackoffMin  = time.Second
	DefaultBackoffMax  = time.Hour
	DefaultTimeout     = 15 * time.Second
	DefaultKeepAlive   = 30 * time.Second
	// maxPoll bounds a wait for a due time, so that a clock that jumps is noticed.
	maxPoll = time.Minute
)

// A Spool holds what is to be sent until its owner frees it.
type Spool interface {
	// Next returns the oldest submission of a kind that is due.
	Next(kind wire.Kind, now time.Time) (id wire.Hash, b []byte, ok bool)
	// NextDue returns the earliest due instant of all submissions.
	NextDue() (due time.Time, ok bool)
	// Changed receives after the contents have changed.
	Changed() <-chan struct{}
}

// Config says where to send and what to believe. Fields without a default are required.
type Config struct {
	// URL is tcp://HOST:PORT or ssl://HOST:PORT.
	URL string
	// TLS is used with ssl; nil means the system's roots and TLS 1.3.
	TLS *tls.Config
	// Vehicle is the vehicle's id, its MQTT client id as well.
	Vehicle string
	// ReceiptKeys are the program's receipt keys.
	ReceiptKeys wire.KeySet
	Spool       Spool
	// OnReceipt acts on a verified receipt: body is the submission it answers, signed the receipt's bytes. It frees the
	// submission. An error leaves the submission to be sent again.
	OnReceipt func(ctx context.Context, kind wire.Kind, body []byte, r *wire.Receipt, signed []byte) error
	// Now is the source of time that due instants are compared with.
	Now func() time.Time

	// ReceiptWait is how long a session waits for a receipt, Linger how long it stays when nothing is in flight.
	ReceiptWait, Linger time.Duration
	// BackoffMin is the wait after a first failed session; it doubles up to BackoffMax.
	BackoffMin, BackoffMax time.Duration
	// Timeout bounds connecting, subscribing and writing; KeepAlive is the time between pings, in whole seconds.
	Timeout, KeepAlive time.Duration

	Logger *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

func (c *Config) complete() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "tcp" && u.Scheme != "ssl":
		return fmt.Errorf("broker %q is not tcp://HOST:PORT or ssl://HOST:PORT", c.URL)
	case u.Port() == "" || u.User != nil || u.Path != "" || u.RawQuery != "":
		return errors.New("the broker's URL must hold a host and a port and nothing else")
	case len(c.ReceiptKeys) == 0:
		return errors.New("no receipt keys given")
	case c.Spool == nil || c.OnReceipt == nil || c.Now == nil || c.Logger == nil:
		return errors.New("no spool, receipt handler, clock or logger given")
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&c.ReceiptWait, DefaultReceiptWait}, {&c.Linger, DefaultLinger}, {&c.BackoffMin, DefaultBackoffMin},
		{&c.BackoffMax, DefaultBackoffMax}, {&c.Timeout, DefaultTimeout}, {&c.KeepAlive, DefaultKeepAlive},
	} {
		if *d.v < 0 {
			return errors.New("a time to wait is negative")
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.BackoffMax < c.BackoffMin {
		return errors.New("the longest back-off is shorter than the first")
	}
	if c.TLS == nil {
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	}
	return wire.CheckVehicle(c.Vehicle)
}

// Uplink is the way to the collector.
type Uplink struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
}

// New checks cfg. It does not connect.
func New(cfg Config) (*Uplink, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("cannot make uplink: %w", err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("cannot make uplink: %w", err)
	}
	return &Uplink{cfg: cfg, log: cfg.Logger, metrics: m}, nil
}

// Run delivers what is due until ctx is done, which is no error.
func (u *Uplink) Run(ctx context.Context) error {
	fails := 0
	for u.await(ctx) {
		progress, err := u.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if progress {
			fails = 0
		}
		if err == nil {
			continue
		}
		wait := u.backoff(fails, rand.Float64())
		fails++
		u.metrics.failures.Inc()
		u.log.Warn("session with the broker failed", "error", err, "retry_ms", wait.Milliseconds())
		if !sleep(ctx, wait) {
			return nil
		}
	}
	return nil
}

// await returns true once something is due, false when ctx is done.
func (u *Uplink) await(ctx context.Context) bool {
	for ctx.Err() == nil {
		wait := maxPoll
		if due, ok := u.cfg.Spool.NextDue(); ok {
			if wait = min(wait, due.Sub(u.cfg.Now())); wait <= 0 {
				return true
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-u.cfg.Spool.Changed():
		case <-timer.C:
		}
		timer.Stop()
	}
	return false
}

// backoff returns the wait after the given number of failed sessions before this one: half of it fixed, half by chance, so that a
// fleet does not return at once.
func (u *Uplink) backoff(fails int, chance float64) time.Duration {
	d := u.cfg.BackoffMax
	if fails < 32 && u.cfg.BackoffMin < d>>fails {
		d = u.cfg.BackoffMin << fails
	}
	return d/2 + time.Duration(chance*float64(d-d/2))
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
