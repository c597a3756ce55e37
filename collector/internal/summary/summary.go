// Package summary counts the collector's records for the first page of the dashboard. It reads and names nobody. The tables belong to package
// store's schema, whose transactions embed a Counter.
package summary

import (
	"context"
	"time"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
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

// Statements returns the statement of the package.
func Statements() []firewall.Statement { return []firewall.Statement{summary()} }

// A Counter counts within one transaction.
type Counter struct{ tx *database.Tx }

// In returns the counter of what a transaction sees.
func In(tx *database.Tx) Counter { return Counter{tx} }

// Summary counts the records.
func (c Counter) Summary(ctx context.Context) (s Summary, err error) {
	var seen int64
	err = c.tx.Get(ctx, summary(),
		[]any{string(wire.KindClaim), string(wire.KindReport)},
		&s.Vehicles, &s.Seen, &seen, &s.Accounts, &s.ClaimsAccepted, &s.ReportsAccepted, &s.Credits, &s.KmProven)
	if seen != 0 {
		s.LastSeen = time.Unix(seen, 0).UTC()
	}
	return s, err
}

func summary() firewall.Statement {
	return firewall.Statement{Name: "read summary", Roles: firewall.Web,
		SQL: `SELECT
			(SELECT count(*) FROM vehicles), (SELECT count(*) FROM vehicles WHERE last_seen_s > 0),
			(SELECT coalesce(max(last_seen_s), 0) FROM vehicles), (SELECT count(*) FROM accounts),
			(SELECT count(*) FROM submissions WHERE accepted = 1 AND kind = $1),
			(SELECT count(*) FROM submissions WHERE accepted = 1 AND kind = $2),
			(SELECT count(*) FROM credits), (SELECT CAST(coalesce(sum(km), 0) AS BIGINT) FROM credits)`}
}
