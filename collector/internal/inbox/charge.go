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
}

// Which of Charges a row is.
const (
	rowEpoch = iota
	rowBefore
	rowFrom
)

// Charges returns the reports of a vehicle next to an epoch and a charge of a device key.
func (b Inbox) Charges(ctx context.Context, vehicle string, device wire.KeyID, epoch uint32, charge wire.Charge) (c Charges, err error) {
	first := wire.NewCharge(charge.Index(), [32]byte{}) // of all charges of the index
	err = b.tx.Each(ctx, charges(), []any{vehicle, int64(epoch), device[:], first[:]}, func(scan database.Scanner) error {
		var which int64
		var row Charged
		if err := scan(&which, database.Fixed(row.Charge[:]), &row.Epoch); err != nil {
			return err
		}
		switch which {
		case rowEpoch:
			c.Reported = true
		case rowBefore:
			c.Before = row
		case rowFrom:
			c.From = row
		}
		return nil
	})
	return c, err
}

func charges() statement {
	return statement{Name: "read charges", Roles: firewall.Ingest,
		SQL: `SELECT 0, charge, epoch FROM reports WHERE vehicle = $1 AND epoch = $2
			UNION ALL SELECT * FROM (SELECT 1, charge, epoch FROM reports WHERE vehicle = $1 AND device = $3 AND charge < $4 ORDER BY charge DESC LIMIT 1) b
			UNION ALL SELECT * FROM (SELECT 2, charge, epoch FROM reports WHERE vehicle = $1 AND device = $3 AND charge >= $4 ORDER BY charge LIMIT 1) f`}
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
