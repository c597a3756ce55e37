package claim

import (
	"bytes"
	"crypto/elliptic"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"

	"rawstone/pkg/attest"
	"rawstone/pkg/wire"
)

// A forgery is a claim that must be refused.
type forgery struct {
	name  string
	claim []byte
}

// forgeries returns what becomes of a claim in the hands of somebody who knows the formats.
func forgeries(t testing.TB, good *wire.Claim) (list []forgery) {
	t.Helper()
	altered := func(name string, alter func(*wire.Claim)) {
		c := *good
		c.Proofs = slices.Clone(good.Proofs)
		alter(&c)
		list = append(list, forgery{name, encoded(t, &c)})
	}
	proof := func(name string, at int, part []byte) {
		altered(name, func(c *wire.Claim) { copy(c.Proofs[0].Proof[at:], part) })
	}
	b := good.Proofs[0].Proof
	off, offTwist, outside := offCurve(t), offTwist(t), outsideSubgroup(t)
	proof("point A off the curve", 0, off[:])
	proof("point B off the curve", endA, offTwist[:])
	proof("point C off the curve", endB, off[:])
	proof("point B outside the subgroup", endA, outside[:])
	for _, n := range []int64{10_069, 5_864_401} { // the least prime factors of the cofactor
		point := ofOrder(t, n)
		compressed := point.Bytes()
		proof(fmt.Sprintf("point B of order %d", n), endA, compressed[:])
		p, err := decodeProof(b)
		if err != nil {
			t.Fatal(err)
		}
		p.Bs.Add(&p.Bs, &point)
		compressed = p.Bs.Bytes()
		proof(fmt.Sprintf("point B moved out of the subgroup by one of order %d", n), endA, compressed[:])
	}
	infinity := append([]byte{flagInfinity}, make([]byte, 63)...)
	proof("point A at infinity", 0, infinity[:32])
	proof("point B at infinity", endA, infinity)
	proof("point C at infinity", endB, infinity[:32])
	zero := wire.Proof{}
	for _, at := range []int{0, endA, endB} {
		copy(zero[at:], infinity[:32])
	}
	proof("every point at infinity", 0, zero[:])
	generator := generators()
	proof("generators for a proof", 0, generator[:])
	proof("points A and C exchanged", 0, slices.Concat(b[endB:], b[endA:endB], b[:endA]))
	// x + p is the same coordinate once more. Of a random proof none may fit the 254 bits; the generator's does.
	plusP := new(big.Int).Add(fp.Modulus(), big.NewInt(1)).FillBytes(make([]byte, 32))
	plusP[0] |= flagSmallest
	proof("coordinate of A not reduced", 0, plusP)
	proof("coordinate of C not reduced", endB, plusP)
	for name, at := range map[string]int{"A": 0, "B": endA, "C": endB} {
		proof("point "+name+" negated", at, []byte{b[at] ^ 0b01<<6})
	}
	altered("later commitment plus the modulus", func(c *wire.Claim) { c.To.Commitment = plusModulus(c.To.Commitment) })
	altered("earlier commitment plus the modulus", func(c *wire.Claim) {
		d := plusModulus(wire.Commitment(c.From.Commitment))
		c.From.Commitment = d[:]
	})
	altered("later commitment plus the modulus, signed by the ECU", func(c *wire.Claim) {
		key, _ := fixedKey(t, "ecu")
		var err error
		if c.To, err = attest.Sign(key, fixedProgram(), c.To.Seq, c.To.Day, plusModulus(c.To.Commitment)); err != nil {
			t.Fatal(err)
		}
	})
	altered("commitments exchanged", func(c *wire.Claim) {
		from := c.To.Commitment
		c.To.Commitment = wire.Commitment(c.From.Commitment)
		c.From.Commitment = from[:]
	})
	altered("later snapshot's signature with high s", func(c *wire.Claim) { c.To.Signature = highS(c.To.Signature) })
	altered("earlier snapshot's signature with high s", func(c *wire.Claim) {
		s := highS(wire.Signature(c.From.Signature))
		c.From.Signature = s[:]
	})
	altered("signature of zeros", func(c *wire.Claim) { c.To.Signature = wire.Signature{} })
	altered("a day later", func(c *wire.Claim) { c.To.Day++ })
	altered("a number later", func(c *wire.Claim) { c.To.Seq++ })
	altered("tier one higher", func(c *wire.Claim) { c.Proofs[0].Tier++ })
	altered("another policy", func(c *wire.Claim) { c.Proofs[0].Policy++ })
	altered("another key", func(c *wire.Claim) { c.ECU[0]++ })
	whole := encoded(t, good)
	list = append(list,
		forgery{"trailing byte", append(slices.Clone(whole), 0)},
		forgery{"the claim twice", slices.Concat(whole, whole)},
		forgery{"truncated", whole[:len(whole)-1]},
		forgery{"version not in its shortest form", slices.Concat(whole[:2], []byte{0x18}, whole[2:])},
		forgery{"map of indefinite length", slices.Concat([]byte{0xbf}, whole[1:], []byte{0xff})},
	)
	slices.SortFunc(list, func(a, b forgery) int { return bytes.Compare([]byte(a.name), []byte(b.name)) })
	return list
}

// highS returns the second form of a signature.
func highS(sig wire.Signature) wire.Signature {
	s := new(big.Int).SetBytes(sig[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(sig[32:])
	return sig
}

// offTwist returns the compressed form of a G2 coordinate without a point.
func offTwist(t testing.TB) (b [64]byte) {
	for x := uint64(1); x < 100; x++ {
		var p bn254.G2Affine
		p.X.A0.SetUint64(x)
		b = p.Bytes()
		if bn254.NewDecoder(bytes.NewReader(b[:]), bn254.NoSubgroupChecks()).Decode(&p) != nil {
			return b
		}
	}
	t.Fatal("every coordinate has a point")
	return b
}

// ofOrder returns a point of the twist of a small order n. The twist has r·(2p − r) points, of which n must divide the second factor.
func ofOrder(t testing.TB, n int64) (p bn254.G2Affine) {
	t.Helper()
	order := new(big.Int).Lsh(fp.Modulus(), 1)
	order.Sub(order, fr.Modulus()).Mul(order, fr.Modulus())
	cofactor, rest := new(big.Int).QuoRem(order, big.NewInt(n), new(big.Int))
	if rest.Sign() != 0 {
		t.Fatalf("%d does not divide the order of the twist", n)
	}
	b := outsideSubgroup(t)
	if err := bn254.NewDecoder(bytes.NewReader(b[:]), bn254.NoSubgroupChecks()).Decode(&p); err != nil {
		t.Fatal(err)
	}
	q := times(p, cofactor)
	if back := times(q, big.NewInt(n)); q.IsInfinity() || !q.IsOnCurve() || !back.IsInfinity() {
		t.Fatalf("no point of order %d", n)
	}
	return q
}

// times multiplies by doubling and adding: gnark-crypto's own way takes a point for one of the subgroup.
func times(p bn254.G2Affine, k *big.Int) bn254.G2Affine {
	var sum, q bn254.G2Jac
	q.FromAffine(&p)
	sum.FromAffine(new(bn254.G2Affine))
	for i := k.BitLen() - 1; i >= 0; i-- {
		sum.DoubleAssign()
		if k.Bit(i) == 1 {
			sum.AddAssign(&q)
		}
	}
	var r bn254.G2Affine
	r.FromJacobian(&sum)
	return r
}

func TestForgedClaims(t *testing.T) {
	j, c := goodClaim(t)
	for _, f := range forgeries(t, c) {
		t.Run(f.name, func(t *testing.T) {
			if err := j.check(f.claim); err == nil {
				t.Errorf("accepted: %x", f.claim)
			} else {
				t.Log(err)
			}
		})
	}
	// Malleability that is known and harmless, because nothing is keyed on a proof's bytes.
	c.Proofs[0].Proof = rerandomised(t, j.verifier, c.Proofs[0].Proof, 3, 5)
	if err := j.check(encoded(t, c)); err != nil {
		t.Errorf("re-randomised: %v", err)
	}
}
