package store

import (
	"context"
	"crypto/rand"

	"rawstone/collector/internal/database"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// An ECU is an attestation ECU's key.
type ECU struct {
	Key wire.PublicKey
	// Certificate is the manufacturer's, in PEM; empty for keys that were registered before certificates were asked for.
	Certificate []byte
	// Revoked is for good.
	Revoked bool
}

// A Binding says that an ECU key speaks for a vehicle and earns for an account, over a range of its snapshots. The ranges of one key's
// bindings are disjoint, and a vehicle has at most one open binding.
type Binding struct {
	// Entry is its row in the outbox, which identifies it.
	Entry   int64
	ECU     wire.PublicKey
	Vehicle string
	Account string
	// First is the head that the binding was logged with: nothing before it counts. Head is how far its snapshots are credited.
	First, Head wire.Head
	// HeadSignature is the ECU's of the snapshot that is Head, verified by who bound or credited it; zeros where it was not kept then.
	HeadSignature wire.Signature
	// Closed is set by a hand-over; then nothing whose end is beyond the sequence number Cut counts under it.
	Closed bool
	Cut    uint64
	// Revoked is the key's.
	Revoked bool
}

const selectBindings = `SELECT b.outbox_id, k.public, b.vehicle, b.account, b.first_seq, b.first_day, b.first_commitment,
	b.head_seq, b.head_day, b.head_commitment, b.head_signature, b.closed, b.cut, k.revoked FROM bindings b JOIN ecu_keys k ON k.id = b.ecu `

func scanBindings(b *Binding, scan database.Scanner) error {
	return scan(&b.Entry, database.Fixed(b.ECU[:]), &b.Vehicle, &b.Account,
		database.Uint64(&b.First.Seq), &b.First.Day, database.Fixed(b.First.Commitment[:]),
		database.Uint64(&b.Head.Seq), &b.Head.Day, database.Fixed(b.Head.Commitment[:]), database.Fixed(b.HeadSignature[:]), database.Flag(&b.Closed), database.Uint64(&b.Cut), database.Flag(&b.Revoked))
}

// Bindings returns the bindings of all ECU keys, by key and in the order in which they were made.
func (t *Tx) Bindings(ctx context.Context) ([]Binding, error) {
	return database.List(ctx, t.tx, bindings(), scanBindings)
}

func bindings() statement {
	return statement{Name: "read all bindings", Roles: Admin | Audit, SQL: selectBindings + `ORDER BY k.id, b.outbox_id`}
}

// KeyBindings returns the bindings of one ECU key in the order in which they were made; none for a key that is not known.
func (t *Tx) KeyBindings(ctx context.Context, ecu wire.KeyID) ([]Binding, error) {
	if all, ok := t.ahead.bindings[ecu]; ok {
		return all, nil
	}
	return database.List(ctx, t.tx, keyBindings(), scanBindings, ecu[:])
}

func keyBindings() statement {
	return statement{Name: "read bindings", Roles: Ingest | Admin, SQL: selectBindings + `WHERE b.ecu = $1 ORDER BY b.outbox_id`,
		Many: selectBindings + `WHERE b.ecu = ANY($1) ORDER BY b.outbox_id`}
}

// OpenBinding returns a vehicle's open binding, or ErrNotFound.
func (t *Tx) OpenBinding(ctx context.Context, vehicle string) (Binding, error) {
	return database.One(ctx, t.tx, openBinding(), scanBindings, vehicle)
}

func openBinding() statement {
	return statement{Name: "read binding", Roles: Admin, SQL: selectBindings + `WHERE b.vehicle = $1 AND b.closed = 0`}
}

// AddECU keeps an ECU's key and certificate; a key that is known gets the new certificate.
func (t *Tx) AddECU(ctx context.Context, key wire.PublicKey, certificate []byte) error {
	id := key.ID()
	if certificate == nil {
		certificate = []byte{}
	}
	return t.tx.ExecOne(ctx, addECU(), id[:], key[:], certificate)
}

func addECU() statement {
	return statement{Name: "add ECU key", Roles: Admin,
		SQL: `INSERT INTO ecu_keys (id, public, certificate) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET certificate = excluded.certificate`}
}

func scanECU(e *ECU, scan database.Scanner) error {
	return scan(database.Fixed(e.Key[:]), &e.Certificate, database.Flag(&e.Revoked))
}

// ECU returns an ECU's key, or ErrNotFound.
func (t *Tx) ECU(ctx context.Context, id wire.KeyID) (ECU, error) {
	return database.One(ctx, t.tx, ecuKey(), scanECU, id[:])
}

func ecuKey() statement {
	return statement{Name: "read ECU key", Roles: Ingest | Admin | Audit, SQL: `SELECT public, certificate, revoked FROM ecu_keys WHERE id = $1`}
}

// AddBinding opens a binding of a known ECU key that is not revoked, keeps its opening and puts its blinded form into the outbox. Who calls it
// has verified the head's signature. It fails while the key or the vehicle has an open binding.
func (t *Tx) AddBinding(ctx context.Context, o ledger.BindingOpening) error {
	rand.Read(o.Salt[:])
	blind, err := o.Blind()
	if err != nil {
		return err
	}
	entry, err := t.AddEncoded(ctx, ledger.TypeBinding, ledger.Binding{Blind: blind})
	if err != nil {
		return err
	}
	ecu := o.ECU.ID()
	return t.tx.ExecOne(ctx, addBinding(),
		entry, o.Vehicle, o.Account, int64(o.Head.Seq), int64(o.Head.Day), o.Head.Commitment[:], o.Signature[:], o.Salt[:], ecu[:])
}

func addBinding() statement {
	return statement{Name: "add binding", Roles: Admin,
		SQL: `INSERT INTO bindings (outbox_id, ecu, vehicle, account, first_seq, first_day, first_commitment, first_signature,
				head_seq, head_day, head_commitment, head_signature, salt)
			SELECT $1, id, $2, $3, $4, $5, $6, $7, $4, $5, $6, $7, $8 FROM ecu_keys WHERE id = $9 AND revoked = 0`}
}
