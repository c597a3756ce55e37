package batch

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

// randomPairs returns n pairs of points in G1 and G2.
func randomPairs(n int) (ps []bn254.G1Affine, qs []bn254.G2Affine) {
	for range n {
		var p bn254.G1Affine
		var q bn254.G2Affine
		p.ScalarMultiplicationBase(randomInt())
		q.ScalarMultiplicationBase(randomInt())
		ps, qs = append(ps, p), append(qs, q)
	}
	return ps, qs
}

func randomInt() *big.Int {
	var e fr.Element
	e.MustSetRandom()
	return e.BigInt(new(big.Int))
}

// randomTwist returns a point of the twist, which is outside G2 but for once in 2²⁵³.
func randomTwist() bn254.G2Affine {
	var q, g bn254.G2Affine
	_, _, _, g = bn254.Generators()
	var b bn254.E2 // the curve's coefficient
	b.Square(&g.Y)
	var x3 bn254.E2
	x3.Square(&g.X).Mul(&x3, &g.X)
	b.Sub(&b, &x3)
	for {
		q.X.MustSetRandom()
		q.Y.Square(&q.X).Mul(&q.Y, &q.X).Add(&q.Y, &b)
		if q.Y.Legendre() == 1 {
			q.Y.Sqrt(&q.Y)
			return q
		}
	}
}

// TestMillerLoopIsThePairing compares with gnark-crypto's pairing, which multiplies in factors of its own.
func TestMillerLoopIsThePairing(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7} {
		ps, qs := randomPairs(n)
		want, err := bn254.Pair(ps, qs)
		if err != nil {
			t.Fatal(err)
		}
		f, outside := millerLoop(ps, qs)
		if got := bn254.FinalExponentiation(&f); !got.Equal(&want) {
			t.Errorf("%d pairs: not the product of their pairings", n)
		}
		for k := range outside {
			if outside[k] {
				t.Errorf("%d pairs: point %d is said to be outside G2", n, k)
			}
		}
	}
}

// TestMillerLoopFindsPointsOutside mixes points of G2 with points outside, of small order, and sums of both.
func TestMillerLoopFindsPointsOutside(t *testing.T) {
	ps, qs := randomPairs(40)
	r := fr.Modulus()
	cofactor := twistOrder()
	cofactor.Div(cofactor, r)
	for k := range qs {
		switch k % 4 {
		case 1:
			qs[k] = randomTwist()
		case 2: // of the order of the cofactor
			q := multiple(randomTwist(), r)
			qs[k] = q
		case 3: // of order 10069, the smallest prime of the cofactor, or that and r
			rest := new(big.Int).Div(cofactor, big.NewInt(10069))
			for {
				q := multiple(multiple(randomTwist(), r), rest)
				if q.IsInfinity() {
					continue
				}
				if k%8 == 7 {
					q.Add(&q, &qs[k])
				}
				qs[k] = q
				break
			}
		}
	}
	rand.Shuffle(len(qs), func(i, j int) { qs[i], qs[j] = qs[j], qs[i] })
	_, outside := millerLoop(ps, qs)
	for k := range qs {
		if want := !qs[k].IsInSubGroup(); outside[k] != want {
			t.Errorf("point %d outside: %v, want %v", k, outside[k], want)
		}
	}
}

// multiple returns [k]q for q anywhere on the twist, where gnark-crypto's own multiplication assumes G2.
func multiple(q bn254.G2Affine, k *big.Int) (r bn254.G2Affine) {
	var sum, point bn254.G2Jac
	point.FromAffine(&q)
	sum.X.SetOne()
	sum.Y.SetOne()
	for i := k.BitLen() - 1; i >= 0; i-- {
		sum.DoubleAssign()
		if k.Bit(i) == 1 {
			sum.AddAssign(&point)
		}
	}
	r.FromJacobian(&sum)
	return r
}

func seed() *big.Int { return big.NewInt(4965661367192848881) }

// polynomial evaluates coefficients, highest first, at x.
func polynomial(x *big.Int, coefficients ...int64) *big.Int {
	sum := new(big.Int)
	for _, c := range coefficients {
		sum.Mul(sum, x).Add(sum, big.NewInt(c))
	}
	return sum
}

func twistOrder() *big.Int {
	p := polynomial(seed(), 36, 36, 24, 6, 1)
	n := new(big.Int).Lsh(p, 1)
	n.Sub(n, fr.Modulus())
	return n.Mul(n, fr.Modulus())
}

// TestSubgroupLaw checks the numbers on which the test for G2 rests.
func TestSubgroupLaw(t *testing.T) {
	x := seed()
	p, r, trace := polynomial(x, 36, 36, 24, 6, 1), polynomial(x, 36, 36, 18, 6, 1), polynomial(x, 6, 0, 1)
	if r.Cmp(fr.Modulus()) != 0 {
		t.Fatal("not BN254's seed")
	}
	// [6x₀+2] + ψ − ψ² + ψ³ = a + bψ, with ψ² = tψ − p and ψ³ = (t²−p)ψ − tp.
	a := polynomial(x, 6, 2)
	a.Add(a, p).Sub(a, new(big.Int).Mul(trace, p))
	b := new(big.Int).Mul(trace, trace)
	b.Sub(b, p).Sub(b, trace).Add(b, big.NewInt(1))
	norm := new(big.Int).Mul(a, a)
	norm.Add(norm, new(big.Int).Mul(trace, new(big.Int).Mul(a, b)))
	norm.Add(norm, new(big.Int).Mul(p, new(big.Int).Mul(b, b)))
	if gcd := new(big.Int).GCD(nil, nil, norm, twistOrder()); gcd.Cmp(r) != 0 {
		t.Errorf("the norm and the order of the twist share %v, want r", gcd)
	}
	if q := multiple(randomTwist(), twistOrder()); !q.IsInfinity() {
		t.Error("that is not the order of the twist")
	}
}

func BenchmarkMillerLoop(b *testing.B) {
	ps, qs := randomPairs(64)
	b.Run("gnark", func(b *testing.B) {
		for b.Loop() {
			if _, err := bn254.MillerLoop(ps, qs); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("in-step", func(b *testing.B) {
		for b.Loop() {
			millerLoop(ps, qs)
		}
	})
}
