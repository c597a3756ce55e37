// Package analytics turns stored usage reports into what the fleet's owner may read: means per vehicle and dispatch with 95 %
// confidence intervals, each beside its clipping bias and its price in privacy, or the reason why it is suppressed.
//
// Invariants: only reports under one charter are pooled, because they share noise, clip and scale; a family's estimate rests on
// the reports whose driver turned that family on, and on nothing else; noised values are never clipped or rounded before they are
// pooled; a report is counted once, on the program day it was made for, however late it came.
//
// Intervals take reports as independent. In a window longer than a dispatch a vehicle reports several times, so the part of the
// variance that comes from differences between vehicles is then understated; the noise, by far the larger part at the default
// budget, is drawn afresh each time.
//
// The package refuses to show numbers from fewer than 1,000 reports or with a relative standard error above 30 %. It does no
// post-processing: a published mean is the mean of what the cars sent.
package analytics

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Source reads stored usage reports.
type Source interface {
	// Reports calls fn with the reports under charter whose serial is above after, by ascending serial, and stops at fn's first
	// error. A report must never appear under a serial below one that was already read. day is the program day of the
	// dispatch, vector its wire.VectorLen noised values; fn does not keep vector.
	Reports(ctx context.Context, charter wire.Hash, after int64,
		fn func(serial int64, day uint32, families wire.Family, vector []int64) error) error
}

// DefaultRetain is how many program days of reports are kept in memory, a year and a month.
const DefaultRetain = 396

// maxRetain bounds the days in memory to 3 MB.
const maxRetain = 1500

// Config says which reports are estimated from. The zero value is refused.
type Config struct {
	// Source has the reports. Required.
	Source Source
	// Charter is the identifier of the charter they were made under and Usage its parameters. Required.
	Charter wire.Hash
	Usage   terms.Usage
	// Population is what the clipping bias is simulated on. The zero value means DefaultPopulation.
	Population Population
	// Retain is the number of program days kept, today included, 1 to 1,500. 0 means DefaultRetain.
	Retain uint32
	// Today returns the current program day. Required.
	Today func() uint32
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

// Estimator keeps running moments of every program day and family. It is safe for concurrent use.
type Estimator struct {
	source    Source
	charter   wire.Hash
	mechanism *dp.Gaussian
	clipping  Clipping
	privacy   Privacy
	retain    uint32
	today     func() uint32
	metrics   *metrics

	refresh sync.Mutex // held while reading the source; guards cursor
	cursor  int64

	mu   sync.Mutex // guards days
	days map[uint32]cells
}

// cells are the moments of one day, one for each of wire.Layouts.
type cells []*dp.Moments

// Privacy is what a chart's reports cost each vehicle.
type Privacy struct {
	// Epsilon and Delta are the guarantee of one dispatch, under replacement of the whole vector.
	Epsilon, Delta float64
	// YearEpsilon is the ε of a year of Dispatches by exact Gaussian composition, at a total δ of YearDelta.
	YearEpsilon, YearDelta float64
	Dispatches             int
}

// Bin is the estimate of one value of the usage vector: minutes, or trips, per vehicle and dispatch.
type Bin struct {
	dp.Estimate
	// Bias is what clipping changes the mean by on the simulated population with every family on, at most 0 and in the same
	// unit. It is not subtracted.
	Bias float64
}

// Family is the estimate of one family, its bins in the order of the usage vector.
type Family struct {
	wire.Layout
	// N is the number of reports with the family on.
	N       uint64
	Bins    []Bin
	Privacy Privacy
}

// Window is a range of program days, both ends included.
type Window struct{ From, To uint32 }

// New checks cfg, simulates the clipping bias (a fraction of a second) and returns an estimator that has read nothing yet.
func New(cfg Config) (*Estimator, error) {
	switch {
	case cfg.Source == nil:
		return nil, errors.New("cannot make estimator: no source given")
	case cfg.Charter == wire.Hash{}:
		return nil, errors.New("cannot make estimator: no charter given")
	case cfg.Today == nil:
		return nil, errors.New("cannot make estimator: no clock given")
	case cfg.Retain > maxRetain:
		return nil, fmt.Errorf("cannot make estimator: retaining %d days is more than %d", cfg.Retain, maxRetain)
	}
	if cfg.Retain == 0 {
		cfg.Retain = DefaultRetain
	}
	if cfg.Population == (Population{}) {
		cfg.Population = DefaultPopulation()
	}
	g, err := Mechanism(cfg.Usage)
	if err != nil {
		return nil, fmt.Errorf("cannot make estimator: %w", err)
	}
	e := &Estimator{source: cfg.Source, charter: cfg.Charter, mechanism: g, retain: cfg.Retain, today: cfg.Today, days: map[uint32]cells{}}
	if e.privacy, err = price(g, int(cfg.Usage.YearlyDispatches)); err != nil {
		return nil, fmt.Errorf("cannot make estimator: %w", err)
	}
	if e.clipping, err = Bias(g, cfg.Population); err != nil {
		return nil, fmt.Errorf("cannot make estimator: %w", err)
	}
	if e.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("cannot make estimator: %w", err)
	}
	return e, nil
}

// price composes a year of dispatches.
func price(g *dp.Gaussian, dispatches int) (Privacy, error) {
	if dispatches < 1 {
		return Privacy{}, errors.New("the charter allows no dispatches in a year")
	}
	mus := make([]float64, dispatches)
	for i := range mus {
		mus[i] = g.Mu()
	}
	year, err := dp.Epsilon(g.Delta(), dp.Compose(mus...))
	if err != nil {
		return Privacy{}, fmt.Errorf("cannot compose %d dispatches: %w", dispatches, err)
	}
	return Privacy{Epsilon: g.Epsilon(), Delta: g.Delta(), YearEpsilon: year, YearDelta: g.Delta(), Dispatches: dispatches}, nil
}

// Clipping returns the simulated effect of clipping.
func (e *Estimator) Clipping() Clipping { return e.clipping }

// Refresh reads the reports that came since the last one and merges them in. When the source fails, nothing is merged and the
// next call reads the same reports again.
func (e *Estimator) Refresh(ctx context.Context) error {
	e.refresh.Lock()
	defer e.refresh.Unlock()
	today := e.today()
	fresh := map[uint32]cells{}
	counts := counts{}
	cursor := e.cursor
	err := e.source.Reports(ctx, e.charter, cursor, func(serial int64, day uint32, families wire.Family, vector []int64) error {
		if serial <= cursor {
			return fmt.Errorf("the source gave serial %d after %d", serial, cursor)
		}
		cursor = serial
		why := e.reject(day, today, families, vector)
		counts[why]++
		if why != accepted {
			return nil
		}
		return add(fresh, day, families, vector)
	})
	if err != nil {
		return fmt.Errorf("cannot read usage reports: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.merge(fresh, today); err != nil {
		return fmt.Errorf("cannot merge usage reports: %w", err)
	}
	e.cursor = cursor
	e.metrics.count(counts)
	return nil
}

// reject says why a report is not counted. Intake should have refused most of these; a bad one must not spoil the good.
func (e *Estimator) reject(day, today uint32, families wire.Family, vector []int64) outcome {
	switch {
	case families == 0 || families&^wire.AllFamilies != 0:
		return badFamilies
	case len(vector) != wire.VectorLen:
		return badLength
	case day > today && day-today > 1:
		return badDay
	case day < today && today-day >= e.retain:
		return oldDay
	}
	bound := e.mechanism.Bound()
	for _, v := range vector {
		if v > bound || v < -bound {
			return badRange
		}
	}
	return accepted
}

func add(days map[uint32]cells, day uint32, families wire.Family, vector []int64) error {
	c, ok := days[day]
	if !ok {
		var err error
		if c, err = newCells(); err != nil {
			return err
		}
		days[day] = c
	}
	for i, l := range wire.Layouts() {
		if families&l.Family == 0 {
			continue
		}
		if err := c[i].Add(vector[l.Offset : l.Offset+l.Len]); err != nil {
			return err
		}
	}
	return nil
}

func newCells() (cells, error) {
	var c cells
	for _, l := range wire.Layouts() {
		m, err := dp.NewMoments(l.Len)
		if err != nil {
			return nil, err
		}
		c = append(c, m)
	}
	return c, nil
}

func (c cells) merge(o cells) error {
	for i := range c {
		if err := c[i].Merge(o[i]); err != nil {
			return err
		}
	}
	return nil
}

// merge takes fresh in and forgets days that have left the retention.
func (e *Estimator) merge(fresh map[uint32]cells, today uint32) error {
	for day, c := range fresh {
		if e.days[day] == nil {
			e.days[day] = c
		} else if err := e.days[day].merge(c); err != nil {
			return err
		}
	}
	for day := range e.days {
		if day < today && today-day >= e.retain {
			delete(e.days, day)
		}
	}
	return nil
}

// Estimate refreshes and returns every family's estimate over the window, in the order of wire.Layouts. A window without reports
// gives suppressed estimates, a reversed one an error.
func (e *Estimator) Estimate(ctx context.Context, w Window) ([]Family, error) {
	if w.From > w.To {
		return nil, fmt.Errorf("cannot estimate: the window begins on day %d after its end on day %d", w.From, w.To)
	}
	if err := e.Refresh(ctx); err != nil {
		return nil, fmt.Errorf("cannot estimate: %w", err)
	}
	pooled, err := e.pool(w)
	if err != nil {
		return nil, fmt.Errorf("cannot estimate: %w", err)
	}
	var families []Family
	for i, l := range wire.Layouts() {
		f := Family{Layout: l, N: pooled[i].N(), Privacy: e.privacy}
		for j := range l.Len {
			k := l.Offset + j
			estimate, err := pooled[i].Estimate(j, e.mechanism.Sigma(), e.mechanism.Scale(k))
			if err != nil {
				return nil, err
			}
			f.Bins = append(f.Bins, Bin{Estimate: estimate, Bias: e.clipping.Bias[k]})
		}
		families = append(families, f)
	}
	return families, nil
}

func (e *Estimator) pool(w Window) (cells, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	pooled, err := newCells()
	if err != nil {
		return nil, err
	}
	for day, c := range e.days {
		if day < w.From || day > w.To {
			continue
		}
		if err := pooled.merge(c); err != nil {
			return nil, err
		}
	}
	return pooled, nil
}
