// Package uplink carries sealed submissions from the spool to the collector over MQTT 3.1.1 and brings signed receipts back.
//
// It connects when something in the spool is due and disconnects when nothing is. What was due while the car was off is held first
// (Config.Hold), each submission for a time of its own. A session subscribes to the vehicle's receipts
// first and publishes nothing unless the broker grants that. One submission of each kind is in flight, and which kind is first is
// chance; it stays in flight until a
// receipt signed by one of the program's receipt keys names this vehicle and that submission, and has been acted upon. A session
// in which a receipt does not come in time, or anything else fails, ends, and the next one begins after a back-off with jitter
// and sends the same bytes again: that covers cut and half-open links, brokers that acknowledge what they drop, and collectors
// that are down.
//
// The same session brings the retained notice of the program's rules, where Config.OnNotice is given, and one is made for that alone
// when news is due. Whether a notice is believed, and so when news is due next, is OnNotice's to say. News that does not come is no
// failure of deliveries, and a broker that forbids the subscription to notices does not stop them; news alone backs off then, with
// jitter, until it has come.
//
// The way is TLS 1.3 and nothing else. Sessions are made only while Config.Ready says that the car has a certificate to show, so that
// a car without one, or one that is known to be revoked, is silent. A broker that completes the handshake and then does not take the
// car is told of to OnRefused: over TLS 1.3 a client learns only then what the server thinks of its certificate (RFC 8446 §4.4.2.4).
//
// The package never frees anything: a PUBACK proves custody at best (and a token of the MQTT client not even that). It ignores and
// counts receipts that are forged, for another vehicle, or for what is not in flight, and notices that are too long or too many. It
// holds no password, never looks inside a submission or a notice and must not learn how: it may not import can, trip, dp, seal, terms,
// notice or rulebook.
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
	// MaxNoticeLen bounds a notice in bytes; longer ones are ignored.
	MaxNoticeLen = 32 << 10
	// maxPoll bounds a wait for a due time, so that a clock that jumps is noticed.
	maxPoll = time.Minute
)

// A Spool holds what is to be sent until its owner frees it.
type Spool interface {
	// Each calls f, which does not call the Spool, for every submission in the order in which they came.
	Each(f func(id wire.Hash, kind wire.Kind, due time.Time))
	// Bytes returns a submission, false where it cannot be had.
	Bytes(id wire.Hash) ([]byte, bool)
	// Changed receives after the contents have changed.
	Changed() <-chan struct{}
}

// A Gate holds what is overdue (*hold.Gate).
type Gate interface {
	// Until returns the time until what has a name and was due at an instant may leave, not above 0 where it may now.
	Until(name string, due time.Time) time.Duration
}

// Config says where to send and what to believe. Fields without a default are required.
type Config struct {
	// URL is ssl://HOST:PORT (CheckURL).
	URL string
	// TLS holds the roots that the broker is checked under, and the car's certificate; nil means the system's roots and no certificate.
	// TLS 1.3 is asked for in any case.
	TLS *tls.Config
	// Ready reports whether there is a certificate to show; nil means always. Call Wake when it has changed.
	Ready func() bool
	// OnRefused is called, on the goroutine of Run, when a broker does not take the car; nil means that nobody wants to know.
	OnRefused func()
	// Vehicle is the vehicle's id, its MQTT client id as well.
	Vehicle string
	// ReceiptKeys are the program's receipt keys.
	ReceiptKeys wire.KeySet
	Spool       Spool
	// OnReceipt acts on a verified receipt: body is the submission it answers, signed the receipt's bytes. It frees the
	// submission. An error leaves the submission to be sent again.
	OnReceipt func(ctx context.Context, kind wire.Kind, body []byte, r *wire.Receipt, signed []byte) error
	// OnNotice takes the bytes of a notice of the program's rules, at most MaxNoticeLen, on the goroutine of Run: deliveries wait for
	// it. nil means that there is no subscription to notices.
	OnNotice func(b []byte)
	// NewsDue returns when the next notice is wanted, the zero time for never. Where it still returns an instant that has passed after
	// OnNotice, the notice is taken for none. Only with OnNotice; nil means never.
	NewsDue func() time.Time
	// Hold keeps submissions and news that were due while the car was off from making it connect when it is switched on.
	Hold Gate
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

// CheckURL says whether u may name the broker: ssl://HOST:PORT and nothing more.
func CheckURL(u string) error {
	p, err := url.Parse(u)
	if err != nil || p.Scheme != "ssl" || p.Hostname() == "" || p.Port() == "" || p.String() != "ssl://"+p.Host {
		return fmt.Errorf("%q is not ssl://HOST:PORT", u)
	}
	return nil
}

func (c *Config) complete() error {
	if err := CheckURL(c.URL); err != nil {
		return err
	}
	switch {
	case len(c.ReceiptKeys) == 0:
		return errors.New("no receipt keys given")
	case c.Spool == nil || c.OnReceipt == nil || c.Hold == nil || c.Now == nil || c.Logger == nil:
		return errors.New("no spool, receipt handler, gate, clock or logger given")
	case c.NewsDue != nil && c.OnNotice == nil:
		return errors.New("nobody to take a notice given")
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
	if c.TLS = c.TLS.Clone(); c.TLS == nil {
		c.TLS = new(tls.Config)
	}
	c.TLS.MinVersion = tls.VersionTLS13
	if c.Ready == nil {
		c.Ready = func() bool { return true }
	}
	if c.OnRefused == nil {
		c.OnRefused = func() {}
	}
	return wire.CheckVehicle(c.Vehicle)
}

// Uplink is the way to the collector.
type Uplink struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	wake    chan struct{}
	// newsless counts the sessions in a row in which news was due and did not come, retryNews is when it is tried again. Of Run.
	newsless  int
	retryNews time.Time
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
	return &Uplink{cfg: cfg, log: cfg.Logger, metrics: m, wake: make(chan struct{}, 1)}, nil
}

// Wake tells that NewsDue or Ready may have changed.
func (u *Uplink) Wake() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// Run delivers what is due, and brings news when that is, until ctx is done, which is no error.
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

// await returns true once there is a certificate and something or news is due, false when ctx is done.
func (u *Uplink) await(ctx context.Context) bool {
	for ctx.Err() == nil {
		wait := u.untilDue()
		if !u.cfg.Ready() {
			wait = maxPoll
		}
		if wait <= 0 {
			return true
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-u.cfg.Spool.Changed():
		case <-u.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return false
}

// untilDue returns the time until something or news is due, at most maxPoll, not above 0 where it is.
func (u *Uplink) untilDue() time.Duration {
	wait := maxPoll
	u.cfg.Spool.Each(func(id wire.Hash, _ wire.Kind, due time.Time) { wait = min(wait, u.until(id, due)) })
	if _, ok := u.untilNews(); ok {
		wait = min(wait, max(u.cfg.Hold.Until("news", u.cfg.NewsDue()), time.Until(u.retryNews)))
	}
	return wait
}

// until returns the time until a submission may leave.
func (u *Uplink) until(id wire.Hash, due time.Time) time.Duration {
	return u.cfg.Hold.Until(string(id[:]), due)
}

// untilNews returns the time until news is due, not above 0 where it is, false where it never is.
func (u *Uplink) untilNews() (time.Duration, bool) {
	if u.cfg.NewsDue == nil {
		return 0, false
	}
	due := u.cfg.NewsDue()
	return due.Sub(u.cfg.Now()), !due.IsZero()
}

// newsDue reports whether news is due now.
func (u *Uplink) newsDue() bool {
	until, ok := u.untilNews()
	return ok && until <= 0
}

// noNews notes that a session brought no news although it was due.
func (u *Uplink) noNews() {
	wait := u.backoff(u.newsless, rand.Float64())
	u.newsless++
	u.retryNews = time.Now().Add(wait)
	u.metrics.newsless.Inc()
	u.log.Warn("no news of the program's rules came", "retry_ms", wait.Milliseconds())
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
