package inbox

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/wire"
)

// A Report is one vehicle's noised usage vector for one epoch.
type Report struct {
	// Serial is given by AddReport's order and rises.
	Serial  int64
	Vehicle string
	// Epoch is the program day of the dispatch.
	Epoch    uint32
	Families wire.Family
	// Vector is wire.Report.Vector as received.
	Vector     []byte
	Charter    wire.Hash
	Submission wire.Hash
	// Charge is the report's in the vehicle's privacy budget, and Device the key that signed it; EachReport leaves both out.
	Charge wire.Charge
	Device wire.KeyID
}

// AddReport keeps a report and of what model its vehicle is now; a second one of the same vehicle and epoch fails.
func (b Inbox) AddReport(ctx context.Context, r Report) error {
	return b.tx.ExecOne(ctx, addReport(), r.Vehicle, int64(r.Epoch), int64(r.Families), r.Vector, r.Charter[:], r.Submission[:], r.Charge[:], r.Device[:])
}

func addReport() statement {
	return statement{Name: "add report", Roles: firewall.Ingest,
		SQL: `INSERT INTO reports (vehicle, epoch, families, vector, charter, submission, charge, device, model)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, coalesce((SELECT model FROM vehicles WHERE id = $1), ''))`,
		Many: `INSERT INTO reports (vehicle, epoch, families, vector, charter, submission, charge, device, model)
			SELECT a, b, c, d, e, f, g, h, coalesce((SELECT model FROM vehicles WHERE id = a), '') FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bytea[])
				WITH ORDINALITY AS v (a, b, c, d, e, f, g, h, n) ORDER BY n`}
}

// EachReport calls fn with the reports made under a charter whose serial is above after, by ascending serial. fn must not use the
// transaction.
func (b Inbox) EachReport(ctx context.Context, charter wire.Hash, after int64, fn func(Report) error) error {
	return b.tx.Each(ctx, eachReport(), []any{charter[:], after}, func(scan database.Scanner) error {
		r := Report{Charter: charter}
		if err := scan(&r.Serial, &r.Vehicle, &r.Epoch, &r.Families, &r.Vector, database.Fixed(r.Submission[:])); err != nil {
			return err
		}
		return fn(r)
	})
}

func eachReport() statement {
	return statement{Name: "read reports", Roles: firewall.Web,
		SQL: `SELECT serial, vehicle, epoch, families, vector, submission FROM reports WHERE charter = $1 AND serial > $2 ORDER BY serial`}
}
