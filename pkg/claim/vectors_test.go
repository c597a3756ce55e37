package claim

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/attest"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

type octets = vectortest.Octets

// A claimVector is testdata/claim.json; the README beside it says what the fields are.
type claimVector struct {
	Comment          string          `json:"comment"`
	Circuit          octets          `json:"circuit_sha256"`
	ProvingKeyHash   octets          `json:"proving_key_sha256"`
	VerifyingKey     octets          `json:"verifying_key"`
	VerifyingKeyHash octets          `json:"verifying_key_sha256"`
	Program          octets          `json:"program"`
	ECUSecret        octets          `json:"ecu_private_key"`
	ECUKey           octets          `json:"ecu_public_key"`
	PolicySecret     octets          `json:"policy_private_key"`
	PolicyKey        octets          `json:"policy_public_key"`
	Policy           octets          `json:"policy"`
	From             snapshotVector  `json:"from"`
	To               snapshotVector  `json:"to"`
	Serial           uint16          `json:"policy_serial"`
	Tier             uint8           `json:"tier"`
	Rows             []rowVector     `json:"rows"`
	PublicInputs     []octets        `json:"public_inputs"`
	Proof            octets          `json:"proof"`
	Rerandomised     octets          `json:"proof_rerandomised"`
	Claim            octets          `json:"claim"`
	ClaimID          octets          `json:"claim_id"`
	FromHead         octets          `json:"claim_from_head"`
	Refused          []refusedVector `json:"refused"`
}

type snapshotVector struct {
	Counters   wire.Counters `json:"counters"`
	Salt       octets        `json:"salt"`
	Commitment octets        `json:"commitment"`
	Seq        uint64        `json:"seq"`
	Day        uint32        `json:"day"`
	Signature  octets        `json:"signature_rfc6979"`
}

type rowVector struct {
	A [wire.NumCounters]int32 `json:"a"`
	B int64                   `json:"b"`
}

type refusedVector struct {
	Why   string `json:"why"`
	Claim octets `json:"claim"`
}

// makeClaimVector returns the vector around what a setup and a prover draw at random: a lock, a verifying key and two proofs.
func makeClaimVector(t *testing.T, lock Lock, verifyingKey []byte, proof, rerandomised wire.Proof) claimVector {
	t.Helper()
	ecu, ecuKey := fixedKey(t, "ecu")
	policyKey, policyPublic := fixedKey(t, "policy")
	policy := fixedPolicy(lock)
	signed, err := terms.SealPolicy(policyKey, policy)
	if err != nil {
		t.Fatal(err)
	}
	_, a, b := week()
	from, to := fixedSnapshots(t)
	c := fixedClaim(t, proof)
	head := *c
	head.From = wire.Origin{Seq: from.Seq}
	snapshot := func(s wire.Snapshot, o wire.Opening) snapshotVector {
		return snapshotVector{o.Counters, o.Salt[:], s.Commitment[:], s.Seq, s.Day, s.Signature[:]}
	}
	id, program := wire.ID(encoded(t, c)), fixedProgram()
	v := claimVector{
		Comment: "One claim of circuit claim/v1 with all that it is made of and checked against. Keys are the SHA-256 of a name, " +
			"signatures by RFC 6979; setup and proof are random and so fixed here. See README.md.",
		Circuit: lock.Circuit[:], ProvingKeyHash: lock.ProvingKey[:], VerifyingKey: verifyingKey, VerifyingKeyHash: lock.VerifyingKey[:],
		Program: program[:], ECUSecret: ecu.Secret, ECUKey: ecuKey[:], PolicySecret: policyKey.Secret, PolicyKey: policyPublic[:],
		Policy: signed, From: snapshot(from, a), To: snapshot(to, b), Serial: policy.Serial, Tier: 0,
		Proof: proof[:], Rerandomised: rerandomised[:], Claim: encoded(t, c), ClaimID: id[:], FromHead: encoded(t, &head),
	}
	s := Statement{From: from.Commitment, To: to.Commitment, Rows: policy.Statement(0)}
	for _, r := range s.Rows {
		v.Rows = append(v.Rows, rowVector{r.A, r.B})
	}
	inputs, err := s.publicInputs()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range inputs {
		b := e.Bytes()
		v.PublicInputs = append(v.PublicInputs, b[:])
	}
	for _, f := range forgeries(t, c) {
		v.Refused = append(v.Refused, refusedVector{f.name, f.claim})
	}
	return v
}

// TestClaimVector holds the stored vector to what this package makes of its inputs, and the stored bytes to what it accepts.
func TestClaimVector(t *testing.T) {
	path := filepath.Join("testdata", "claim.json")
	if vectortest.Update() {
		j, c := goodClaim(t)
		key, err := os.ReadFile(filepath.Join(keyDir, verifyingFile))
		if err != nil {
			t.Fatal(err)
		}
		proof := c.Proofs[0].Proof
		vectortest.Write(t, path, makeClaimVector(t, keys(t), key, proof, rerandomised(t, j.verifier, proof, 7, 11)))
	}
	var want claimVector
	vectortest.Read(t, path, &want)
	lock := Lock{
		Environment: wire.Development, Circuit: wire.Hash(want.Circuit), ProvingKey: wire.Hash(want.ProvingKeyHash),
		VerifyingKey: wire.ID(want.VerifyingKey),
	}
	got := makeClaimVector(t, lock, want.VerifyingKey, wire.Proof(want.Proof), wire.Proof(want.Rerandomised))
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("vector differs (-stored +made):\n%s", d)
	}
	if again, err := systemHash(t); err != nil || !bytes.Equal(again[:], want.Circuit) {
		t.Errorf("the vector's circuit is %x, this package's %s (%v)", want.Circuit, again, err)
	}

	// From here on nothing but the stored bytes, as another implementation has them.
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, verifyingFile), want.VerifyingKey, 0o600); err != nil {
		t.Fatal(err)
	}
	verifier, err := OpenVerifier(dir, lock)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := terms.OpenPolicy(wire.KeySet{wire.PublicKey(want.PolicyKey)}, wire.Hash(want.Program), want.Policy)
	if err != nil {
		t.Fatal(err)
	}
	ecu := wire.PublicKey(want.ECUKey)
	pub, err := ecu.Key()
	if err != nil {
		t.Fatal(err)
	}
	var openings [2]wire.Opening
	for i, s := range []snapshotVector{want.From, want.To} {
		openings[i] = wire.Opening{Counters: s.Counters, Salt: wire.Salt(s.Salt)}
		if c := Commit(openings[i]); !bytes.Equal(c[:], s.Commitment) {
			t.Errorf("snapshot %d commits to %x", i, c)
		}
		signed := wire.Snapshot{Seq: s.Seq, Day: s.Day, Commitment: wire.Commitment(s.Commitment), Signature: wire.Signature(s.Signature)}
		if err := attest.Verify(pub, wire.Hash(want.Program), signed); err != nil {
			t.Errorf("snapshot %d: %v", i, err)
		}
	}
	head := wire.Head{Seq: want.From.Seq, Day: want.From.Day, Commitment: wire.Commitment(want.From.Commitment)}
	j := judge{verifier, ecu, head, policy}
	for name, b := range map[string][]byte{"claim": want.Claim, "claim from the head": want.FromHead} {
		if err := j.check(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := wire.DecodeClaim(want.Claim)
	if err != nil {
		t.Fatal(err)
	}
	if c.Proofs[0].Policy != want.Serial || c.Proofs[0].Tier != want.Tier || !bytes.Equal(c.Proofs[0].Proof[:], want.Proof) {
		t.Errorf("the claim decodes to %+v", c.Proofs)
	}
	if id := wire.ID(want.Claim); !bytes.Equal(id[:], want.ClaimID) {
		t.Errorf("the claim's identifier is %s", id)
	}
	s := Statement{From: head.Commitment, To: c.To.Commitment}
	for i, r := range want.Rows {
		s.Rows[i] = wire.Row{A: r.A, B: r.B}
	}
	if err := s.Check(openings[0], openings[1]); err != nil {
		t.Error(err)
	}
	if err := verifier.Verify(s, wire.Proof(want.Rerandomised)); err != nil {
		t.Errorf("re-randomised: %v", err)
	}
	for _, r := range want.Refused {
		if err := j.check(r.Claim); err == nil {
			t.Errorf("%s: accepted", r.Why)
		}
	}
}

func systemHash(t *testing.T) (wire.Hash, error) {
	var b bytes.Buffer
	_, err := system(t).WriteTo(&b)
	return wire.ID(b.Bytes()), err
}
