package claim

import (
	"errors"
	"fmt"
	"testing"

	"rawstone/pkg/attest"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

// fixedKey returns a key of the vectors with its public half.
func fixedKey(t testing.TB, name string) (vectortest.Signer, wire.PublicKey) {
	t.Helper()
	k := vectortest.Key(t, name)
	pub, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, pub
}

func fixedProgram() wire.Hash { return vectortest.Hash("program") }

// A judge is what a verifier knows before it reads a claim; it plays the part of a collector's check that needs no state.
type judge struct {
	verifier *Verifier
	ecu      wire.PublicKey
	head     wire.Head
	policy   *terms.Policy
}

func (j judge) check(b []byte) error {
	c, err := wire.DecodeClaim(b)
	if err != nil {
		return err
	}
	if c.ECU != j.ecu.ID() {
		return errors.New("another key")
	}
	pub, err := j.ecu.Key()
	if err != nil {
		return err
	}
	if from, whole := c.From.Snapshot(); whole {
		if err := attest.Verify(pub, fixedProgram(), from); err != nil {
			return err
		}
		if from.Head() != j.head {
			return errors.New("not from the head")
		}
	}
	if c.From.Seq != j.head.Seq || c.Forfeit {
		return errors.New("not from the head")
	}
	if err := attest.Verify(pub, fixedProgram(), c.To); err != nil {
		return err
	}
	for _, p := range c.Proofs {
		if p.Policy != j.policy.Serial || int(p.Tier) >= len(j.policy.Tiers) {
			return errors.New("no such policy or tier")
		}
		s := Statement{From: j.head.Commitment, To: c.To.Commitment, Rows: j.policy.Statement(int(p.Tier))}
		single, batch := j.verifier.Verify(s, p.Proof), j.verifier.VerifyBatch([]Item{{s, p.Proof}})[0]
		if (single == nil) != (batch == nil) {
			panic(fmt.Sprintf("of %x alone the verifier says %v, in a batch %v", p.Proof, single, batch))
		}
		if single != nil {
			return single
		}
	}
	return nil
}

// fixedPolicy asks what week drives, at 40 km and, beyond it, 60.
func fixedPolicy(lock Lock) *terms.Policy {
	s, _, _ := week()
	p := &terms.Policy{
		Version: wire.Version, Program: fixedProgram(), Serial: 7, Kind: terms.KindMileage, FromDay: 19_900, ToDay: 20_100,
		Circuit: lock.Circuit, ProvingKey: lock.ProvingKey, VerifyingKey: lock.VerifyingKey, Lock: lock.ID(), CapKm: 1500, Rows: s.Rows[1:3],
	}
	for _, km := range []uint32{40, 60} {
		r := wire.Row{B: int64(km) * 1000}
		r.A[wire.OdometerM] = 1
		p.Tiers = append(p.Tiers, terms.Tier{Km: km, Rows: []wire.Row{r}})
	}
	return p
}

// fixedSnapshots returns week's snapshots, signed by the ECU of the vectors.
func fixedSnapshots(t testing.TB) (from, to wire.Snapshot) {
	t.Helper()
	key, _ := fixedKey(t, "ecu")
	_, a, b := week()
	from, err := attest.Sign(key, fixedProgram(), 41, 19_993, Commit(a))
	if err != nil {
		t.Fatal(err)
	}
	to, err = attest.Sign(key, fixedProgram(), 48, 20_000, Commit(b))
	if err != nil {
		t.Fatal(err)
	}
	return from, to
}

// fixedClaim returns the claim of a proof of tier 0, with the whole snapshot it begins with.
func fixedClaim(t testing.TB, proof wire.Proof) *wire.Claim {
	t.Helper()
	_, ecu := fixedKey(t, "ecu")
	from, to := fixedSnapshots(t)
	return &wire.Claim{
		Version: wire.Version, ECU: ecu.ID(), From: wire.NewOrigin(from), To: to,
		Proofs: []wire.ClaimProof{{Policy: 7, Tier: 0, Proof: proof}},
	}
}

func encoded(t testing.TB, c *wire.Claim) []byte {
	t.Helper()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// goodClaim returns a judge and a claim that it accepts.
func goodClaim(t testing.TB) (judge, *wire.Claim) {
	t.Helper()
	_, from, to := week()
	policy := fixedPolicy(keys(t))
	proof, err := openProver(t).Prove(Statement{From: Commit(from), To: Commit(to), Rows: policy.Statement(0)}, from, to)
	if err != nil {
		t.Fatal(err)
	}
	_, ecu := fixedKey(t, "ecu")
	first, _ := fixedSnapshots(t)
	j, c := judge{openVerifier(t), ecu, first.Head(), policy}, fixedClaim(t, proof)
	if err := j.check(encoded(t, c)); err != nil {
		t.Fatalf("the good claim: %v", err)
	}
	return j, c
}
