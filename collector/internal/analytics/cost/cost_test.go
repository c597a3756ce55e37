package cost

import (
	"math"
	"strings"
	"testing"

	"rawstone/pkg/dp"
)

// TestYear pins the design's figure: 52 weeks at ε = 1, δ = 1e-6 are ε = 9.1 at a total δ of 1e-6.
func TestYear(t *testing.T) {
	g, err := dp.NewGaussian(dp.Params{Epsilon: 1, Delta: 1e-6, Clip: 2600, Coordinates: []dp.Coordinate{{Max: 2600, Scale: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Of(g, 52)
	if err != nil || math.Round(p.YearEpsilon*10) != 91 {
		t.Errorf("a year is ε = %g, want 9.1 (%v)", p.YearEpsilon, err)
	}
	p.YearEpsilon = 0
	if want := (Privacy{Epsilon: 1, Delta: 1e-6, YearDelta: 1e-6, Dispatches: 52}); p != want {
		t.Errorf("%+v, want %+v", p, want)
	}
	if _, err := Of(g, 0); err == nil || !strings.Contains(err.Error(), "allows no dispatches") {
		t.Errorf("no dispatches: %v", err)
	}
}

// TestPureYear: of a pure mechanism the smaller of two bounds that both hold.
func TestPureYear(t *testing.T) {
	for _, c := range []struct {
		epsilon    float64
		dispatches int
	}{{0.1, 52}, {0.5, 52}, {2, 52}, {1, 1}, {0.25, 365}} {
		m, err := dp.NewCategorical(dp.RandomizedResponse, 10, c.epsilon)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Of(m, c.dispatches)
		if err != nil {
			t.Fatal(err)
		}
		pure, err := dp.ComposePure(c.epsilon, c.dispatches, 1e-6)
		if err != nil {
			t.Fatal(err)
		}
		mus := make([]float64, c.dispatches)
		for i := range mus {
			mus[i] = m.Mu()
		}
		gaussian, err := dp.Epsilon(1e-6, dp.Compose(mus...))
		if err != nil {
			t.Fatal(err)
		}
		if p.Delta != 0 || p.YearDelta != 1e-6 || p.YearEpsilon != min(pure, gaussian) || p.YearEpsilon > c.epsilon*float64(c.dispatches) {
			t.Errorf("%+v of %d at %g: pure %g, Gaussian %g", p, c.dispatches, c.epsilon, pure, gaussian)
		}
	}
}
