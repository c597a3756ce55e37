package batch

import (
	"crypto/rand"
	"math/big"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

// TestEndomorphism multiplies by single digits and by scalars, in the group and in the field.
func TestEndomorphism(t *testing.T) {
	e := newEndomorphism()
	ps, _ := randomPairs(3)
	tables := e.tables(ps)
	for d := 1; d < 16; d++ {
		var want bn254.G1Affine
		want.ScalarMultiplication(&ps[0], e.digits[d].BigInt(new(big.Int)))
		if !tables[0][d].Equal(&want) {
			t.Errorf("digit %d: table and field differ", d)
		}
	}
	for range 20 {
		scalars := make([]scalar, len(ps))
		var want bn254.G1Jac
		want.FromAffine(new(bn254.G1Affine))
		for i := range scalars {
			rand.Read(scalars[i][:])
			r := e.element(&scalars[i])
			var product bn254.G1Affine
			product.ScalarMultiplication(&ps[i], r.BigInt(new(big.Int)))
			want.AddMixed(&product)
		}
		if got := combine(tables, scalars); !got.Equal(&want) {
			t.Errorf("%x: combination differs", scalars)
		}
	}
	// Equal points, of which an addition is a doubling.
	tables = e.tables([]bn254.G1Affine{ps[0], ps[0]})
	s := scalar{0: 0x21}
	got := combine(tables, []scalar{s, s})
	r := e.element(&s)
	r.Double(&r)
	var want bn254.G1Affine
	want.ScalarMultiplication(&ps[0], r.BigInt(new(big.Int)))
	var affine bn254.G1Affine
	if affine.FromJacobian(&got); !affine.Equal(&want) {
		t.Error("equal points: combination differs")
	}
}

// TestDigits holds what the soundness of a batch rests on: digits differ modulo 4 and are at most 2 in absolute value, and the bound
// on the norm of differences is below r.
func TestDigits(t *testing.T) {
	seen := make(map[[2]int64]bool)
	for _, d := range digits() {
		seen[[2]int64{(d[0] + 4) % 4, (d[1] + 4) % 4}] = true
		if norm := d[0]*d[0] - d[0]*d[1] + d[1]*d[1]; norm > 4 {
			t.Errorf("digit %v has norm %d", d, norm)
		}
	}
	if len(seen) != 16 {
		t.Errorf("%d digits modulo 4, want 16", len(seen))
	}
	bound := new(big.Int).Lsh(big.NewInt(16), 128) // times 9
	if bound.Cmp(new(big.Int).Mul(big.NewInt(9), fr.Modulus())) >= 0 {
		t.Error("differences of scalars may be multiples of r")
	}
	var lambda, one fr.Element
	e := newEndomorphism()
	lambda.Square(&e.digits[2]).Add(&lambda, &e.digits[2])
	one.SetOne()
	if lambda.Add(&lambda, &one); !lambda.IsZero() {
		t.Error("λ²+λ+1 is not zero")
	}
}
