package inbox

import (
	"context"

	"rawstone/collector/internal/firewall"
)

// Unearned counts the submissions of a vehicle that are kept of a program day and were refused or repeat another's span.
func (b Inbox) Unearned(ctx context.Context, vehicle string, day uint32) (n int, err error) {
	err = b.tx.Get(ctx, unearned(), []any{vehicle, int64(day)}, &n)
	return n, err
}

func unearned() statement {
	return statement{Name: "count refused submissions", Roles: firewall.Ingest,
		SQL: `SELECT count(*) FROM submissions WHERE vehicle = $1 AND day = $2 AND (accepted = 0 OR original IS NOT NULL)`}
}

// DeleteRefusals deletes up to limit refused submissions that were decided before a program day and whose receipts were published, and
// returns how many. The counts of refusals stay.
func (b Inbox) DeleteRefusals(ctx context.Context, before uint32, limit int) (int64, error) {
	return b.tx.Exec(ctx, deleteRefusals(), int64(before), limit)
}

func deleteRefusals() statement {
	return statement{Name: "delete refused submissions", Roles: firewall.Ingest,
		SQL: `DELETE FROM submissions WHERE serial IN
			(SELECT serial FROM submissions WHERE accepted = 0 AND pending = 0 AND day < $1 ORDER BY day LIMIT $2)`}
}
