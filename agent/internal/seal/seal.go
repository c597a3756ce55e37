// Package seal is the privacy border: what crosses it is sealed, and nothing else does.
//
// On its inner side are the ECU's snapshots with their openings and the driver's usage; on its outer side are claims, whose
// proofs tell that a threshold was passed and no more, and usage reports, one noised vector a dispatch under a durable budget.
// Package seal keeps the archive of snapshots, the local head, the schedule of dispatches, and acts on receipts.
//
// Invariants:
//   - A claim's cut depends on the archived snapshots and the schedule alone, never on when the agent ran: one claim a dispatch
//     period, which ends at the first archived snapshot on or after the boundary. A span that reaches no tier is carried into the
//     next claim; one beyond the top tier ends earlier, at a stored snapshot.
//   - One claim is in flight: the next is cut when the receipt of the last has been acted upon.
//   - Nothing is sealed before the ECU was asked for what may be missing and had its time to answer.
//   - Every durable step may be the last one before the power goes. Order of a claim: journal, spool. Of a report: charge, noise,
//     budget store, usage consumed, journal, spool, state. Of a receipt: state with head and receipt, journal, spool freed.
//     Repeating any tail of these orders does no harm: submissions are put by identifier, the collector answers one it knows with
//     the receipt it stored, and a report that was charged and not stored is lost, never drawn again.
//   - Snapshots, openings and receipts are kept, the oldest going first when the archive's bound is reached, never the head.
//
// Refusals. `gap` and `stale` name a head: the next claim begins there, or, where the head cannot be opened, forfeits and begins
// at the oldest snapshot after it that can. After every other reason (and after the third rebase in a row) the claim is freed and
// its snapshots stay: the driver is told why, and the same span is claimed again, with a new proof and so a new identifier, after
// RetryAfter, doubling up to 32 times that. Trying again costs a message; not trying would cost kilometres once the cause (a
// vehicle not yet registered, a key wrongly revoked, an agent since updated) is gone.
//
// The package refuses snapshots that the configured ECU did not sign or whose opening does not match, policies that the charter
// does not cover, and reports without a budget that says yes. It never sends.
package seal

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/budget"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Defaults of Config.
const (
	DefaultEveryDays    = 7
	DefaultResendWait   = 5 * time.Second
	DefaultRetryAfter   = 6 * time.Hour
	DefaultMaxSnapshots = 4096
	// errorWait is how long the sealer waits after a failure of flash or prover before it tries again.
	errorWait = time.Minute
)

// A Spool keeps sealed submissions until they are freed.
type Spool interface {
	// Put keeps b, synced, under its SHA-256; dropped names reports that went to make room.
	Put(kind wire.Kind, b []byte, created, due time.Time) (id wire.Hash, dropped []wire.Hash, err error)
	Has(id wire.Hash) bool
	IDs(kind wire.Kind) []wire.Hash
	// Postpone moves the due instant of a kind's submissions, except one, to due where it is earlier.
	Postpone(kind wire.Kind, except wire.Hash, due time.Time) error
	Free(id wire.Hash) error
}

// A Journal records for the driver what leaves the car.
type Journal interface {
	Begin(id wire.Hash, at time.Time, kind wire.Kind, size int, contents, cost string) error
	End(id wire.Hash, at time.Time, outcome string) error
	Waiting() []wire.Hash
}

// Usage is the summary of how the car was used since it was last consumed, in the natural units of wire.Layouts (minutes, trips).
type Usage interface {
	// Take returns the totals of the open window and a function that consumes them durably. Until consume has returned nil the
	// window stays open: a later Take returns at least the same totals.
	Take(ctx context.Context) (totals [wire.VectorLen]int64, consume func(context.Context) error, err error)
}

// A Prover makes proofs under one circuit and key.
type Prover interface {
	Prove(s claim.Statement, from, to wire.Opening) (wire.Proof, error)
}

// Config says what the sealer works with. Fields without a default are required.
type Config struct {
	// DB is the store, opened with SyncWrites. Keys under "seal/" are the sealer's. The caller closes it.
	DB      *badger.DB
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
	// Policies are the verified policies.
	Policies []*terms.Policy
	// AgentVersion is this program's version, major.minor.patch.
	AgentVersion string
	Prover       Prover
	// Lock names the circuit and keys of Prover; policies with others are not used.
	Lock claim.Lock

	// Families are what the driver consented to; 0 means no reports. With any, Device, Budget and Usage are required.
	Families wire.Family
	// Device signs reports.
	Device crypto.Signer
	Budget *budget.Ledger
	Usage  Usage

	// EveryDays is the time between dispatches in program days, 1 to 31; 0 means DefaultEveryDays.
	EveryDays int
	// MaxDelay bounds the random delay of each dispatch after its day began; 0 means a program day. It may not exceed EveryDays.
	MaxDelay time.Duration
	// RequestResend asks the ECU for its last n snapshots, 1 to attest.MaxLast.
	RequestResend func(ctx context.Context, n uint8) error
	// ResendWait bounds the wait for an answer to RequestResend; 0 means DefaultResendWait.
	ResendWait time.Duration
	// RetryAfter is the time before a refused claim is made anew; 0 means DefaultRetryAfter.
	RetryAfter time.Duration
	// MaxSnapshots bounds the archive, 64 at least; 0 means DefaultMaxSnapshots.
	MaxSnapshots int

	Logger *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

func (c *Config) complete() error {
	switch {
	case c.DB == nil || c.Spool == nil || c.Journal == nil:
		return errors.New("no store, spool or journal given")
	case !c.DB.Opts().SyncWrites:
		return errors.New("the store does not sync its writes; open it with SyncWrites")
	case c.Logger == nil || c.Clock.Now == nil || c.Clock.DayS == 0 || c.RequestResend == nil || c.Prover == nil:
		return errors.New("no logger, clock, prover or way to ask the ECU given")
	case c.Charter == nil || c.Charter.Program != c.Program:
		return errors.New("no charter of this program given")
	case c.EveryDays < 0 || c.EveryDays > 31:
		return fmt.Errorf("dispatches every %d days, want 1 to 31", c.EveryDays)
	case c.MaxSnapshots != 0 && c.MaxSnapshots < 2*attest.MaxLast:
		return fmt.Errorf("an archive of %d snapshots, want at least %d", c.MaxSnapshots, 2*attest.MaxLast)
	case c.ResendWait < 0 || c.RetryAfter < 0 || c.MaxDelay < 0:
		return errors.New("a time to wait is negative")
	case c.Families != 0 && (c.Device == nil || c.Budget == nil || c.Usage == nil):
		return errors.New("the driver consented to reports but no device key, budget or usage is given")
	}
	setDefault(&c.EveryDays, DefaultEveryDays)
	setDefault(&c.MaxSnapshots, DefaultMaxSnapshots)
	setDefault(&c.ResendWait, DefaultResendWait)
	setDefault(&c.RetryAfter, DefaultRetryAfter)
	day := time.Duration(c.Clock.DayS) * time.Second
	setDefault(&c.MaxDelay, day)
	if c.MaxDelay > time.Duration(c.EveryDays)*day {
		return fmt.Errorf("a delay of up to %v is longer than the time between dispatches", c.MaxDelay)
	}
	return wire.CheckVehicle(c.Vehicle)
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Sealer is the privacy border at work. Its methods are safe for concurrent use.
type Sealer struct {
	cfg     Config
	log     *slog.Logger
	pub     *ecdsa.PublicKey
	ecu     wire.KeyID
	archive *archive
	noise   *dp.Gaussian
	metrics *metrics
	wake    chan struct{}

	work sync.Mutex // held while sealing or acting on a receipt

	mu    sync.Mutex // guards what follows
	state state
	phase Phase
	last  time.Time // of the last receipt acted upon
	// The last request to the ECU, the end of the wait for its answer, whether one ever came, and how often each missing
	// snapshot was asked for.
	asked, gate  time.Time
	heard, again bool
	tries        map[uint64]int
}

// New opens the sealer's archive and state, drawing a new secret for the schedule where there is none.
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
	s := &Sealer{
		cfg: cfg, log: cfg.Logger, pub: pub, ecu: cfg.ECU.ID(),
		wake: make(chan struct{}, 1), tries: make(map[uint64]int), phase: PhaseStarting,
	}
	if s.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, err
	}
	if s.noise, err = mechanism(&cfg.Charter.Usage); err != nil {
		return nil, err
	}
	if s.archive, err = openArchive(cfg.DB, cfg.MaxSnapshots, s.damaged); err != nil {
		return nil, err
	}
	if err := s.loadState(); err != nil {
		return nil, err
	}
	for _, p := range cfg.Policies {
		if why := s.unusable(p); why != nil {
			s.log.Warn("policy is not used", "policy", p.Serial, "error", why)
		}
	}
	// An entry of the journal without a submission in the spool: the power went between the two.
	for _, id := range cfg.Journal.Waiting() {
		if !cfg.Spool.Has(id) {
			if err := cfg.Journal.End(id, cfg.Clock.Now(), "never left the car: the power went before it was sealed"); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

func (s *Sealer) loadState() error {
	st, err := readState(s.cfg.DB)
	if err != nil {
		// The collector's next receipt brings the head back, and the budget ledger knows what was charged.
		s.damaged(err)
		st = state{}
	}
	if st.Secret == [32]byte{} {
		if _, err := rand.Read(st.Secret[:]); err != nil {
			return err
		}
		st.Version = stateVersion
		if err := writeState(s.cfg.DB, st); err != nil {
			return err
		}
	}
	s.state = st
	return nil
}

func (s *Sealer) damaged(err error) {
	s.metrics.damaged.Inc()
	s.log.Warn("archive record is damaged and passed over", "error", err)
}

// current returns the durable state.
func (s *Sealer) current() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// commit changes the durable state, together with what more writes.
func (s *Sealer) commit(change func(*state), more ...func(*badger.Txn) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state
	change(&next)
	if err := writeState(s.cfg.DB, next, more...); err != nil {
		return fmt.Errorf("cannot write sealer's state: %w", err)
	}
	s.state = next
	return nil
}

// Run asks the ECU for its last snapshots and seals what is due until ctx is done, which is no error.
func (s *Sealer) Run(ctx context.Context) error {
	s.ask(ctx, attest.MaxLast)
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
			s.metrics.failures.Inc()
			s.log.Error("sealing failed and will be tried again", "error", err)
			wait = errorWait
		}
		timer.Reset(wait)
	}
}

func (s *Sealer) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// turn does what can be done now and returns the time until something may be due.
func (s *Sealer) turn(ctx context.Context) (time.Duration, error) {
	if wait := s.attend(ctx); wait > 0 {
		return wait, nil
	}
	s.work.Lock()
	defer s.work.Unlock()
	reporting := s.report(ctx)
	retry, claiming := s.claim(ctx)
	if err := errors.Join(reporting, claiming); err != nil {
		return 0, err
	}
	// A snapshot or a receipt wakes the sealer earlier; a new day may make a snapshot of an ECU that runs ahead usable.
	now := s.cfg.Clock.Now()
	next := s.cfg.Clock.DayStart(s.cfg.Clock.Today() + 1)
	if retry.After(now) && retry.Before(next) {
		next = retry
	}
	return max(next.Sub(now), time.Second), nil
}
