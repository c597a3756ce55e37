// Package credit decides what a submission is worth: whether a claim is accepted and what it credits, whether a usage report is
// kept, and what the signed receipt says.
//
// A claim is accepted whole or refused whole. It must come from a registered vehicle, under an ECU key bound to it and not revoked;
// both snapshots must carry that key's signature; it must begin exactly at the key's head, unless it forfeits what lies between, and
// end on a later day that is at most one day ahead; and every proof must hold for the statement that the collector rebuilds from its
// own policy, the one in force for its kind on the day on which the claim ends. Nothing of the statement is taken from the sender. A span is credited once for each kind: the same bytes get the stored
// receipt, and another proof over the same span gets the original credit, because Groth16 proofs can be re-randomised by anyone. A kind
// that a claim lost its proof of on the way is credited when the span comes again.
//
// Signatures and proofs are checked before the write transaction, against the last committed state; the transaction decides again
// when that state has moved. The package publishes nothing and refuses to guess: an error of the database is no decision.
package credit

import (
	"context"
	"crypto"
	"errors"
	"fmt"

	"rawstone/collector/internal/store"
	"rawstone/pkg/audit"
	"rawstone/pkg/claim"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Verifier checks one proof.
type Verifier interface {
	// Verify returns nil when p proves s; it must be safe for concurrent use.
	Verify(s claim.Statement, p wire.Proof) error
}

// Config says by what to judge.
type Config struct {
	DB *store.DB
	// Program is the identifier of the program that ECUs sign for.
	Program wire.Hash
	Clock   terms.Clock
	// Policies holds every policy under which a claim may still arrive. Which is in force, terms.InForce says.
	Policies []*terms.Policy
	// Verifiers holds a verifier for each policy's verifying key, by the key's hash.
	Verifiers map[wire.Hash]Verifier
	// Charter is the data charter in force and CharterID its identifier; without one, every report is refused.
	Charter   *terms.Charter
	CharterID wire.Hash
	// Receipt signs receipts with one of the program's receipt keys.
	Receipt crypto.Signer
}

// A Judge decides about submissions. It may be used from several goroutines.
type Judge struct {
	cfg      Config
	policies map[uint16]*terms.Policy
}

// New returns a judge, or says what is missing or contradicts itself.
func New(cfg Config) (*Judge, error) {
	if cfg.DB == nil || cfg.Program.IsZero() || cfg.Clock.Now == nil || cfg.Clock.DayS == 0 || cfg.Receipt == nil {
		return nil, errors.New("cannot judge submissions: database, program, clock or receipt key missing")
	}
	if (cfg.Charter == nil) != cfg.CharterID.IsZero() {
		return nil, errors.New("cannot judge submissions: data charter and its identifier do not come together")
	}
	j := &Judge{cfg: cfg, policies: make(map[uint16]*terms.Policy, len(cfg.Policies))}
	for _, p := range cfg.Policies {
		if err := p.Validate(); err != nil {
			return nil, fmt.Errorf("cannot judge by policy %d: %w", p.Serial, err)
		}
		if j.policies[p.Serial] != nil {
			return nil, fmt.Errorf("cannot judge by policy %d: its serial stands twice", p.Serial)
		}
		if p.Program != cfg.Program {
			return nil, fmt.Errorf("cannot judge by policy %d: it belongs to another program", p.Serial)
		}
		if cfg.Verifiers[p.VerifyingKey] == nil {
			return nil, fmt.Errorf("cannot judge by policy %d: no verifying key %s loaded", p.Serial, p.VerifyingKey)
		}
		j.policies[p.Serial] = p
	}
	return j, nil
}

// A verdict is a decision before it is written down.
type verdict struct {
	reason wire.Reason // empty when accepted
	head   *wire.Head  // after the decision, when the key is known
	km     uint32

	span    store.Span     // of an accepted claim
	credits []store.Credit // what it earns; when again, for the kinds that had no proof before
	again   bool           // the span was credited before

	report *wire.Report // an accepted report
}

// Prepare does what needs no write transaction: decoding, signatures, proofs. The function that it returns makes the decision in a
// transaction and returns the submission with its receipt to be published, and whether the same bytes were answered before; it writes
// nothing in that case, nor for a vehicle that is not registered, whose refusal is only counted. An error is no decision: the
// caller tries the submission again later.
func (j *Judge) Prepare(ctx context.Context, vehicle string, kind wire.Kind, body []byte) (
	apply func(context.Context, *store.Tx) (s store.Submission, repeated bool, err error), err error) {

	sub := store.Submission{ID: wire.ID(body), Vehicle: vehicle, Kind: kind}
	var c *candidate
	switch kind {
	case wire.KindClaim:
		c = j.claim(vehicle, body)
	case wire.KindReport:
		c = j.report(vehicle, body)
	default:
		return nil, fmt.Errorf("cannot judge a submission of kind %q", kind)
	}
	var before state
	var v verdict
	err = j.cfg.DB.View(ctx, func(tx *store.Tx) error {
		if _, err := tx.Submission(ctx, sub.ID, vehicle, kind); err == nil {
			before.answered = true
			return nil
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		var err error
		before, err = c.read(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !before.answered {
		v = c.decide(before)
	}
	return func(ctx context.Context, tx *store.Tx) (store.Submission, bool, error) {
		if old, err := tx.Submission(ctx, sub.ID, vehicle, kind); err == nil {
			return old, true, nil
		} else if !errors.Is(err, store.ErrNotFound) {
			return store.Submission{}, false, err
		}
		now, err := c.read(ctx, tx)
		if err != nil {
			return store.Submission{}, false, err
		}
		v := v
		if now != before {
			v = c.decide(now)
		}
		s, err := j.write(ctx, tx, sub, now, v)
		return s, false, err
	}, nil
}

// A candidate is a submission that is being judged: what to read of the records, and what follows from that and its bytes alone.
type candidate struct {
	read   func(context.Context, *store.Tx) (state, error)
	decide func(state) verdict
}

// state is what a decision depends on besides the submission and the policies. Equal states give equal decisions.
type state struct {
	answered bool // the same bytes were answered before
	today    uint32
	earliest uint32 // the first day from which a credit may count
	latest   uint32 // the last one
	known    bool   // the vehicle is registered, with this account and device key
	account  string
	device   wire.PublicKey
	added    uint32 // the day of the vehicle's registration
	keyed    bool   // the ECU key is bound to the vehicle
	key      store.Key
	spanned  bool // a span of the key ends where the claim ends
	span     store.Span
	credited string // the kinds that the span was credited for, each with a line feed after it
	reported bool   // the vehicle has reported for the epoch
}

// vehicleState reads the part that all kinds need.
func (j *Judge) vehicleState(ctx context.Context, tx *store.Tx, id string) (s state, err error) {
	s.today = j.cfg.Clock.Today()
	v, err := tx.Vehicle(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return s, nil
	}
	s.known, s.account, s.device, s.added = true, v.Account, v.Device, v.AddedDay
	return s, err
}

// effective bounds the day from which a credit counts by the numbered blocks. Package audit refuses what takes effect before the day of
// the log's next drop or long after it, and a credit that is in the outbox cannot be taken back: the host's clock may not decide alone.
func (j *Judge) effective(ctx context.Context, tx *store.Tx) (earliest, latest uint32, err error) {
	blocks, err := tx.LastEntries(ctx, ledger.TypeBlock, 1)
	if err != nil {
		return 0, 0, err
	}
	day := func(drop uint64) uint32 { return j.cfg.Clock.Day(j.cfg.Clock.DropTime(drop)) }
	if len(blocks) == 0 {
		return day(0) + 1, day(0) + audit.MaxAhead, nil
	}
	sealed, err := blocks[0].Sealed()
	if err != nil {
		return 0, 0, err
	}
	last, err := ledger.DecodeBlock(sealed.Payload)
	if err != nil {
		return 0, 0, err
	}
	// The next block may wait for cosignatures and come before this credit; then its successor's day is the log's.
	return max(day(last.Drop)+1, day(last.Drop+2)), day(last.Drop+1) + audit.MaxAhead, nil
}

// write puts the decision and its receipt into the records.
func (j *Judge) write(ctx context.Context, tx *store.Tx, sub store.Submission, s state, v verdict) (store.Submission, error) {
	r := wire.Receipt{Version: wire.Version, Submission: sub.ID, Vehicle: sub.Vehicle, Accepted: v.reason == "", Reason: v.reason, Head: v.head}
	sub.Accepted, sub.Reason, sub.Day = r.Accepted, v.reason, s.today
	switch {
	case !r.Accepted:
		if err := tx.CountRefusal(ctx, sub.Kind, v.reason); err != nil {
			return sub, err
		}
	case v.again:
		for _, c := range v.credits {
			c.Submission = sub.ID
			if err := tx.AddCredit(ctx, c); err != nil {
				return sub, err
			}
		}
		sub.Km = v.km
		all, err := tx.SpanCredits(ctx, v.span.ECU, v.span.To.Seq)
		if err != nil {
			return sub, err
		}
		sub.Original, r.Original = &v.span.Submission, &v.span.Submission
		r.Credits = receiptCredits(all)
	case sub.Kind == wire.KindClaim:
		v.span.Submission = sub.ID
		for i := range v.credits {
			v.credits[i].Submission = sub.ID
		}
		if err := tx.AddSpan(ctx, v.span, s.key.Head.Seq, v.credits); err != nil {
			return sub, err
		}
		sub.Km = v.km
		r.Credits = receiptCredits(v.credits)
	default:
		p := v.report
		if err := tx.AddReport(ctx, store.Report{
			Vehicle: sub.Vehicle, Epoch: p.Epoch, Families: p.Families, Vector: p.Vector, Charter: p.Charter, Submission: sub.ID,
		}); err != nil {
			return sub, err
		}
	}
	// A name that no vehicle can have has no topic to answer on, and unregistered ones get no room in the records.
	if wire.CheckVehicle(sub.Vehicle) != nil {
		return sub, nil
	}
	var err error
	if sub.Receipt, err = wire.SealReceipt(j.cfg.Receipt, &r); err != nil || !s.known {
		return sub, err
	}
	if r.Accepted {
		if err := tx.SetSeen(ctx, sub.Vehicle, j.cfg.Clock.Now()); err != nil {
			return sub, err
		}
	}
	return sub, tx.AddSubmission(ctx, &sub)
}

func receiptCredits(cs []store.Credit) (out []wire.Credit) {
	for _, c := range cs {
		out = append(out, wire.Credit{Policy: c.Policy, Km: c.Km, Effective: c.Effective})
	}
	return out
}
