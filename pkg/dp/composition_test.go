package dp

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestPureMuReference compares with Φ(−μ/2) = 1/(1 + e^ε) solved in 60 digits (mpmath, ncdf). The result is above, by little.
func TestPureMuReference(t *testing.T) {
	for _, c := range []struct{ epsilon, want float64 }{
		{0.001, 0.00125331411490187518}, {0.01, 0.0125331189596498389}, {0.25, 0.312979499481629703}, {0.5, 0.623892592098508192},
		{1, 1.23203538534490097}, {2, 2.35796148564724971}, {5, 4.94667844559565859}, {10, 7.82791439362186654},
		{20, 11.7584187136531013}, {50, 19.349650567224713},
	} {
		got, err := Mu(c.epsilon, 0)
		if err != nil {
			t.Fatal(err)
		}
		if !(got >= c.want && got <= c.want*(1+2e-12)) {
			t.Errorf("μ(ε = %g) = %.18g, want %.18g or just above", c.epsilon, got, c.want)
		}
	}
}

// TestPureMuCovers is the law the ledger rests on: a Gaussian with that μ is at least as telling at every trade-off as randomised
// response, the most telling ε-private mechanism, and with less μ it is not.
func TestPureMuCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		epsilon := rapid.Float64Range(MinEpsilon, 10).Draw(t, "epsilon")
		mu, err := Mu(epsilon, 0)
		if err != nil {
			t.Fatal(err)
		}
		// In the dual: for every ε' the Gaussian's δ is at least the response's.
		other := epsilon * rapid.Float64Range(0, 1).Draw(t, "part")
		response := -math.Expm1(other-epsilon) / (1 + math.Exp(-epsilon))
		if d := delta(other, mu); d < response*(1-1e-12)-1e-15 {
			t.Fatalf("at ε' = %g the Gaussian's δ is %g, below %g", other, d, response)
		}
		if d := delta(0, mu*0.999); d >= math.Tanh(epsilon/2) {
			t.Fatalf("a smaller μ would do: δ(0) = %g", d)
		}
	})
}

// TestComposePureReference compares with the theorem's sums in 60 digits, solved by bisection (mpmath).
func TestComposePureReference(t *testing.T) {
	for _, c := range []struct {
		epsilon float64
		n       int
		delta   float64
		want    float64
	}{
		{0.1, 52, 1e-6, 3.2412742740599407},
		{0.5, 52, 1e-6, 20.893795382197898},
		{1, 52, 1e-6, 49.152979329363329},
		{1, 1, 1e-6, 0.99999863211962328},
		{2, 1, 1e-2, 1.9885817058550587},
		{0.25, 365, 1e-6, 32.857898909030938},
		{1, 4, 1e-9, 3.9999999964990066},
		{0.01, 365, 1e-6, 0.79011273828588947},
		{3, 52, 1e-6, 155.99998748974714},
		{0.001, 2000, 1e-12, 0.28227017749738439},
		{0.001, 10, 1e-2, 0},
		{1, 52, 0, 52},
		{1, 0, 1e-6, 0},
	} {
		got, err := ComposePure(c.epsilon, c.n, c.delta)
		if err != nil {
			t.Fatal(err)
		}
		if !(got >= c.want && got <= c.want*(1+1e-9)) {
			t.Errorf("%d releases at ε = %g compose to %.17g at δ = %g, want %.17g or just above", c.n, c.epsilon, got, c.delta, c.want)
		}
	}
}

// TestComposePureLaws: optimal composition is never above adding up nor above the Gaussian bound, and grows with n.
func TestComposePureLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		epsilon, n := rapid.Float64Range(MinEpsilon, 3).Draw(t, "epsilon"), rapid.IntRange(1, 366).Draw(t, "n")
		target := math.Pow(10, rapid.Float64Range(-12, -2).Draw(t, "log delta"))
		got, err := ComposePure(epsilon, n, target)
		if err != nil {
			t.Fatal(err)
		}
		if got > float64(n)*epsilon {
			t.Fatalf("ε = %g is above the sum", got)
		}
		mu, err := Mu(epsilon, 0)
		if err != nil {
			t.Fatal(err)
		}
		if mu *= math.Sqrt(float64(n)); mu <= MaxMu {
			bound, err := Epsilon(target, mu)
			if err != nil {
				t.Fatal(err)
			}
			if got > bound*(1+1e-8)+1e-12 {
				t.Fatalf("ε = %g is above the Gaussian bound %g", got, bound)
			}
		}
		if more, err := ComposePure(epsilon, n+1, target); err != nil || more < got*(1-1e-9) {
			t.Fatalf("one release more composes to %g, less than %g (%v)", more, got, err)
		}
	})
}

func TestComposePureLargest(t *testing.T) {
	for _, epsilon := range []float64{MinEpsilon, 1, MaxEpsilon} {
		got, err := ComposePure(epsilon, MaxCompositions, MinDelta)
		if err != nil || !(got > 0 && got <= epsilon*MaxCompositions) {
			t.Errorf("ε = %g: got %g, %v", epsilon, got, err)
		}
	}
}

func TestComposePureRefuses(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		epsilon float64
		n       int
		delta   float64
	}{
		{0, 1, 1e-6}, {-1, 1, 1e-6}, {nan, 1, 1e-6}, {inf, 1, 1e-6}, {51, 1, 1e-6},
		{1, -1, 1e-6}, {1, MaxCompositions + 1, 1e-6}, {1, math.MaxInt, 1e-6},
		{1, 1, -1e-6}, {1, 1, nan}, {1, 1, inf}, {1, 1, 1e-13}, {1, 1, 0.5},
	} {
		if got, err := ComposePure(c.epsilon, c.n, c.delta); err == nil {
			t.Errorf("%+v: got %g, want an error", c, got)
		}
	}
}
