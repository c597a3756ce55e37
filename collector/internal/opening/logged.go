package opening

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// A LoggedCredit is a credit of a vehicle and its place in the ledger.
type LoggedCredit struct {
	// Policy is the serial of the policy.
	Policy uint16
	// Number is its entry's, negative while the entry has none.
	Number  int64
	Opening ledger.CreditOpening
}

// LoggedCredits returns the credits that a vehicle has for the span of a key that ends at a sequence number, in the order of their policies.
func (r Reader) LoggedCredits(ctx context.Context, vehicle string, ecu wire.KeyID, to uint64) ([]LoggedCredit, error) {
	return database.List(ctx, r.tx, logged(), func(c *LoggedCredit, scan database.Scanner) error {
		p := &c.Opening
		return scan(&c.Policy, &c.Number, database.Fixed(p.Salt[:]), &p.Account, database.Fixed(p.ECU[:]), database.Uint64(&p.ToSeq), &p.Kind)
	}, vehicle, ecu[:], int64(to))
}

func logged() statement {
	return statement{Name: "open credits of a claim", Roles: firewall.Ingest,
		SQL: `SELECT c.policy, coalesce(o.number, -1), c.salt, c.account, c.ecu, c.to_seq, c.kind
			FROM credits c JOIN outbox o ON o.id = c.outbox_id WHERE c.vehicle = $1 AND c.ecu = $2 AND c.to_seq = $3 ORDER BY c.policy`}
}
