package analytics

import (
	"fmt"
	"maps"
	"slices"

	"rawstone/collector/internal/analytics/adjust"
	"rawstone/collector/internal/analytics/cohort"
	"rawstone/collector/internal/analytics/figure"
	"rawstone/collector/internal/analytics/tally"
	"rawstone/pkg/dp"
	"rawstone/pkg/wire"
)

// What estimates are made of: package figure's.
type (
	Window   = figure.Window
	Query    = figure.Query
	Value    = figure.Value
	Bin      = figure.Bin
	Adjusted = figure.Adjusted
	Family   = figure.Family
	Result   = figure.Result
)

// FewOthers is figure.FewOthers.
const FewOthers = figure.FewOthers

// Lengths of windows in program days.
const (
	Week      = 7
	FourWeeks = 28
)

// Ending returns the window of so many program days, at least 1, that ends with last; shorter at the beginning of time.
func Ending(last, days uint32) Window { return Window{From: last - min(last, days-1), To: last} }

// Estimate returns what may be told of what has been read of the window, charter by charter, the one in force first and of others those of
// which the fleet has at least dp.MinReports of a family in it. A window without reports gives suppressed estimates, a reversed one an error.
func (e *Estimator) Estimate(q Query) ([]Result, error) {
	out, err := e.exact(q)
	for i := range out {
		out[i].Tell()
	}
	return out, err
}

// exact is Estimate with numbers that nobody is told.
func (e *Estimator) exact(q Query) ([]Result, error) {
	if q.Window.From > q.Window.To {
		return nil, fmt.Errorf("cannot estimate: the window begins on day %d after its end on day %d", q.Window.From, q.Window.To)
	}
	var out []Result
	for i, b := range e.books {
		r, any, err := b.estimate(q)
		if err != nil {
			return nil, fmt.Errorf("cannot estimate: %w", err)
		}
		if r.InForce = i == 0; r.InForce || any {
			out = append(out, r)
		}
	}
	return out, nil
}

// Models returns the models of which there are at least dp.MinReports of a family under one charter, in the order of their names.
func (e *Estimator) Models() []string {
	all := make(map[string]bool)
	for _, b := range e.books {
		b.mu.RLock()
		for m, n := range b.tally.Count(0, ^uint32(0)).Models {
			all[m] = all[m] || m != "" && m != tally.Other && slices.Max(n) >= dp.MinReports
		}
		b.mu.RUnlock()
	}
	maps.DeleteFunc(all, func(_ string, named bool) bool { return !named })
	return slices.Sorted(maps.Keys(all))
}

// estimate reports also whether the fleet's reports in the window are enough to tell that there are any.
func (b *book) estimate(q Query) (Result, bool, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	counts := b.tally.Count(q.Window.From, q.Window.To)
	var models map[string]bool
	if q.Model != "" {
		models = map[string]bool{q.Model: true}
	}
	pooled, err := b.tally.Pool(q.Window.From, q.Window.To, models)
	if err != nil {
		return Result{}, false, err
	}
	r := Result{
		Charter: b.charter, Query: q, Privacy: b.privacy, Categorical: b.answers != nil, Clipped: b.clipping.Clipped,
		PerVehicle: b.perVehicle(q.Window, counts.Days),
	}
	for i, l := range b.layouts {
		f := Family{Layout: l, N: pooled.N(i)}
		hidden := q.Model != "" && f.N >= dp.MinReports && !shown(counts.Models, i)[q.Model]
		for j := range b.parts[i].To - b.parts[i].From {
			bin, err := b.bin(pooled.Moments[i], l, j, r.PerVehicle)
			if err != nil {
				return Result{}, false, err
			}
			if hidden {
				bin = without(dp.Estimate{N: f.N, Suppressed: FewOthers})
			}
			if r.Categorical {
				bin.Mean, bin.Sum = Value{}, Value{}
			}
			f.Bins = append(f.Bins, bin)
		}
		r.Families = append(r.Families, f)
	}
	if q.Adjusted {
		if err := b.adjust(r.Families, pooled); err != nil {
			return Result{}, false, err
		}
	}
	return r, enough(counts.Models, len(b.parts)), nil
}

// perVehicle returns how many reports a vehicle has in a window, of which some days have any, at the shortest cadence that the charter leaves:
// cars round the days between two dispatches up, and so does this. It is no bound: a driver who changes the cadence has dispatches of the old and the
// new one, which may lie a day apart, and a car that was tampered with may have any days of the year, as many as the charter's yearly number, which intake
// enforces. The intervals are too narrow by what such cars are of the fleet; what one of them can change of an estimate is bounded by that number.
func (b *book) perVehicle(w Window, days int) float64 {
	yearly := max(uint64(b.charter.Usage.YearlyDispatches), 1)
	apart := (365 + yearly - 1) / yearly
	length := uint64(w.To-w.From) + 1
	return float64(max(1, min((length+apart-1)/apart, uint64(days))))
}

// enough says whether all models together have at least dp.MinReports of a part.
func enough(models map[string][]uint64, parts int) bool {
	for i := range parts {
		n := uint64(0)
		for _, of := range models {
			n += of[i]
		}
		if n >= dp.MinReports {
			return true
		}
	}
	return false
}

// shown returns the models of part i whose estimates are shown beside the fleet's.
func shown(models map[string][]uint64, i int) map[string]bool {
	sizes, rest := make(map[string]uint64), uint64(0)
	for model, n := range models {
		if model == "" || model == tally.Other {
			rest += n[i]
		} else {
			sizes[model] = n[i]
		}
	}
	return cohort.Shown(sizes, rest, dp.MinReports)
}

// without is a bin of which nothing is shown.
func without(e dp.Estimate) Bin {
	return Bin{Mean: Value{Estimate: e}, Sum: Value{Estimate: e}, Share: Value{Estimate: e}}
}

// bin estimates value j of a family from its moments, nil for none.
func (b *book) bin(m *dp.Moments, l wire.Layout, j int, per float64) (Bin, error) {
	if m == nil {
		return without(dp.Estimate{Suppressed: dp.FewReports}), nil
	}
	if b.answers != nil {
		count, err := m.Total(j)
		if err != nil {
			return Bin{}, err
		}
		share, err := b.answers.ClusteredShare(uint64(count), m.N(), per)
		return Bin{Share: Value{Estimate: share}}, err
	}
	k := l.Offset + j
	sigma, scale := b.noise.Sigma(), b.noise.Scale(k)
	mean, err := m.Clustered(j, sigma, scale, per)
	if err != nil {
		return Bin{}, err
	}
	sum, err := m.Sum(j, sigma, scale, per)
	if err != nil {
		return Bin{}, err
	}
	share, err := m.ClusteredShare(j, sigma, scale, per)
	if err != nil {
		return Bin{}, err
	}
	bias := b.clipping.Bias[k]
	return Bin{Mean: Value{Estimate: mean, Bias: bias}, Sum: Value{Estimate: sum, Bias: bias * float64(m.N())}, Share: Value{Estimate: share, Bias: b.shareBias(l, k)}}, nil
}

// shareBias returns what clipping changes coordinate k's part of its family by on the simulated population.
func (b *book) shareBias(l wire.Layout, k int) float64 {
	c := b.clipping
	before, after := adjust.Total(c.Mean[l.Offset:l.Offset+l.Len]), adjust.Total(c.Bias[l.Offset:l.Offset+l.Len])
	if after += before; before <= 0 || after <= 0 {
		return 0
	}
	return (c.Mean[k]+c.Bias[k])/after - c.Mean[k]/before
}

// adjust fills the families' adjusted values.
func (b *book) adjust(families []Family, pooled *tally.Cell) error {
	raw := make([][]float64, len(families))
	totals := make([]float64, len(families))
	hours, speed := -1, -1
	for i, f := range families {
		raw[i] = make([]float64, len(f.Bins))
		if f.N == 0 {
			continue
		}
		for j := range f.Bins {
			sum, err := pooled.Moments[i].Total(j)
			if err != nil {
				return err
			}
			if raw[i][j] = sum / float64(f.N); b.answers != nil {
				raw[i][j] = (raw[i][j] - b.answers.Other()) / (b.answers.Keep() - b.answers.Other())
			} else {
				raw[i][j] /= float64(b.noise.Scale(f.Offset + j))
			}
		}
		if totals[i] = adjust.Total(raw[i]); b.answers != nil {
			totals[i] = 1
		}
		switch f.Family {
		case wire.FamilyHours:
			hours = i
		case wire.FamilySpeed:
			speed = i
		}
	}
	// Only what the same reports say must agree.
	if b.noise != nil && hours >= 0 && speed >= 0 && pooled.Both == families[hours].N && pooled.Both == families[speed].N {
		h, s := families[hours], families[speed]
		unitH, unitS := float64(b.noise.Scale(h.Offset)), float64(b.noise.Scale(s.Offset))
		totals[hours] = adjust.Common(totals[hours], float64(h.Len)/(unitH*unitH), totals[speed], float64(s.Len)/(unitS*unitS))
		totals[speed] = totals[hours]
	}
	for i := range families {
		f := &families[i]
		f.Adjusted = make([]Adjusted, len(f.Bins))
		for j, v := range adjust.NonNegative(raw[i], totals[i]) {
			published := f.Bins[j].Mean.Estimate
			if b.answers != nil {
				published = f.Bins[j].Share.Estimate
			}
			if published.Suppressed == "" {
				f.Adjusted[j] = Adjusted{Value: v, Given: true}
			}
		}
	}
	return nil
}
