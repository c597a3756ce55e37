package dp

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestYearComposes pins the design's figure: a week at ε = 1, δ = 1e-6 makes a year of 52 at ε = 9.1 and a total δ of 1e-6.
func TestYearComposes(t *testing.T) {
	week, err := Mu(1, 1e-6)
	if err != nil {
		t.Fatal(err)
	}
	weeks := make([]float64, 52)
	for i := range weeks {
		weeks[i] = week
	}
	year, err := Epsilon(1e-6, Compose(weeks...))
	if err != nil {
		t.Fatal(err)
	}
	if got := math.Round(year*10) / 10; got != 9.1 {
		t.Errorf("52 weeks compose to ε = %.3f, want 9.1", year)
	}
}

// TestDeltaReference compares with values computed in 80-digit arithmetic from the formula (mpmath, ncdf).
func TestDeltaReference(t *testing.T) {
	for _, c := range []struct{ epsilon, mu, want float64 }{
		{0, 1, 0.3829249225480262},
		{1, 0.2368, 1.008346440295008e-6},
		{1, 0.5, 0.006829594983114575},
		{0.001, 0.0005, 4.247474410460915e-6},
		{9.1, 1.7, 8.695696738475006e-7},
		{50, 6, 2.495344656625338e-8},
		{100, 5, 1.584780232668627e-69},
		{800, 30, 6.774581869721801e-32}, // e^800 is beyond float64
		{300, 20, 2.272774882319489e-7},
		{20, 1.5, 1.374373153181785e-37},
		{450, 15, 8.285596366187653e-113},
	} {
		got, err := Delta(c.epsilon, c.mu)
		if err != nil {
			t.Fatal(err)
		}
		if !(math.Abs(got/c.want-1) < 1e-9) {
			t.Errorf("δ(ε=%g, μ=%g) = %.15g, want %.15g", c.epsilon, c.mu, got, c.want)
		}
	}
}

func TestAccountingInverts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		epsilon := rapid.Float64Range(MinEpsilon, MaxEpsilon).Draw(t, "epsilon")
		target := math.Pow(10, rapid.Float64Range(-12, -2).Draw(t, "log delta"))
		mu, err := Mu(epsilon, target)
		if err != nil {
			t.Fatal(err)
		}
		if d := delta(epsilon, mu); math.Abs(d/target-1) > 1e-6 {
			t.Fatalf("δ(ε, μ(ε, δ)) = %g, want %g", d, target)
		}
		back, err := Epsilon(target, mu)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(back-epsilon) > 1e-6*(1+epsilon) {
			t.Fatalf("ε(δ, μ(ε, δ)) = %g, want %g", back, epsilon)
		}
		more, err := Epsilon(target, min(mu*1.01, MaxMu))
		if err != nil || more < back {
			t.Fatalf("a larger μ has ε %g, smaller than %g (%v)", more, back, err)
		}
	})
}

func TestComposeAddsSquares(t *testing.T) {
	if got := Compose(3, 4, 12); got != 13 {
		t.Errorf("μ of 3, 4 and 12 is %g, want 13", got)
	}
	if got := Compose(); got != 0 {
		t.Errorf("μ of nothing is %g", got)
	}
}

// TestEpsilonZero: where the δ granted exceeds what μ needs at ε = 0, nothing is left for ε.
func TestEpsilonZero(t *testing.T) {
	if got, err := Epsilon(1e-2, 1e-3); err != nil || got != 0 {
		t.Errorf("ε = %g, %v, want 0", got, err)
	}
}

func TestAccountingRefuses(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for name, call := range map[string]func() (float64, error){
		"Delta: negative epsilon":  func() (float64, error) { return Delta(-1, 1) },
		"Delta: NaN epsilon":       func() (float64, error) { return Delta(nan, 1) },
		"Delta: infinite epsilon":  func() (float64, error) { return Delta(inf, 1) },
		"Delta: zero mu":           func() (float64, error) { return Delta(1, 0) },
		"Delta: NaN mu":            func() (float64, error) { return Delta(1, nan) },
		"Delta: huge mu":           func() (float64, error) { return Delta(1, MaxMu+1) },
		"Epsilon: zero delta":      func() (float64, error) { return Epsilon(0, 1) },
		"Epsilon: NaN delta":       func() (float64, error) { return Epsilon(nan, 1) },
		"Epsilon: delta above 1 %": func() (float64, error) { return Epsilon(0.5, 1) },
		"Epsilon: negative mu":     func() (float64, error) { return Epsilon(1e-6, -1) },
		"Epsilon: infinite mu":     func() (float64, error) { return Epsilon(1e-6, inf) },
		"Mu: zero epsilon":         func() (float64, error) { return Mu(0, 1e-6) },
		"Mu: NaN epsilon":          func() (float64, error) { return Mu(nan, 1e-6) },
		"Mu: tiny delta":           func() (float64, error) { return Mu(1, 1e-13) },
		"Mu: negative delta":       func() (float64, error) { return Mu(1, -1e-6) },
		"Mu: NaN delta":            func() (float64, error) { return Mu(1, nan) },
		"Mu: pure, zero epsilon":   func() (float64, error) { return Mu(0, 0) },
		"Mu: pure, huge epsilon":   func() (float64, error) { return Mu(51, 0) },
		"Mu: pure, NaN epsilon":    func() (float64, error) { return Mu(nan, 0) },
	} {
		if got, err := call(); err == nil {
			t.Errorf("%s: got %g, want an error", name, got)
		}
	}
}
