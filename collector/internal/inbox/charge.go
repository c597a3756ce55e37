package inbox

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/wire"
)

// A Charged is where an accepted report stands in its vehicle's privacy budget; the zero value stands for none.
type Charged struct {
	Charge wire.Charge
	Epoch  uint32
}

// Charges are the reports of a vehicle next to one that it offers.
type Charges struct {
	// Reported says whether the vehicle has reported for the epoch, with whatever device key.
	Reported bool
	// Before is the report of the next lower index that the device key signed, From that of the same or the next higher one.
	Before, From Charged
	// Year is the most that a span of YearDays program days with the epoch in it holds of the vehicle's reports under the same charter, with
	// whatever device key: those that are kept and the one that it offers.
	Year int
}

// YearDays is how many program days a charter's yearly number is for.
const YearDays = 365

// Which of Charges a row is.
const (
	rowEpoch = iota
	rowBefore
	rowFrom
	rowYear
)

// Charges returns the reports of a vehicle next to one that a device key signed. Of the report its vehicle, epoch, charter, device key and
// charge are read.
func (b Inbox) Charges(ctx context.Context, r Report) (c Charges, err error) {
	first := wire.NewCharge(r.Charge.Index(), [32]byte{}) // of all charges of the index
	err = b.tx.Each(ctx, charges(), []any{r.Vehicle, int64(r.Epoch), r.Device[:], first[:], r.Charter[:]}, func(scan database.Scanner) error {
		var which, n int64
		var row Charged
		if err := scan(&which, database.Fixed(row.Charge[:]), &row.Epoch, &n); err != nil {
			return err
		}
		switch which {
		case rowEpoch:
			c.Reported = true
		case rowBefore:
			c.Before = row
		case rowFrom:
			c.From = row
		case rowYear:
			c.Year = int(n)
		}
		return nil
	})
	return c, err
}

// charges counts the year over the spans that end with the epoch or with a later report: each holds at least as many as any that begins
// with it and ends between.
func charges() statement {
	return statement{Name: "read charges", Roles: firewall.Ingest,
		SQL: `SELECT 0, charge, epoch, 0 FROM reports WHERE vehicle = $1 AND epoch = $2
			UNION ALL SELECT * FROM (SELECT 1, charge, epoch, 0 FROM reports WHERE vehicle = $1 AND device = $3 AND charge < $4 ORDER BY charge DESC LIMIT 1) b
			UNION ALL SELECT * FROM (SELECT 2, charge, epoch, 0 FROM reports WHERE vehicle = $1 AND device = $3 AND charge >= $4 ORDER BY charge LIMIT 1) f
			UNION ALL SELECT * FROM (SELECT 3, $4, epoch, n FROM
				(SELECT epoch, count(*) OVER (ORDER BY epoch RANGE BETWEEN 364 PRECEDING AND CURRENT ROW) AS n FROM
					(SELECT epoch FROM reports WHERE vehicle = $1 AND charter = $5 AND epoch BETWEEN $2 - 364 AND $2 + 364 UNION ALL SELECT $2) kept) ends
				WHERE epoch >= $2 ORDER BY n DESC LIMIT 1) y`}
}

// LastCharge returns the highest charge among the accepted reports of a vehicle that a device key signed, or ErrNotFound.
func (b Inbox) LastCharge(ctx context.Context, vehicle string, device wire.KeyID) (c Charged, err error) {
	err = b.tx.Get(ctx, lastCharge(), []any{vehicle, device[:]}, database.Fixed(c.Charge[:]), &c.Epoch)
	return c, err
}

func lastCharge() statement {
	return statement{Name: "read last charge", Roles: firewall.Ingest,
		SQL: `SELECT charge, epoch FROM reports WHERE vehicle = $1 AND device = $2 ORDER BY charge DESC LIMIT 1`}
}
