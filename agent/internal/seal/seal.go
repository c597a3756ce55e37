// Package seal is the privacy border: what crosses it is sealed, and nothing else does.
//
// On its inner side are the ECU's snapshots with their openings and the driver's usage; on its outer side are claims, whose
// proofs tell that a threshold was passed and no more, and usage reports, one noised vector a dispatch under a durable budget.
// The rooms behind it each know one thing: archive what the car remembers, resend how the ECU is asked again, dispatch when the car
// speaks, cut what a claim is about, report how usage is noised, backlog which dispatches are to be reported, window what was used in those
// whose reports wait, verdict what follows from an answer. Package seal does these in the right order.
//
// Invariants:
//   - One claim is in flight: the next is cut when the receipt of the last has been acted upon.
//   - Nothing is sealed before the ECU was asked for what may be missing and had its time to answer.
//   - A claim is made under the rules of one moment; rules that change while it is proven or in flight change nothing about it. One
//     that would be made under a policy whose proving key is still being fetched waits for it (see verdict.Await).
//   - Every durable step may be the last one before the power goes. Order of a claim: journal, spool. Of a report: charge, noise,
//     budget store, usage consumed, journal, spool, state. Of a receipt: state with head and receipt, journal, spool freed.
//     Repeating any tail of these orders does no harm: submissions are put by identifier, the collector answers one it knows with
//     the receipt it stored, and a report that was charged and not stored is lost, never drawn again.
//   - What the driver turns off does not leave, also where it is sealed already. A report waits until the collector's record of the budget
//     has been compared with the car's; each dispatch that ends meanwhile keeps its own use.
//   - What is sealed on one program day of the ECU leaves on a later one, so that the instant tells nothing of a departure (see dispatch).
//
// The package refuses snapshots that the configured ECU did not sign, whose opening does not match or whose salt was used before,
// policies that the charter does not cover, and reports without a budget that says yes. It never sends.
package seal

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/budget"
	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/dispatch"
	"rawstone/agent/internal/report"
	"rawstone/agent/internal/resend"
	"rawstone/agent/internal/seal/internal/metrics"
	"rawstone/agent/internal/seal/internal/outbox"
	"rawstone/agent/internal/seal/internal/window"
	"rawstone/agent/internal/seal/phase"
	"rawstone/pkg/attest"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Defaults of Config.
const (
	DefaultResendWait = 5 * time.Second
	DefaultRetryAfter = 6 * time.Hour
	// maxTurn bounds the sealer's sleep: a clock that is set after the start, or a machine that was suspended, must be noticed.
	maxTurn = time.Minute
	// errorWait is how long the sealer waits after a failure of flash or prover before it tries again.
	errorWait = time.Minute
)

// A Spool keeps sealed submissions until they are freed, a Journal records them for the driver.
type (
	Spool   = outbox.Spool
	Journal = outbox.Journal
)

// A Prover makes proofs under one circuit and key.
type Prover = cut.Prover

// Config says what the sealer works with. Fields without a default are required.
type Config struct {
	// DB is the store, opened with SyncWrites. Keys under "seal/" are the sealer's archive. The caller closes it.
	DB      archive.DB
	Spool   Spool
	Journal Journal
	Clock   terms.Clock
	Program wire.Hash
	Vehicle string
	// ECU is the key of this car's attestation ECU.
	ECU wire.PublicKey
	// Charter is the verified data charter and CharterID its identifier.
	Charter   *terms.Charter
	CharterID wire.Hash
	// Rules returns the rules of the moment; Wake tells that they changed.
	Rules func() cut.Rules
	// Prover returns what makes proofs under a policy, false while its keys are not on this car. Neither it nor Rules may block or
	// call the Sealer.
	Prover func(*terms.Policy) (Prover, bool)
	// News is told that the collector refused a claim because this car's rules are out of date. It may not block or call the Sealer.
	// nil means nobody is told.
	News func()

	// Families returns what the driver consents to at this moment; nil means that there are no reports whatever the driver says. Package
	// report's Config says what is required with it. It may not block or call the Sealer.
	Families func() wire.Family
	// Heard says whether the collector's record of this car's budget was compared (see report.Config). Wake tells that it was.
	Heard func() error
	// Device signs reports.
	Device crypto.Signer
	Budget *budget.Ledger
	Usage  report.Usage

	// EveryDays returns the driver's cadence in program days at this moment; nil means dispatch.DefaultEveryDays. Reports are made less
	// often where the charter's budget is too small for it. It may not block or call the Sealer.
	EveryDays func() int
	// MaxDelay bounds the random delay of a dispatch (see dispatch.Config).
	MaxDelay time.Duration
	// RequestResend asks the ECU for its last n snapshots, 1 to attest.MaxLast.
	RequestResend func(ctx context.Context, n uint8) error
	// ResendWait bounds the wait for an answer to RequestResend; 0 means DefaultResendWait.
	ResendWait time.Duration
	// RetryAfter is the time before a refused claim is made anew; 0 means DefaultRetryAfter.
	RetryAfter time.Duration
	// OnSnapshot is told of every new snapshot once it is on flash, and whether it may be the answer to a request rather than
	// said at the instant that it is of. It is called by Deliver. nil means nobody is told.
	OnSnapshot func(m *attest.Message, answer bool)
	// MaxSnapshots bounds the archive (see archive.Config).
	MaxSnapshots int
	Logger       *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

func (c *Config) complete() error {
	switch {
	case c.Spool == nil || c.Journal == nil:
		return errors.New("no spool or journal given")
	case c.Logger == nil || c.Clock.Now == nil || c.RequestResend == nil || c.Rules == nil || c.Prover == nil:
		return errors.New("no logger, clock, rules, prover or way to ask the ECU given")
	case c.Charter == nil || c.Charter.Program != c.Program:
		return errors.New("no charter of this program given")
	case c.ResendWait < 0 || c.RetryAfter < 0:
		return errors.New("a time to wait is negative")
	}
	c.ResendWait, c.RetryAfter = cmp.Or(c.ResendWait, DefaultResendWait), cmp.Or(c.RetryAfter, DefaultRetryAfter)
	return wire.CheckVehicle(c.Vehicle)
}

// Sealer is the privacy border at work. Its methods are safe for concurrent use.
type Sealer struct {
	cfg      Config
	log      *slog.Logger
	pub      *ecdsa.PublicKey
	ecu      wire.KeyID
	archive  *archive.Archive
	asker    *resend.Asker
	calendar dispatch.Calendar
	reports  *report.Maker
	windows  window.Store
	metrics  *metrics.Metrics
	wake     chan struct{}

	work     sync.Mutex // held while sealing or acting on a receipt
	warnings cut.Warnings
	out      outbox.Outbox // guarded by work
	// What withdraw last checked reports against, and whether reports wait; guarded by work.
	checked, waiting bool
	families         wire.Family

	mu    sync.Mutex // guards what follows
	phase phase.Phase
	last  time.Time // of the last receipt acted upon
}

// New opens the sealer's archive and closes the journal's entries of what was never sealed.
func New(cfg Config) (*Sealer, error) {
	s, err := newSealer(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot open sealer: %w", err)
	}
	return s, nil
}

func newSealer(cfg Config) (*Sealer, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	pub, err := cfg.ECU.Key()
	if err != nil {
		return nil, err
	}
	s := &Sealer{cfg: cfg, log: cfg.Logger, pub: pub, ecu: cfg.ECU.ID(), wake: make(chan struct{}, 1), phase: phase.Starting}
	s.out, s.windows = outbox.Outbox{Spool: cfg.Spool, Journal: cfg.Journal, Now: cfg.Clock.Now}, window.Store{DB: cfg.DB}
	if s.metrics, err = metrics.New(cfg.Registerer); err != nil {
		return nil, err
	}
	if s.calendar, err = dispatch.New(dispatch.Config{MaxDelay: cfg.MaxDelay, Timing: cfg.Clock.Timing}); err != nil {
		return nil, err
	}
	if s.reports, err = report.New(report.Config{
		Vehicle: cfg.Vehicle, Charter: cfg.Charter, CharterID: cfg.CharterID,
		Families: cfg.Families, Device: cfg.Device, Budget: cfg.Budget, Usage: cfg.Usage, Heard: cfg.Heard,
	}); err != nil {
		return nil, err
	}
	if s.asker, err = resend.New(resend.Config{Request: s.request, Wait: cfg.ResendWait, Now: cfg.Clock.Now}); err != nil {
		return nil, err
	}
	if s.archive, err = archive.Open(archive.Config{DB: cfg.DB, ECU: s.ecu, Max: cfg.MaxSnapshots, Damaged: s.damaged}); err != nil {
		return nil, err
	}
	if err := s.takeBack(wire.KindReport, outbox.OtherKey, s.reports.Foreign); err != nil {
		return nil, err
	}
	if err := s.withdraw(); err != nil {
		return nil, err
	}
	return s, s.out.Sweep()
}

// Archive is for whoever has its receipts proven and frees them.
func (s *Sealer) Archive() *archive.Archive { return s.archive }

func (s *Sealer) damaged(err error) {
	s.metrics.Damaged.Inc()
	s.log.Warn("archive record is damaged and passed over", "error", err)
}

// cadence returns the driver's choice in program days, 0 for none.
func (s *Sealer) cadence() int {
	if s.cfg.EveryDays == nil {
		return 0
	}
	return s.cfg.EveryDays()
}

// plan returns the plan of this car's dispatches.
func (s *Sealer) plan() dispatch.Plan {
	return s.calendar.Plan(s.archive.State().Secret, s.cadence())
}

// Run asks the ECU for its last snapshots and seals what is due until ctx is done, which is no error.
func (s *Sealer) Run(ctx context.Context) error {
	s.asker.Ask(ctx, attest.MaxLast)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-timer.C:
		}
		wait, err := s.turn(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			s.metrics.Failures.Inc()
			s.log.Error("sealing failed and will be tried again", "error", err)
			wait = errorWait
		}
		timer.Reset(wait)
	}
}

// Wake has the sealer look for work, such as under rules or with keys that have just come.
func (s *Sealer) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// turn does what can be done now and returns the time until something may be due.
func (s *Sealer) turn(ctx context.Context) (time.Duration, error) {
	missing, newest := s.archive.Missing()
	if wait := s.asker.Attend(ctx, missing, newest); wait > 0 {
		return wait, nil
	}
	wait := s.asker.Daily(ctx, s.cfg.Clock.Timing, func() (uint32, bool) {
		m, err := s.archive.Get(newest)
		return m.Snapshot.Day, err == nil
	})
	if wait > 0 {
		return wait, nil
	}
	s.work.Lock()
	defer s.work.Unlock()
	if err := s.withdraw(); err != nil {
		return 0, err
	}
	reporting := s.report(ctx)
	retry, claiming := s.claim(ctx)
	if err := errors.Join(reporting, claiming); err != nil {
		return 0, err
	}
	if err := s.out.Abandon(); err != nil {
		return 0, err
	}
	// A snapshot or a receipt wakes the sealer earlier; a new day may make a snapshot of an ECU that runs ahead usable.
	now, next := s.cfg.Clock.Now(), s.cfg.Clock.DayStart(s.cfg.Clock.Today()+1)
	if retry.After(now) && retry.Before(next) {
		next = retry
	}
	return min(max(next.Sub(now), time.Second), maxTurn), nil
}
