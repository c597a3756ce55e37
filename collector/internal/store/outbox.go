package store

import (
	"context"
	"fmt"

	"rawstone/pkg/ledger"
)

// AddEntry puts an entry's body into the outbox and returns the row's identifier, which rises with each entry. The settler gives
// the entry its number in the log.
func (t *Tx) AddEntry(ctx context.Context, typ ledger.Type, body []byte) (id int64, err error) {
	if len(body) > ledger.MaxBodyLen {
		return 0, fmt.Errorf("cannot add ledger entry: body of %d bytes, at most %d allowed", len(body), ledger.MaxBodyLen)
	}
	err = t.tx.QueryRowContext(ctx, `INSERT INTO outbox (type, body) VALUES ($1, $2) RETURNING id`, int64(typ), body).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("cannot add ledger entry: %w", err)
	}
	return id, nil
}
