package dp

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func moments(t testing.TB, dim int) *Moments {
	t.Helper()
	m, err := NewMoments(dim)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func add(t testing.TB, m *Moments, x ...int64) {
	t.Helper()
	if err := m.Add(x); err != nil {
		t.Fatal(err)
	}
}

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
		"negative mean": around(-1000, 1),
	} {
		if got != (Estimate{N: 1000, Suppressed: WideError}) {
			t.Errorf("%s: got %+v, want nothing but n and the reason", name, got)
		}
	}
}

func TestMomentsRefuse(t *testing.T) {
	for _, dim := range []int{-1, 0, MaxDim + 1} {
		if _, err := NewMoments(dim); err == nil {
			t.Errorf("dimension %d accepted", dim)
		}
	}
	m := moments(t, 2)
	if m.Add([]int64{1}) == nil || m.Add(nil) == nil || m.Merge(moments(t, 3)) == nil {
		t.Error("a wrong length was accepted")
	}
	if m.N() != 0 {
		t.Error("a refused release was counted")
	}
	for name, call := range map[string]func() (Estimate, error){
		"negative index": func() (Estimate, error) { return m.Estimate(-1, 1, 1) },
		"index":          func() (Estimate, error) { return m.Estimate(2, 1, 1) },
		"zero sigma":     func() (Estimate, error) { return m.Estimate(0, 0, 1) },
		"NaN sigma":      func() (Estimate, error) { return m.Estimate(0, math.NaN(), 1) },
		"infinite sigma": func() (Estimate, error) { return m.Estimate(0, math.Inf(1), 1) },
		"zero scale":     func() (Estimate, error) { return m.Estimate(0, 1, 0) },
	} {
		if _, err := call(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestMergeEqualsAdding: however the releases are split and merged, the moments are those of adding them all, and of the
// textbook two-pass formulas.
func TestMergeEqualsAdding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.Int64Range(-1_000_000, 1_000_000)
		xs := rapid.SliceOfN(rapid.SliceOfN(value, 2, 2), 2, 60).Draw(t, "releases")
		parts := rapid.IntRange(1, 5).Draw(t, "parts")
		split := make([]*Moments, parts)
		for i := range split {
			split[i], _ = NewMoments(2)
		}
		var sum [2]float64
		for _, x := range xs {
			if err := split[rapid.IntRange(0, parts-1).Draw(t, "part")].Add(x); err != nil {
				t.Fatal(err)
			}
			sum[0] += float64(x[0])
			sum[1] += float64(x[1])
		}
		merged, _ := NewMoments(2)
		for _, s := range split {
			n := s.N()
			if err := merged.Merge(s); err != nil {
				t.Fatal(err)
			}
			if s.N() != n {
				t.Fatal("merging changed its argument")
			}
		}
		if merged.N() != uint64(len(xs)) {
			t.Fatalf("n = %d, want %d", merged.N(), len(xs))
		}
		for i := range sum {
			mean, m2 := sum[i]/float64(len(xs)), 0.0
			for _, x := range xs {
				m2 += (float64(x[i]) - mean) * (float64(x[i]) - mean)
			}
			if math.Abs(merged.mean[i]-mean) > 1e-6 || math.Abs(merged.m2[i]-m2) > 1e-9*m2+1e-6 {
				t.Fatalf("coordinate %d: mean %g, m2 %g; want %g, %g", i, merged.mean[i], merged.m2[i], mean, m2)
			}
		}
	})
}

// TestIntervalCovers releases a skewed population through the mechanism and counts how often the interval holds the true mean.
// 95 % of 300 trials may stray by 6.25 standard deviations, 7.9 points.
func TestIntervalCovers(t *testing.T) {
	const trials, n, mean = 300, MinReports, 60
	g := mechanism(t, Params{Epsilon: 20, Delta: 1e-6, Clip: 400, Coordinates: coordinates(1, 400, 1)})
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

func BenchmarkMomentsAdd64(b *testing.B) {
	m := moments(b, 64)
	x := make([]int64, 64)
	for i := range x {
		x[i] = int64(i * 1000)
	}
	for b.Loop() {
		add(b, m, x...)
	}
}
