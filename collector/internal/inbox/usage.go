package inbox

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/wire"
)

// A Usage is a report as statistics see it: with its vehicle's model and without its vehicle.
type Usage struct {
	Serial     int64
	Epoch      uint32
	Families   wire.Family
	Vector     []byte
	Submission wire.Hash
	// Model is the vehicle's as of when the report was added; empty for unknown.
	Model string
}

// EachUsage calls fn with at most limit reports made under a charter whose serial is above after, by ascending serial. fn must not use the
// transaction, nor keep Vector.
func (b Inbox) EachUsage(ctx context.Context, charter wire.Hash, after int64, limit int, fn func(Usage) error) error {
	return b.tx.Each(ctx, eachUsage(), []any{charter[:], after, limit}, func(scan database.Scanner) error {
		var u Usage
		if err := scan(&u.Serial, &u.Epoch, &u.Families, &u.Vector, database.Fixed(u.Submission[:]), &u.Model); err != nil {
			return err
		}
		return fn(u)
	})
}

func eachUsage() statement {
	return statement{Name: "read usage", Roles: firewall.Web,
		SQL: `SELECT serial, epoch, families, vector, submission, model FROM reports WHERE charter = $1 AND serial > $2 ORDER BY serial LIMIT $3`}
}

// LastErasure returns the number of the last erasure of a person's data, 0 before there was any: after each, reports may be gone.
func (b Inbox) LastErasure(ctx context.Context) (n uint64, err error) {
	err = b.tx.Get(ctx, lastErasure(), nil, database.Uint64(&n))
	return n, err
}

func lastErasure() statement {
	return statement{Name: "read last erasure", Roles: firewall.Web, SQL: `SELECT coalesce(max(erasure), 0) FROM erasures`}
}
