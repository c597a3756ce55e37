// Package analytics turns stored usage reports into what the fleet's owner may read: means, shares and totals of a window of program days,
// of the whole fleet or of one model, with 95 % confidence intervals, each beside its clipping bias and its price in privacy, or the
// reason why it is suppressed.
//
// Invariants: only reports under one charter are pooled, because they share mechanism, noise, clip and scale; a family's estimate rests on
// the reports whose driver turned that family on, and on nothing else; noised values are never clipped or rounded before they are
// pooled; a report is counted once, on the program day it was made for, however late it came. A report that was erased with its person's data
// is counted no more from the next program day on.
//
// Intervals allow for vehicles that report several times in a window: what differs between vehicles counts as often as one may report,
// which is exact where a vehicle's weeks are alike and too wide otherwise (dp.Moments.Clustered).
//
// The package refuses to show numbers from fewer than 1,000 reports or with a relative standard error above 30 %. Of the models of one window
// it shows only so many that what is left of the fleet's total without them is nothing or at least 1,000 reports: otherwise subtraction
// would give what was suppressed. Windows that overlap may still differ by fewer. Suppression keeps readers from taking noise for knowledge;
// what protects a driver's values is the noise that was added in the car, which no choice of windows takes away.
//
// Numbers of reports have no noise: they tell which families drivers turned on. Below 1,000, and of a model that is hidden, none is told;
// the others are rounded to hundreds, so that families, days, windows and models of the same vehicles cannot be subtracted to find the one
// that differs. Estimates have four digits, totals count with the rounded number, and neither an earlier charter nor a model is named, nor
// how many reports a vehicle may have made, for fewer than 1,000: what is exact would give the number back. Rounding is no proof: who knows
// that a number lies on the edge between two hundreds, and all of its reports but one, learns of that one that it came.
//
// Post-processing (package adjust) is done where it is asked for, and stands beside the estimates.
package analytics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/analytics/clipping"
	"rawstone/collector/internal/analytics/figure"
	"rawstone/pkg/wire"
)

// DefaultRetain is how many program days of reports are kept in memory, a year and a month: some 3.5 KB for each day and model.
const DefaultRetain = 396

const (
	maxRetain   = 1500 // tally.MaxDays
	maxCharters = 16
)

// Charter is figure.Charter.
type Charter = figure.Charter

// Config says which reports are estimated from. The zero value is refused.
type Config struct {
	// Source has the reports. Required.
	Source Source
	// Charters are those that reports were made under, the one in force first: 1 to 16, of different identifiers.
	Charters []Charter
	// Population is what the clipping bias is simulated on. The zero value means clipping.DefaultPopulation.
	Population clipping.Population
	// Retain is the number of program days kept, today included, 1 to 1,500. 0 means DefaultRetain.
	Retain uint32
	// Dir is an existing directory for what has been pooled, one file for each charter; empty for none, so that each start reads all
	// reports again.
	Dir string
	// Frozen reads the files in Dir and writes none: another process may.
	Frozen bool
	// Today returns the current program day. Required.
	Today func() uint32
	// Now says when to put on disk what was pooled; nil means time.Now.
	Now func() time.Time
	// Logger takes what is read again and why; nil discards it. Registerer receives the metrics; nil means none.
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Estimator pools the reports of every charter, program day, model and family. It is safe for concurrent use.
type Estimator struct {
	cfg     Config
	metrics *metrics

	refresh sync.Mutex // held while reading the source
	books   []*book    // in the order of the charters
}

// New checks cfg, simulates the clipping bias (a fraction of a second) and returns an estimator that has read nothing yet.
func New(cfg Config) (*Estimator, error) {
	switch {
	case cfg.Source == nil:
		return nil, errors.New("cannot make estimator: no source given")
	case len(cfg.Charters) == 0 || len(cfg.Charters) > maxCharters:
		return nil, fmt.Errorf("cannot make estimator: %d charters given, want 1 to %d", len(cfg.Charters), maxCharters)
	case cfg.Today == nil:
		return nil, errors.New("cannot make estimator: no clock given")
	case cfg.Retain > maxRetain:
		return nil, fmt.Errorf("cannot make estimator: retaining %d days is more than %d", cfg.Retain, maxRetain)
	}
	if cfg.Retain == 0 {
		cfg.Retain = DefaultRetain
	}
	if cfg.Population == (clipping.Population{}) {
		cfg.Population = clipping.DefaultPopulation()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Estimator{cfg: cfg}
	seen := make(map[wire.Hash]bool)
	for _, c := range cfg.Charters {
		if c.ID.IsZero() || seen[c.ID] {
			return nil, errors.New("cannot make estimator: a charter without identifier, or one given twice")
		}
		seen[c.ID] = true
		b, err := newBook(c, cfg.Population, cfg.Dir)
		if err != nil {
			return nil, fmt.Errorf("cannot make estimator: charter %d: %w", c.Serial, err)
		}
		e.books = append(e.books, b)
	}
	var err error
	if e.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("cannot make estimator: %w", err)
	}
	return e, nil
}

// Run refreshes the estimates at an interval until ctx ends, and then saves. What fails is said and tried again.
func (e *Estimator) Run(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := e.Refresh(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Logger.Error("cannot refresh usage estimates", "error", err)
		}
		select {
		case <-ctx.Done():
			if err := e.Save(); err != nil {
				e.cfg.Logger.Error("cannot save usage estimates", "error", err)
			}
			return
		case <-tick.C:
		}
	}
}
