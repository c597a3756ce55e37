package opening

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
)

// A ClaimedCredit is a credit's opening and the claim behind it.
type ClaimedCredit struct {
	OpenedCredit
	// Claim is nil when the records do not hold it.
	Claim []byte
}

// ClaimedCredits returns the credits whose entries have numbers from one up to another, which is not among them, in their order.
func (r Reader) ClaimedCredits(ctx context.Context, from, to uint64) ([]ClaimedCredit, error) {
	return database.List(ctx, r.tx, claimedCredits(), func(c *ClaimedCredit, scan database.Scanner) error {
		p := &c.Opening
		return scan(database.Uint64(&c.Number), database.Fixed(p.Salt[:]), &p.Account, database.Fixed(p.ECU[:]), database.Uint64(&p.ToSeq), &p.Kind, &c.Claim)
	}, int64(from), int64(to))
}

func claimedCredits() statement {
	return statement{Name: "open credits with claims", Roles: firewall.Settle,
		SQL: `SELECT o.number, c.salt, c.account, c.ecu, c.to_seq, c.kind, m.body FROM outbox o JOIN credits c ON c.outbox_id = o.id
			LEFT JOIN claims m ON m.id = c.submission WHERE o.number >= $1 AND o.number < $2 ORDER BY o.number`}
}
