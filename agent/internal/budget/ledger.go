// Package budget keeps the durable ledger of what usage reports have cost in privacy.
//
// Order of work for one report, each step synced before the next: Charge (the charge is on flash, in two places), Permit.Release
// (noise is drawn, once, no dearer than was charged), Store (the sealed bytes are on flash), send. A retry sends what Stored
// returns. A crash after the charge loses a report, never privacy.
//
// Invariants: an epoch is charged at most once ever and epochs strictly increase; no charge is ever refunded; the charges within
// any Window epochs sum to at most Limit. Costs are integers of 10⁻⁹ μ², rounded up: the squares of Gaussian differential privacy
// add exactly under composition, whatever mix of ε and δ was released.
//
// Charges form a hash chain in Badger, and a small file beside it, the anchor, holds the chain's length and head. Badger cuts a
// damaged write-ahead log at the first bad byte and carries on, which would silently give spent budget back; the anchor sees it.
// Replacing both by an older pair is not visible here: Summary returns the head so that someone outside can remember it.
//
// The package refuses to repair or reset. A ledger that does not add up means that what was spent is unknown, so New fails with
// ErrCorrupt and says what it found. Epochs are the caller's: they must follow the ECU's day, never the host's clock.
package budget

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/dp"
)

// Sentinels a caller branches on.
var (
	// ErrCharged: the epoch was charged before. Send what Stored has, or, where it has nothing, do without that report.
	ErrCharged = errors.New("epoch already charged")
	// ErrPast: a later epoch was charged, so this one can never be.
	ErrPast = errors.New("epoch lies before the last charged one")
	// ErrExhausted: the charge would exceed the limit. A later epoch may succeed.
	ErrExhausted = errors.New("privacy budget exhausted")
	// ErrCorrupt: the ledger was damaged, truncated or rolled back.
	ErrCorrupt = errors.New("privacy budget ledger is corrupt")
)

// DefaultWindow is the sliding year in epochs, where an epoch is a program day. On one weekday a year of 365 days holds 53 weekly
// releases, so a limit of 52 delays one a year by a day.
const DefaultWindow = 365

// MaxSealed bounds the bytes of one sealed report.
const MaxSealed = 8 << 10

// Cost is the guarantee of one release in exact integers. Its ranges are those of dp.Mu.
type Cost struct {
	// MicroEpsilon is ε in millionths.
	MicroEpsilon int64
	// PicoDelta is δ in units of 10⁻¹².
	PicoDelta int64
}

// NanoMu2 returns the cost as μ² in units of 10⁻⁹, rounded up.
func (c Cost) NanoMu2() (int64, error) {
	mu, err := dp.Mu(float64(c.MicroEpsilon)/1e6, float64(c.PicoDelta)/1e12)
	if err != nil {
		return 0, fmt.Errorf("cannot price release: %w", err)
	}
	return int64(math.Ceil(mu * mu * 1e9)), nil
}

// YearLimit returns the Limit that allows exactly n releases of cost c in a window. n is at least 1 and at most 100,000.
func YearLimit(c Cost, n int64) (int64, error) {
	if n < 1 || n > 100_000 {
		return 0, fmt.Errorf("cannot set budget limit: %d releases is outside [1, 100000]", n)
	}
	nano, err := c.NanoMu2()
	if err != nil {
		return 0, fmt.Errorf("cannot set budget limit: %w", err)
	}
	return n * nano, nil
}

// Config says where the ledger lives and what may be spent. The zero value is refused.
type Config struct {
	// DB is the store, opened with SyncWrites. Keys under "budget/" are the ledger's. Required; the caller closes it, after the
	// ledger.
	DB *badger.DB
	// Anchor is the path of the anchor file, in an existing directory. It must outlive whatever happens to DB: never remove it
	// together with a store that is set aside. Required.
	Anchor string
	// Limit is the largest sum of costs within a window, in 10⁻⁹ μ², at least 1 (see YearLimit). Required.
	Limit int64
	// Window is the sliding year in epochs. 0 means DefaultWindow.
	Window uint64
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

// Ledger is an open budget ledger. It is safe for concurrent use; one process may hold it at a time (Badger's lock sees to it).
type Ledger struct {
	db      *badger.DB
	limit   int64
	window  uint64
	metrics *metrics

	mu     sync.Mutex
	anchor *anchor
	last   charge
	recent []charge // in order, at least all within window of last
	failed error    // set when a write's outcome is unknown: nothing is charged until the ledger is opened again
}

// New opens the ledger and verifies the whole chain. With neither charges nor anchor it begins a new one. A ledger that does not
// add up fails with ErrCorrupt.
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
	l := &Ledger{db: cfg.DB, limit: cfg.Limit, window: cfg.Window}
	if l.window == 0 {
		l.window = DefaultWindow
	}
	if err := l.load(); err != nil {
		return nil, fmt.Errorf("cannot open budget ledger: %w", err)
	}
	a, err := reconcile(cfg.Anchor, l.last)
	if err != nil {
		return nil, fmt.Errorf("cannot open budget ledger: %w", err)
	}
	l.anchor = a
	if l.metrics, err = newMetrics(cfg.Registerer, l); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open budget ledger: %w", err), a.close())
	}
	return l, nil
}

// Close releases the anchor file. The store stays open.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = errors.New("the ledger is closed")
	}
	return l.anchor.close()
}

// Charge spends cost for epoch and returns the permission to draw its noise. When it returns a permit, the charge is synced.
// Errors: ErrCharged, ErrPast, ErrExhausted, a cost outside dp's ranges, or a failure to write, after which the epoch may or
// may not be charged and every further Charge fails until the ledger is opened again.
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
	if l.last.index > 0 && epoch <= l.last.epoch {
		_, found, err := readCharge(l.db, epoch)
		switch {
		case err != nil:
			return nil, err
		case found:
			return nil, ErrCharged
		}
		return nil, fmt.Errorf("%w, %d", ErrPast, l.last.epoch)
	}
	if spent := l.spent(epoch); nano > l.limit-spent {
		return nil, fmt.Errorf("%w: the last %d epochs spent %d of %d and this release costs %d (10⁻⁹ μ²); reports resume as old releases leave the window",
			ErrExhausted, l.window, spent, l.limit, nano)
	}
	next := charge{index: l.last.index + 1, epoch: epoch, cost: cost, nano: nano, prev: l.last.hash}
	next.hash = next.digest()
	if err := l.append(next); err != nil {
		l.failed = err
		return nil, err
	}
	return &Permit{ledger: l, charge: next}, nil
}

// append makes c durable in both places, the store first: a store one ahead of its anchor is what a crash between the two leaves.
func (l *Ledger) append(c charge) error {
	if err := writeCharge(l.db, c); err != nil {
		return err
	}
	if err := l.anchor.set(c); err != nil {
		return err
	}
	l.remember(c)
	return nil
}

// remember makes c the last charge and forgets those that no window ending at or after it can hold.
func (l *Ledger) remember(c charge) {
	l.last = c
	l.recent = append(l.recent, c)
	old := 0
	for c.epoch-l.recent[old].epoch >= l.window {
		old++
	}
	l.recent = append(l.recent[:0], l.recent[old:]...)
}

// spent sums the charges within the window that ends with epoch, which is not before the last charge.
func (l *Ledger) spent(epoch uint64) int64 {
	var sum int64
	for _, c := range l.recent {
		if epoch-c.epoch < l.window {
			sum += c.nano
		}
	}
	return sum
}

// Summary is the state of the budget.
type Summary struct {
	// Releases is the number of charges ever, LastEpoch the last one's epoch (0 when there is none), Head the chain's head.
	Releases, LastEpoch uint64
	Head                [32]byte
	// Spent is what the Window epochs that end with the epoch asked for have cost; Left is what remains of Limit. All in
	// 10⁻⁹ μ².
	Spent, Left, Limit int64
	Window             uint64
}

// Summary returns the state of the budget in the window that ends with epoch, or with the last charge where that is later.
func (l *Ledger) Summary(epoch uint64) Summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	spent := l.spent(max(epoch, l.last.epoch))
	return Summary{
		Releases: l.last.index, LastEpoch: l.last.epoch, Head: l.last.hash,
		Spent: spent, Left: max(l.limit-spent, 0), Limit: l.limit, Window: l.window,
	}
}

// Epsilon returns the ε at total delta of everything spent in the window. delta's range is that of dp.Epsilon.
func (s Summary) Epsilon(delta float64) (float64, error) { return epsilon(s.Spent, delta) }

// LimitEpsilon returns the ε at total delta of the whole Limit.
func (s Summary) LimitEpsilon(delta float64) (float64, error) { return epsilon(s.Limit, delta) }

func epsilon(nano int64, delta float64) (float64, error) {
	if nano == 0 {
		return 0, nil
	}
	return dp.Epsilon(delta, math.Sqrt(float64(nano)/1e9))
}
