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
	r := &Report{Version: Version, Vehicle: "CAR1", Charter: Hash{1}, Epoch: 7, Families: AllFamilies}
	v := make([]int64, VectorLen)
	for i := range v {
		v[i] = int64(i-32) * 1_000_000_000
	}
	if err := r.SetValues(v); err != nil {
		panic(err)
	}
	return r
}

func TestClaimSize(t *testing.T) {
	c := testClaim()
	one, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(one) > 420 {
		t.Errorf("largest claim with one proof has %d bytes, want at most 420", len(one))
	}
	c.Proofs = append(c.Proofs, ClaimProof{Policy: 1<<16 - 1, Tier: 63})
	two, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(two)-len(one) > 140 {
		t.Errorf("a further proof adds %d bytes, want at most 140", len(two)-len(one))
	}
	t.Logf("largest claim: %d bytes, %d more for a further proof", len(one), len(two)-len(one))
	for i := range two {
		for _, cut := range [][]byte{two[:i], append(slices.Clone(two), 0)} {
			if _, err := DecodeClaim(cut); err == nil {
				t.Fatalf("accepted a claim of %d of %d bytes", len(cut), len(two))
			}
		}
	}
	got, err := DecodeClaim(two)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, got); d != "" {
		t.Error(d)
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

func TestReportLengthConstant(t *testing.T) {
	key := testKey(t)
	rapid.Check(t, func(rt *rapid.T) {
		r := testReport()
		v := rapid.SliceOfN(rapid.Int64(), VectorLen, VectorLen).Draw(rt, "vector")
		if err := r.SetValues(v); err != nil {
			rt.Fatal(err)
		}
		b, err := SealReport(key, r)
		if err != nil {
			rt.Fatal(err)
		}
		want, err := SealReport(key, testReport())
		if err != nil {
			rt.Fatal(err)
		}
		if len(b) != len(want) {
			rt.Fatalf("length %d depends on the values, want %d", len(b), len(want))
		}
		for i, x := range r.Values() {
			if x != int64(ClampValue(v[i])) {
				rt.Fatalf("value %d: %d, want %d clamped", i, x, v[i])
			}
		}
	})
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
	}
	for i, m := range []Message{testClaim(), testReport(), &Receipt{Version: Version, Vehicle: "A", Accepted: true}} {
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
