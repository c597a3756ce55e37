package analytics

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/analytics/clipping"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

var charter = wire.Hash{1}

// usage is the default charter's, at another ε where a test needs numbers from few reports.
func usage(epsilon float64) terms.Usage {
	return terms.Usage{
		Families: wire.AllFamilies, EpsilonMicro: uint32(epsilon * 1e6), DeltaPico: 1_000_000,
		Clip: clipping.DefaultClip, Scale: []uint16{1, 1, 30, 1, 1}, YearlyDispatches: 52,
	}
}

type stored struct {
	day      uint32
	families wire.Family
	vector   []int64
	model    string
}

// id is the identifier of the report at a place.
func id(serial int64) wire.Hash { return wire.ID(binary.BigEndian.AppendUint64(nil, uint64(serial))) }

// shelf is a Source over reports whose serial is their place, from 1.
type shelf struct {
	reports []stored
	broken  error // returned after all but the last report
	shift   int64 // added to every serial
	read    int   // reports given
	salt    int64 // of identifiers
	gone    map[int]bool
	erased  uint64
}

func (s *shelf) Reports(_ context.Context, c wire.Hash, after int64, limit int, fn func(Report) error) error {
	if c != charter {
		return nil
	}
	for i, r := range s.reports {
		if int64(i+1) <= after || s.gone[i] {
			continue
		}
		if limit--; limit < 0 {
			return nil
		}
		if s.broken != nil && i == len(s.reports)-1 {
			return s.broken
		}
		s.read++
		lent := slices.Clone(r.vector)
		serial := int64(i+1) + s.shift
		if err := fn(Report{Serial: serial, ID: id(serial + s.salt<<32), Day: r.day, Families: r.families, Model: r.model, Values: lent}); err != nil {
			return err
		}
		clear(lent) // fn must not have kept it
	}
	return nil
}

func (s *shelf) Erasures(context.Context) (uint64, error) { return s.erased, nil }

func (s shelves) Erasures(context.Context) (uint64, error) { return 0, nil }

// shelves are a Source of several charters.
type shelves map[wire.Hash]*shelf

func (s shelves) Reports(ctx context.Context, c wire.Hash, after int64, limit int, fn func(Report) error) error {
	return s[c].Reports(ctx, charter, after, limit, fn)
}

const today = 1000

func config(s Source, u terms.Usage) Config {
	p := clipping.DefaultPopulation()
	p.Weeks = 500
	return Config{Source: s, Charters: []Charter{{ID: charter, Serial: 1, Usage: u}}, Population: p, Today: func() uint32 { return today }}
}

func estimator(t testing.TB, cfg Config) *Estimator {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// estimate refreshes and returns the families of the charter in force.
func estimate(t testing.TB, e *Estimator, from, to uint32) []Family {
	t.Helper()
	if err := e.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ask(t, e, Query{Window: Window{From: from, To: to}})[0].Families
}

func ask(t testing.TB, e *Estimator, q Query) []Result {
	t.Helper()
	r, err := e.exact(q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// flat is a vector of one value everywhere.
func flat(v int64) []int64 { return slices.Repeat([]int64{v}, wire.VectorLen) }

// TestPopulationThroughNoise sends simulated weeks through the mechanism's clipping and noise of its size, with a fixed seed: the intervals
// hold the clipped means, and the bias beside them leads to the raw ones.
func TestPopulationThroughNoise(t *testing.T) {
	const n = 20_000
	u := usage(10)
	u.YearlyDispatches = 1
	g, err := clipping.Mechanism(u)
	if err != nil {
		t.Fatal(err)
	}
	p := clipping.DefaultPopulation()
	p.Weeks = n
	truth, err := clipping.Bias(g, p)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(4, 4))
	s := &shelf{}
	err = p.Simulate(func(week []int64) error {
		noised, err := g.Clip(week)
		for i := range noised {
			noised[i] += int64(math.Round(rng.NormFloat64() * g.Sigma()))
		}
		s.reports = append(s.reports, stored{day: today - 3, families: wire.AllFamilies, vector: noised})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := config(s, u)
	cfg.Population = p
	e := estimator(t, cfg)
	published := 0
	for _, f := range estimate(t, e, today-6, today) {
		if f.N != n || len(f.Bins) != f.Len {
			t.Fatalf("%s: n %d, %d bins", f.Name, f.N, len(f.Bins))
		}
		for j, bin := range f.Bins {
			k := f.Offset + j
			b := bin.Mean
			truth, bias := truth.Mean[k]+truth.Bias[k], truth.Bias[k]
			if b.Bias != bias || bin.Sum.Bias != n*bias {
				t.Errorf("%s %d: bias %g and %g, want %g and %g", f.Name, j, b.Bias, bin.Sum.Bias, bias, n*bias)
			}
			if b.Suppressed != "" {
				if b.Suppressed != dp.WideError || b.Mean != 0 || b.Low != 0 || b.High != 0 || b.StdErr != 0 {
					t.Errorf("%s %d: suppressed, yet %+v", f.Name, j, b)
				}
				continue
			}
			published++
			// Publication favours estimates that came out high, hence 7 standard errors.
			if math.Abs(b.Mean-truth) > 7*b.StdErr {
				t.Errorf("%s %d: mean %.2f ± %.2f, want %.2f", f.Name, j, b.Mean, b.StdErr, truth)
			}
			if b.NoiseVariance <= 0 || b.NoiseVariance > 1.3*b.Variance {
				t.Errorf("%s %d: noise is %.3f of the variance", f.Name, j, b.NoiseVariance/b.Variance)
			}
		}
	}
	if published < 12 {
		t.Errorf("only %d bins published", published)
	}
}

// TestFamiliesApart: a vehicle counts in the families that its driver turned on, and scales are undone.
func TestFamiliesApart(t *testing.T) {
	s := &shelf{}
	for i := range 3000 {
		r := stored{today, wire.FamilyHours, flat(60), ""}
		if i < 2000 {
			r.families |= wire.FamilyTrips
		}
		if i < 999 {
			r.families |= wire.FamilyFeature
		}
		// What a switched-off family carries is noise: it must not enter.
		for _, l := range wire.Layouts() {
			if r.families&l.Family == 0 {
				for j := range l.Len {
					r.vector[l.Offset+j] = -5000
				}
			}
		}
		s.reports = append(s.reports, r)
	}
	got := estimate(t, estimator(t, config(s, usage(1))), today, today)
	for i, want := range []struct {
		n          uint64
		mean       float64
		suppressed dp.Suppression
	}{
		{3000, 60, ""}, {0, 0, dp.FewReports}, {2000, 2, ""}, {0, 0, dp.FewReports}, {999, 0, dp.FewReports},
	} {
		f := got[i]
		if f.Layout != wire.Layouts()[i] || f.N != want.n {
			t.Errorf("%s: n %d, want %d", f.Name, f.N, want.n)
		}
		for j, b := range f.Bins {
			if b := b.Mean; b.N != want.n || b.Suppressed != want.suppressed || math.Abs(b.Mean-want.mean) > 1e-9 {
				t.Errorf("%s %d: %+v, want mean %g, suppressed %q", f.Name, j, b.Estimate, want.mean, want.suppressed)
			}
		}
	}
	if dp.FewReports != "n < 1,000" || dp.WideError != "relative standard error above 30 %" {
		t.Error("the reasons are not in the words of the dashboard")
	}
}

// TestIncremental: reading in pieces, with late reports, gives what reading at once gives.
func TestIncremental(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	s := &shelf{}
	pieces := estimator(t, config(s, usage(1)))
	for range 12 {
		for range 400 {
			v := make([]int64, wire.VectorLen)
			for i := range v {
				v[i] = 100 + rng.Int64N(200)
			}
			s.reports = append(s.reports, stored{today - rng.Uint32N(40), wire.AllFamilies, v, []string{"", "A", "B"}[rng.IntN(3)]})
		}
		if err := pieces.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	whole := estimator(t, config(s, usage(1)))
	for _, w := range []Window{{From: 0, To: math.MaxUint32}, {From: today - 20, To: today - 10}, {From: today - 39, To: today}} {
		a, b := estimate(t, pieces, w.From, w.To), estimate(t, whole, w.From, w.To)
		if d := cmp.Diff(a, b); d != "" {
			t.Fatalf("%+v: %s", w, d)
		}
		want := uint64(0)
		for _, r := range s.reports {
			if r.day >= w.From && r.day <= w.To {
				want++
			}
		}
		if a[0].N != want || a[0].Bins[0].Mean.Suppressed != "" {
			t.Errorf("%+v: %+v, want n %d", w, a[0].Bins[0], want)
		}
	}
}

// TestBrokenSourceCountsNothingTwice: a read that fails half-way leaves nothing behind.
func TestBrokenSourceCountsNothingTwice(t *testing.T) {
	s := &shelf{}
	for range 1500 {
		s.reports = append(s.reports, stored{today, wire.AllFamilies, flat(10), ""})
	}
	e := estimator(t, config(s, usage(1)))
	s.broken = errors.New("cable pulled")
	for range 3 {
		if err := e.Refresh(t.Context()); !errors.Is(err, s.broken) {
			t.Fatalf("got error %v", err)
		}
		if n := ask(t, e, Query{Window: Window{From: 0, To: today}})[0].Families[0].N; n != 0 {
			t.Fatalf("%d reports of a read that failed", n)
		}
	}
	s.broken = nil
	if got := estimate(t, e, 0, today)[0].N; got != 1500 {
		t.Errorf("n = %d, want 1500", got)
	}
	if got := estimate(t, e, 0, today)[0].N; got != 1500 {
		t.Errorf("read again: n = %d, want 1500", got)
	}
	s.reports = append(s.reports, stored{today, wire.AllFamilies, flat(10), ""})
	s.shift = -5
	if err := e.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "gave serial 1496 after 1500") {
		t.Errorf("a serial out of order: %v", err)
	}
}

func TestBadReportsAreCountedApart(t *testing.T) {
	g, err := clipping.Mechanism(usage(1))
	if err != nil {
		t.Fatal(err)
	}
	with := func(v int64) []int64 {
		x := flat(10)
		x[63] = v
		return x
	}
	s := &shelf{}
	for range 1000 {
		s.reports = append(s.reports, stored{today, wire.AllFamilies, flat(10), ""})
	}
	s.reports = append(s.reports,
		stored{today, 0, flat(10), ""},
		stored{today, wire.AllFamilies + 1, flat(10), ""},
		stored{today, wire.AllFamilies, flat(10)[:63], ""},
		stored{today, wire.AllFamilies, nil, ""},
		stored{today, wire.AllFamilies, append(flat(10), 10), ""},
		stored{today + 2, wire.AllFamilies, flat(10), ""},
		stored{math.MaxUint32, wire.AllFamilies, flat(10), ""},
		stored{today - DefaultRetain, wire.AllFamilies, flat(10), ""},
		stored{today, wire.AllFamilies, with(g.Bound() + 1), ""},
		stored{today, wire.AllFamilies, with(-g.Bound() - 1), ""},
		stored{today, wire.AllFamilies, with(math.MinInt64), ""},
		// At the edges, and good.
		stored{today + 1, wire.AllFamilies, with(g.Bound()), ""},
		stored{today - DefaultRetain + 1, wire.AllFamilies, with(-g.Bound()), ""},
	)
	r := prometheus.NewRegistry()
	cfg := config(s, usage(1))
	cfg.Registerer = r
	e := estimator(t, cfg)
	if f := estimate(t, e, 0, math.MaxUint32); f[0].N != 1002 || f[0].Bins[0].Mean.Mean != 10 {
		t.Errorf("n %d, mean %g", f[0].N, f[0].Bins[0].Mean.Mean)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) > 0 {
				got[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	const name = "rawstone_analytics_reports_total "
	want := map[string]float64{name + "accepted": 1002, name + "families": 2, name + "length": 3, name + "future": 2, name + "old": 1, name + "range": 3}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestRetentionForgets: days leave memory as the program goes on.
func TestRetentionForgets(t *testing.T) {
	s := &shelf{}
	for range 1200 {
		s.reports = append(s.reports, stored{today, wire.AllFamilies, flat(10), ""})
	}
	now := uint32(today)
	cfg := config(s, usage(1))
	cfg.Retain, cfg.Today = 10, func() uint32 { return now }
	e := estimator(t, cfg)
	for day, want := range map[uint32]uint64{today: 1200, today + 9: 1200} {
		now = day
		if got := estimate(t, e, 0, math.MaxUint32)[0].N; got != want {
			t.Errorf("on day %d: n = %d, want %d", day, got, want)
		}
	}
	now = today + 10
	if got := estimate(t, e, 0, math.MaxUint32)[0].N; got != 0 || e.books[0].tally.Days() != 0 {
		t.Errorf("n = %d on %d days after the retention", got, e.books[0].tally.Days())
	}
}

func TestNewRefuses(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"no source given":             func(c *Config) { c.Source = nil },
		"without identifier":          func(c *Config) { c.Charters[0].ID = wire.Hash{} },
		"0 charters given":            func(c *Config) { c.Charters = nil },
		"given twice":                 func(c *Config) { c.Charters = append(c.Charters, c.Charters[0]) },
		"older than the charter":      func(c *Config) { c.Charters[0].Usage.Mechanism = 9 },
		"no clock given":              func(c *Config) { c.Today = nil },
		"retaining 1501 days":         func(c *Config) { c.Retain = 1501 },
		"epsilon 0 is outside":        func(c *Config) { c.Charters[0].Usage.EpsilonMicro = 0 },
		"4 scales for 5 families":     func(c *Config) { c.Charters[0].Usage.Scale = c.Charters[0].Usage.Scale[:4] },
		"family trips has scale 0":    func(c *Config) { c.Charters[0].Usage.Scale = []uint16{1, 1, 0, 1, 1} },
		"clip 4294967295 is outside":  func(c *Config) { c.Charters[0].Usage.Clip = math.MaxUint32 },
		"allows no dispatches":        func(c *Config) { c.Charters[0].Usage.YearlyDispatches = 0 },
		"0 weeks is outside":          func(c *Config) { c.Population = clipping.Population{Seed: 1} },
		"cannot register metric: dup": func(c *Config) { c.Registerer = twice(t) },
	} {
		cfg := config(&shelf{}, usage(1))
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
	e := estimator(t, config(&shelf{}, usage(1)))
	if _, err := e.Estimate(Query{Window: Window{From: 2, To: 1}}); err == nil || !strings.Contains(err.Error(), "begins on day 2 after its end on day 1") {
		t.Errorf("a reversed window: %v", err)
	}
}

func twice(t testing.TB) prometheus.Registerer {
	r := prometheus.NewRegistry()
	cfg := config(&shelf{}, usage(1))
	cfg.Registerer = r
	estimator(t, cfg)
	return r
}

// BenchmarkRefresh merges 20,000 reports of all families and 8 models a turn; a core is to do 200,000 a second.
func BenchmarkRefresh(b *testing.B) {
	s := &shelf{}
	for i := range batch {
		s.reports = append(s.reports, stored{today - uint32(i%28), wire.AllFamilies, flat(int64(i % 5000)), fmt.Sprint("M", i%8)})
	}
	cfg := config(s, usage(1))
	for b.Loop() {
		b.StopTimer()
		e := estimator(b, cfg)
		b.StartTimer()
		if err := e.Refresh(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*batch/b.Elapsed().Seconds(), "reports/s")
}

// BenchmarkEstimate makes the charts of 28 days of 32 models.
func BenchmarkEstimate(b *testing.B) {
	s := &shelf{}
	for i := range 28 * 32 * 10 {
		s.reports = append(s.reports, stored{today - 1 - uint32(i%28), wire.AllFamilies, flat(500 + int64(i%50)), fmt.Sprint("M", i/28%32)})
	}
	e := estimator(b, config(s, usage(1)))
	if err := e.Refresh(b.Context()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if f := ask(b, e, Query{Window: Ending(today-1, FourWeeks), Adjusted: true})[0].Families[0]; f.Bins[0].Mean.Suppressed != "" {
			b.Fatal(f.Bins[0].Mean)
		}
	}
}
