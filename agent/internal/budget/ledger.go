// Package budget keeps the durable ledger of what usage reports have cost in privacy.
//
// Order of work for one report: Charge (the reservation is written and synced), Permit.Release (noise is drawn, once, no dearer than
// was charged), Store (the charge enters the chain and the sealed bytes are kept, in one synced transaction), send. A retry sends what
// Stored returns. A crash after the charge loses a report, never privacy.
//
// Invariants: an epoch is charged at most once ever and epochs strictly increase; no charge is ever refunded; the charges within
// any Window epochs sum to at most Limit. Costs are integers of 10⁻⁹ μ², rounded up: the squares of Gaussian differential privacy
// add exactly under composition, whatever mix of ε and δ was released, and a pure release (δ = 0) has its μ too. What a charge
// of δ = 0 permits is pure itself, so that a window of such charges may be composed as pure ones, which is tighter.
//
// Charges form a hash chain in Badger. A small file beside it, the anchor, takes each charge first, whole and on two pages: one sync
// makes a reservation that outlives a crash, and the chain is completed from it at the next start. It is also what tells of a store
// that lost its end: Badger cuts a damaged write-ahead log at the first bad byte and carries on, which would silently give spent
// budget back. One charge lost so is written again from the anchor; more is ErrCorrupt.
//
// Replacing store and anchor by an older pair is not visible in them. Two things outside remember: the collector's record of the
// charges that reports came with (Compare), and a monotone counter, as in a TPM (Config.Counter). Either yields ErrRolledBack, which
// stays: the ledger opens, tells what it knows, and never charges again.
//
// The package refuses to repair or reset. A ledger that does not add up means that what was spent is unknown, so New fails with
// ErrCorrupt and says what it found. A workshop that enrols the vehicle anew, with another device key, begins a new ledger with another
// counter. Epochs are the caller's: they must follow the ECU's day, never the host's clock.
package budget

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/budget/internal/anchor"
	"rawstone/agent/internal/budget/internal/chain"
	"rawstone/agent/internal/budget/internal/charge"
)

// Sentinels a caller branches on.
var (
	// ErrCharged: the epoch was charged before. Send what Stored has, or, where it has nothing, do without that report.
	ErrCharged = errors.New("epoch already charged")
	// ErrPast: a later epoch was charged, so this one can never be.
	ErrPast = errors.New("epoch lies before the last charged one")
	// ErrExhausted: the charge would exceed the limit. A later epoch may succeed.
	ErrExhausted = errors.New("privacy budget exhausted")
	// ErrCorrupt: the ledger was damaged or truncated.
	ErrCorrupt = charge.ErrCorrupt
	// ErrRolledBack: an older copy of the ledger was put in the place of a newer one. It stays so.
	ErrRolledBack = errors.New("privacy budget ledger was rolled back")
)

// DefaultWindow is the sliding year in epochs, where an epoch is a program day. A year of 365 days can hold 53 weekly releases: whoever
// makes 52 a year one every week has one a year refused. The agent makes one every 8 days then (report.EveryDays).
const DefaultWindow = 365

// MaxSealed bounds the bytes of one sealed report.
const MaxSealed = 8 << 10

// Config says where the ledger lives and what may be spent. The zero value is refused.
type Config struct {
	// DB is the store, opened with SyncWrites. Keys under "budget/" are the ledger's. Required; the caller closes it after the ledger.
	DB chain.DB
	// Room says that the store must not grow: nothing is charged while it returns an error. nil means that it always may.
	Room func() error
	// Anchor is the path of the anchor file, in an existing directory. It must outlive DB whatever happens to that. Required.
	Anchor string
	// Limit is the largest sum of costs within a window, in 10⁻⁹ μ², at least 1 (see YearLimit). Required.
	Limit int64
	// Window is the sliding year in epochs. 0 means DefaultWindow.
	Window uint64
	// Counter is what remembers the number of charges outside of the file system. nil means none; a ledger that was opened with one
	// is refused without it.
	Counter Counter
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

// Ledger is an open budget ledger. It is safe for concurrent use; one process may hold it at a time (Badger's lock sees to it).
type Ledger struct {
	db      chain.DB
	room    func() error // nil where the store may always grow
	limit   int64
	window  uint64
	counter Counter // nil where there is none
	metrics *metrics

	mu        sync.Mutex
	anchor    *anchor.Anchor
	last      charge.Charge
	recent    []charge.Charge // in order, at least all within window of last
	pending   bool            // last is in the anchor and perhaps not yet in the store
	unsettled bool            // the counter may be one behind the chain
	rolled    error           // wraps ErrRolledBack: nothing is ever charged again
	failed    error           // set when a write's outcome is unknown: nothing is charged until the ledger is opened again
}

// New opens the ledger and verifies the whole chain. With neither charges nor anchor it begins a new one. A ledger that does not
// add up fails with ErrCorrupt. One that was rolled back opens, for what it can still tell; Err says so and Charge refuses.
func New(cfg Config) (*Ledger, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("cannot open budget ledger: no store given")
	case !cfg.DB.Opts().SyncWrites:
		return nil, errors.New("cannot open budget ledger: the store does not sync its writes; open it with SyncWrites")
	case cfg.Anchor == "":
		return nil, errors.New("cannot open budget ledger: no anchor file given")
	case cfg.Limit < 1:
		return nil, fmt.Errorf("cannot open budget ledger: limit %d is below 1; use YearLimit", cfg.Limit)
	}
	l := &Ledger{db: cfg.DB, room: cfg.Room, limit: cfg.Limit, window: cmp.Or(cfg.Window, DefaultWindow), counter: cfg.Counter}
	if err := l.open(cfg.Anchor); err != nil {
		return nil, fmt.Errorf("cannot open budget ledger: %w", err)
	}
	var err error
	if l.metrics, err = newMetrics(cfg.Registerer, l); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open budget ledger: %w", err), l.anchor.Close())
	}
	return l, nil
}

// open reads the chain and what remembers it.
func (l *Ledger) open(path string) (err error) {
	if err := l.load(); err != nil {
		return err
	}
	if l.anchor, err = anchor.Open(path, l.last); err != nil {
		return err
	}
	if err = l.reconcile(); err == nil || errors.Is(err, ErrRolledBack) {
		err = chain.Keep(l.db, l.last.Epoch) // epochs increase: no earlier report is made again
	}
	if err != nil {
		return errors.Join(err, l.anchor.Close())
	}
	return nil
}

// reconcile holds the chain against the anchor and the counter.
func (l *Ledger) reconcile() error {
	newest, err := l.anchor.Reconcile(l.last)
	if err != nil {
		return err
	}
	if newest.Index > l.last.Index {
		if err := chain.Write(l.db, newest); err != nil {
			return err
		}
		l.remember(newest)
	}
	if l.rolled != nil {
		return nil
	}
	return l.settle()
}

// load walks the chain from its beginning and sets last and recent, and reads whether the ledger was marked as rolled back.
func (l *Ledger) load() error {
	var broken error
	err := chain.Walk(l.db, func(k []byte, c charge.Charge) bool {
		switch {
		case string(k) != string(chain.Key(c.Epoch)):
			broken = charge.Corrupt("charge %d lies under another epoch's key", c.Index)
		case c.Index != l.last.Index+1 || c.Prev != l.last.Hash:
			broken = charge.Corrupt("charge %d does not follow charge %d: charges are missing or were replaced", c.Index, l.last.Index)
		default:
			l.remember(c)
		}
		return broken == nil
	})
	if err := errors.Join(err, broken); err != nil {
		return err
	}
	return l.recall()
}

// Close releases the anchor file. The store stays open.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = errors.New("the ledger is closed")
	}
	return l.anchor.Close()
}

// Charge spends cost for epoch and returns the permission to draw its noise. When it returns a permit, the charge is synced.
// Errors: ErrCharged, ErrPast, ErrExhausted, ErrRolledBack, Config.Room's, a cost outside dp's ranges, a counter that does not answer, or a failure
// to write, after which the epoch may or may not be charged and every further Charge fails until the ledger is opened again.
func (l *Ledger) Charge(ctx context.Context, epoch uint64, cost Cost) (*Permit, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.charge(ctx, epoch, cost)
	l.metrics.count(err)
	if err != nil {
		return nil, fmt.Errorf("cannot charge epoch %d: %w", epoch, err)
	}
	return p, nil
}

func (l *Ledger) charge(ctx context.Context, epoch uint64, cost Cost) (*Permit, error) {
	if l.rolled != nil {
		return nil, l.rolled
	}
	if l.failed != nil {
		return nil, fmt.Errorf("%w; restart the agent", l.failed)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	nano, err := cost.NanoMu2()
	if err != nil {
		return nil, err
	}
	if l.last.Index > 0 && epoch <= l.last.Epoch {
		return nil, l.past(epoch)
	}
	if spent := l.spent(epoch); nano > l.limit-spent {
		return nil, fmt.Errorf("%w: the last %d epochs spent %d of %d and this release costs %d (10⁻⁹ μ²); reports resume as old releases leave the window",
			ErrExhausted, l.window, spent, l.limit, nano)
	}
	if l.room != nil {
		if err := l.room(); err != nil {
			return nil, err
		}
	}
	if l.unsettled {
		if err := l.settle(); err != nil {
			return nil, err
		}
	}
	next := charge.Charge{Epoch: epoch, MicroEpsilon: cost.MicroEpsilon, PicoDelta: cost.PicoDelta, Nano: nano}.Follow(l.last)
	if err := l.append(next); err != nil {
		return nil, err
	}
	return &Permit{ledger: l, charge: next}, nil
}

// past says why an epoch that is not after the last one cannot be charged.
func (l *Ledger) past(epoch uint64) error {
	if l.pending && epoch == l.last.Epoch {
		return ErrCharged
	}
	_, found, err := chain.Read(l.db, epoch)
	switch {
	case err != nil:
		return err
	case found:
		return ErrCharged
	}
	return fmt.Errorf("%w, %d", ErrPast, l.last.Epoch)
}

// append makes c durable in the anchor and counts it. What the anchor held before must be in the store by then, or a crash between
// the two would lose a charge.
func (l *Ledger) append(c charge.Charge) error {
	if l.pending {
		if err := chain.Write(l.db, l.last); err != nil {
			l.failed = err
			return err
		}
		l.pending = false
	}
	if err := l.anchor.Set(c); err != nil {
		l.failed = err
		return err
	}
	l.remember(c)
	l.pending = true
	if l.counter == nil {
		return nil
	}
	err := l.counter.Increment()
	if l.unsettled = err != nil; l.unsettled {
		return fmt.Errorf("cannot count charge, and the epoch is lost: %w", err)
	}
	return nil
}

// remember makes c the last charge and forgets those that no window ending at or after it can hold.
func (l *Ledger) remember(c charge.Charge) {
	l.last = c
	l.recent = append(l.recent, c)
	old := 0
	for c.Epoch-l.recent[old].Epoch >= l.window {
		old++
	}
	l.recent = append(l.recent[:0], l.recent[old:]...)
}

// within returns the charges in the window that ends with epoch, which is not before the last charge.
func (l *Ledger) within(epoch uint64) []charge.Charge {
	old := 0
	for old < len(l.recent) && epoch-l.recent[old].Epoch >= l.window {
		old++
	}
	return l.recent[old:]
}

// spent sums what they cost.
func (l *Ledger) spent(epoch uint64) int64 {
	var sum int64
	for _, c := range l.within(epoch) {
		sum += c.Nano
	}
	return sum
}
