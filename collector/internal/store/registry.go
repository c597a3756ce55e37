package store

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/pkg/wire"
)

// A Binding says that an ECU key speaks for a vehicle from a first head on.
type Binding struct {
	ECU     wire.PublicKey
	Vehicle string
	// First is the head that the binding was logged with: nothing before it counts.
	First wire.Head
	// Head is the key's head now, and Revoked whether the key may move it on.
	Head    wire.Head
	Revoked bool
}

// Bindings returns the bindings of all ECU keys, by key and in the order in which they were made.
func (t *Tx) Bindings(ctx context.Context) ([]Binding, error) {
	return database.List(ctx, t.tx, "read bindings", func(b *Binding, scan database.Scanner) error {
		return scan(database.Fixed(b.ECU[:]), &b.Vehicle,
			database.Uint64(&b.First.Seq), &b.First.Day, database.Fixed(b.First.Commitment[:]),
			database.Uint64(&b.Head.Seq), &b.Head.Day, database.Fixed(b.Head.Commitment[:]), &b.Revoked)
	}, `SELECT k.public, b.vehicle, b.head_seq, b.head_day, b.head_commitment, k.head_seq, k.head_day, k.head_commitment, k.revoked
		FROM bindings b JOIN ecu_keys k ON k.id = b.ecu ORDER BY k.id, b.outbox_id`)
}
