package ingest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/collector/internal/broker"
	"rawstone/collector/internal/credit"
	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func newKey(t *testing.T) (*ecdsa.PrivateKey, wire.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, pub
}

func (c *car) open(keys wire.KeySet) *wire.Receipt {
	c.t.Helper()
	r, err := wire.OpenReceipt(keys, c.receipt())
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// TestRealClaimOverMQTT takes real proofs over a real broker to a real judge: one that holds, one that claims the next tier, one that
// is malformed, one of a vehicle that nobody knows.
func TestRealClaimOverMQTT(t *testing.T) {
	const day = 100
	program := wire.ID([]byte("program"))
	dir := t.TempDir()
	lock, err := claim.Setup(dir)
	if err != nil {
		t.Fatal(err)
	}
	prover, err := claim.OpenProver(dir, lock)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := claim.OpenVerifier(dir, lock)
	if err != nil {
		t.Fatal(err)
	}
	policy := &terms.Policy{
		Version: wire.Version, Program: program, Serial: 1, Kind: terms.KindMileage, ToDay: 1000, CapKm: 1000,
		Circuit: lock.Circuit, ProvingKey: lock.ProvingKey, VerifyingKey: lock.VerifyingKey, Lock: lock.ID(),
	}
	for _, km := range []uint32{32, 40, 50} {
		r := wire.Row{B: int64(km) * 1000}
		r.A[wire.OdometerM] = 1
		policy.Tiers = append(policy.Tiers, terms.Tier{Km: km, Rows: []wire.Row{r}})
	}
	clock := terms.Clock{Timing: terms.Timing{GenesisS: day * 86400, DayS: 86400, DropS: 600}, Now: func() time.Time { return time.Unix(day*86400, 0) }}
	receiptKey, receiptPub := newKey(t)
	keys := wire.KeySet{receiptPub}

	r := newRig(t, nil)
	r.judge, err = credit.New(credit.Config{
		DB: r.db, Program: program, Clock: clock, Policies: []*terms.Policy{policy}, Receipt: receiptKey,
		Verifiers: map[wire.Hash]credit.Verifier{lock.VerifyingKey: verifier},
	})
	if err != nil {
		t.Fatal(err)
	}
	ecu, ecuPub := newKey(t)
	snapshot := func(seq uint64, day, metres uint32) (wire.Snapshot, wire.Opening) {
		var o wire.Opening
		o.Counters[wire.OdometerM] = metres
		rand.Read(o.Salt[:])
		s, err := attest.Sign(ecu, program, seq, day, claim.Commit(o))
		if err != nil {
			t.Fatal(err)
		}
		return s, o
	}
	birth, birthOpening := snapshot(0, 90, 1_234_000)
	to, toOpening := snapshot(9, 99, 1_234_000+40_579)
	_, device := newKey(t)
	err = r.db.Update(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.AddAccount(t.Context(), "A"), tx.AddVehicle(t.Context(), store.Vehicle{ID: "V1", Account: "A", Device: device}),
			tx.AddECU(t.Context(), ecuPub, nil),
			tx.AddBinding(t.Context(), ledger.BindingOpening{Vehicle: "V1", Account: "A", ECU: ecuPub, Head: birth.Head()}))
	})
	if err != nil {
		t.Fatal(err)
	}
	statement := claim.Statement{From: birth.Commitment, To: to.Commitment, Rows: policy.Statement(1)}
	proof, err := prover.Prove(statement, birthOpening, toOpening)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(tier uint8) []byte {
		c := wire.Claim{
			Version: wire.Version, ECU: ecuPub.ID(), From: wire.NewOrigin(birth), To: to,
			Proofs: []wire.ClaimProof{{Policy: 1, Tier: tier, Proof: proof}},
		}
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r.start()
	car1, car9 := newCar(t, r, "V1"), newCar(t, r, "V9")

	for _, c := range []struct {
		car  *car
		kind wire.Kind
		body []byte
		want wire.Reason
	}{
		{car1, wire.KindClaim, encode(2), wire.ReasonProof},
		{car1, wire.KindClaim, []byte("not CBOR"), wire.ReasonMalformed},
		{car1, wire.KindClaim, bytes.Repeat([]byte{0}, broker.MaxMessage-128), wire.ReasonMalformed},
		{car1, wire.KindReport, []byte("not CBOR"), wire.ReasonMalformed},
		{car9, wire.KindClaim, encode(1), wire.ReasonUnknownVehicle},
	} {
		c.car.publish(c.kind, c.body)
		got := c.car.open(keys)
		if got.Accepted || got.Reason != c.want || got.Vehicle != c.car.id || got.Submission != wire.ID(c.body) {
			t.Errorf("got %+v, want refused for %s", got, c.want)
		}
	}
	good := encode(1)
	car1.publish(wire.KindClaim, good)
	first := car1.receipt()
	got, err := wire.OpenReceipt(keys, first)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Accepted || len(got.Credits) != 1 || got.Credits[0] != (wire.Credit{Policy: 1, Km: 40, Effective: day + 1}) || got.Head.Seq != 9 {
		t.Errorf("got %+v", got)
	}
	car1.publish(wire.KindClaim, good)
	if again := car1.receipt(); !bytes.Equal(first, again) {
		t.Error("the repeated claim got another receipt")
	}
	// A claim on a subject that no MQTT client can reach names no vehicle; it is set aside and answered to nobody.
	js, err := jetstream.New(r.broker.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "rawstone.v1.lower.claim", good); err != nil { // returns when it is queued
		t.Fatal(err)
	}
	eventually(t, "queues empty", func() bool { return r.queued() == 0 })
	r.stop()
	want := `
# HELP rawstone_ingest_submissions_total Submissions decided, by kind, outcome (accepted, refused, repeated) and reason of refusal.
# TYPE rawstone_ingest_submissions_total counter
rawstone_ingest_submissions_total{kind="claim",outcome="accepted",reason=""} 1
rawstone_ingest_submissions_total{kind="claim",outcome="refused",reason="bad_proof"} 1
rawstone_ingest_submissions_total{kind="claim",outcome="refused",reason="malformed"} 2
rawstone_ingest_submissions_total{kind="claim",outcome="refused",reason="unknown_vehicle"} 1
rawstone_ingest_submissions_total{kind="claim",outcome="repeated",reason=""} 1
rawstone_ingest_submissions_total{kind="report",outcome="refused",reason="malformed"} 1
`
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(want), "rawstone_ingest_submissions_total"); err != nil {
		t.Error(err)
	}
	if n := r.counted("rawstone_ingest_dead_letters_total"); n != 1 {
		t.Errorf("%v dead letters, want 1", n)
	}
	log := r.log.String()
	if strings.Contains(log, "V1") || strings.Contains(log, "V9") || strings.Contains(log, ecuPub.ID().String()) {
		t.Errorf("the log names a vehicle or key: %s", log)
	}
	if !strings.Contains(log, `kind=claim accepted=1 refused=0 repeated=0 km=40`) || !strings.Contains(log, `kind=claim accepted=0 refused=1 repeated=0 km=0 last_reason=bad_proof`) {
		t.Errorf("the log lacks a decision: %s", log)
	}
}
