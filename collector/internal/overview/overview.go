// Package overview puts together what the dashboard shows: how far the emission has come, from records and ledger, and the charts of usage,
// from the estimates.
//
// It decides nothing and formats next to nothing. What an estimate suppresses stays suppressed.
package overview

import (
	"context"
	"fmt"

	"rawstone/collector/internal/analytics"
	"rawstone/collector/internal/dashboard"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// latestDrops is how many drops the dashboard shows.
const latestDrops = 12

// An Overview reads what it shows when it is asked; every field is required. Its methods are dashboard.Config's.
type Overview struct {
	// Records are open for the role Web.
	Records *store.DB
	// Checkpoint is the log's, as it is published.
	Checkpoint func() (tlog.Checkpoint, error)
	Estimator  *analytics.Estimator
	Clock      terms.Clock
}

// Stones is the dashboard's view of the ledger.
func (o Overview) Stones(ctx context.Context) (dashboard.Stones, error) {
	drops, err := stones.Drops(ctx, o.Records, latestDrops)
	if err != nil {
		return dashboard.Stones{}, err
	}
	var last ledger.Block
	if len(drops) > 0 {
		last = drops[0].Block
	}
	supply := stones.SupplyOf(last)
	out := dashboard.Stones{Issued: supply.Issued, Scheduled: supply.Scheduled, Mined: supply.Most, Height: supply.Height}
	for _, d := range drops {
		out.Drops = append(out.Drops, dashboard.Drop{
			Number: d.Drop, Entry: d.Number, Due: o.Clock.DropTime(d.Drop), MilliStones: d.Units * reward.Unit,
			Weight: d.Weight, Owners: d.Count, Seed: d.Seed,
		})
	}
	at, err := o.Checkpoint()
	out.LogSize, out.LogRoot = at.Size, at.Root
	return out, err
}

// Usage is the dashboard's view of the estimates over the last 28 program days.
func (o Overview) Usage(ctx context.Context) (dashboard.Usage, error) {
	today := o.Clock.Today()
	families, err := o.Estimator.Estimate(ctx, analytics.Window{From: today - min(today, 27), To: today})
	if err != nil {
		return dashboard.Usage{}, err
	}
	var out dashboard.Usage
	clip := o.Estimator.Clipping()
	out.Clipping = fmt.Sprintf("Clipping changes %.1f %% of the simulated weeks; its bias stands beside each mean.", 100*clip.Clipped)
	for _, f := range families {
		out.Privacy = fmt.Sprintf("Each report is (%.3g, %.0e)-differentially private in the car; a year of %d composes to ε = %.1f at a total δ of %.0e.",
			f.Privacy.Epsilon, f.Privacy.Delta, f.Privacy.Dispatches, f.Privacy.YearEpsilon, f.Privacy.YearDelta)
		out.Families = append(out.Families, chart(f))
	}
	return out, nil
}

// chart shows a family. One none of whose bins can be shown is suppressed as a whole.
func chart(f analytics.Family) dashboard.Family {
	out := dashboard.Family{Family: f.Family, Reports: f.N}
	suppressed := 0
	for _, b := range f.Bins {
		if b.Suppressed != "" {
			suppressed++
		}
		out.Bins = append(out.Bins, dashboard.Bin{Mean: b.Mean, Low: b.Low, High: b.High, Bias: b.Bias, Suppressed: string(b.Suppressed)})
	}
	if suppressed == len(out.Bins) {
		out.Suppressed = out.Bins[0].Suppressed
	}
	return out
}

// Reports lets the estimator read the records.
type Reports struct{ DB *store.DB }

// Reports implements analytics.Source.
func (r Reports) Reports(ctx context.Context, charter wire.Hash, after int64,
	fn func(serial int64, day uint32, families wire.Family, vector []int64) error) error {
	return r.DB.View(ctx, func(tx *store.Tx) error {
		return tx.EachReport(ctx, charter, after, func(s store.Report) error {
			report := wire.Report{Vector: s.Vector}
			return fn(s.Serial, s.Epoch, s.Families, report.Values())
		})
	})
}
