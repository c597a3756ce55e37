package store

import (
	"context"
	"time"

	"rawstone/pkg/wire"
)

// A Summary is what the dashboard's first page says of the records.
type Summary struct {
	// Vehicles counts registered vehicles, Seen those of which a submission was accepted, LastSeen the last time that happened.
	Vehicles, Seen int
	LastSeen       time.Time
	// Accounts counts owners.
	Accounts int
	// ClaimsAccepted and ReportsAccepted count accepted submissions; a claim over an already credited span is one of them.
	ClaimsAccepted, ReportsAccepted int
	// Credits counts credits and KmProven sums their kilometres.
	Credits  int
	KmProven int64
}

// Summary counts the records.
func (t *Tx) Summary(ctx context.Context) (s Summary, err error) {
	var seen int64
	err = t.tx.Get(ctx, summary(),
		[]any{string(wire.KindClaim), string(wire.KindReport)},
		&s.Vehicles, &s.Seen, &seen, &s.Accounts, &s.ClaimsAccepted, &s.ReportsAccepted, &s.Credits, &s.KmProven)
	if seen != 0 {
		s.LastSeen = time.Unix(seen, 0).UTC()
	}
	return s, err
}

func summary() statement {
	return statement{Name: "read summary", Roles: Web,
		SQL: `SELECT
			(SELECT count(*) FROM vehicles), (SELECT count(*) FROM vehicles WHERE last_seen_s > 0),
			(SELECT coalesce(max(last_seen_s), 0) FROM vehicles), (SELECT count(*) FROM accounts),
			(SELECT count(*) FROM submissions WHERE accepted = 1 AND kind = $1),
			(SELECT count(*) FROM submissions WHERE accepted = 1 AND kind = $2),
			(SELECT count(*) FROM credits), (SELECT CAST(coalesce(sum(km), 0) AS BIGINT) FROM credits)`}
}
