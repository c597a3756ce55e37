// Package overview puts together what the dashboard shows: how far the emission has come, from records and ledger, and the charts of usage,
// from the estimates.
//
// It decides nothing and formats next to nothing. What an estimate suppresses stays suppressed.
package overview

import (
	"context"

	"rawstone/collector/internal/analytics"
	"rawstone/collector/internal/dashboard"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
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
