package claim

import (
	"bytes"
	"math/big"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	groth16 "github.com/consensys/gnark/backend/groth16/bn254"

	"rawstone/pkg/wire"
)

func goodProof(t testing.TB) (Statement, wire.Proof) {
	t.Helper()
	s, from, to := week()
	proof, err := openProver(t).Prove(s, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return s, proof
}

// generators is a well-formed proof of nothing.
func generators() wire.Proof {
	_, _, g1, g2 := bn254.Generators()
	return encodeProof(&groth16.Proof{Ar: g1, Bs: g2, Krs: g1})
}

// flags are the two bits on top of a compressed coordinate.
const (
	flagMask     = 0b11 << 6
	flagInfinity = 0b01 << 6
	flagSmallest = 0b10 << 6
)

// offCurve returns the compressed form of a G1 coordinate without a point.
func offCurve(t testing.TB) (b [32]byte) {
	for x := uint64(1); x < 100; x++ {
		e := fp.NewElement(x)
		b = e.Bytes()
		b[0] |= flagSmallest
		var p bn254.G1Affine
		if _, err := p.SetBytes(b[:]); err != nil {
			return b
		}
	}
	t.Fatal("every coordinate has a point")
	return b
}

// outsideSubgroup returns the compressed form of a point on the twist that is not in G2: the twist's order is G2's times a large
// cofactor, so that almost every point will do.
func outsideSubgroup(t testing.TB) (b [64]byte) {
	for x := uint64(1); x < 100; x++ {
		var p bn254.G2Affine
		p.X.A0.SetUint64(x)
		b = p.Bytes() // y = 0 is not right, but the bytes hold x alone
		dec := bn254.NewDecoder(bytes.NewReader(b[:]), bn254.NoSubgroupChecks())
		if dec.Decode(&p) == nil && p.IsOnCurve() && !p.IsInSubGroup() {
			return p.Bytes()
		}
	}
	t.Fatal("no point outside the subgroup found")
	return b
}

func TestDecodeProofRefuses(t *testing.T) {
	good := generators()
	if _, err := decodeProof(good); err != nil {
		t.Fatalf("the well-formed proof: %v", err)
	}
	with := func(at int, part []byte) wire.Proof {
		b := good
		copy(b[at:], part)
		return b
	}
	flagged := func(at int, flag byte) wire.Proof {
		b := good
		b[at] = b[at]&^flagMask | flag
		return b
	}
	infinity := append([]byte{flagInfinity}, make([]byte, 63)...)
	// x + p is the same coordinate once more; it fits the 254 bits below the flags because x is 1.
	plusP := new(big.Int).Add(fp.Modulus(), big.NewInt(1)).FillBytes(make([]byte, 32))
	plusP[0] |= flagSmallest
	atP := fp.Modulus().FillBytes(make([]byte, 32))
	atP[0] |= flagSmallest
	off, outside := offCurve(t), outsideSubgroup(t)
	for name, b := range map[string]wire.Proof{
		"zeros":                       {},
		"A at infinity":               with(0, infinity[:32]),
		"B at infinity":               with(32, infinity),
		"C at infinity":               with(96, infinity[:32]),
		"A infinity with bits set":    flagged(0, flagInfinity),
		"A marked uncompressed":       flagged(0, 0),
		"B marked uncompressed":       flagged(32, 0),
		"C marked uncompressed":       flagged(96, 0),
		"A not reduced":               with(0, plusP),
		"C not reduced":               with(96, plusP),
		"A is the modulus":            with(0, atP),
		"B's first half not reduced":  with(32, plusP),
		"B's second half not reduced": with(64, bytes.Repeat([]byte{0xff}, 32)),
		"A off the curve":             with(0, off[:]),
		"C off the curve":             with(96, off[:]),
		"B outside the subgroup":      with(32, outside[:]),
	} {
		if _, err := decodeProof(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestVerifyRefusesAlteredProofs flips single bits of a good proof; none may pass, and none may panic.
func TestVerifyRefusesAlteredProofs(t *testing.T) {
	v := openVerifier(t)
	s, proof := goodProof(t)
	for bit := 0; bit < len(proof)*8; bit += 5 {
		altered := proof
		altered[bit/8] ^= 1 << (bit % 8)
		if err := v.Verify(s, altered); err == nil {
			t.Errorf("bit %d flipped: accepted", bit)
		}
	}
	for _, at := range []int{0, 32, 96} { // the sign of each point
		altered := proof
		altered[at] ^= 0b01 << 6
		if err := v.Verify(s, altered); err == nil {
			t.Errorf("point at byte %d negated: accepted", at)
		}
	}
	if err := v.Verify(s, generators()); err == nil {
		t.Error("a proof of nothing is accepted")
	}
}

// TestRerandomised shows why nothing may be keyed on a proof's bytes: whoever sees one can make others of it, without a point in
// common, that verify as well.
func TestRerandomised(t *testing.T) {
	v := openVerifier(t)
	s, b := goodProof(t)
	for k := uint64(2); k < 12; k++ {
		other := rerandomised(t, v, b, k, k*k+1)
		for _, part := range [][2]int{{0, endA}, {endA, endB}, {endB, len(b)}} {
			if bytes.Equal(other[part[0]:part[1]], b[part[0]:part[1]]) {
				t.Fatal("a point did not change")
			}
		}
		if err := v.Verify(s, other); err != nil {
			t.Errorf("re-randomised proof: %v", err)
		}
		moved := s
		moved.Rows[0].B--
		if err := v.Verify(moved, other); err == nil {
			t.Error("re-randomising moved a proof to another statement")
		}
	}
}

// rerandomised returns (A/k, k·B + k·m·δ, C + m·A): e(A', B') is e(A, B)·e(m·A, δ), which C' makes up for.
func rerandomised(t testing.TB, v *Verifier, b wire.Proof, k, m uint64) wire.Proof {
	t.Helper()
	p, err := decodeProof(b)
	if err != nil {
		t.Fatal(err)
	}
	x, y := fr.NewElement(k), fr.NewElement(m)
	var inverse, xy fr.Element
	inverse.Inverse(&x)
	xy.Mul(&x, &y)
	var mA bn254.G1Affine
	mA.ScalarMultiplication(&p.Ar, integer(y))
	p.Krs.Add(&p.Krs, &mA)
	var kmDelta bn254.G2Affine
	kmDelta.ScalarMultiplication(&v.key.G2.Delta, integer(xy))
	p.Bs.ScalarMultiplication(&p.Bs, integer(x))
	p.Bs.Add(&p.Bs, &kmDelta)
	p.Ar.ScalarMultiplication(&p.Ar, integer(inverse))
	return encodeProof(p)
}

func FuzzDecodeProof(f *testing.F) {
	good := generators()
	f.Add(good[:])
	f.Add(append([]byte{flagInfinity}, make([]byte, 127)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in wire.Proof
		copy(in[:], b)
		p, err := decodeProof(in)
		if err != nil {
			return
		}
		if encodeProof(p) != in {
			t.Errorf("%x re-encodes differently", in)
		}
		if !p.Ar.IsInSubGroup() || !p.Bs.IsInSubGroup() || !p.Krs.IsInSubGroup() {
			t.Errorf("%x: a point is outside its subgroup", in)
		}
	})
}

// FuzzVerify feeds the verifier proofs, commitments and rows that nobody honest made.
func FuzzVerify(f *testing.F) {
	v := openVerifier(f)
	s, proof := goodProof(f)
	g := generators()
	f.Add(proof[:], s.From[:], s.To[:], int32(1), int64(40_000))
	f.Add(g[:], s.From[:], s.To[:], int32(-1), int64(-1)<<63)
	f.Fuzz(func(t *testing.T, proofBytes, from, to []byte, a int32, b int64) {
		other, p := s, wire.Proof{}
		copy(p[:], proofBytes)
		copy(other.From[:], from)
		copy(other.To[:], to)
		other.Rows[0].A[0], other.Rows[0].B = a, b
		if err := v.Verify(other, p); err == nil && other != s {
			t.Errorf("accepted: %x of %+v", p, other)
		}
	})
}
