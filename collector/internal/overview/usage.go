package overview

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/analytics"
	"rawstone/collector/internal/analytics/cost"
	"rawstone/collector/internal/dashboard"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// maxCharters is how many charters, the newest, are estimated from.
const maxCharters = 16

// An Estimation says from what usage is estimated.
type Estimation struct {
	// Records are open for the role Web, and Documents are the program's.
	Records   *store.DB
	Documents *terms.Documents
	Clock     terms.Clock
	// Dir, Frozen, Logger and Registerer are analytics.Config's.
	Dir        string
	Frozen     bool
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Open returns an estimator of the reports under the charter in force and under those before it that the log holds. It has read nothing yet.
func (e Estimation) Open(ctx context.Context) (*analytics.Estimator, error) {
	d := e.Documents
	charters := []analytics.Charter{{ID: d.CharterID, Serial: d.Charter.Serial, Usage: d.Charter.Usage}}
	err := e.Records.View(ctx, func(tx *store.Tx) error {
		charters = charters[:1]
		list, err := tx.LastEntries(ctx, ledger.TypeCharter, maxCharters)
		if err != nil {
			return err
		}
		for _, entry := range list {
			c, id, err := terms.OpenCharter(d.Program, d.ProgramID, entry.Body)
			if err != nil {
				return fmt.Errorf("entry %d of the log: %w", entry.Number, err)
			}
			if id != d.CharterID && len(charters) < maxCharters {
				charters = append(charters, analytics.Charter{ID: id, Serial: c.Serial, Usage: c.Usage})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read charters: %w", err)
	}
	return analytics.New(analytics.Config{
		Source: Reports{e.Records}, Charters: charters, Dir: e.Dir, Frozen: e.Frozen, Today: e.Clock.Today, Logger: e.Logger, Registerer: e.Registerer,
	})
}

// LastClosed is the program day that windows end with: yesterday.
func LastClosed(c terms.Clock) uint32 { return c.Today() - min(c.Today(), 1) }

// Usage is the dashboard's view of the estimates over a window that ends with the last closed program day.
func (o Overview) Usage(_ context.Context, s dashboard.Selection) (dashboard.Usage, error) {
	days := uint32(analytics.FourWeeks)
	if s.Span == dashboard.Week {
		days = analytics.Week
	}
	w := analytics.Ending(LastClosed(o.Clock), days)
	results, err := o.Estimator.Estimate(analytics.Query{Window: w, Model: s.Model})
	if err != nil {
		return dashboard.Usage{}, err
	}
	out := dashboard.Usage{
		Window: fmt.Sprintf("From %s to %s, the last that is over.", o.Clock.Date(w.From), o.Clock.Date(w.To)),
		Models: o.Estimator.Models(),
	}
	for _, r := range results {
		c := dashboard.Charter{Privacy: year(r.Privacy)}
		switch {
		case r.InForce && len(results) > 1:
			c.Name = fmt.Sprintf("Under charter %d, in force", r.Charter.Serial)
		case !r.InForce:
			c.Name = fmt.Sprintf("Under charter %d, an earlier one", r.Charter.Serial)
		}
		if !r.Categorical {
			c.Clipping = fmt.Sprintf("Clipping changes %.1f %% of the simulated weeks; its bias stands beside each estimate.", 100*r.Clipped)
		}
		for _, f := range r.Families {
			c.Families = append(c.Families, chart(r, f, s.Measure))
		}
		out.Charters = append(out.Charters, c)
	}
	return out, nil
}

// year says what a report and a year of them cost.
func year(p cost.Privacy) string {
	each := fmt.Sprintf("(%.3g, %.0e)-differentially private", p.Epsilon, p.Delta)
	if p.Delta == 0 {
		each = fmt.Sprintf("%.3g-differentially private", p.Epsilon)
	}
	return fmt.Sprintf("Each report is %s in the car; a year of %d composes to ε = %.1f at a total δ of %.0e.", each, p.Dispatches, p.YearEpsilon, p.YearDelta)
}

// price says what stands beside a chart.
func price(p cost.Privacy) string {
	if p.Delta == 0 {
		return fmt.Sprintf("cost: ε = %.3g a report, %.1f a year", p.Epsilon, p.YearEpsilon)
	}
	return fmt.Sprintf("cost, for all charts together: ε = %.3g, δ = %.0e a report, ε = %.1f a year", p.Epsilon, p.Delta, p.YearEpsilon)
}

// chart shows a family. One none of whose bins can be shown is suppressed as a whole.
func chart(r analytics.Result, f analytics.Family, m dashboard.Measure) dashboard.Family {
	out := dashboard.Family{Family: f.Family, Reports: f.N, Fewer: f.Fewer, Measure: m, Categorical: r.Categorical, Privacy: price(r.Privacy)}
	if r.Categorical {
		out.Measure = dashboard.Share
	}
	suppressed := 0
	for _, b := range f.Bins {
		v := b.Mean
		switch out.Measure {
		case dashboard.Share:
			v = b.Share
		case dashboard.Total:
			v = b.Sum
		}
		if v.Suppressed != "" {
			suppressed++
		}
		out.Bins = append(out.Bins, dashboard.Bin{Mean: v.Mean, Low: v.Low, High: v.High, Bias: v.Bias, Suppressed: string(v.Suppressed)})
	}
	if suppressed == len(out.Bins) {
		out.Suppressed = out.Bins[0].Suppressed
	}
	return out
}

// Reports lets the estimator read the records.
type Reports struct{ DB *store.DB }

// Reports implements analytics.Source. A vector of a wrong length, which intake refuses, has no values.
func (r Reports) Reports(ctx context.Context, charter wire.Hash, after int64, limit int, fn func(analytics.Report) error) error {
	return r.DB.View(ctx, func(tx *store.Tx) error {
		return tx.EachUsage(ctx, charter, after, limit, func(u store.Usage) error {
			report := analytics.Report{Serial: u.Serial, ID: u.Submission, Day: u.Epoch, Families: u.Families, Model: u.Model}
			if len(u.Vector) == 4*wire.VectorLen {
				vector := wire.Report{Vector: u.Vector}
				report.Values = vector.Values()
			}
			return fn(report)
		})
	})
}

// Erasures implements analytics.Source.
func (r Reports) Erasures(ctx context.Context) (n uint64, err error) {
	err = r.DB.View(ctx, func(tx *store.Tx) error {
		n, err = tx.LastErasure(ctx)
		return err
	})
	return n, err
}
