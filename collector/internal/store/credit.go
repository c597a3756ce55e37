package store

import (
	"context"
	"crypto/rand"

	"rawstone/collector/internal/database"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// A Span is what an accepted claim covered of an ECU key's snapshots. No two spans of a key overlap.
type Span struct {
	ECU      wire.KeyID
	From, To wire.Head
	// Vehicle is the one that claimed it, Submission its claim.
	Vehicle    string
	Submission wire.Hash
	// Signature is the verified one of the snapshot that is To. AddSpan keeps it with the head; a span that is read has none.
	Signature wire.Signature
}

// A Credit is what one proof of an accepted claim earned.
type Credit struct {
	Account string
	Vehicle string
	ECU     wire.KeyID
	ToSeq   uint64
	// Policy is the serial and Kind the kind of the policy.
	Policy uint16
	Kind   string
	// Km is the effective distance in kilometres, 0 for kinds that credit none.
	Km uint32
	// Effective is the program day from which it counts.
	Effective  uint32
	Submission wire.Hash
	// Salt blinds the credit in the ledger; AddSpan draws it.
	Salt [32]byte
}

// Opening returns what the ledger's blinded entry hides.
func (c *Credit) Opening() ledger.CreditOpening {
	return ledger.CreditOpening{Salt: c.Salt, Account: c.Account, ECU: c.ECU, ToSeq: c.ToSeq, Kind: c.Kind}
}

// AddSpan moves the head of a binding, given by its Entry, from the given sequence number to the end of the span, keeps the span and its
// credits, and puts a blinded entry for each credit into the outbox. A binding's next span may be added once its head has been read again.
func (t *Tx) AddSpan(ctx context.Context, s Span, binding int64, head uint64, credits []Credit) error {
	delete(t.ahead.bindings, s.ECU)
	delete(t.ahead.spans, end{s.ECU, s.To.Seq})
	if err := t.tx.ExecOne(ctx, moveHead(),
		int64(s.To.Seq), int64(s.To.Day), s.To.Commitment[:], s.Signature[:], binding, s.ECU[:], int64(head)); err != nil {
		return err
	}
	if err := t.tx.ExecOne(ctx, addSpan(),
		s.ECU[:], int64(s.To.Seq), int64(s.To.Day), s.To.Commitment[:],
		int64(s.From.Seq), int64(s.From.Day), s.From.Commitment[:], s.Vehicle, s.Submission[:]); err != nil {
		return err
	}
	for _, c := range credits {
		if err := t.AddCredit(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func moveHead() statement {
	return statement{Name: "move head", Roles: Ingest,
		SQL: `UPDATE bindings SET head_seq = $1, head_day = $2, head_commitment = $3, head_signature = $4
			WHERE outbox_id = $5 AND ecu = $6 AND head_seq = $7`,
		Many: `UPDATE bindings SET head_seq = a, head_day = b, head_commitment = c, head_signature = d
			FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bytea[], $7::bigint[]) AS v (a, b, c, d, e, f, g)
			WHERE outbox_id = e AND ecu = f AND head_seq = g`}
}

func addSpan() statement {
	return statement{Name: "add span", Roles: Ingest,
		SQL: `INSERT INTO spans (ecu, to_seq, to_day, to_commitment, from_seq, from_day, from_commitment, vehicle, submission)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		Many: `INSERT INTO spans (ecu, to_seq, to_day, to_commitment, from_seq, from_day, from_commitment, vehicle, submission)
			SELECT a, b, c, d, e, f, g, h, i FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[], $7::bytea[],
				$8::text[], $9::bytea[]) AS v (a, b, c, d, e, f, g, h, i)`}
}

// AddCredit keeps a credit of a span and puts its blinded entry into the outbox.
func (t *Tx) AddCredit(ctx context.Context, c Credit) error {
	rand.Read(c.Salt[:])
	opening := c.Opening()
	blind, err := opening.Blind()
	if err != nil {
		return err
	}
	entry, err := t.PutEncoded(ctx, ledger.TypeCredit, ledger.Credit{Blind: blind, Km: c.Km, Effective: c.Effective})
	if err != nil {
		return err
	}
	return t.tx.ExecOne(ctx, addCredit(),
		c.Account, c.Vehicle, c.ECU[:], int64(c.ToSeq), int64(c.Policy), c.Kind, int64(c.Km), int64(c.Effective),
		c.Salt[:], c.Submission[:], entry, blind[:])
}

// addCredit belongs to the last entry of the outbox, many to its last ones and to no later one that waits for its credit, by their bodies.
func addCredit() statement {
	return statement{Name: "add credit", Roles: Ingest,
		SQL: `INSERT INTO credits (account, vehicle, ecu, to_seq, policy, kind, km, effective, salt, submission, outbox_id, blind)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, (SELECT id FROM outbox WHERE id = (SELECT max(id) FROM outbox) AND body = $11), $12)`,
		Many: `INSERT INTO credits (account, vehicle, ecu, to_seq, policy, kind, km, effective, salt, submission, outbox_id, blind)
			SELECT a, b, c, d, e, f, g, h, i, j, o.id, l FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[],
				$8::bigint[], $9::bytea[], $10::bytea[], $11::bytea[], $12::bytea[]) WITH ORDINALITY AS v (a, b, c, d, e, f, g, h, i, j, k, l, n)
				JOIN (SELECT id, body FROM outbox ORDER BY id DESC LIMIT cardinality($11) + 1) o ON o.body = v.k ORDER BY v.n`}
}

// Span returns the span of a key that ends at a sequence number, or ErrNotFound.
func (t *Tx) Span(ctx context.Context, ecu wire.KeyID, to uint64) (Span, error) {
	if s, ok := t.ahead.spans[end{ecu, to}]; ok {
		return found(s)
	}
	return database.One(ctx, t.tx, readSpan(), scanSpan, ecu[:], int64(to))
}

func scanSpan(s *Span, scan database.Scanner) error {
	return scan(database.Fixed(s.ECU[:]), database.Uint64(&s.To.Seq), &s.To.Day, database.Fixed(s.To.Commitment[:]),
		database.Uint64(&s.From.Seq), &s.From.Day, database.Fixed(s.From.Commitment[:]), &s.Vehicle, database.Fixed(s.Submission[:]))
}

const selectSpan = `SELECT ecu, to_seq, to_day, to_commitment, from_seq, from_day, from_commitment, vehicle, submission FROM spans `

func readSpan() statement {
	return statement{Name: "read span", Roles: Ingest,
		SQL:  selectSpan + `WHERE ecu = $1 AND to_seq = $2`,
		Many: selectSpan + `JOIN unnest($1::bytea[], $2::bigint[]) AS v (a, b) ON ecu = a AND to_seq = b`}
}

// SpanCredits returns the credits of the span of a key that ends at a sequence number, in the order of their policies.
func (t *Tx) SpanCredits(ctx context.Context, ecu wire.KeyID, to uint64) ([]Credit, error) {
	return database.List(ctx, t.tx, spanCredits(), func(c *Credit, scan database.Scanner) error {
		return scan(&c.Account, &c.Vehicle, database.Fixed(c.ECU[:]), database.Uint64(&c.ToSeq), &c.Policy, &c.Kind, &c.Km, &c.Effective,
			database.Fixed(c.Salt[:]), database.Fixed(c.Submission[:]))
	}, ecu[:], int64(to))
}

func spanCredits() statement {
	return statement{Name: "read credits", Roles: Ingest,
		SQL: `SELECT account, vehicle, ecu, to_seq, policy, kind, km, effective, salt, submission FROM credits
			WHERE ecu = $1 AND to_seq = $2 ORDER BY policy`}
}
