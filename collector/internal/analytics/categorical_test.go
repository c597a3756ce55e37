package analytics

import (
	"math"
	"slices"
	"testing"

	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func categorical(m terms.Mechanism) terms.Usage {
	return terms.Usage{
		Families: wire.FamilyTrips, EpsilonMicro: 2_000_000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 52, Mechanism: m,
	}
}

// TestCategorical sends known answers through the real mechanisms: shares come back, nothing else is told, and the year is composed as the
// better of two bounds says.
func TestCategorical(t *testing.T) {
	for mechanism, scheme := range map[terms.Mechanism]dp.Scheme{terms.SubsetSelection: dp.SubsetSelection, terms.RandomizedResponse: dp.RandomizedResponse} {
		c, err := dp.NewCategorical(scheme, 10, 2)
		if err != nil {
			t.Fatal(err)
		}
		s := &shelf{}
		const n = 20_000
		for i := range n {
			x := make([]int64, 10)
			if i%4 != 0 { // a quarter is idle, half in bin 2, a quarter in bin 7
				x[2+5*(i%4/3)] = 3
			}
			y, err := c.Release(x)
			if err != nil {
				t.Fatal(err)
			}
			v := make([]int64, wire.VectorLen)
			copy(v, y)
			s.reports = append(s.reports, stored{today - 1, wire.FamilyTrips, v, ""})
		}
		bad := func(families wire.Family, change func([]int64)) {
			v := slices.Clone(s.reports[0].vector)
			change(v)
			s.reports = append(s.reports, stored{today - 1, families, v, ""})
		}
		bad(wire.FamilyTrips, func(v []int64) { v[63] = 1 })
		bad(wire.FamilyTrips, func(v []int64) { v[0] = 2 })
		bad(wire.FamilyTrips, func(v []int64) { clear(v) })
		bad(wire.FamilyTrips, func(v []int64) { v[0] = -1 })
		bad(wire.FamilyHours, func([]int64) {})
		e := estimator(t, config(s, categorical(mechanism)))
		if err := e.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		r := ask(t, e, Query{Window: Ending(today-1, Week), Adjusted: true})[0]
		if !r.Categorical || len(r.Families) != 1 || len(r.Families[0].Bins) != 11 || r.Families[0].N != n || r.Clipped != 0 {
			t.Fatalf("%+v", r)
		}
		for _, b := range ask(t, e, Query{Window: Window{From: 0, To: 5}})[0].Families[0].Bins {
			if b.Mean != (Value{}) || b.Sum != (Value{}) || b.Share.Suppressed != dp.FewReports {
				t.Errorf("a window without reports: %+v", b)
			}
		}
		total := 0.0
		for j, b := range r.Families[0].Bins {
			want := map[int]float64{2: 0.5, 7: 0.25, 10: 0.25}[j]
			if b.Mean != (Value{}) || b.Sum != (Value{}) || b.Share.Bias != 0 {
				t.Errorf("bin %d: %+v", j, b)
			}
			if want == 0 {
				// By chance an empty bin may look like a little.
				if b.Share.Suppressed == "" && b.Share.Mean > 6*b.Share.StdErr || r.Families[0].Adjusted[j].Given != (b.Share.Suppressed == "") {
					t.Errorf("bin %d: %+v, %+v", j, b.Share, r.Families[0].Adjusted[j])
				}
				continue
			}
			if math.Abs(b.Share.Mean-want) > 6*b.Share.StdErr || b.Share.StdErr > 0.03 || !r.Families[0].Adjusted[j].Given {
				t.Errorf("bin %d: %+v, want %g", j, b.Share, want)
			}
			total += r.Families[0].Adjusted[j].Value
		}
		if total > 1+1e-9 || total < 0.9 {
			t.Errorf("adjusted shares add up to %g", total)
		}
		p := r.Privacy
		pure, err := dp.ComposePure(2, 52, 1e-6)
		if err != nil {
			t.Fatal(err)
		}
		if p.Epsilon != 2 || p.Delta != 0 || p.YearDelta != 1e-6 || p.YearEpsilon > pure || p.YearEpsilon < 10 {
			t.Errorf("%+v", p)
		}
	}
}
