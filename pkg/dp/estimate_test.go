package dp

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestEstimateKnown computes one estimate by hand: 500 releases of 10 and 500 of 30, scale 2.
func TestEstimateKnown(t *testing.T) {
	m := moments(t, 2)
	for range 500 {
		add(t, m, 0, 10)
		add(t, m, 0, 30)
	}
	got, err := m.Estimate(1, 4, 2)
	if err != nil {
		t.Fatal(err)
	}
	variance := 100.0 * 1000 / 999 / 4
	stdErr := math.Sqrt(variance / 1000)
	want := Estimate{N: 1000, Mean: 10, StdErr: stdErr, Low: 10 - 1.959964*stdErr, High: 10 + 1.959964*stdErr,
		Variance: variance, NoiseVariance: 4}
	if d := cmp.Diff(want, got, cmpopts.EquateApprox(1e-7, 0)); d != "" {
		t.Fatal(d)
	}
}

func TestEstimateSuppresses(t *testing.T) {
	few := moments(t, 1)
	for range 999 {
		add(t, few, 50)
	}
	if got, err := few.Estimate(0, 1, 1); err != nil || got != (Estimate{N: 999, Suppressed: FewReports}) {
		t.Errorf("999 reports: got %+v, %v", got, err)
	}
	add(t, few, 50)
	if got, err := few.Estimate(0, 1, 1); err != nil || got.Suppressed != "" || got.Mean != 50 {
		t.Errorf("1,000 reports: got %+v, %v", got, err)
	}

	// ±a around mean 10: standard error is a/√999, 30 % of the mean at a = 3·√999 = 94.8.
	around := func(mean, a int64) Estimate {
		m := moments(t, 1)
		for range 500 {
			add(t, m, mean+a)
			add(t, m, mean-a)
		}
		e, err := m.Estimate(0, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if got := around(10, 94); got.Suppressed != "" {
		t.Errorf("relative standard error 29.7 %%: got %+v", got)
	}
	for name, got := range map[string]Estimate{
		"30.04 %":       around(10, 95),
		"zero mean":     around(0, 1),
		"all zero":      around(0, 0),
		"negative mean": around(-1000, 1),
	} {
		if got != (Estimate{N: 1000, Suppressed: WideError}) {
			t.Errorf("%s: got %+v, want nothing but n and the reason", name, got)
		}
	}
}

// TestClusteredKnown: per times the variance that is not noise, and no less than Estimate where noise is all of it.
func TestClusteredKnown(t *testing.T) {
	m := moments(t, 1)
	for range 500 {
		add(t, m, 10)
		add(t, m, 30)
	}
	one, err := m.Estimate(0, 4, 2)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := m.Clustered(0, 4, 2, 1); err != nil || same != one {
		t.Errorf("with one report per vehicle: %+v, %v, want %+v", same, err, one)
	}
	four, err := m.Clustered(0, 4, 2, 4)
	if err != nil {
		t.Fatal(err)
	}
	variance := 100.0 * 1000 / 999 / 4
	near(t, "variance", four.Variance, variance)
	near(t, "standard error", four.StdErr, math.Sqrt((4+4*(variance-4))/1000))
	near(t, "low", four.Low, four.Mean-1.959963984540054*four.StdErr)
	if all, err := m.Clustered(0, 40, 2, 4); err != nil || all.StdErr != one.StdErr {
		t.Errorf("where noise is above the variance: standard error %g, %v, want %g", all.StdErr, err, one.StdErr)
	}
	if wide, err := m.Clustered(0, 4, 2, 1e6); err != nil || wide != (Estimate{N: 1000, Suppressed: WideError}) {
		t.Errorf("got %+v, %v, want it suppressed", wide, err)
	}
}

func TestSumKnown(t *testing.T) {
	m := moments(t, 1)
	for range 500 {
		add(t, m, 10)
		add(t, m, 30)
	}
	mean, err := m.Clustered(0, 4, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := mean
	want.Mean, want.StdErr, want.Low, want.High = 10_000, mean.StdErr*1000, mean.Low*1000, mean.High*1000
	if got, err := m.Sum(0, 4, 2, 3); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := moments(t, 1).Sum(0, 4, 2, 3); err != nil || got != (Estimate{Suppressed: FewReports}) {
		t.Errorf("the total of nothing: %+v, %v", got, err)
	}
}

// TestShareTwoPass compares with the delta method computed release by release.
func TestShareTwoPass(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	const n, dim, sigma = 5000, 3, 7.0
	m := moments(t, dim)
	var xs [n][dim]int64
	var first [dim]float64
	total := 0.0
	for r := range xs {
		xs[r] = [dim]int64{rng.Int64N(100), rng.Int64N(300) - 20, 50 + rng.Int64N(50)}
		add(t, m, xs[r][:]...)
		for i, v := range xs[r] {
			first[i] += float64(v)
			total += float64(v)
		}
	}
	sum := 0.0
	for i := range dim {
		share, mean := first[i]/total, total/n
		variance := 0.0
		for _, x := range xs {
			e := (float64(x[i]) - share*float64(x[0]+x[1]+x[2])) / mean
			variance += e * e / (n - 1)
		}
		got, err := m.Share(i, sigma, 5)
		if err != nil || got.Suppressed != "" {
			t.Fatalf("coordinate %d: got %+v, %v", i, got, err)
		}
		noise := sigma * sigma * ((1-share)*(1-share) + 2*share*share) / mean / mean
		want := Estimate{N: n, Mean: share, StdErr: math.Sqrt(variance / n), Variance: variance, NoiseVariance: noise}
		want.Low, want.High = share-quantile975*want.StdErr, share+quantile975*want.StdErr
		if d := cmp.Diff(want, got, cmpopts.EquateApprox(1e-10, 0)); d != "" {
			t.Errorf("coordinate %d: %s", i, d)
		}
		four, err := m.ClusteredShare(i, sigma, 5, 4)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "clustered", four.StdErr, math.Sqrt((got.Variance+3*(got.Variance-got.NoiseVariance))/n))
		sum += got.Mean
	}
	near(t, "the shares together", sum, 1)
}

// TestShareSuppresses: with a total that is zero, negative or too uncertain there are no shares, whatever the coordinate.
func TestShareSuppresses(t *testing.T) {
	for name, k := range map[string]struct {
		n       int
		a, b    [2]int64 // alternately
		i       int
		want    Suppression
		decided bool
	}{
		"few":             {999, [2]int64{5, 5}, [2]int64{5, 5}, 0, FewReports, true},
		"none":            {0, [2]int64{}, [2]int64{}, 0, FewReports, true},
		"zero":            {1000, [2]int64{}, [2]int64{}, 0, WideError, true},
		"total zero":      {1000, [2]int64{5, -5}, [2]int64{5, -5}, 0, WideError, true},
		"total negative":  {1000, [2]int64{5, -9}, [2]int64{5, -9}, 0, WideError, true},
		"both negative":   {1000, [2]int64{-5, -9}, [2]int64{-5, -9}, 1, WideError, true},
		"negative share":  {1000, [2]int64{20, -9}, [2]int64{20, -9}, 1, WideError, true},
		"uncertain total": {1000, [2]int64{10, 0}, [2]int64{10, 200}, 1, "", false},
		"wilder total":    {1000, [2]int64{10, -1000}, [2]int64{10, 1000}, 0, WideError, true},
		"wide share":      {1000, [2]int64{1000, 100}, [2]int64{1000, -98}, 1, WideError, true},
		"fine":            {1000, [2]int64{10, 20}, [2]int64{10, 22}, 0, "", false},
	} {
		m := moments(t, 2)
		for r := range k.n {
			if r%2 == 0 {
				add(t, m, k.a[:]...)
			} else {
				add(t, m, k.b[:]...)
			}
		}
		got, err := m.Share(k.i, 1, 1)
		if err != nil || got.Suppressed != k.want || k.decided && got != (Estimate{N: uint64(k.n), Suppressed: k.want}) {
			t.Errorf("%s: got %+v, %v, want %q", name, got, err, k.want)
		}
	}
}

// TestClusteredShareNoise: where all of the total's variance is noise, on each of its coordinates, clustering adds nothing, and
// the total stays certain enough.
func TestClusteredShareNoise(t *testing.T) {
	m := moments(t, 2)
	for range 250 {
		for _, x := range [][]int64{{12, 10}, {12, -10}, {-8, 10}, {-8, -10}} {
			add(t, m, x...)
		}
	}
	one, err := m.Share(0, 10.1, 1)
	if err != nil || one.Suppressed != "" || one.Mean != 1 {
		t.Fatalf("got %+v, %v, want all of the total", one, err)
	}
	if four, err := m.ClusteredShare(0, 10.1, 1, 4); err != nil || four != one {
		t.Errorf("got %+v, %v, want %+v", four, err, one)
	}
	// With less noise than that the rest is how vehicles differ, and 4 × 200 / 1000 is 45 % of 2.
	if four, err := m.ClusteredShare(0, 0.1, 1, 4); err != nil || four != (Estimate{N: 1000, Suppressed: WideError}) {
		t.Errorf("got %+v, %v, want it suppressed", four, err)
	}
}

// TestShareCovers: the share's interval holds the true share about as often as it says, also where the total is as uncertain as is
// published.
func TestShareCovers(t *testing.T) {
	const trials, n = 1000, 1000
	rng := rand.New(rand.NewPCG(9, 2))
	for name, k := range map[string]struct{ sigma, low, high float64 }{
		"certain total":   {5, 0.93, 0.97},
		"10 % uncertain":  {30 * 0.10 * 31.6 / math.Sqrt(3), 0.93, 0.97},
		"uncertain total": {30 * 0.25 * 31.6 / math.Sqrt(3), 0.93, 1}, // what is suppressed would have held it less often
	} {
		held, published := 0, 0
		for range trials {
			m := moments(t, 3)
			for range n {
				x := []int64{20, 8, 2}
				if rng.IntN(2) == 0 {
					x = []int64{10, 12, 8} // shares of the totals: 15, 10 and 5 of 30
				}
				for i := range x {
					x[i] += int64(math.Round(k.sigma * rng.NormFloat64()))
				}
				add(t, m, x...)
			}
			e, err := m.ClusteredShare(0, k.sigma, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			if e.Suppressed != "" {
				continue
			}
			published++
			if e.Low <= 0.5 && 0.5 <= e.High {
				held++
			}
		}
		if share := float64(held) / float64(published); published < trials/4 || share < k.low || share > k.high {
			t.Errorf("%s: the interval held the share in %.1f %% of %d", name, 100*share, published)
		}
	}
}

// TestClusteredCovers: vehicles that report the same four times are fewer than their reports. Clustered knows, Estimate does not.
func TestClusteredCovers(t *testing.T) {
	const trials, vehicles, per, mean, sigma = 1000, 400, 4, 100, 20.0
	rng := rand.New(rand.NewPCG(5, 5))
	clustered, plain := 0, 0
	for range trials {
		m := moments(t, 1)
		for range vehicles {
			truth := mean + 60*rng.NormFloat64()
			for range per {
				add(t, m, int64(math.Round(truth+sigma*rng.NormFloat64())))
			}
		}
		for held, e := range map[*int]float64{&clustered: per, &plain: 1} {
			got, err := m.Clustered(0, sigma, 1, e)
			if err != nil || got.Suppressed != "" {
				t.Fatalf("got %+v, %v", got, err)
			}
			if got.Low <= mean && mean <= got.High {
				*held++
			}
		}
	}
	if share := float64(clustered) / trials; share < 0.93 || share > 0.97 {
		t.Errorf("Clustered's interval held the mean in %.1f %%", 100*share)
	}
	if share := float64(plain) / trials; share > 0.85 {
		t.Errorf("Estimate's interval held the mean in %.1f %%: the vehicles are not alike enough to test anything", 100*share)
	}
}

// TestIntervalCovers releases a skewed population through the mechanism and counts how often the interval holds the true mean.
// 95 % of 300 trials may stray by 6.25 standard deviations, 7.9 points.
func TestIntervalCovers(t *testing.T) {
	const trials, n, mean = 300, MinReports, 60
	g := mechanism(t, Params{Epsilon: 12, Delta: 1e-6, Clip: 400, Coordinates: coordinates(1, 400, 1)})
	rng := rand.New(rand.NewPCG(7, 7))
	held, published, noiseShare := 0, 0, 0.0
	for range trials {
		m := moments(t, 1)
		for range n {
			// 20 or 220, one in five: mean 60, and never clipped.
			x := int64(20)
			if rng.IntN(5) == 0 {
				x = 220
			}
			y, err := g.Release([]int64{x})
			if err != nil {
				t.Fatal(err)
			}
			add(t, m, y...)
		}
		e, err := m.Estimate(0, g.Sigma(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if e.Suppressed != "" {
			continue
		}
		published++
		noiseShare += e.NoiseVariance / e.Variance
		if e.Low <= mean && mean <= e.High {
			held++
		}
	}
	if published < trials*99/100 {
		t.Fatalf("only %d of %d estimates published", published, trials)
	}
	if share := float64(held) / float64(published); math.Abs(share-0.95) > falseAlarm*math.Sqrt(0.95*0.05/trials) {
		t.Errorf("the interval held the mean in %.1f %% of trials", 100*share)
	}
	want := g.Sigma() * g.Sigma() / (g.Sigma()*g.Sigma() + 80*80)
	if share := noiseShare / float64(published); math.Abs(share-want) > 0.02 {
		t.Errorf("noise is %.3f of the variance, want %.3f", share, want)
	}
}
