package adjust

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestNonNegativeKnown(t *testing.T) {
	near := cmpopts.EquateApprox(0, 1e-12)
	for _, c := range []struct {
		v     []float64
		total float64
		want  []float64
	}{
		{[]float64{3, 1, -1}, 3, []float64{2.5, 0.5, 0}}, // 3 and 1 give up half each
		{[]float64{3, 1, -4}, 0, []float64{0, 0, 0}},
		{[]float64{-1, -2}, 3, []float64{2, 1}},
		{[]float64{1, 2}, 3, []float64{1, 2}},
		{[]float64{10, 0}, 1, []float64{1, 0}},
		{[]float64{1, 2}, math.NaN(), []float64{0, 0}},
		{nil, 1, []float64{}},
	} {
		if d := cmp.Diff(c.want, NonNegative(c.v, c.total), near); d != "" {
			t.Errorf("%v to %g: %s", c.v, c.total, d)
		}
	}
}

// TestNonNegativeIsNearest compares with other vectors that obey the same: none lies nearer.
func TestNonNegativeIsNearest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SliceOfN(rapid.Float64Range(-1000, 1000), 1, 24).Draw(t, "v")
		total := rapid.Float64Range(0.01, 5000).Draw(t, "total")
		got := NonNegative(v, total)
		if s := Total(got); math.Abs(s-total) > 1e-6 {
			t.Fatalf("they add up to %g, want %g", s, total)
		}
		distance := func(x []float64) (d float64) {
			for i := range x {
				d += (x[i] - v[i]) * (x[i] - v[i])
			}
			return d
		}
		at := distance(got)
		for i, x := range got {
			if x < 0 {
				t.Fatalf("value %d is %g", i, x)
			}
		}
		// Some of one value given to another.
		from, to := rapid.IntRange(0, len(v)-1).Draw(t, "from"), rapid.IntRange(0, len(v)-1).Draw(t, "to")
		step := rapid.Float64Range(0, 1).Draw(t, "step") * got[from]
		got[from] -= step
		got[to] += step
		if d := distance(got); d < at-1e-6*(1+at) {
			t.Fatalf("distance %g, and %g with %g moved", at, d, step)
		}
	})
}

func TestCommon(t *testing.T) {
	if got := Common(10, 1, 20, 1); got != 15 {
		t.Errorf("%g", got)
	}
	if got := Common(10, 1, 20, 3); got != 12.5 {
		t.Errorf("the surer one counts more: %g", got)
	}
}
