package budget

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/budget/internal/chain"
	"rawstone/agent/internal/flash"
	"rawstone/pkg/dp"
)

var week = Cost{MicroEpsilon: 1_000_000, PicoDelta: 1_000_000}

func openStore(t testing.TB, dir string) *badger.DB {
	t.Helper()
	db, err := flash.Open(flash.Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// place is a store and an anchor in a temporary directory.
type place struct {
	dir string
	db  *badger.DB
}

func newPlace(t testing.TB) *place {
	t.Helper()
	p := &place{dir: t.TempDir()}
	p.db = openStore(t, filepath.Join(p.dir, "store"))
	t.Cleanup(func() { p.db.Close() })
	return p
}

func (p *place) anchor() string { return filepath.Join(p.dir, "budget.anchor") }

// reopenStore closes the store and opens it again.
func (p *place) reopenStore(t testing.TB) {
	t.Helper()
	if err := p.db.Close(); err != nil {
		t.Fatal(err)
	}
	p.db = openStore(t, filepath.Join(p.dir, "store"))
}

func (p *place) config(t testing.TB) Config {
	t.Helper()
	limit, err := YearLimit(week, 52)
	if err != nil {
		t.Fatal(err)
	}
	return Config{DB: p.db, Anchor: p.anchor(), Limit: limit}
}

func (p *place) ledger(t testing.TB) *Ledger {
	t.Helper()
	l, err := New(p.config(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func mechanism(t testing.TB, epsilon float64) *dp.Gaussian {
	t.Helper()
	g, err := newMechanism(epsilon)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func newMechanism(epsilon float64) (*dp.Gaussian, error) {
	return dp.NewGaussian(dp.Params{Epsilon: epsilon, Delta: 1e-6, Clip: 10, Coordinates: []dp.Coordinate{{Max: 10, Scale: 1}, {Max: 10, Scale: 1}}})
}

// report charges, draws and stores one epoch.
func report(t testing.TB, l *Ledger, epoch uint64) []byte {
	t.Helper()
	p, err := l.Charge(t.Context(), epoch, week)
	if err != nil {
		t.Fatal(err)
	}
	noised, err := p.Release(mechanism(t, 1), []int64{3, 4})
	if err != nil {
		t.Fatal(err)
	}
	sealed := []byte{byte(noised[0]), byte(noised[1]), byte(epoch)}
	if err := l.Store(t.Context(), p, sealed); err != nil {
		t.Fatal(err)
	}
	return sealed
}

func wantError(t testing.TB, err error, target error, text string) {
	t.Helper()
	if err == nil || (target != nil && !errors.Is(err, target)) || !strings.Contains(err.Error(), text) {
		t.Fatalf("got error %v, want %v with %q", err, target, text)
	}
}

func TestReportIsKept(t *testing.T) {
	p := newPlace(t)
	l := p.ledger(t)
	sealed := map[uint64][]byte{}
	for _, epoch := range []uint64{0, 1, 7, 20_000} {
		sealed[epoch] = report(t, l, epoch)
	}
	before := l.Summary(20_000)
	if before.Releases != 4 || before.LastEpoch != 20_000 {
		t.Fatalf("summary %+v", before)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p.reopenStore(t)
	l = p.ledger(t)
	if d := cmp.Diff(before, l.Summary(20_000)); d != "" {
		t.Fatalf("reopening changed the summary: %s", d)
	}
	for epoch, want := range sealed {
		got, found, err := l.Stored(t.Context(), epoch)
		if epoch != 20_000 {
			want = nil // nothing can ask for it any more
		}
		if err != nil || found != (want != nil) || !bytes.Equal(got, want) {
			t.Errorf("epoch %d: got %x, %v, %v; want %x", epoch, got, found, err, want)
		}
		_, err = l.Charge(t.Context(), epoch, week)
		wantError(t, err, ErrCharged, "cannot charge epoch")
	}
	_, err := l.Charge(t.Context(), 19_999, week)
	wantError(t, err, ErrPast, "last charged one, 20000")

	if err := l.Drop(t.Context(), 20_000); err != nil {
		t.Fatal(err)
	}
	if err := l.Drop(t.Context(), 9); err != nil {
		t.Fatalf("dropping nothing: %v", err)
	}
	if _, found, err := l.Stored(t.Context(), 20_000); found || err != nil {
		t.Errorf("after Drop: %v, %v", found, err)
	}
	_, err = l.Charge(t.Context(), 20_000, week)
	wantError(t, err, ErrCharged, "")
	if got := l.Summary(0).Releases; got != 4 {
		t.Errorf("dropping changed the number of releases to %d", got)
	}
}

// TestNoRoom: nothing is spent while the store may not grow, and the same epoch can be charged once it may.
func TestNoRoom(t *testing.T) {
	p := newPlace(t)
	full := errors.New("full")
	err := full
	cfg := p.config(t)
	cfg.Room = func() error { return err }
	l, failed := New(cfg)
	if failed != nil {
		t.Fatal(failed)
	}
	defer l.Close()
	for range 2 {
		if _, got := l.Charge(t.Context(), 5, week); !errors.Is(got, full) || l.Err() != nil || l.Summary(5).Releases != 0 {
			t.Errorf("%v, %v, %+v", got, l.Err(), l.Summary(5))
		}
	}
	err = nil
	report(t, l, 5)
}

// TestYear: 52 weekly releases fit, 53 within the window do not, and the window slides.
func TestYear(t *testing.T) {
	p := newPlace(t)
	l := p.ledger(t)
	for i := range uint64(52) {
		if _, err := l.Charge(t.Context(), 1000+7*i, week); err != nil {
			t.Fatalf("release %d: %v", i, err)
		}
	}
	full := l.Summary(1000 + 7*51)
	if full.Left != 0 || full.Spent != full.Limit || full.PureCharges != 0 || full.PureEpsilon != 0 {
		t.Fatalf("after 52 releases: %+v", full)
	}
	if epsilon, err := full.Epsilon(1e-6); err != nil || math.Round(epsilon*10) != 91 {
		t.Errorf("a year composes to ε = %g, %v, want 9.1", epsilon, err)
	}
	if epsilon, err := full.LimitEpsilon(1e-6); err != nil || math.Round(epsilon*10) != 91 {
		t.Errorf("the limit is ε = %g, %v, want 9.1", epsilon, err)
	}
	// The first release leaves the window at 1000 + 365.
	_, err := l.Charge(t.Context(), 1364, week)
	wantError(t, err, ErrExhausted, "the last 365 epochs spent")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = p.ledger(t)
	_, err = l.Charge(t.Context(), 1364, week)
	wantError(t, err, ErrExhausted, "reports resume as old releases leave the window")
	if _, err := l.Charge(t.Context(), 1365, week); err != nil {
		t.Fatalf("a release left the window, yet: %v", err)
	}
	_, err = l.Charge(t.Context(), 1366, week)
	wantError(t, err, ErrExhausted, "")
	if got := l.Summary(1 << 40); got.Spent != 0 || got.Left != got.Limit || got.Releases != 53 {
		t.Errorf("a year later: %+v", got)
	}
	if epsilon, err := l.Summary(1 << 40).Epsilon(1e-6); err != nil || epsilon != 0 {
		t.Errorf("nothing spent is ε = %g, %v", epsilon, err)
	}
}

// TestMixedCosts: dearer releases use up the same limit sooner, by the sum of squares.
func TestMixedCosts(t *testing.T) {
	l := newPlace(t).ledger(t)
	dear := Cost{MicroEpsilon: 3_000_000, PicoDelta: 1_000_000}
	price, err := dear.NanoMu2()
	if err != nil {
		t.Fatal(err)
	}
	spent := int64(0)
	for epoch := uint64(1); ; epoch++ {
		_, err := l.Charge(t.Context(), epoch, dear)
		if errors.Is(err, ErrExhausted) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		spent += price
	}
	s := l.Summary(0)
	if s.Spent != spent || s.Left >= price || s.Releases >= 52 || s.Releases < 2 {
		t.Errorf("%+v after releases of %d", s, price)
	}
}

func TestPermitDrawsOnce(t *testing.T) {
	l := newPlace(t).ledger(t)
	p, err := l.Charge(t.Context(), 5, week)
	if err != nil {
		t.Fatal(err)
	}
	if s := l.Summary(5); p.Epoch() != 5 || p.Index() != 1 || p.Hash() != s.Head {
		t.Errorf("epoch %d, index %d, hash %x; %+v", p.Epoch(), p.Index(), p.Hash(), s)
	}
	wantError(t, l.Store(t.Context(), p, []byte{1}), nil, "nothing was drawn for epoch 5")
	_, err = p.Release(mechanism(t, 1.01), []int64{1, 2})
	wantError(t, err, nil, "costs more than was charged")
	_, err = p.Release(mechanism(t, 1), []int64{1})
	wantError(t, err, nil, "1 coordinates, want 2")
	if _, err := p.Release(mechanism(t, 1), []int64{1, 2}); err != nil {
		t.Fatalf("refusals used the permit up: %v", err)
	}
	_, err = p.Release(mechanism(t, 1), []int64{1, 2})
	wantError(t, err, nil, "it was drawn before")

	wantError(t, l.Store(t.Context(), p, nil), nil, "0 bytes is outside [1, 8192]")
	wantError(t, l.Store(t.Context(), p, make([]byte, MaxSealed+1)), nil, "8193 bytes")
	wantError(t, l.Store(t.Context(), nil, []byte{1}), nil, "not of this ledger")
	wantError(t, newPlace(t).ledger(t).Store(t.Context(), p, []byte{1}), nil, "not of this ledger")
	rewrite(t, l.db, chain.StoredKey(5), []byte("of another life"))
	wantError(t, l.Store(t.Context(), p, []byte{1}), nil, "epoch 5 has stored bytes")
	rewrite(t, l.db, chain.StoredKey(5), nil)
	if err := l.Store(t.Context(), p, make([]byte, MaxSealed)); err != nil {
		t.Fatal(err)
	}
	wantError(t, l.Store(t.Context(), p, []byte{1}), nil, "stored already")
}

func TestNewRefuses(t *testing.T) {
	p := newPlace(t)
	unsynced, err := badger.Open(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer unsynced.Close()
	for want, change := range map[string]func(*Config){
		"no store given":               func(c *Config) { c.DB = nil },
		"does not sync its writes":     func(c *Config) { c.DB = unsynced },
		"no anchor file given":         func(c *Config) { c.Anchor = "" },
		"limit 0 is below 1":           func(c *Config) { c.Limit = 0 },
		"cannot make anchor":           func(c *Config) { c.Anchor = filepath.Join(p.dir, "missing", "anchor") },
		"cannot open anchor":           func(c *Config) { c.Anchor = p.dir },
		"cannot register metric: dupl": func(c *Config) { c.Registerer = twice(t, p) },
	} {
		cfg := p.config(t)
		change(&cfg)
		_, err := New(cfg)
		wantError(t, err, nil, want)
		if errors.Is(err, ErrCorrupt) {
			t.Errorf("%v claims corruption", err)
		}
	}
	for _, c := range []Cost{{}, {0, 1_000_000}, {-1, 1_000_000}, {1_000_000, -1}, {math.MaxInt64, math.MaxInt64}} {
		if _, err := YearLimit(c, 52); err == nil {
			t.Errorf("a limit for %+v", c)
		}
		if _, err := p.ledger(t).Charge(t.Context(), 1, c); err == nil {
			t.Errorf("charged %+v", c)
		}
	}
	for _, n := range []int64{-1, 0, 100_001} {
		if _, err := YearLimit(week, n); err == nil {
			t.Errorf("a limit for %d releases", n)
		}
	}
}

// twice returns a registry that has a ledger's metrics already.
func twice(t testing.TB, p *place) prometheus.Registerer {
	r := prometheus.NewRegistry()
	cfg := p.config(t)
	cfg.Registerer = r
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return r
}

func TestCancelledContextChangesNothing(t *testing.T) {
	l := newPlace(t).ledger(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.Charge(ctx, 1, week)
	wantError(t, err, context.Canceled, "")
	_, _, err = l.Stored(ctx, 1)
	wantError(t, err, context.Canceled, "")
	wantError(t, l.Drop(ctx, 1), context.Canceled, "")
	report(t, l, 1)
}

func TestMetrics(t *testing.T) {
	p := newPlace(t)
	r := prometheus.NewRegistry()
	cfg := p.config(t)
	cfg.Registerer = r
	cfg.Limit, _ = YearLimit(week, 1)
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	report(t, l, 5)
	for _, epoch := range []uint64{5, 5, 4, 6} {
		if _, err := l.Charge(t.Context(), epoch, week); err == nil {
			t.Fatalf("epoch %d charged", epoch)
		}
	}
	if _, err := l.Charge(t.Context(), 7, Cost{}); err == nil {
		t.Fatal("nothing charged")
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	want := map[string]float64{
		"rawstone_budget_charges_total":           1,
		"rawstone_budget_left_nano_mu2":           0,
		"rawstone_budget_refused_total charged":   2,
		"rawstone_budget_refused_total error":     1,
		"rawstone_budget_refused_total exhausted": 1,
		"rawstone_budget_refused_total past":      1,
		"rawstone_budget_rolled_back":             0,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
