// Package inclusion has the collector prove, for each receipt of an accepted claim, that its credits are in the public log under a block
// that a quorum of the program's validators cosigned, and frees receipt and openings once that proof holds.
//
// Invariants: nothing is freed before a proof holds for every credit of the receipt, with its kilometres, day and kind, under the claim's
// own ECU key and last snapshot. Whatever comes instead, a receipt stays: no answer, another car's proof, one that is false, which is kept
// beside the receipt as evidence, said and counted. What is asked for is on flash with the receipts, so that a restart, a week without a
// network or a swap of the ECU change nothing.
//
// The block of a proof may be of a day under other validators than those that the car has heard of. Such a proof is neither good nor false:
// the receipt waits, and is asked about again, for a notice that tells of them.
//
// The car never connects for this: Wake tells that it is connected anyway, as it is when a notice of policies or a receipt came, and for a
// while after that, which a sleep of the machine ends, receipts that are older than two drops are asked about, with back-off and jitter. Where the collector does not
// prove a receipt although it is older than Overdue, the driver is told, once: the collector promised the proof within that time.
//
// The package refuses answers that are too long or no answers, web pages of captive portals among them, which prove nothing about the
// collector. It never logs a vehicle, a submission or an account.
package inclusion

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/hold"
	"rawstone/agent/internal/https"
	"rawstone/pkg/inclusion"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Overdue is the age of a receipt by which the collector has promised its proof.
const Overdue = 24 * time.Hour

// Defaults of Config, and bounds.
const (
	DefaultTimeout    = time.Minute
	DefaultWindow     = time.Minute
	DefaultBackoffMin = 5 * time.Second
	DefaultBackoffMax = time.Hour
	// drops is the age in drops at which a receipt is asked about: the block that covers it may be the next but one.
	drops = 2
	// atOnce bounds the receipts of one round.
	atOnce = 32
	// patience is how often a request may fail on the way before a receipt that is overdue is told of.
	patience = 3
)

// Config says whose receipts are proven. Fields without a default are required.
type Config struct {
	// Archive keeps the receipts and the openings.
	Archive *archive.Archive
	// URL is the collector's, https://HOST:PORT; TLS shows the car's client certificate, and Ready says whether there is one.
	URL   string
	TLS   *tls.Config
	Ready func() bool
	// Program is the verified program document and ProgramID its identifier.
	Program   *terms.Program
	ProgramID wire.Hash
	// Validators returns the changes of validators that the car has heard of and the program day of the block that gave them, as
	// inclusion.Heard has them.
	Validators func() (changes []*ledger.Witness, day uint32)
	// Now is the host's clock.
	Now func() time.Time
	// Tell tells the driver, in one sentence.
	Tell func(text string)
	// Timeout bounds a request from the connection to the last byte, Window is how long after Wake the car counts as connected.
	Timeout, Window time.Duration
	// BackoffMin is the wait after a first round in which not all was proven; it doubles up to BackoffMax.
	BackoffMin, BackoffMax time.Duration
	Logger                 *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

func (c *Config) complete() error {
	if c.Archive == nil || c.TLS == nil || c.Ready == nil || c.Program == nil || c.Validators == nil || c.Now == nil || c.Tell == nil || c.Logger == nil {
		return errors.New("no archive, TLS, readiness, program, validators, clock, driver or logger given")
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&c.Timeout, DefaultTimeout}, {&c.Window, DefaultWindow}, {&c.BackoffMin, DefaultBackoffMin},
		{&c.BackoffMax, max(DefaultBackoffMax, c.BackoffMin)},
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
	return https.CheckURL(c.URL)
}

// A Checker has receipts proven. Its methods are safe for concurrent use; Run runs once at a time.
type Checker struct {
	cfg     Config
	client  *http.Client
	metrics *metrics
	wake    chan struct{}

	// What follows is Run's.
	fails int
	next  time.Time         // of the next round, by the monotonic clock
	tries map[wire.Hash]int // requests in vain, by claim
}

// New checks cfg. It does not connect.
func New(cfg Config) (*Checker, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("cannot have receipts proven: %w", err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("cannot have receipts proven: %w", err)
	}
	return &Checker{cfg: cfg, client: https.Client(cfg.TLS), metrics: m, wake: make(chan struct{}, 1), tries: make(map[wire.Hash]int)}, nil
}

// Wake tells that the car is connected.
func (c *Checker) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run has receipts proven until ctx is done, which is no error.
func (c *Checker) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		}
		for connected := hold.At(c.cfg.Now()); ctx.Err() == nil && connected.Within(c.cfg.Window, c.cfg.Now()); {
			wait, err := c.turn(ctx)
			if err != nil {
				c.cfg.Logger.Error("receipts cannot be looked at", "error", err)
			}
			if err != nil || !connected.Within(c.cfg.Window-wait, c.cfg.Now()) {
				break
			}
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-timer.C:
			case <-c.wake:
				connected = hold.At(c.cfg.Now())
			}
			timer.Stop()
		}
	}
}

// never is a wait that no window is as long as.
const never = time.Duration(1<<63 - 1)

// turn asks about the receipts that are old enough, unless the last round was a moment ago, and returns the time until there is more to do.
func (c *Checker) turn(ctx context.Context) (time.Duration, error) {
	if !c.cfg.Ready() {
		return never, nil
	}
	list, err := c.cfg.Archive.Receipts()
	if err != nil {
		return 0, err
	}
	c.metrics.unproven.Set(float64(len(list)))
	if wait := time.Until(c.next); wait > 0 {
		return wait, nil
	}
	due, wait := c.due(list)
	if len(due) == 0 {
		return wait, nil
	}
	all, after := true, time.Duration(0)
	for _, r := range due[:min(len(due), atOnce)] {
		proven, later, err := c.ask(ctx, r)
		if ctx.Err() != nil {
			return 0, nil
		}
		after = max(after, later)
		if proven {
			delete(c.tries, r.Claim)
			continue
		}
		all = false
		if errors.Is(err, errBusy) {
			c.tries[r.Claim]++
			continue
		}
		if err != nil { // the way is not open: the others would not get through either
			c.tries[r.Claim]++
			c.cfg.Logger.Info("proofs of receipts cannot be fetched", "error", err)
			break
		}
		c.tries[r.Claim] = patience
	}
	if err := c.tellOverdue(); err != nil {
		return 0, err
	}
	if all {
		c.fails = 0
		return 0, nil
	}
	wait = max(c.backoff(rand.Float64()), after)
	c.fails++
	c.next = time.Now().Add(wait)
	return wait, nil
}

// due returns the receipts that are old enough, and the time until the next one is.
func (c *Checker) due(list []archive.Receipt) (due []archive.Receipt, wait time.Duration) {
	wait = never
	for _, r := range list {
		// One that came after now was noted by a clock that has been set back since.
		if age := c.cfg.Now().Sub(r.Came); age < 0 || age >= c.minAge() {
			due = append(due, r)
		} else {
			wait = min(wait, c.minAge()-age)
		}
	}
	// Those that were asked about in vain must not keep the others from being asked about.
	vain := func(r archive.Receipt) int { return min(c.tries[r.Claim]/patience, 1) }
	slices.SortStableFunc(due, func(a, b archive.Receipt) int { return vain(a) - vain(b) })
	return due, wait
}

func (c *Checker) minAge() time.Duration {
	return drops * time.Duration(c.cfg.Program.Timing.DropS) * time.Second
}

// backoff returns the wait after a round in which not all was proven: half of it fixed, half by chance.
func (c *Checker) backoff(chance float64) time.Duration {
	d := c.cfg.BackoffMax
	if c.fails < 32 && c.cfg.BackoffMin < d>>c.fails {
		d = c.cfg.BackoffMin << c.fails
	}
	return d/2 + time.Duration(chance*float64(d-d/2))
}

// ask has one receipt proven, and frees it. An error says that no answer of the collector's came.
func (c *Checker) ask(ctx context.Context, r archive.Receipt) (proven bool, after time.Duration, err error) {
	receipt, err := wire.OpenReceipt(c.cfg.Program.Receipt, r.Signed)
	if err != nil || receipt.Submission != r.Claim {
		c.metrics.requests.WithLabelValues(outcomeUnreadable).Inc()
		c.cfg.Logger.Warn("a kept receipt cannot be read: nothing can be proven of it", "error", err)
		return false, 0, nil
	}
	// An accepted claim has a credit for each of its proofs. A receipt that says less can be proven and is still short: it is evidence.
	if len(receipt.Credits) == 0 || len(receipt.Credits) < len(r.Kinds) {
		c.metrics.requests.WithLabelValues(outcomeShort).Inc()
		c.cfg.Logger.Warn("a kept receipt has fewer credits than its claim has proofs: it is kept", "credits", len(receipt.Credits))
		return false, 0, nil
	}
	body, after, err := c.fetch(ctx, receipt)
	var refused *inclusion.Problem
	if errors.As(err, &refused) {
		c.metrics.requests.WithLabelValues(string(refused.Reason)).Inc()
		return false, after, nil
	} else if err != nil {
		c.metrics.requests.WithLabelValues(outcomeFailed).Inc()
		return false, after, err
	}
	if err := c.verify(body, r, receipt); errors.Is(err, inclusion.ErrUndecided) {
		c.metrics.requests.WithLabelValues(outcomeUndecided).Inc()
		c.cfg.Logger.Info("a proof of a receipt waits for news of the validators", "error", err)
		return false, 0, nil
	} else if err != nil {
		c.metrics.requests.WithLabelValues(outcomeFalse).Inc()
		return false, 0, c.refute(r, receipt, body, err)
	}
	if err := c.cfg.Archive.Free(r); err != nil {
		return false, 0, err
	}
	c.metrics.requests.WithLabelValues(outcomeProven).Inc()
	c.metrics.unproven.Dec()
	c.cfg.Logger.Info("credits are proven to be in the log, their receipt and openings are freed", "credits", len(receipt.Credits))
	return true, 0, nil
}

// verify checks an answer against a receipt and the claim that it is for.
func (c *Checker) verify(body []byte, r archive.Receipt, receipt *wire.Receipt) error {
	a, err := inclusion.Decode(body)
	if err != nil {
		return err
	}
	kinds := r.Kinds
	if len(kinds) != len(receipt.Credits) { // kept by an agent that did not note them
		kinds = make([]string, len(receipt.Credits))
	}
	changes, day := c.cfg.Validators()
	_, err = a.Verify(c.cfg.Program, c.cfg.ProgramID, inclusion.Heard{Changes: changes, Day: day}, inclusion.Promised{ECU: r.ECU, ToSeq: r.Seq, Credits: receipt.Credits, Kinds: kinds})
	return err
}

// refute keeps a false proof and tells of the first one for a receipt.
func (c *Checker) refute(r archive.Receipt, receipt *wire.Receipt, body []byte, why error) error {
	c.cfg.Logger.Error("the collector's proof of a receipt does not hold", "error", why)
	first, err := c.cfg.Archive.Refute(r, body)
	if err == nil && first {
		c.cfg.Tell(fmt.Sprintf("The collector's proof that the %d km of the receipt of %s are in the public ledger is false; save receipt and proof, which are the evidence, with `agent receipts export`, and show them to the program's auditor.",
			km(receipt), r.Came.Format(time.DateOnly)))
	}
	return err
}

func km(r *wire.Receipt) (sum uint64) {
	for _, c := range r.Credits {
		sum += uint64(c.Km)
	}
	return sum
}

// tellOverdue tells the driver when the collector owes a proof for longer than it promised, once until it owes none.
func (c *Checker) tellOverdue() error {
	list, err := c.cfg.Archive.Receipts()
	if err != nil {
		return err
	}
	owed, vain := 0, false
	for _, r := range list {
		if c.overdue(r) {
			owed++
			vain = vain || c.tries[r.Claim] >= patience
		}
	}
	told := c.cfg.Archive.State().UnprovenTold
	switch {
	case vain && !told:
		c.cfg.Tell(remedy(owed))
	case owed == 0 && told:
		c.cfg.Logger.Info("no proof of a receipt is overdue any more")
	default:
		return nil
	}
	return c.cfg.Archive.Commit(func(st *archive.State) { st.UnprovenTold = !told })
}

func (c *Checker) overdue(r archive.Receipt) bool { return c.cfg.Now().Sub(r.Came) > Overdue }

// remedy tells the driver what to do about receipts that are overdue.
func remedy(n int) string {
	return fmt.Sprintf("The collector has not proven within 24 hours that the credits of %d receipts are in the public ledger; the receipts are the evidence: save them with `agent receipts export` and show them to the program's auditor.", n)
}
