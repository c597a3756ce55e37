package auditor

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"rawstone/collector/internal/credit"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/audit"
	"rawstone/pkg/audit/proof"
	"rawstone/pkg/claim"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// believer takes every proof for one that holds.
type believer struct{}

func (believer) Verify(claim.Statement, wire.Proof) error      { return nil }
func (believer) VerifyBatch(items []claim.Item) (errs []error) { return make([]error, len(items)) }

// TestJudged has the collector's judge decide about random claims of keys that change hands: what it credits, package proof accepts, so that
// validators never stand in the way of an honest collector. Signatures are real, proofs are not.
func TestJudged(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { judged(t, seed) })
	}
}

func judged(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t)
	ctx := t.Context()
	var slow wire.Row
	slow.A[wire.DriveTimeS], slow.A[wire.OverspeedS] = 1, -20
	for i, kind := range []string{terms.KindSafe, "feature/eco"} {
		signed, err := terms.SealPolicy(w.policy, &terms.Policy{Version: wire.Version, Program: w.program, Serial: uint16(2 + i), Kind: kind, ToDay: 1000, Circuit: w.lock.Circuit,
			ProvingKey: w.lock.ProvingKey, VerifyingKey: w.lock.VerifyingKey, Lock: w.lock.ID(), Tiers: []terms.Tier{{Rows: []wire.Row{slow}}}})
		w.must(err)
		w.add(ledger.TypePolicy, signed)
	}
	root, err := terms.LoadRoot(w.c.Root)
	w.must(err)
	all := store.Admin | store.Ingest | store.Settle | store.Web | store.Audit
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(t.TempDir(), "records.db"), Role: all})
	w.must(err)
	defer func() { w.must(db.Close()) }()
	update := func(fn func(context.Context, *store.Tx) error) {
		t.Helper()
		w.must(db.Update(ctx, func(tx *store.Tx) error { return fn(ctx, tx) }))
	}
	first, err := ledger.DecodeEntry(w.entries[0])
	w.must(err)
	program, _, err := terms.OpenProgram(root, first.Body)
	w.must(err)
	var policies []*terms.Policy
	update(func(ctx context.Context, tx *store.Tx) error {
		for _, b := range w.entries {
			e, err := ledger.DecodeEntry(b)
			w.must(err)
			if _, err := tx.AddEntry(ctx, e.Type, e.Body); err != nil {
				return err
			}
			if e.Type == ledger.TypePolicy {
				p, err := terms.OpenPolicy(program.Policy, w.program, e.Body)
				w.must(err)
				policies = append(policies, p)
			}
		}
		return nil
	})
	receipt, _ := w.newKey()
	const today = 60
	judge, err := credit.New(credit.Config{DB: db, Program: w.program, Policies: policies, Receipt: receipt,
		Clock:     terms.Clock{Timing: program.Timing, Now: func() time.Time { return time.Unix(int64(program.Timing.DayS)*today, 0) }},
		Verifiers: map[wire.Hash]credit.Verifier{w.lock.VerifyingKey: believer{}}})
	w.must(err)

	// One key and two vehicles. Sequence number and day go together; every third snapshot has a twin with another signature.
	key, pub := w.newKey()
	snapshots := make([]wire.Snapshot, 40)
	for i := range snapshots {
		snapshots[i], err = attest.Sign(key, w.program, uint64(i), uint32(10+i), claim.Commit(wire.Opening{Salt: wire.Salt{byte(i)}}))
		w.must(err)
	}
	signAgain := func(s wire.Snapshot, key *ecdsa.PrivateKey) wire.Snapshot {
		again, err := attest.Sign(key, w.program, s.Seq, s.Day, s.Commitment)
		w.must(err)
		return again
	}
	vehicles := []string{"CAR1", "CAR2"}
	update(func(ctx context.Context, tx *store.Tx) error {
		for _, v := range vehicles {
			_, device := w.newKey()
			if err := errors.Join(tx.AddAccount(ctx, v), tx.AddVehicle(ctx, store.Vehicle{ID: v, Account: v, Device: device})); err != nil {
				return err
			}
		}
		return errors.Join(tx.AddECU(ctx, pub, nil),
			tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: vehicles[0], Account: vehicles[0], ECU: pub, Head: snapshots[0].Head(), Signature: snapshots[0].Signature}))
	})
	accepted, refused := 0, 0
	var sent []*wire.Claim
	for range 120 {
		var bindings []store.Binding
		update(func(ctx context.Context, tx *store.Tx) (err error) {
			bindings, err = tx.KeyBindings(ctx, pub.ID())
			return err
		})
		last := bindings[len(bindings)-1]
		if random.IntN(12) == 0 && last.Head.Seq < 38 {
			update(func(ctx context.Context, tx *store.Tx) error {
				if !last.Closed {
					return tx.CloseBinding(ctx, ledger.HandoverOpening{ECU: pub.ID(), Cut: last.Head.Seq + random.Uint64N(4)})
				}
				v := vehicles[random.IntN(2)]
				first := snapshots[min(last.Cut+random.Uint64N(3), 39)]
				return tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: v, Account: v, ECU: pub, Head: first.Head(), Signature: first.Signature})
			})
			continue
		}
		at := bindings[max(0, len(bindings)-1-random.IntN(2))]
		from := at.Head.Seq
		switch random.IntN(6) {
		case 0:
			from += random.Uint64N(3)
		case 1:
			from = random.Uint64N(from + 1)
		}
		to := from + 1 + random.Uint64N(3)
		if to > 39 {
			continue
		}
		c := &wire.Claim{Version: wire.Version, ECU: pub.ID(), From: wire.NewOrigin(snapshots[from]), To: snapshots[to]}
		if random.IntN(5) == 0 {
			c.From = wire.NewOrigin(signAgain(snapshots[from], key))
		}
		if len(sent) > 0 && random.IntN(3) == 0 { // a span that was sent before, for other kinds
			old := sent[random.IntN(len(sent))]
			c.From, c.To = old.From, old.To
		}
		if c.Forfeit = random.IntN(4) == 0; !c.Forfeit && random.IntN(3) == 0 {
			c.From = wire.Origin{Seq: c.From.Seq}
		}
		if _, whole := c.From.Snapshot(); !whole {
			c.Forfeit = false
		}
		for serial := uint16(1); serial <= 3; serial++ {
			if random.IntN(2) == 0 {
				c.Proofs = append(c.Proofs, wire.ClaimProof{Policy: serial, Proof: wire.Proof{byte(random.Uint32())}})
			}
		}
		body, err := c.Encode()
		if err != nil {
			continue
		}
		sent = append(sent, c)
		for _, p := range judge.Prepare(ctx, wire.KindClaim, []credit.Submission{{Vehicle: at.Vehicle, Body: body}}) {
			w.must(p.Err)
			update(func(ctx context.Context, tx *store.Tx) error {
				s, _, err := p.Apply(ctx, tx)
				if s.Accepted {
					accepted++
				} else {
					refused++
				}
				return err
			})
		}
	}
	if accepted < 5 || refused < 5 {
		t.Errorf("%d claims were accepted and %d refused", accepted, refused)
	}
	update(func(ctx context.Context, tx *store.Tx) error { return tx.NumberEntries(ctx, 10_000) })
	openings, err := stones.Openings(ctx, db)
	w.must(err)
	var entries []ledger.Entry
	update(func(ctx context.Context, tx *store.Tx) (err error) {
		if entries, err = tx.Entries(ctx, 0, 10_000); err != nil {
			return err
		}
		return tx.EachClaim(ctx, 0, func(_ int64, _ wire.Hash, body []byte) error {
			c, err := wire.DecodeClaim(body)
			w.must(err)
			w.keep(c)
			return nil
		})
	})
	kept, err := openArchive(w.c.Claims)
	w.must(err)
	replay, err := audit.NewReplay(root, openings)
	w.must(err)
	checker, err := proof.New(proof.Config{Root: root, Openings: openings, Verifier: func(*terms.Program, *terms.Policy) (proof.Verifier, error) { return believer{}, nil }})
	w.must(err)
	check := &claims{checker: checker, openings: openings, kept: kept}
	for i := range entries {
		w.must(replay.Apply(&entries[i]))
		w.must(check.add(ctx, &entries[i]))
	}
	w.must(check.flush(ctx))
	if check.proven < uint64(accepted)/2 {
		t.Errorf("%d credits of %d accepted claims", check.proven, accepted)
	}
}
