package wire

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/codec"
	"rawstone/pkg/vectortest"
)

type octets = vectortest.Octets

// vectors is testdata/messages.json; the README beside it says what the fields are.
type vectors struct {
	Comment   string           `json:"comment"`
	Secret    octets           `json:"private_key"`
	Key       octets           `json:"public_key"`
	KeyID     octets           `json:"key_id"`
	Snapshots []snapshotVector `json:"snapshots"`
	Claims    []claimVector    `json:"claims"`
	Receipts  []receiptVector  `json:"receipts"`
	Reports   []reportVector   `json:"reports"`
	Charges   []chargeVector   `json:"charge_records"`
	Refused   []refusedVector  `json:"refused"`
}

type snapshotVector struct {
	Seq        uint64 `json:"seq"`
	Day        uint32 `json:"day"`
	Commitment octets `json:"commitment,omitempty"`
	Signature  octets `json:"signature,omitempty"`
	Bytes      octets `json:"bytes,omitempty"`
}

type claimVector struct {
	Name    string         `json:"name"`
	Version uint8          `json:"version"`
	ECU     octets         `json:"ecu_key_id"`
	From    snapshotVector `json:"from"` // without commitment and signature where the sequence number stands alone
	To      snapshotVector `json:"to"`
	Proofs  []proofVector  `json:"proofs"`
	Forfeit bool           `json:"forfeit"`
	Bytes   octets         `json:"bytes"`
	ID      octets         `json:"id"`
}

type proofVector struct {
	Policy uint16 `json:"policy"`
	Tier   uint8  `json:"tier"`
	Proof  octets `json:"proof"`
}

// sealedVector is what every COSE_Sign1 has.
type sealedVector struct {
	Payload octets `json:"payload"`
	Signed  octets `json:"sig_structure"` // RFC 9052 §4.4: what the signature is over
	Bytes   octets `json:"bytes"`
}

type receiptVector struct {
	Name       string         `json:"name"`
	Version    uint8          `json:"version"`
	Submission octets         `json:"submission"`
	Vehicle    string         `json:"vehicle"`
	Accepted   bool           `json:"accepted"`
	Reason     Reason         `json:"reason,omitempty"`
	Head       *headVector    `json:"head,omitempty"`
	Credits    []creditVector `json:"credits,omitempty"`
	Original   octets         `json:"original,omitempty"`
	sealedVector
}

type headVector struct {
	Seq        uint64 `json:"seq"`
	Day        uint32 `json:"day"`
	Commitment octets `json:"commitment"`
}

type creditVector struct {
	Policy    uint16 `json:"policy"`
	Km        uint32 `json:"km"`
	Effective uint32 `json:"effective_day"`
}

type reportVector struct {
	Version  uint8   `json:"version"`
	Vehicle  string  `json:"vehicle"`
	Charter  octets  `json:"charter"`
	Epoch    uint32  `json:"epoch"`
	Families Family  `json:"families"`
	Values   []int64 `json:"values"`
	Charge   octets  `json:"charge"`
	sealedVector
}

type chargeVector struct {
	Version uint8  `json:"version"`
	Charge  octets `json:"charge"`
	Epoch   uint32 `json:"epoch"`
	Bytes   octets `json:"bytes"`
}

func (v chargeVector) record() *ChargeRecord {
	return &ChargeRecord{Version: v.Version, Charge: Charge(v.Charge), Epoch: v.Epoch}
}

type refusedVector struct {
	Type  string `json:"type"`
	Why   string `json:"why"`
	Bytes octets `json:"bytes"`
}

func (v snapshotVector) snapshot() Snapshot {
	return Snapshot{Seq: v.Seq, Day: v.Day, Commitment: Commitment(v.Commitment), Signature: Signature(v.Signature)}
}

func (v claimVector) claim() *Claim {
	c := &Claim{Version: v.Version, ECU: KeyID(v.ECU), From: Origin{Seq: v.From.Seq}, To: v.To.snapshot(), Forfeit: v.Forfeit}
	if len(v.From.Commitment) > 0 {
		c.From = NewOrigin(v.From.snapshot())
	}
	for _, p := range v.Proofs {
		c.Proofs = append(c.Proofs, ClaimProof{p.Policy, p.Tier, Proof(p.Proof)})
	}
	return c
}

func (v receiptVector) receipt() *Receipt {
	r := &Receipt{Version: v.Version, Submission: Hash(v.Submission), Vehicle: v.Vehicle, Accepted: v.Accepted, Reason: v.Reason}
	if v.Head != nil {
		r.Head = &Head{v.Head.Seq, v.Head.Day, Commitment(v.Head.Commitment)}
	}
	for _, c := range v.Credits {
		r.Credits = append(r.Credits, Credit(c))
	}
	if v.Original != nil {
		h := Hash(v.Original)
		r.Original = &h
	}
	return r
}

func (v reportVector) report(t testing.TB) *Report {
	t.Helper()
	r := &Report{Version: v.Version, Vehicle: v.Vehicle, Charter: Hash(v.Charter), Epoch: v.Epoch, Families: v.Families, Charge: Charge(v.Charge)}
	if err := r.SetValues(v.Values); err != nil {
		t.Fatal(err)
	}
	return r
}

// inputs returns the vectors without any bytes that are made of them.
func inputs() vectors {
	from := snapshotVector{Seq: 41, Day: 19_993, Commitment: vectortest.Pattern(0x01, 32), Signature: vectortest.Pattern(0x40, 64)}
	to := snapshotVector{Seq: 48, Day: 20_000, Commitment: vectortest.Pattern(0x02, 32), Signature: vectortest.Pattern(0x41, 64)}
	birth := snapshotVector{Commitment: vectortest.Pattern(0x03, 32), Signature: vectortest.Pattern(0x42, 64)}
	last := snapshotVector{Seq: 1<<64 - 1, Day: 1<<32 - 1, Commitment: vectortest.Pattern(0x04, 32), Signature: vectortest.Pattern(0x43, 64)}
	ecu := vectortest.Pattern(0xe0, 16)
	var eight []proofVector
	for i := range MaxClaimProofs {
		eight = append(eight, proofVector{uint16(1<<16 - MaxClaimProofs + i), 63, vectortest.Pattern(byte(i), 128)})
	}
	values := make([]int64, VectorLen)
	for i := range values {
		values[i] = int64(i-32) * 67_108_863
	}
	values[0], values[63] = -1<<31, 1<<31-1
	charge := NewCharge(52, [32]byte(vectortest.Pattern(0x51, 32)))
	most := NewCharge(1<<64-1, [32]byte(vectortest.Pattern(0x52, 32)))
	answer := make([]int64, VectorLen) // of a categorical mechanism: bins 2 and 6 of 11
	answer[2], answer[6] = 1, 1
	head := &headVector{48, 20_000, vectortest.Pattern(0x02, 32)}
	return vectors{
		Comment: "Messages of version 1 (wire.cddl): inputs and their exact bytes. Commitments, snapshot signatures and proofs are " +
			"patterns here, not real ones: pkg/claim/testdata has a claim that holds. See README.md.",
		Snapshots: []snapshotVector{birth, from, to, last},
		Claims: []claimVector{
			{Name: "from the head", Version: 1, ECU: ecu, From: snapshotVector{Seq: 41}, To: to, Proofs: []proofVector{{7, 0, vectortest.Pattern(0x80, 128)}}},
			{Name: "whole origin", Version: 1, ECU: ecu, From: from, To: to, Proofs: []proofVector{{7, 12, vectortest.Pattern(0x80, 128)}}},
			{Name: "from the birth on day 0", Version: 1, ECU: ecu, From: birth, To: to, Proofs: []proofVector{{0, 0, vectortest.Pattern(0x80, 128)}}},
			{Name: "forfeit and two proofs", Version: 1, ECU: ecu, From: from, To: to, Forfeit: true,
				Proofs: []proofVector{{7, 23, vectortest.Pattern(0x80, 128)}, {24, 24, vectortest.Pattern(0x90, 128)}}},
			{Name: "largest", Version: 1, ECU: ecu, From: snapshotVector{1<<64 - 2, 1<<32 - 2, vectortest.Pattern(5, 32), vectortest.Pattern(6, 64), nil}, To: last,
				Forfeit: true, Proofs: eight},
		},
		Receipts: []receiptVector{
			{Name: "accepted", Version: 1, Submission: vectortest.Pattern(0x11, 32), Vehicle: "CAR1", Accepted: true, Head: head,
				Credits: []creditVector{{7, 40, 20_000}, {24, 0, 20_001}}},
			{Name: "accepted before", Version: 1, Submission: vectortest.Pattern(0x12, 32), Vehicle: "CAR1", Accepted: true, Head: head,
				Credits: []creditVector{{7, 40, 20_000}}, Original: vectortest.Pattern(0x11, 32)},
			{Name: "gap", Version: 1, Submission: vectortest.Pattern(0x13, 32), Vehicle: "CAR1", Reason: ReasonGap, Head: head},
			{Name: "malformed", Version: 1, Submission: vectortest.Pattern(0x14, 32), Vehicle: "A0123456789012345678901234567890", Reason: ReasonMalformed},
			{Name: "report accepted", Version: 1, Submission: vectortest.Pattern(0x15, 32), Vehicle: "0", Accepted: true},
		},
		Reports: []reportVector{
			{Version: 1, Vehicle: "CAR1", Charter: vectortest.Pattern(0x21, 32), Epoch: 20_000, Families: AllFamilies, Values: values, Charge: charge[:]},
			{Version: 1, Vehicle: "A0123456789012345678901234567890", Charter: vectortest.Pattern(0x22, 32), Epoch: 1<<32 - 1, Families: FamilySpeed, Values: answer, Charge: most[:]},
		},
		Charges: []chargeVector{
			{Version: 1, Charge: make(octets, len(Charge{}))},
			{Version: 1, Charge: charge[:], Epoch: 20_000},
			{Version: 1, Charge: most[:], Epoch: 1<<32 - 1},
		},
	}
}

// sigStructure is RFC 9052 §4.4 by hand.
func sigStructure(id []byte, context string, payload []byte) octets {
	protected := slices.Concat([]byte{0xa2, 0x01, 0x26, 0x04, 0x50}, id)
	head := func(major byte, n int) []byte {
		switch {
		case n < 24:
			return []byte{major | byte(n)}
		case n < 256:
			return []byte{major | 24, byte(n)}
		}
		return []byte{major | 25, byte(n >> 8), byte(n)}
	}
	return slices.Concat([]byte{0x84, 0x6a}, []byte("Signature1"), head(0x40, len(protected)), protected,
		head(0x40, len(context)), []byte(context), head(0x40, len(payload)), payload)
}

// fill makes the bytes of the vectors' inputs.
func fill(t *testing.T, v vectors) vectors {
	t.Helper()
	key := vectortest.Key(t, "collector and device")
	public := testPublic(t, key)
	id := public.ID()
	v.Secret, v.Key, v.KeyID = key.Secret, public[:], id[:]
	check := func(b []byte, err error) octets {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for i, s := range v.Snapshots {
		v.Snapshots[i].Bytes = check(codec.Encode(s.snapshot()))
	}
	for i, c := range v.Claims {
		b := check(c.claim().Encode())
		id := ID(b)
		v.Claims[i].Bytes, v.Claims[i].ID = b, id[:]
	}
	for i, r := range v.Receipts {
		payload := check(Marshal(r.receipt()))
		v.Receipts[i].sealedVector = sealedVector{payload, sigStructure(id[:], contextReceipt, payload), check(SealReceipt(key, r.receipt()))}
	}
	for i, r := range v.Reports {
		payload := check(Marshal(r.report(t)))
		v.Reports[i].sealedVector = sealedVector{payload, sigStructure(id[:], contextReport, payload), check(SealReport(key, r.report(t)))}
	}
	for i, r := range v.Charges {
		v.Charges[i].Bytes = check(Marshal(r.record()))
	}
	claim, receipt := v.Claims[0].Bytes, v.Receipts[0]
	v.Refused = nil
	for _, s := range refit(text(t, claim), claim, respell(text(t, claim))) {
		v.Refused = append(v.Refused, refusedVector{"claim", s.why, s.bytes})
	}
	for _, s := range respell(receipt.Payload) {
		v.Refused = append(v.Refused, refusedVector{"receipt", s.why + " (in the payload, signed)", check(pad(check(Seal(key, contextReceipt, s.bytes)), ReceiptLen))})
	}
	sealed := text(t, receipt.Bytes)
	for _, s := range refit(sealed, receipt.Bytes, respell(sealed)) {
		v.Refused = append(v.Refused, refusedVector{"receipt", s.why, s.bytes})
	}
	for _, s := range refit(sealed, receipt.Bytes, resign(sealed)) {
		v.Refused = append(v.Refused, refusedVector{"receipt", s.why, s.bytes})
	}
	v.Refused = append(v.Refused,
		refusedVector{"receipt", "signed as a report", check(pad(check(Seal(key, contextReport, receipt.Payload)), ReceiptLen))},
		refusedVector{"receipt", "a report", v.Reports[0].Bytes},
		refusedVector{"claim", "a snapshot", v.Snapshots[1].Bytes},
	)
	return v
}

// TestVectors holds the stored vectors to what this package makes of their inputs, and decodes and checks the stored bytes.
func TestVectors(t *testing.T) {
	path := filepath.Join("testdata", "messages.json")
	if vectortest.Update() {
		vectortest.Write(t, path, fill(t, inputs()))
	}
	var want vectors
	vectortest.Read(t, path, &want)
	if d := cmp.Diff(want, fill(t, inputs()), cmp.AllowUnexported(receiptVector{}, reportVector{})); d != "" {
		t.Errorf("vectors differ (-stored +made):\n%s", d)
	}

	// From here on nothing but the stored inputs and bytes.
	keys := KeySet{PublicKey(want.Key)}
	same := func(name string, got, want any, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-inputs +decoded):\n%s", name, d)
		}
	}
	for _, v := range want.Snapshots {
		var s Snapshot
		err := codec.Decode(v.Bytes, &s, MaxClaimLen)
		same("snapshot", s, v.snapshot(), err)
	}
	for _, v := range want.Claims {
		c, err := DecodeClaim(v.Bytes)
		same(v.Name, c, v.claim(), err)
		if id := ID(v.Bytes); !bytes.Equal(id[:], v.ID) {
			t.Errorf("%s: identifier %s", v.Name, id)
		}
	}
	for _, v := range want.Receipts {
		r, err := OpenReceipt(keys, v.Bytes)
		same(v.Name, r, v.receipt(), err)
		checkSignature(t, keys[0], v.sealedVector)
	}
	for _, v := range want.Reports {
		r, err := OpenReport(keys[0], v.Vehicle, v.Bytes)
		same("report", r, v.report(t), err)
		checkSignature(t, keys[0], v.sealedVector)
	}
	for _, v := range want.Charges {
		r := new(ChargeRecord)
		err := Unmarshal(v.Bytes, r, MaxChargeRecordLen)
		same("charge record", r, v.record(), err)
	}
	for _, v := range want.Refused {
		var err error
		switch v.Type {
		case "claim":
			_, err = DecodeClaim(v.Bytes)
		case "receipt":
			_, err = OpenReceipt(keys, v.Bytes)
		default:
			t.Fatalf("unknown type %q", v.Type)
		}
		if err == nil {
			t.Errorf("%s, %s: accepted", v.Type, v.Why)
		}
	}
}

// checkSignature checks the signature, the last 64 bytes before the padding, with the standard library over the stored text.
func checkSignature(t *testing.T, key PublicKey, v sealedVector) {
	t.Helper()
	pub, err := key.Key()
	if err != nil {
		t.Fatal(err)
	}
	sealed := text(t, v.Bytes)
	if err := Verify(pub, v.Signed, Signature(sealed[len(sealed)-64:])); err != nil {
		t.Error(err)
	}
	if !bytes.Contains(v.Bytes, v.Payload) {
		t.Error("the sealed bytes do not hold the payload")
	}
}
