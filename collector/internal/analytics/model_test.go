package analytics

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/analytics/adjust"
	"rawstone/collector/internal/analytics/figure"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// TestModels: a model's estimate rests on its own reports, and the fleet's on all.
func TestModels(t *testing.T) {
	s := &shelf{}
	for i := range 6000 {
		r := stored{today - 1, wire.AllFamilies, flat(60), "A"}
		if i >= 2000 {
			r.model, r.vector = "B", flat(120)
		}
		s.reports = append(s.reports, r)
	}
	e := estimator(t, config(s, usage(1)))
	for model, want := range map[string]struct {
		n    uint64
		mean float64
	}{"": {6000, 100}, "A": {2000, 60}, "B": {4000, 120}} {
		if err := e.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		f := ask(t, e, Query{Window: Ending(today-1, Week), Model: model})[0].Families[0]
		if b := f.Bins[3]; f.N != want.n || b.Mean.Mean != want.mean || b.Sum.Mean != want.mean*float64(want.n) || math.Abs(b.Share.Mean-1.0/24) > 1e-12 {
			t.Errorf("model %q: n %d, %+v", model, f.N, b)
		}
	}
	if n := ask(t, e, Query{Window: Ending(today-1, Week), Model: "C"})[0].Families[0]; n.N != 0 || n.Bins[0].Mean.Suppressed != dp.FewReports {
		t.Errorf("a model without reports: %+v", n)
	}
}

// TestSubtractionGivesNothing: where a model would be left over by subtraction, another is hidden with it.
func TestSubtractionGivesNothing(t *testing.T) {
	s := &shelf{}
	for model, n := range map[string]int{"A": 5000, "B": 1500, "": 499, "C": 500} { // the unknown and C may be told from each other by none
		for range n {
			s.reports = append(s.reports, stored{today - 1, wire.AllFamilies, flat(60), model})
		}
	}
	e := estimator(t, config(s, usage(1)))
	if err := e.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]dp.Suppression{"": "", "A": "", "B": FewOthers, "C": dp.FewReports} {
		for _, f := range ask(t, e, Query{Window: Ending(today-1, Week), Model: model, Adjusted: true})[0].Families {
			for j, b := range f.Bins {
				for _, v := range []Value{b.Mean, b.Share, b.Sum} {
					if v.Suppressed != want || want != "" && (v.Mean != 0 || v.Low != 0 || v.High != 0 || v.StdErr != 0) {
						t.Errorf("model %q: %+v, want %q", model, v, want)
					}
				}
				if f.Adjusted[j].Given != (want == "") || want != "" && f.Adjusted[j].Value != 0 {
					t.Errorf("model %q: adjusted %+v", model, f.Adjusted[j])
				}
			}
		}
	}
}

// TestChartersApart: reports under an older charter are estimated by its own noise, and beside the others.
func TestChartersApart(t *testing.T) {
	now, then := &shelf{}, &shelf{}
	for range 1500 {
		now.reports = append(now.reports, stored{today - 1, wire.AllFamilies, flat(60), "A"})
		then.reports = append(then.reports, stored{today - 20, wire.AllFamilies, flat(90), "B"})
	}
	old := wire.Hash{2}
	u := usage(0.5)
	u.Scale = []uint16{3, 1, 30, 1, 1}
	cfg := config(nil, usage(1))
	cfg.Source = shelves{charter: now, old: then}
	cfg.Charters = append(cfg.Charters, Charter{ID: old, Usage: u})
	cfg.Dir = t.TempDir()
	for range 2 { // the second time from the files
		e := estimator(t, cfg)
		if err := e.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		all := ask(t, e, Query{Window: Ending(today-1, FourWeeks)})
		if len(all) != 2 || !all[0].InForce || all[1].InForce || all[1].Charter.ID != old || all[0].Privacy.Epsilon != 1 || all[1].Privacy.Epsilon != 0.5 {
			t.Fatalf("%+v", all)
		}
		if a, b := all[0].Families[0].Bins[0].Mean.Mean, all[1].Families[0].Bins[0].Mean.Mean; a != 60 || b != 30 {
			t.Errorf("means %g and %g, want 60 and 30", a, b)
		}
		if week := ask(t, e, Query{Window: Ending(today-1, Week)}); len(week) != 1 {
			t.Errorf("%d charters in a week in which one has reports", len(week))
		}
		if d := cmp.Diff([]string{"A", "B"}, e.Models()); d != "" {
			t.Error(d)
		}
		if err := e.Save(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPerVehicle counts the reports of a vehicle in a window, as its agent has them: at 53 a year, which configs/charter.yaml has, one a week.
func TestPerVehicle(t *testing.T) {
	for _, c := range []struct {
		yearly       uint16
		length, days int
		want         float64
	}{
		{53, 7, 7, 1}, {53, 28, 28, 4}, {53, 28, 2, 2}, {53, 8, 8, 2}, {52, 7, 7, 1}, {52, 8, 8, 1}, {52, 28, 28, 4}, {52, 9, 9, 2},
		{365, 7, 7, 7}, {366, 28, 28, 28}, {12, 28, 28, 1}, {1, 7, 0, 1},
	} {
		b := &book{charter: Charter{Usage: terms.Usage{YearlyDispatches: c.yearly}}}
		if got := b.perVehicle(Ending(today, uint32(c.length)), c.days); got != c.want {
			t.Errorf("%d a year in %d days, %d with reports: %g, want %g", c.yearly, c.length, c.days, got, c.want)
		}
	}
	if w := Ending(3, FourWeeks); w != (Window{From: 0, To: 3}) {
		t.Errorf("at the beginning of time: %+v", w)
	}
}

// TestRepeatedReportsWidenIntervals: in four weeks, what differs between vehicles counts four times, and the noise once.
func TestRepeatedReportsWidenIntervals(t *testing.T) {
	s := &shelf{}
	for i := range 2000 {
		s.reports = append(s.reports, stored{today - 1 - 7*uint32(i%4), wire.AllFamilies, flat(5000 + 10_000*int64(i/4%2)), ""})
	}
	u := usage(10)
	e := estimator(t, config(s, u))
	if err := e.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := ask(t, e, Query{Window: Ending(today-1, FourWeeks)})[0]
	b := r.Families[0].Bins[0].Mean
	variance := 25e6 * 2000 / 1999
	want := math.Sqrt((variance + 3*(variance-b.NoiseVariance)) / 2000)
	if r.PerVehicle != 4 || b.Mean != 10_000 || b.NoiseVariance > variance/2 || math.Abs(b.StdErr/want-1) > 1e-9 {
		t.Errorf("%g a vehicle, %+v, want a standard error of %g", r.PerVehicle, b, want)
	}
}

// TestAdjusted: hours and speed agree where the same reports tell both, nothing is negative, and the estimates stand unchanged beside.
func TestAdjusted(t *testing.T) {
	vector := func() []int64 {
		v := flat(0)
		copy(v, []int64{600, 400, -40}) // hours
		copy(v[24:], []int64{500, 700, -10})
		return v
	}
	for name, apart := range map[string]bool{"together": false, "apart": true} {
		s := &shelf{}
		for i := range 4000 {
			r := stored{today - 1, wire.FamilyHours | wire.FamilySpeed, vector(), ""}
			if apart && i == 0 {
				r.families = wire.FamilyHours
			}
			s.reports = append(s.reports, r)
		}
		e := estimator(t, config(s, usage(1)))
		if err := e.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		q := Query{Window: Ending(today-1, Week)}
		plain := ask(t, e, q)[0].Families
		q.Adjusted = true
		f := ask(t, e, q)[0].Families
		// 960 by 24 bins of hours and 1,190 by 10 of speed: the second is the surer.
		totals := []float64{(960*10 + 1190*24) / 34.0, (960*10 + 1190*24) / 34.0}
		if apart {
			totals = []float64{960, 1190}
		}
		for i, total := range totals {
			raw := make([]float64, f[i].Len)
			for j := range raw {
				raw[j] = float64(vector()[f[i].Offset+j])
			}
			for j, want := range adjust.NonNegative(raw, total) {
				a := f[i].Adjusted[j]
				if given := f[i].Bins[j].Mean.Suppressed == ""; a.Given != given || given && math.Abs(a.Value-want) > 1e-9 || !given && a.Value != 0 || given != (j < 2) {
					t.Errorf("%s: %s %d: %+v, want %g", name, f[i].Name, j, a, want)
				}
			}
		}
		for i := range f {
			f[i].Adjusted = nil
		}
		if d := cmp.Diff(plain, f); d != "" {
			t.Errorf("%s: the estimates changed: %s", name, d)
		}
	}
}

// TestUnknownModelIsRest: vehicles of unknown model are never shown apart, so that small models hide among them.
func TestUnknownModelIsRest(t *testing.T) {
	got := shown(map[string][]uint64{"A": {5000}, "B": {1200}, "": {1500}, "C": {500}}, 0)
	if d := cmp.Diff(map[string]bool{"A": true, "B": true}, got); d != "" {
		t.Error(d)
	}
}

// TestNumbersOfReportsAreNotTold: neither the number of a small or hidden group nor, of others, one that differs by a vehicle, and nothing
// from which it could be computed.
func TestNumbersOfReportsAreNotTold(t *testing.T) {
	s := &shelf{}
	for model, n := range map[string]int{"A": 5003, "B": 1549, "C": 1} {
		for i := range n {
			r := stored{today - 1 - uint32(i%2), wire.AllFamilies &^ wire.FamilyCharge, flat(61), model}
			if i == 0 {
				r.families &^= wire.FamilySpeed
			}
			s.reports = append(s.reports, r)
		}
	}
	s.reports = append(s.reports, stored{today - 1, wire.FamilyCharge, flat(61), "C"})
	old := wire.Hash{2}
	cfg := config(nil, usage(1))
	cfg.Source = shelves{charter: s, old: {reports: []stored{{today - 1, wire.AllFamilies, flat(60), "C"}}}}
	cfg.Charters = append(cfg.Charters, Charter{ID: old, Usage: usage(1)})
	e := estimator(t, cfg)
	if err := e.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"A", "B"}, e.Models()); d != "" {
		t.Error(d)
	}
	const few, hidden = "fewer than 1,000 reports", "fewer than 1,000 reports beside it"
	for model, want := range map[string]struct {
		n                    uint64
		hours, speed, charge string
		per                  float64
	}{"": {6600, "", "", few, 1}, "A": {5000, "", "", few, 1}, "B": {1500, hidden, "", few, 1}, "C": {0, few, few, few, 0}, "D": {0, few, few, few, 0}} {
		u := Query{Window: Ending(today-1, Week), Model: model, Adjusted: true}
		all, err := e.Estimate(u)
		if err != nil || len(all) != 1 || all[0].PerVehicle != want.per {
			t.Fatalf("model %q: %+v, %v", model, all, err)
		}
		for _, f := range all[0].Families {
			n, fewer := want.n, map[wire.Family]string{wire.FamilySpeed: want.speed, wire.FamilyCharge: want.charge}
			fewer[wire.FamilyHours], fewer[wire.FamilyTrips], fewer[wire.FamilyFeature] = want.hours, want.hours, want.hours
			if fewer[f.Family] != "" {
				n = 0
			}
			if f.N != n || f.Fewer != fewer[f.Family] {
				t.Errorf("model %q, %s: %d, %q", model, f.Name, f.N, f.Fewer)
			}
			for j, b := range f.Bins {
				for _, v := range []Value{b.Mean, b.Share, b.Sum} {
					if v.N != n || v.Variance != 0 || v.NoiseVariance != 0 || v.Low != figure.Rounded(v.Low) || v.StdErr != figure.Rounded(v.StdErr) || v.Bias != figure.Rounded(v.Bias) {
						t.Errorf("model %q, %s: %+v", model, f.Name, v)
					}
				}
				if math.Abs(b.Sum.Mean-b.Mean.Mean*float64(n)) > 0.001*b.Sum.Mean || f.Adjusted[j].Value != figure.Rounded(f.Adjusted[j].Value) {
					t.Errorf("model %q, %s: %+v, %+v", model, f.Name, b, f.Adjusted[j])
				}
			}
		}
	}
}
