package wire

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"rawstone/pkg/codec"
)

func testKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testPublic(t testing.TB, k crypto.Signer) PublicKey {
	t.Helper()
	p, err := NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func testClaim() *Claim {
	from := Snapshot{Seq: 1<<63 - 2, Day: 1<<32 - 3, Commitment: Commitment{1}, Signature: Signature{2}}
	to := Snapshot{Seq: 1<<63 - 1, Day: 1<<32 - 2, Commitment: Commitment{3}, Signature: Signature{4}}
	return &Claim{
		Version: Version, ECU: KeyID{5}, From: NewOrigin(from), To: to, Forfeit: true,
		Proofs: []ClaimProof{{Policy: 1<<16 - 2, Tier: 63, Proof: Proof{6}}},
	}
}

func testReport() *Report {
	r := &Report{Version: Version, Vehicle: "CAR1", Charter: Hash{1}, Epoch: 7, Families: AllFamilies, Charge: NewCharge(3, [32]byte{9})}
	v := make([]int64, VectorLen)
	for i := range v {
		v[i] = int64(i-32) * 1_000_000_000
	}
	if err := r.SetValues(v); err != nil {
		panic(err)
	}
	return r
}

// TestClaimSize: a claim has the size of the kinds that it may tell of, whatever it tells, and the largest fits.
func TestClaimSize(t *testing.T) {
	c := testClaim()
	c.From = NewOrigin(Snapshot{Seq: 1<<64 - 2, Day: 1<<32 - 2, Commitment: Commitment{1}, Signature: Signature{2}})
	c.To.Seq, c.To.Day, c.Proofs = 1<<64-1, 1<<32-1, nil
	small := &Claim{Version: Version, ECU: KeyID{5}, From: Origin{Seq: 1}, To: Snapshot{Seq: 2, Day: 1}}
	for n := 1; n <= MaxClaimProofs; n++ {
		c.Proofs = append(c.Proofs, ClaimProof{Policy: uint16(1<<16 - 1 - MaxClaimProofs + n), Tier: 63, Proof: Proof{6}})
		small.Proofs = c.Proofs[:1]
		bare, err := Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("largest claim of %d kinds: %d bytes without padding, %d with", n, len(bare), ClaimLen(n))
		if ClaimLen(n) != 420+140*(n-1) {
			t.Errorf("claims of %d kinds have %d bytes", n, ClaimLen(n))
		}
		for _, c := range []*Claim{c, small} {
			b, err := c.EncodeFor(n)
			if err != nil || len(b) != ClaimLen(n) {
				t.Fatalf("%d proofs for %d kinds: %d bytes, %v; want %d", len(c.Proofs), n, len(b), err, ClaimLen(n))
			}
			got, err := DecodeClaim(b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c, got); d != "" {
				t.Error(d)
			}
			for i := range b {
				for _, cut := range [][]byte{b[:i], append(slices.Clone(b), 0)} {
					smaller := len(cut) >= ClaimLen(len(c.Proofs)) && (len(cut)-ClaimLen(1))%140 == 0 // the same claim for fewer kinds
					if _, err := DecodeClaim(cut); (err == nil) != smaller {
						t.Fatalf("claim of %d of %d bytes: %v", len(cut), len(b), err)
					}
				}
			}
		}
		for _, kinds := range []int{-1, 0, n - 1, MaxClaimProofs + 1} {
			if _, err := c.EncodeFor(kinds); err == nil {
				t.Errorf("encoded %d proofs in the size of %d", n, kinds)
			}
		}
		if n == 1 || len(bare) > ClaimLen(n-1) {
			continue
		}
		// Proofs that would fit into the size of fewer kinds.
		if b, err := pad(bare, ClaimLen(n-1)); err != nil {
			t.Fatal(err)
		} else if _, err := DecodeClaim(b); err == nil {
			t.Errorf("accepted %d proofs in the size of %d", n, n-1)
		}
	}
	// Two proofs of a small claim fit into the size of one.
	small.Proofs = c.Proofs[:2]
	bare, err := Marshal(small)
	if err != nil {
		t.Fatal(err)
	}
	b, err := pad(bare, ClaimLen(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeClaim(b); err == nil {
		t.Error("accepted two proofs in the size of one")
	}
}

func TestClaimRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Claim){
		"version":            func(c *Claim) { c.Version = 2 },
		"no proof":           func(c *Claim) { c.Proofs = nil },
		"too many proofs":    func(c *Claim) { c.Proofs = make([]ClaimProof, MaxClaimProofs+1) },
		"policy twice":       func(c *Claim) { c.Proofs = append(c.Proofs, c.Proofs[0]) },
		"ends where begins":  func(c *Claim) { c.To.Seq = c.From.Seq },
		"same day":           func(c *Claim) { c.To.Day = c.From.Day },
		"half an origin":     func(c *Claim) { c.From.Signature = nil },
		"long commitment":    func(c *Claim) { c.From.Commitment = make([]byte, 33) },
		"day without origin": func(c *Claim) { c.From.Commitment, c.From.Signature = nil, nil },
		"forfeit from seq":   func(c *Claim) { c.From = Origin{Seq: 1} },
	} {
		c := testClaim()
		spoil(c)
		if _, err := c.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
		b, err := codec.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		if name == "too many proofs" {
			c.Proofs = c.Proofs[:1] // no size has room for them
			if b, err = codec.Encode(c); err != nil {
				t.Fatal(err)
			}
			b = append(b, b...)
		}
		if b, err = pad(b, MaxClaimLen); err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeClaim(b); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
	c := testClaim()
	c.From, c.Forfeit = Origin{Seq: 1}, false
	if _, err := c.Encode(); err != nil {
		t.Errorf("a claim from the head: %v", err)
	}
}

// Every other spelling of a message must be refused: the submission's identifier is the hash of its bytes.
func TestNonCanonicalRefused(t *testing.T) {
	head := Head{Seq: 1, Day: 2}
	good, err := codec.Encode(head)
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string][]byte{
		"wide integer":      append([]byte{0xa3, 0x00, 0x18, 0x01}, good[3:]...),
		"keys out of order": append([]byte{0xa3, 0x01, 0x02, 0x00, 0x01}, good[5:]...),
		"indefinite map":    append(append([]byte{0xbf}, good[1:]...), 0xff),
		"repeated key":      append([]byte{0xa4, 0x00, 0x01}, good[1:]...),
		"unknown key":       append(append([]byte{0xa4}, good[1:]...), 0x09, 0x00),
		"tag":               append([]byte{0xc1}, good...),
		"trailing byte":     append(slices.Clone(good), 0),
		"short hash":        append([]byte{0xa3, 0, 1, 1, 2, 2, 0x58, 31}, make([]byte, 31)...),
	}
	var h Head
	if err := codec.Decode(good, &h, 100); err != nil || h != head {
		t.Fatalf("good form refused: %v", err)
	}
	for name, b := range bad {
		if err := codec.Decode(b, new(Head), 100); err == nil {
			t.Errorf("%s: accepted %x", name, b)
		}
	}
	if err := codec.Decode(good, &h, len(good)-1); err == nil {
		t.Error("accepted more than the limit")
	}
}

func TestSealedMessages(t *testing.T) {
	key, other := testKey(t), testKey(t)
	keys := KeySet{testPublic(t, key)}
	receipt := &Receipt{Version: Version, Submission: Hash{1}, Vehicle: "CAR1", Accepted: true, Head: &Head{Seq: 3}, Credits: []Credit{{1, 40, 9}}}
	for _, m := range []struct {
		name string
		seal func(crypto.Signer) ([]byte, error)
		open func(KeySet, []byte) (any, error)
		want any
	}{
		{"report", func(k crypto.Signer) ([]byte, error) { return SealReport(k, testReport()) },
			func(k KeySet, b []byte) (any, error) { return OpenReport(k[0], "CAR1", b) }, testReport()},
		{"receipt", func(k crypto.Signer) ([]byte, error) { return SealReceipt(k, receipt) },
			func(k KeySet, b []byte) (any, error) { return OpenReceipt(k, b) }, receipt},
	} {
		t.Run(m.name, func(t *testing.T) {
			b, err := m.seal(key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := m.open(keys, b)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(m.want, got, cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
			if _, err := m.open(KeySet{testPublic(t, other)}, b); err == nil {
				t.Error("accepted under another key")
			}
			for i := range b {
				bad := slices.Clone(b)
				bad[i] ^= 1 << (i % 8)
				if _, err := m.open(keys, bad); err == nil {
					t.Fatalf("accepted with byte %d of %d altered", i, len(b))
				}
			}
			for _, bad := range [][]byte{b[:len(b)-1], append(slices.Clone(b), 0), nil} {
				if _, err := m.open(keys, bad); err == nil {
					t.Errorf("accepted %d bytes of %d", len(bad), len(b))
				}
			}
		})
	}
	// A signature over one type of message must not serve for another of the same payload.
	b, err := Seal(key, contextReceipt, []byte{0xa0})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(keys, contextReport, b, 1000); err == nil {
		t.Error("a receipt's signature opened a report")
	}
}

// TestReportLengthConstant: no field of a report shows in its size.
func TestReportLengthConstant(t *testing.T) {
	key := testKey(t)
	rapid.Check(t, func(rt *rapid.T) {
		v := rapid.SliceOfN(rapid.Int64(), VectorLen, VectorLen).Draw(rt, "vector")
		r := &Report{
			Version: Version, Vehicle: rapid.StringMatching(`[A-HJ-NPR-Z0-9]{18,32}|[A-Z0-9]{1,16}`).Draw(rt, "vehicle"), Charter: Hash(draw(rt, len(Hash{}))),
			Epoch: rapid.Uint32().Draw(rt, "epoch"), Families: Family(rapid.IntRange(1, int(AllFamilies)).Draw(rt, "families")),
			Charge: NewCharge(rapid.Uint64Min(1).Draw(rt, "index"), [32]byte(draw(rt, 32))),
		}
		if err := r.SetValues(v); err != nil {
			rt.Fatal(err)
		}
		b, err := SealReport(key, r)
		if err != nil {
			rt.Fatal(err)
		}
		if len(b) != ReportLen {
			rt.Fatalf("length %d, want %d", len(b), ReportLen)
		}
		for i, x := range r.Values() {
			if x != int64(ClampValue(v[i])) {
				rt.Fatalf("value %d: %d, want %d clamped", i, x, v[i])
			}
		}
		got, err := OpenReport(testPublic(t, key), r.Vehicle, b)
		if read, unsigned := ReadReport(b); err != nil || unsigned != nil || !cmp.Equal(got, r) || !cmp.Equal(read, r) {
			rt.Fatalf("opened %+v (%v), read %+v (%v), want %+v", got, err, read, unsigned, r)
		}
	})
}

func draw(rt *rapid.T, n int) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(rt, "bytes") }

// TestReceiptLengthConstant: the largest answer has the size of the smallest.
func TestReceiptLengthConstant(t *testing.T) {
	key := testKey(t)
	vehicle := strings.Repeat("W", 32)
	most := &Receipt{
		Version: Version, Submission: Hash{1}, Vehicle: vehicle, Accepted: true, Head: &Head{1<<64 - 1, 1<<32 - 1, Commitment{1}}, Original: &Hash{2},
	}
	for range MaxClaimProofs {
		most.Credits = append(most.Credits, Credit{1<<16 - 1, 1<<32 - 1, 1<<32 - 1})
	}
	list := []*Receipt{most, {Version: Version, Vehicle: "A", Accepted: true}}
	for _, r := range []Reason{ReasonMalformed, ReasonUnknownVehicle, ReasonUnknownKey, ReasonRevoked, ReasonSignature, ReasonProof, ReasonGap,
		ReasonStale, ReasonFuture, ReasonPolicy, ReasonCharter, ReasonEpoch, ReasonBudget} {
		list = append(list, &Receipt{Version: Version, Submission: Hash{1}, Vehicle: vehicle, Reason: r, Head: most.Head})
	}
	for _, r := range list {
		if b, err := SealReceipt(key, r); err != nil || len(b) != ReceiptLen {
			t.Errorf("receipt of %d credits, reason %q: %d bytes (%v), want %d", len(r.Credits), r.Reason, len(b), err, ReceiptLen)
		}
	}
}

// TestCharges: a charge is its index and hash, none is none, and every report has one.
func TestCharges(t *testing.T) {
	head := [32]byte{0: 1, 31: 2}
	c := NewCharge(1<<63+5, head)
	if c.Index() != 1<<63+5 || c.Head() != head || c[0] != 0x80 || c[7] != 5 || c[8] != 1 || c[39] != 2 {
		t.Errorf("charge %x", c)
	}
	r := testReport()
	r.Charge = NewCharge(0, head)
	if _, err := SealReport(testKey(t), r); err == nil {
		t.Error("sealed a report of no charge")
	}
	for name, bad := range map[string]ChargeRecord{
		"version":     {Version: 2},
		"hash alone":  {Version: Version, Charge: NewCharge(0, head)},
		"epoch alone": {Version: Version, Epoch: 1},
	} {
		if _, err := Marshal(&bad); err == nil {
			t.Errorf("%s: encoded", name)
		}
		b, err := codec.Encode(bad)
		if err != nil {
			t.Fatal(err)
		}
		if err := Unmarshal(b, new(ChargeRecord), MaxChargeRecordLen); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
	b, err := Marshal(&ChargeRecord{Version: Version, Charge: NewCharge(1<<64-1, head), Epoch: 1<<32 - 1})
	if err != nil || len(b) > MaxChargeRecordLen {
		t.Errorf("the largest record has %d bytes (%v), at most %d are read", len(b), err, MaxChargeRecordLen)
	}
}

// TestVehicleNames: a name is short, plain, and no VIN.
func TestVehicleNames(t *testing.T) {
	for _, id := range []string{"A", "0", "CAR1", strings.Repeat("Z", 32), "WVWZZZ1JZXW00000I", "WVWZZZ1JZXW0000O1", "QVWZZZ1JZXW000001", "WVWZZZ1JZXW00000", "WVWZZZ1JZXW0000001"} {
		if err := CheckVehicle(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{"", "car1", "CAR 1", "CAR-1", "Ä", strings.Repeat("Z", 33), "WVWZZZ1JZXW000001", "LSVAA49J132047371", "11111111111111111"} {
		if CheckVehicle(id) == nil {
			t.Errorf("%q: taken for a vehicle's name", id)
		}
	}
}

func TestHighSRefused(t *testing.T) {
	key := testKey(t)
	for range 20 {
		sig, err := Sign(key, []byte("m"))
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(&key.PublicKey, []byte("m"), sig); err != nil {
			t.Fatal(err)
		}
		if err := Verify(&key.PublicKey, []byte("n"), sig); err == nil {
			t.Fatal("accepted another message")
		}
		s := new(big.Int).SetBytes(sig[32:])
		s.Sub(elliptic.P256().Params().N, s).FillBytes(sig[32:])
		if err := Verify(&key.PublicKey, []byte("m"), sig); err == nil {
			t.Fatal("accepted high s")
		}
	}
	if _, err := NewPublicKey(testKeyOn(t, elliptic.P384()).Public()); err == nil {
		t.Error("took a key of P-384")
	}
	// About half of all x have no point: a decoder that takes them all checks nothing.
	refused := 0
	for x := range byte(64) {
		if _, err := (PublicKey{2, 32: x}).Key(); err != nil {
			refused++
		}
	}
	if refused == 0 {
		t.Error("took 64 of 64 x-coordinates for points of the curve")
	}
}

func testKeyOn(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTopics(t *testing.T) {
	for _, k := range []Kind{KindClaim, KindReport, KindReceipt} {
		v, got, err := ParseSubject(Subject("CAR1", k))
		if err != nil || v != "CAR1" || got != k {
			t.Errorf("%s: %q %q %v", k, v, got, err)
		}
	}
	for _, s := range []string{"", "rawstone.v1.CAR1", "rawstone.v1.car1.claim", "rawstone.v2.CAR1.claim", "rawstone.v1.CAR1.claim.x",
		"rawstone.v1.CAR1.policy", "rawstone.v1." + strings.Repeat("A", 33) + ".claim", "rawstone.v1..claim", "rawstone/v1.CAR1.claim"} {
		if _, _, err := ParseSubject(s); err == nil {
			t.Errorf("%q: accepted", s)
		}
	}
}

// FuzzDecode feeds every payload decoder: what one accepts must encode to the same bytes.
func FuzzDecode(f *testing.F) {
	kinds := []func() Message{
		func() Message { return new(Claim) }, func() Message { return new(Report) }, func() Message { return new(Receipt) },
		func() Message { return new(ChargeRecord) },
	}
	for i, m := range []Message{testClaim(), testReport(), &Receipt{Version: Version, Vehicle: "A", Accepted: true}, &ChargeRecord{Version: Version}} {
		b, err := Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), b)
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		m := kinds[int(kind)%len(kinds)]()
		if Unmarshal(b, m, 1<<16) != nil {
			return
		}
		again, err := Marshal(m)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%T accepted %x and encodes as %x, %v", m, b, again, err)
		}
	})
}

// FuzzPadded feeds the decoders of padded messages: what one accepts has its size and encodes to the same bytes.
func FuzzPadded(f *testing.F) {
	key := testKey(f)
	for n := 1; n <= 2; n++ {
		b, err := testClaim().EncodeFor(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	report, err := SealReport(key, testReport())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(report)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ReadReport(b); err == nil && len(b) != ReportLen {
			t.Fatalf("%d bytes are the report %+v", len(b), r)
		}
		if r, err := OpenReport(testPublic(t, key), "CAR1", b); err == nil && !bytes.Equal(b, report) {
			t.Fatalf("opened %x to %+v", b, r)
		}
		c, err := DecodeClaim(b)
		if err != nil {
			return
		}
		again, err := c.EncodeFor(1 + (len(b)-ClaimLen(1))/140)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted %x and encodes as %x, %v", b, again, err)
		}
	})
}

// FuzzOpen feeds the COSE layer: nothing but what the key signed opens.
func FuzzOpen(f *testing.F) {
	key := testKey(f)
	keys := KeySet{testPublic(f, key)}
	good, err := Seal(key, contextReport, []byte("payload"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, _, err := Open(keys, contextReport, b, 1000); err == nil && !bytes.Equal(b, good) {
			t.Fatalf("opened %x to %x", b, p)
		}
	})
}

// TestBands: every band of a family with limits has its value in the vector, and the speeds are the whole km/h that they stand for.
func TestBands(t *testing.T) {
	speeds, trips := SpeedLimits(), TripLimits()
	for _, l := range Layouts() {
		limits := map[Family]int{FamilySpeed: len(speeds), FamilyTrips: len(trips)}
		if n, ok := limits[l.Family]; ok && l.Len != n+1 {
			t.Errorf("%s has %d values for %d limits", l.Name, l.Len, n)
		}
	}
	for i, kmh := range []int64{1, 10, 30, 50, 70, 90, 110, 130, 160} {
		if want := (kmh*1_000_000 + 1800) / 3600; speeds[i] != want {
			t.Errorf("speed limit %d is %d mm/s, want %d", i, speeds[i], want)
		}
	}
	if !slices.IsSorted(trips[:]) || trips[0] != 1000 || trips[8] != 200_000 {
		t.Errorf("trip limits %v", trips)
	}
}
