package dp

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// falseAlarm is how many standard deviations a statistic may stray: a normal one does so with probability 4e-10.
const falseAlarm = 6.25

func coordinates(dim int, limit, scale int64) []Coordinate {
	ks := make([]Coordinate, dim)
	for i := range ks {
		ks[i] = Coordinate{Max: limit, Scale: scale}
	}
	return ks
}

func mechanism(t testing.TB, p Params) *Gaussian {
	t.Helper()
	g, err := NewGaussian(p)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestNewGaussianRefuses(t *testing.T) {
	good := Params{Epsilon: 1, Delta: 1e-6, Clip: 100, Coordinates: coordinates(3, 1000, 2)}
	mechanism(t, good)
	// Up to the largest ε of a charter every δ goes but the very smallest.
	mechanism(t, Params{Epsilon: 5, Delta: MinDelta, Clip: 100, Coordinates: coordinates(3, 1000, 2)})
	mechanism(t, Params{Epsilon: 10, Delta: 1e-9, Clip: 100, Coordinates: coordinates(3, 1000, 2)})
	for name, c := range map[string]struct {
		change func(*Params)
		want   string
	}{
		"zero epsilon":       {func(p *Params) { p.Epsilon = 0 }, "epsilon 0 is outside"},
		"negative epsilon":   {func(p *Params) { p.Epsilon = -1 }, "epsilon -1 is outside"},
		"tiny epsilon":       {func(p *Params) { p.Epsilon = 9e-4 }, "epsilon 0.0009 is outside"},
		"huge epsilon":       {func(p *Params) { p.Epsilon = 51 }, "epsilon 51 is outside"},
		"NaN epsilon":        {func(p *Params) { p.Epsilon = math.NaN() }, "epsilon NaN is outside"},
		"infinite epsilon":   {func(p *Params) { p.Epsilon = math.Inf(1) }, "epsilon +Inf is outside"},
		"zero delta":         {func(p *Params) { p.Delta = 0 }, "delta 0 is outside"},
		"tiny delta":         {func(p *Params) { p.Delta = 1e-13 }, "delta 1e-13 is outside"},
		"large delta":        {func(p *Params) { p.Delta = 0.02 }, "delta 0.02 is outside"},
		"NaN delta":          {func(p *Params) { p.Delta = math.NaN() }, "delta NaN is outside"},
		"sampler's end":      {func(p *Params) { p.Epsilon, p.Delta = 50, 1e-2 }, "epsilon 50 at delta 0.01 needs so little noise"},
		"sampler's end, δ":   {func(p *Params) { p.Epsilon, p.Delta = 10, 1e-12 }, "epsilon 10 at delta 1e-12 needs so little noise"},
		"zero clip":          {func(p *Params) { p.Clip = 0 }, "clip 0 is outside"},
		"negative clip":      {func(p *Params) { p.Clip = math.MinInt64 }, "clip -9223372036854775808 is outside"},
		"huge clip":          {func(p *Params) { p.Clip = MaxClip + 1 }, "clip 16777217 is outside"},
		"no coordinates":     {func(p *Params) { p.Coordinates = nil }, "0 coordinates, want 1 to 4096"},
		"many coordinates":   {func(p *Params) { p.Coordinates = coordinates(MaxDim+1, 1, 1) }, "4097 coordinates"},
		"zero max":           {func(p *Params) { p.Coordinates = []Coordinate{{Scale: 1}} }, "coordinate 0: max 0 is outside"},
		"huge max":           {func(p *Params) { p.Coordinates = coordinates(1, MaxClip+1, 1) }, "max 16777217 is outside"},
		"zero scale":         {func(p *Params) { p.Coordinates = []Coordinate{{1, 1}, {Max: 1}} }, "coordinate 1: scale 0 is outside"},
		"product overflows":  {func(p *Params) { p.Coordinates = coordinates(1, MaxClip, 2) }, "scale 2 is outside [1, 1]"},
		"product wraps":      {func(p *Params) { p.Coordinates = coordinates(1, 1<<20, math.MaxInt64) }, "is outside [1, 16]"},
		"negative max":       {func(p *Params) { p.Coordinates = coordinates(1, -5, 1) }, "max -5 is outside"},
		"negative the scale": {func(p *Params) { p.Coordinates = coordinates(1, 5, -1) }, "scale -1 is outside"},
	} {
		t.Run(name, func(t *testing.T) {
			p := good
			c.change(&p)
			if _, err := NewGaussian(p); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestNewGaussianCopiesCoordinates(t *testing.T) {
	ks := coordinates(1, 10, 1)
	g := mechanism(t, Params{Epsilon: 1, Delta: 1e-6, Clip: 100, Coordinates: ks})
	ks[0].Max = 1000
	if y, err := g.Clip([]int64{500}); err != nil || y[0] != 10 {
		t.Fatalf("the caller's slice changed the mechanism: %v, %v", y, err)
	}
}

func TestClip(t *testing.T) {
	g := mechanism(t, Params{Epsilon: 1, Delta: 1e-6, Clip: 50, Coordinates: []Coordinate{{Max: 1000, Scale: 1}, {Max: 100, Scale: 10}}})
	for name, c := range map[string]struct{ in, want []int64 }{
		"inside":                   {[]int64{3, 4}, []int64{3, 40}},
		"norm equal to c is kept":  {[]int64{30, 4}, []int64{30, 40}},
		"clipped and floored":      {[]int64{31, 4}, []int64{30, 39}}, // norm 50.6: 30.6, 39.5
		"clipped to exact numbers": {[]int64{60, 8}, []int64{30, 40}}, // norm 100: nothing lost to rounding
		"max before clipping":      {[]int64{1 << 62, 0}, []int64{50, 0}},
		"wild value keeps others":  {[]int64{math.MaxInt64, 100}, []int64{35, 35}},
		"negative counts as zero":  {[]int64{-7, math.MinInt64}, []int64{0, 0}},
		"zero":                     {[]int64{0, 0}, []int64{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			in := append([]int64(nil), c.in...)
			got, err := g.Clip(in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Fatal(d)
			}
			if d := cmp.Diff(c.in, in); d != "" {
				t.Fatalf("the input was changed: %s", d)
			}
		})
	}
	for _, bad := range [][]int64{nil, {1}, {1, 2, 3}} {
		if _, err := g.Clip(bad); err == nil {
			t.Errorf("a vector of %d coordinates was clipped", len(bad))
		}
		if _, err := g.Release(bad); err == nil {
			t.Errorf("a vector of %d coordinates was released", len(bad))
		}
	}
}

// TestClipExact compares the integer clipping with arbitrary precision, at the limits too.
func TestClipExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clip := rapid.Int64Range(1, MaxClip).Draw(t, "clip")
		x := rapid.SliceOfN(rapid.Int64Range(0, MaxClip), 1, 8).Draw(t, "x")
		g, err := NewGaussian(Params{Epsilon: 1, Delta: 1e-6, Clip: clip, Coordinates: coordinates(len(x), MaxClip, 1)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := g.Clip(x)
		if err != nil {
			t.Fatal(err)
		}
		norm2 := new(big.Int)
		for _, v := range x {
			norm2.Add(norm2, new(big.Int).Mul(big.NewInt(v), big.NewInt(v)))
		}
		c2 := new(big.Int).Mul(big.NewInt(clip), big.NewInt(clip))
		for i, v := range x {
			want := big.NewInt(v)
			if norm2.Cmp(c2) > 0 {
				want.Mul(want, want).Mul(want, c2).Div(want, norm2).Sqrt(want)
			}
			if want.Int64() != got[i] {
				t.Fatalf("coordinate %d: got %d, want %d", i, got[i], want)
			}
		}
	})
}

// TestSensitivity is the law the noise is calibrated on: any two vectors whatever, after clamping, scaling, clipping and
// flooring, are at most √2·c apart, and each has norm at most c.
func TestSensitivity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dim := rapid.IntRange(1, 6).Draw(t, "dim")
		ks := make([]Coordinate, dim)
		for i := range ks {
			limit := rapid.Int64Range(1, MaxClip).Draw(t, "max")
			ks[i] = Coordinate{Max: limit, Scale: rapid.Int64Range(1, MaxClip/limit).Draw(t, "scale")}
		}
		clip := rapid.OneOf(rapid.Int64Range(1, 100), rapid.Int64Range(1, MaxClip)).Draw(t, "clip")
		g, err := NewGaussian(Params{Epsilon: 1, Delta: 1e-6, Clip: clip, Coordinates: ks})
		if err != nil {
			t.Fatal(err)
		}
		value := rapid.OneOf(rapid.Int64(), rapid.Int64Range(0, 1000), rapid.Just(int64(0)))
		var clipped [2][]int64
		for i := range clipped {
			clipped[i], err = g.Clip(rapid.SliceOfN(value, dim, dim).Draw(t, "x"))
			if err != nil {
				t.Fatal(err)
			}
			var norm2 int64
			for j, v := range clipped[i] {
				if v < 0 {
					t.Fatalf("coordinate %d is negative: %d", j, v)
				}
				norm2 += v * v
			}
			if norm2 > clip*clip {
				t.Fatalf("norm² %d exceeds c² %d", norm2, clip*clip)
			}
		}
		var distance2 int64
		for j := range clipped[0] {
			d := clipped[0][j] - clipped[1][j]
			distance2 += d * d
		}
		if distance2 > 2*clip*clip {
			t.Fatalf("distance² %d exceeds 2c² %d", distance2, 2*clip*clip)
		}
	})
}

// TestSigmaCalibrated checks the library's σ against this package's own accounting over the corners of the accepted box: never
// less noise than (ε, 0.999 δ) needs, never 0.15 % more.
func TestSigmaCalibrated(t *testing.T) {
	for _, epsilon := range []float64{MinEpsilon, 0.25, 1, 2, 5} {
		for _, del := range []float64{MinDelta, 1e-6, MaxDelta} {
			for _, clip := range []int64{1, 900, MaxClip} {
				g := mechanism(t, Params{Epsilon: epsilon, Delta: del, Clip: clip, Coordinates: coordinates(2, 10, 1)})
				limit, err := Mu(epsilon, del)
				if err != nil {
					t.Fatal(err)
				}
				if ratio := limit / g.Mu(); ratio < 1-1e-9 || ratio > 1.0015 {
					t.Errorf("ε=%g δ=%g c=%d: exact μ is %.9f times the mechanism's", epsilon, del, clip, ratio)
				}
				if d := delta(epsilon, g.Mu()); d > del*(1-endPart)*(1+1e-9) {
					t.Errorf("ε=%g δ=%g c=%d: the noise alone takes δ = %g", epsilon, del, clip, d)
				}
				if want := math.Sqrt2 * float64(clip) / g.Sigma(); g.Mu() != want {
					t.Errorf("μ = %g, want %g", g.Mu(), want)
				}
				if b := g.Bound(); b < clip || b > MaxValue {
					t.Errorf("ε=%g δ=%g c=%d: bound %d is above what is pooled", epsilon, del, clip, b)
				}
			}
		}
	}
}

// TestNoiseLaw checks what Release adds: on every coordinate, with mean 0, variance σ² and a normal's tails, independently.
func TestNoiseLaw(t *testing.T) {
	const n, dim = 60_000, 4
	g := mechanism(t, Params{Epsilon: 1, Delta: 1e-6, Clip: 500, Coordinates: coordinates(dim, 1000, 1)})
	x := []int64{0, 300, 0, 400} // norm 500: not clipped
	var sum, sum2 [dim]float64
	var cross, beyond float64
	for range n {
		y, err := g.Release(x)
		if err != nil {
			t.Fatal(err)
		}
		var z [dim]float64
		for i := range y {
			if max(y[i], -y[i]) > g.Bound() {
				t.Fatalf("release %d is beyond the bound %d", y[i], g.Bound())
			}
			z[i] = float64(y[i]-x[i]) / g.Sigma()
			sum[i] += z[i]
			sum2[i] += z[i] * z[i]
			if math.Abs(z[i]) > 2 {
				beyond++
			}
		}
		cross += z[0] * z[1]
	}
	for i := range sum {
		if m := sum[i] / n; math.Abs(m) > falseAlarm/math.Sqrt(n) {
			t.Errorf("coordinate %d: mean of the noise is %.5f σ", i, m)
		}
		// The variance of z² is 2; the sum of n is normal enough for n this large, and the factor 1.05 covers the rest.
		if v := sum2[i] / n; math.Abs(v-1) > 1.05*falseAlarm*math.Sqrt(2.0/n) {
			t.Errorf("coordinate %d: variance of the noise is %.5f σ²", i, v)
		}
	}
	if c := cross / n; math.Abs(c) > 1.05*falseAlarm/math.Sqrt(n) {
		t.Errorf("coordinates 0 and 1 have correlation %.5f", c)
	}
	const tail = 0.04550026389635842 // P(|z| > 2)
	if f := beyond / (n * dim); math.Abs(f-tail) > 1.05*falseAlarm*math.Sqrt(tail/(n*dim)) {
		t.Errorf("%.5f of the noise is beyond 2σ, want %.5f", f, tail)
	}
}

// TestReleaseClips checks that Release noises the clipped vector and leaves its argument alone.
func TestReleaseClips(t *testing.T) {
	const n = 20_000
	g := mechanism(t, Params{Epsilon: 15, Delta: 1e-2, Clip: 100, Coordinates: coordinates(2, 1<<20, 1)})
	x := []int64{1 << 19, 0}
	var sum float64
	for range n {
		y, err := g.Release(x)
		if err != nil {
			t.Fatal(err)
		}
		sum += float64(y[0])
	}
	if m := sum / n; math.Abs(m-100) > falseAlarm*g.Sigma()/math.Sqrt(n) {
		t.Errorf("mean release is %.2f, want 100 ± %.2f", m, falseAlarm*g.Sigma()/math.Sqrt(n))
	}
	if x[0] != 1<<19 {
		t.Error("the argument was changed")
	}
}

// release is what the holder of a budget needs of a mechanism.
type release interface {
	Mu() float64
	Epsilon() float64
	Delta() float64
	Dim() int
	Release(x []int64) ([]int64, error)
}

// TestMechanisms: of either mechanism, Mu is within what its ε and δ cost, so that a ledger that charges those covers a release.
func TestMechanisms(t *testing.T) {
	for _, m := range []release{
		mechanism(t, Params{Epsilon: 1, Delta: 1e-6, Clip: 900, Coordinates: coordinates(8, 1000, 1)}),
		categorical(t, SubsetSelection, 8, 0.5),
		categorical(t, RandomizedResponse, 8, 2),
	} {
		cost, err := Mu(m.Epsilon(), m.Delta())
		if err != nil || !(m.Mu() > 0 && m.Mu() <= cost) {
			t.Errorf("%T: μ = %g, its guarantee costs %g, %v", m, m.Mu(), cost, err)
		}
		if _, err := m.Release(make([]int64, m.Dim())); err != nil {
			t.Errorf("%T: %v", m, err)
		}
	}
}

func BenchmarkRelease64(b *testing.B) {
	g := mechanism(b, Params{Epsilon: 1, Delta: 1e-6, Clip: 900, Coordinates: coordinates(64, 1000, 1)})
	x := make([]int64, 64)
	for b.Loop() {
		if _, err := g.Release(x); err != nil {
			b.Fatal(err)
		}
	}
}
