// Package certificate keeps the car's client certificate: it gets the first one with a token, has it renewed by the device key, and hands
// it to TLS.
//
// Invariants: a chain takes its place on flash whole and synced or not at all; only a certificate of this vehicle and this device key
// is taken; TLS always gets the newest, also while a full flash does not take it, which is tried again; one that an enrolment puts on
// flash while the keeper runs is used within lookEvery; and a certificate that is missing or damaged is nothing but one to be renewed, because the device
// key alone is the car's identity. From half of its life on, at an instant drawn by chance, a certificate is renewed. Failures back off with
// jitter.
//
// Invariant: the car does not connect for a certificate because it is switched on. A renewal that became due while it was off, one in the
// place of a chain that is lost or damaged, and one that was refused or failed before wait for Config.Hold at each start and after each
// sleep; until it is made nothing is sent. Only an enrolment, which somebody asks for, and a certificate that a broker refuses at that
// moment, when the car is connected anyway, are not held. A car that was reset asks for nothing and sends nothing until it is enrolled.
//
// When the collector says that the vehicle is revoked, or enrolled with another key, the driver is told once, Ready becomes false so that
// nothing knocks at the broker any more, and the collector is asked again about once a day.
//
// The package does not believe the broker when that refuses the certificate: Doubt makes it ask the collector, at most once in BackoffMax
// after a renewal. It refuses answers that are too long, web pages of captive portals among them, and never logs the vehicle or the token.
package certificate

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/hold"
	"rawstone/agent/internal/https"
	"rawstone/pkg/enroll"
	"rawstone/pkg/wire"
)

// Defaults of Config, and the wait after a refusal that only an operator can lift.
const (
	DefaultTimeout    = time.Minute
	DefaultBackoffMin = 5 * time.Second
	DefaultBackoffMax = time.Hour
	refusedWait       = 24 * time.Hour
	// lookEvery bounds a wait, so that a clock that jumps is noticed, and so is what an enrolment has put on flash.
	lookEvery = 30 * time.Second
	// connected is how long after a broker's refusal the car counts as connected.
	connected = time.Minute
)

// Config says whose certificate it is. Fields without a default are required.
type Config struct {
	// Dir is the chain's directory on flash, for this package alone; it is made when missing.
	Dir string
	// Reset is the path of the file that a reset leaves (reset.Config.Mark) and Enroll removes: while it is there no certificate is asked
	// for or used. Empty means that there is none.
	Reset string
	// Vehicle is the vehicle's id, Device its key.
	Vehicle string
	Device  crypto.Signer
	// URL is the collector's, https://HOST:PORT.
	URL string
	// Trust holds the roots under which the collector is believed, and its broker.
	Trust *tls.Config
	// Now is the clock by which certificates end.
	Now func() time.Time
	// Changed is called, by Run, after Ready may have changed; nil means nobody is to be told.
	Changed func()
	// Tell tells the driver, in one sentence; nil means that nobody is told.
	Tell func(text string)
	// Hold returns the time until a renewal that is due in wait may be made, so that the car does not connect for it when it is switched
	// on; nil means when it is due. What Enroll asks for is not held, nor what follows within a minute from a broker's refusal.
	Hold func(wait time.Duration) time.Duration
	// Timeout bounds a request from the connection to the last byte.
	Timeout time.Duration
	// BackoffMin is the wait after a first failed renewal; it doubles up to BackoffMax.
	BackoffMin, BackoffMax time.Duration
	Logger                 *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

func (c *Config) complete() error {
	if c.Dir == "" || c.Device == nil || c.Trust == nil || c.Now == nil || c.Logger == nil {
		return errors.New("no directory, device key, roots, clock or logger given")
	}
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Tell == nil {
		c.Tell = func(string) {}
	}
	if c.Hold == nil {
		c.Hold = func(wait time.Duration) time.Duration { return wait }
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&c.Timeout, DefaultTimeout}, {&c.BackoffMin, DefaultBackoffMin}, {&c.BackoffMax, max(DefaultBackoffMax, c.BackoffMin)}} {
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
	return errors.Join(https.CheckURL(c.URL), wire.CheckVehicle(c.Vehicle))
}

// A Keeper keeps the certificate. Its methods are safe for concurrent use; Run and Enroll run once at a time.
type Keeper struct {
	cfg     Config
	key     wire.PublicKey
	log     *slog.Logger
	metrics *metrics
	client  *http.Client
	wake    chan struct{}

	mu      sync.Mutex // guards what follows
	current *tls.Certificate
	renewAt time.Time   // of current
	taken   time.Time   // when current came, by the monotonic clock; zero for one from flash
	doubted bool        // the broker refuses current
	refused hold.Moment // when the broker refused it last
	problem error       // of the last renewal
	reset   bool        // Config.Reset is there

	// Of the goroutine that gets certificates.
	seen    fs.FileInfo    // of the chain on flash when it was last read or written; nil for none
	unsaved *enroll.Answer // the chain in use, which flash has not taken; nil for none
}

// Open reads the chain on flash. One that is missing or damaged counts as none: Run gets another. It does not connect.
func Open(cfg Config) (*Keeper, error) {
	k, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot open client certificate: %w", err)
	}
	return k, nil
}

func open(cfg Config) (*Keeper, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	key, err := wire.NewPublicKey(cfg.Device.Public())
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	k := &Keeper{cfg: cfg, key: key, log: cfg.Logger, client: https.Client(cfg.Trust), wake: make(chan struct{}, 1)}
	if k.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, err
	}
	k.lookReset()
	k.seen = stat(cfg.Dir)
	answer, leaf, err := k.read()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		k.metrics.damaged.Inc()
		k.log.Warn("client certificate on flash cannot be used; another one is asked for", "error", err)
	default:
		k.adopt(answer, leaf, time.Time{})
	}
	return k, nil
}

// read reads the chain on flash.
func (k *Keeper) read() (*enroll.Answer, *x509.Certificate, error) {
	answer, err := readChain(k.cfg.Dir)
	if err != nil {
		return nil, nil, err
	}
	leaf, err := answer.Leaf(k.cfg.Vehicle, k.key)
	return answer, leaf, err
}

// look goes by a chain that an enrolment has put on flash since the last look, and reports whether there was one. A chain that flash did
// not take is written meanwhile.
func (k *Keeper) look() bool {
	now := stat(k.cfg.Dir)
	if same(now, k.seen) {
		if k.unsaved != nil {
			k.save(k.unsaved)
		}
		return false
	}
	k.seen = now
	answer, leaf, err := k.read()
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		k.metrics.damaged.Inc()
		k.log.Warn("client certificate on flash was replaced by one that cannot be used; restart the agent if the car has a new device key", "error", err)
		return false
	}
	k.unsaved = nil
	k.adopt(answer, leaf, time.Time{})
	k.log.Info("client certificate of an enrolment taken", "until", leaf.NotAfter)
	return true
}

// save puts the chain in use on flash, and notes where that fails that it is not there.
func (k *Keeper) save(a *enroll.Answer) error {
	err := writeChain(k.cfg.Dir, a)
	k.seen, k.unsaved = stat(k.cfg.Dir), nil
	if err != nil {
		k.unsaved = a
	}
	return err
}

// adopt goes by a chain that is on flash.
func (k *Keeper) adopt(a *enroll.Answer, leaf *x509.Certificate, taken time.Time) {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current = &tls.Certificate{Certificate: a.Chain, PrivateKey: k.cfg.Device, Leaf: leaf}
	k.renewAt = leaf.NotBefore.Add(life/2 + time.Duration(rand.Float64()*float64(life/4)))
	k.taken, k.doubted, k.refused, k.problem = taken, false, hold.Moment{}, nil
	k.metrics.end.Set(float64(leaf.NotAfter.Unix()))
}

// TLS returns the configuration of a client that believes Config.Trust over TLS 1.3 and shows the newest certificate.
func (k *Keeper) TLS() *tls.Config {
	c := k.cfg.Trust.Clone()
	c.MinVersion, c.ClientSessionCache = tls.VersionTLS13, nil
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		switch {
		case k.reset:
			return nil, errReset
		case k.current == nil:
			return nil, errors.New("the car has no client certificate yet")
		}
		return k.current, nil
	}
	return c
}

// Ready reports whether there is a certificate that has not ended by the car's clock, of a vehicle that is not known to be revoked. That
// it has begun is not asked: a clock that lags is the likelier reason.
func (k *Keeper) Ready() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current != nil && !k.reset && k.cfg.Now().Before(k.current.Leaf.NotAfter) && !banned(k.problem)
}

// banned reports whether the collector says that whatever certificate of this key the car has is of no use.
func banned(err error) bool {
	refusal := new(enroll.Problem)
	return errors.As(err, &refusal) && (refusal.Reason == enroll.ReasonRevoked || refusal.Reason == enroll.ReasonKey)
}

// Status returns when the certificate ends, the zero time where there is none, and what is wrong with its renewal, or nil.
func (k *Keeper) Status() (until time.Time, problem error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil {
		until = k.current.Leaf.NotAfter
	}
	if k.reset {
		return until, errReset
	}
	return until, k.problem
}

// Doubt says that the broker refuses the certificate: it may have been revoked, or the car's clock lags and it has ended. The collector is
// asked, unless the certificate is as good as new.
func (k *Keeper) Doubt() {
	k.mu.Lock()
	if k.taken.IsZero() || time.Since(k.taken) >= k.cfg.BackoffMax {
		k.doubted, k.refused = true, hold.At(k.cfg.Now())
	}
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// untilDue returns the time until the certificate is to be renewed, not above 0 where it is.
func (k *Keeper) untilDue() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current == nil || k.doubted {
		return 0
	}
	return k.renewAt.Sub(k.cfg.Now())
}

// held returns the time until a renewal that is due in wait is made.
func (k *Keeper) held(wait time.Duration) time.Duration {
	k.mu.Lock()
	here := k.doubted && k.refused.Within(connected, k.cfg.Now())
	k.mu.Unlock()
	if here {
		return wait
	}
	return k.cfg.Hold(wait)
}

// Run renews the certificate whenever it is due until ctx is done, which is no error.
func (k *Keeper) Run(ctx context.Context) error {
	fails, again := 0, time.Time{}
	for ctx.Err() == nil {
		if changed := k.lookReset(); k.look() || changed {
			fails, again = 0, time.Time{}
			k.cfg.Changed()
		}
		// Asked for on every round: a sleep begins a new hold, also between two attempts.
		wait := max(k.held(k.untilDue()), time.Until(again))
		if k.isReset() {
			wait = lookEvery
		}
		if wait > 0 {
			k.sleep(ctx, min(wait, lookEvery), k.wake)
			continue
		}
		after, err := k.get(ctx, enroll.RenewPath, "")
		if err == nil && k.untilDue() <= 0 {
			err = errors.New("the new certificate is to be renewed already; is the car's clock right?")
		}
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			fails = 0
			k.cfg.Changed()
			continue
		}
		wait = max(after, k.failed(err, fails))
		again = time.Now().Add(wait)
		fails++
		k.cfg.Changed()
		k.log.Warn("client certificate is not renewed", "error", err, "retry_ms", wait.Milliseconds())
	}
	return nil
}

// failed notes why a renewal failed, tells the driver of what an operator must lift, and returns the time until the next attempt.
func (k *Keeper) failed(err error, fails int) time.Duration {
	k.mu.Lock()
	before := k.problem
	k.problem = err
	k.mu.Unlock()
	refusal := new(enroll.Problem)
	if !errors.As(err, &refusal) || !refusal.Reason.Final() {
		return backoff(k.cfg.BackoffMin, k.cfg.BackoffMax, fails)
	}
	if last := new(enroll.Problem); !errors.As(before, &last) || last.Reason != refusal.Reason {
		k.cfg.Tell(explain(refusal))
	}
	return backoff(refusedWait, refusedWait, 0)
}

// backoff returns the wait after a number of failures before this one: half of it fixed, half by chance, so that a fleet does not return
// at once.
func backoff(least, most time.Duration, fails int) time.Duration {
	d := most
	if fails < 32 && least < d>>fails {
		d = least << fails
	}
	return d/2 + time.Duration(rand.Float64()*float64(d-d/2))
}

func (*Keeper) sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	}
}
