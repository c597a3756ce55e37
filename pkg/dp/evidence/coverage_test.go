package evidence

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"text/tabwriter"

	"rawstone/pkg/dp"
)

// covered counts intervals that hold the truth, of those that are published.
type covered struct{ intervals, held, suppressed int }

func (c *covered) see(e dp.Estimate, truth float64) {
	switch {
	case e.Suppressed != "":
		c.suppressed++
	case e.Low <= truth && truth <= e.High:
		c.held++
		fallthrough
	default:
		c.intervals++
	}
}

func (c *covered) share() float64 { return float64(c.held) / float64(c.intervals) }

// uncertainty is the standard deviation of share where the intervals are right.
func (c *covered) uncertainty() float64 { return math.Sqrt(0.95 * 0.05 / float64(c.intervals)) }

// window is a world of vehicles that each report several times within a window, and what is asked of it.
type window struct {
	g       *dp.Gaussian
	fleet   *fleet
	noise   mechanism
	source  *rand.Rand
	reports int // per vehicle
	// alike is the probability that a report is of the vehicle's own profile and not of another one: how much its weeks resemble
	// each other.
	alike float64
}

// pool returns the moments of one window of n vehicles. alter, where not nil, is what a broken collector does to a report before
// pooling: the reports to add instead.
func (w *window) pool(t testing.TB, n int, alter func(y []int64) [][]int64) *dp.Moments {
	t.Helper()
	m, err := dp.NewMoments(w.g.Dim())
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		own := w.fleet.profiles[w.source.IntN(len(w.fleet.profiles))]
		for range w.reports {
			profile := own
			if w.source.Float64() >= w.alike {
				profile = w.fleet.profiles[w.source.IntN(len(w.fleet.profiles))]
			}
			y := release(t, w.noise, profile)
			all := [][]int64{y}
			if alter != nil {
				all = alter(y)
			}
			for _, y := range all {
				if err := m.Add(y); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return m
}

func TestCoverage(t *testing.T) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "intervals of\tvehicles\treports each\tintervals\tcoverage\tuncertainty\tsuppressed")
	judge := func(name string, vehicles, reports int, c covered, low, high float64) {
		t.Helper()
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.2f %%\t±%.2f\t%d\n", name, vehicles, reports, c.intervals, 100*c.share(), 100*c.uncertainty(), c.suppressed)
		if s := c.share(); !(s >= low && s <= high) {
			t.Errorf("%s: coverage of %d intervals is %.2f %%, want %.0f to %.0f", name, c.intervals, 100*s, 100*low, 100*high)
		}
		// What is published only when it turned out large is not covered as often as 95 %: such a cell would not measure intervals.
		if low > 0 && 1000*c.suppressed > c.intervals {
			t.Errorf("%s: %d estimates were suppressed beside %d intervals: this cell measures selection", name, c.suppressed, c.intervals)
		}
	}

	const vehicles = dp.MinReports
	rounds := pick(250, 2000)
	// Four values with means near half the clip: published in every round, at an ε within the charters' range.
	source := rand.New(rand.NewPCG(9, 1))
	g := gaussian(t, dp.Params{Epsilon: 4, Delta: 1e-6, Clip: 900, Coordinates: coordinates(4, 900)})
	profiles := make([][]int64, 500)
	for i := range profiles {
		profiles[i] = make([]int64, 4)
		for j := range profiles[i] {
			profiles[i][j] = int64(150 + 600*source.Float64())
		}
	}
	f := newFleet(t, g, profiles)
	total := 0.0
	for _, v := range f.mean {
		total += v
	}
	world := func(reports int, alike float64) *window {
		return &window{g: g, fleet: f, noise: lawful(t, g, g.Sigma(), source), source: source, reports: reports, alike: alike}
	}

	measure := func(x *window, rounds, vehicles int, alter func([]int64) [][]int64, ask func(m *dp.Moments, i int) (dp.Estimate, error), truth func(i int) float64) covered {
		var c covered
		for range rounds {
			m := x.pool(t, vehicles, alter)
			for i := range g.Dim() {
				e, err := ask(m, i)
				if err != nil {
					t.Fatal(err)
				}
				c.see(e, truth(i))
			}
		}
		return c
	}
	mean := func(m *dp.Moments, i int) (dp.Estimate, error) { return m.Estimate(i, g.Sigma(), 1) }
	share := func(m *dp.Moments, i int) (dp.Estimate, error) { return m.Share(i, g.Sigma(), 1) }
	meanOf := func(i int) float64 { return f.mean[i] }
	shareOf := func(i int) float64 { return f.mean[i] / total }

	judge("means", vehicles, 1, measure(world(1, 1), rounds, vehicles, nil, mean, meanOf), 0.93, 0.97)
	judge("shares", vehicles, 1, measure(world(1, 1), rounds, vehicles, nil, share, shareOf), 0.93, 0.97)
	judge("sums", vehicles, 1, measure(world(1, 1), rounds, vehicles, nil, func(m *dp.Moments, i int) (dp.Estimate, error) {
		return m.Sum(i, g.Sigma(), 1, 1)
	}, func(i int) float64 { return vehicles * f.mean[i] }), 0.93, 0.97)
	if long() {
		x := world(1, 1)
		x.noise = g
		judge("means, with the real mechanism", vehicles, 1, measure(x, 400, vehicles, nil, mean, meanOf), 0.93, 0.97)
		judge("means", 10*vehicles, 1, measure(world(1, 1), rounds, 10*vehicles, nil, mean, meanOf), 0.93, 0.97)
	}

	// A window of four weeks. The noise is far below what ε needs, so that the vehicles' own differences are what the interval must
	// cover.
	const quiet = 40.0
	month := func(alike float64) *window {
		return &window{g: g, fleet: f, noise: lawful(t, g, quiet, source), source: source, reports: 4, alike: alike}
	}
	clustered := func(m *dp.Moments, i int) (dp.Estimate, error) { return m.Clustered(i, quiet, 1, 4) }
	judge("means, each vehicle like itself", vehicles, 4, measure(month(1), rounds/2, vehicles, nil, clustered, meanOf), 0.93, 0.97)
	judge("means, vehicles half like themselves: on the safe side", vehicles, 4, measure(month(0.5), rounds/2, vehicles, nil, clustered, meanOf), 0.95, 1)

	// Broken collectors: their intervals must be seen not to hold.
	judge("mutant: a vehicle's weeks count as independent", vehicles, 4, measure(month(1), rounds/2, vehicles, nil, func(m *dp.Moments, i int) (dp.Estimate, error) {
		return m.Estimate(i, quiet, 1)
	}, meanOf), 0, 0.92)
	judge("mutant: every report pooled twice", vehicles, 1, measure(world(1, 1), rounds/2, vehicles, func(y []int64) [][]int64 {
		return [][]int64{y, y}
	}, mean, meanOf), 0, 0.92)
	judge("mutant: noised values clipped before pooling", vehicles, 1, measure(world(1, 1), rounds/2, vehicles, func(y []int64) [][]int64 {
		for i := range y {
			y[i] = max(y[i], 0)
		}
		return [][]int64{y}
	}, mean, meanOf), 0, 0.92)

	// Shares of categories, with the real mechanisms.
	of := []float64{0.35, 0.35, 0.15, 0.15}
	for _, s := range []dp.Scheme{dp.SubsetSelection, dp.RandomizedResponse} {
		c := categorical(t, s, len(of)-1, 2)
		ask := func(asked *dp.Categorical, rounds int) (k covered) {
			for range rounds {
				counts := make([]uint64, len(of))
				for range vehicles {
					for j, v := range release(t, c, drawCategory(source, of)) {
						counts[j] += uint64(v)
					}
				}
				for j, n := range counts {
					e, err := asked.Share(n, vehicles)
					if err != nil {
						t.Fatal(err)
					}
					k.see(e, of[j])
				}
			}
			return k
		}
		judge(fmt.Sprintf("shares of categories, scheme %d", s), vehicles, 1, ask(c, pick(1000, 4000)), 0.93, 0.97)
		// The collector reckons with another ε than the vehicles draw with.
		judge(fmt.Sprintf("mutant: shares at another ε, scheme %d", s), vehicles, 1, ask(categorical(t, s, len(of)-1, 1), 100), 0, 0.92)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("nominal 95 %%\n%s", b.String())
}

// TestSelection measures what suppression does to coverage: near the limit an estimate is published when it turned out large, so that
// its interval holds the truth less often than 95 %. It is a property of every publication rule that looks at the estimate, and is
// measured to be stated, with a bound on how bad it gets.
func TestSelection(t *testing.T) {
	source := rand.New(rand.NewPCG(10, 1))
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "true relative standard error\tpublished\tcoverage among them")
	const truth, vehicles = 1000, dp.MinReports
	rounds := pick(4_000, 20_000)
	for _, relative := range []float64{0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5} {
		sigma := relative * truth * math.Sqrt(vehicles)
		var among covered
		for range rounds {
			m, err := dp.NewMoments(1)
			if err != nil {
				t.Fatal(err)
			}
			for range vehicles {
				if err := m.Add([]int64{truth + int64(math.Round(sigma*source.NormFloat64()))}); err != nil {
					t.Fatal(err)
				}
			}
			e, err := m.Estimate(0, sigma, 1)
			if err != nil {
				t.Fatal(err)
			}
			among.see(e, truth)
		}
		fmt.Fprintf(w, "%.0f %%\t%.1f %%\t%.1f %%\n", 100*relative, 100*float64(among.intervals)/float64(rounds), 100*among.share())
		if relative <= 0.3 && among.share() < 0.93 {
			t.Errorf("at a true relative standard error of %g the published intervals hold in %.1f %%", relative, 100*among.share())
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + b.String())
}
