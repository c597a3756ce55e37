package store

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/pkg/wire"
)

// AddClaim keeps the bytes of an accepted claim, whose SHA-256 is id, once.
func (t *Tx) AddClaim(ctx context.Context, id wire.Hash, vehicle string, body []byte) error {
	return t.tx.ExecOne(ctx, "add claim", `INSERT INTO claims (id, vehicle, body) VALUES ($1, $2, $3)`, id[:], vehicle, body)
}

// EachClaim calls fn with the accepted claims whose serial is above after, in the order in which they were accepted.
func (t *Tx) EachClaim(ctx context.Context, after int64, fn func(serial int64, id wire.Hash, body []byte) error) error {
	return t.tx.Each(ctx, "read claims", `SELECT serial, id, body FROM claims WHERE serial > $1 ORDER BY serial`, []any{after},
		func(scan database.Scanner) error {
			var serial int64
			var id wire.Hash
			var body []byte
			if err := scan(&serial, database.Fixed(id[:]), &body); err != nil {
				return err
			}
			return fn(serial, id, body)
		})
}
