package batch

import (
	"math/big"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
)

// A scalar is Σ dᵢ·4ⁱ for 32 digits dᵢ, each four bits that index the digits of an endomorphism, lower digits and lower bits first.
type scalar [16]byte

const numDigits = 2 * len(scalar{})

func (s *scalar) digit(i int) byte { return s[i/2] >> (4 * (i % 2)) & 15 }

// digits returns what the digits stand for, a + bλ each: zero, the six units, (2+λ) times the units, and 2, 2λ and 2λ². They are
// all of ℤ[λ] modulo 4, and a point's multiples by them come from three points.
func digits() [16][2]int64 {
	return [16][2]int64{
		{0, 0},
		{1, 0}, {0, 1}, {-1, -1}, {-1, 0}, {0, -1}, {1, 1},
		{2, 1}, {-1, 1}, {-1, -2}, {-2, -1}, {1, -1}, {1, 2},
		{2, 0}, {0, 2}, {-2, -2},
	}
}

// An endomorphism is G1's: multiplication by λ is one of the x coordinate by ω, both primitive third roots of one, mod r and mod p.
type endomorphism struct {
	omega  fp.Element
	digits [16]fr.Element
}

// newEndomorphism takes roots that belong together (TestEndomorphism): λ = 36x₀³+18x₀²+6x₀+1 and ω = 18x₀³+18x₀²+9x₀+1, where x₀ is
// BN254's seed.
func newEndomorphism() (e endomorphism) {
	x := big.NewInt(4965661367192848881)
	horner := func(coefficients ...int64) *big.Int {
		sum := new(big.Int)
		for _, c := range coefficients {
			sum.Mul(sum, x).Add(sum, big.NewInt(c))
		}
		return sum
	}
	e.omega.SetBigInt(horner(18, 18, 9, 1))
	var lambda fr.Element
	lambda.SetBigInt(horner(36, 18, 6, 1))
	for i, d := range digits() {
		var a fr.Element
		a.SetInt64(d[0])
		e.digits[i].SetInt64(d[1])
		e.digits[i].Mul(&e.digits[i], &lambda).Add(&e.digits[i], &a)
	}
	return e
}

// element returns s mod r.
func (e *endomorphism) element(s *scalar) (r fr.Element) {
	for i := numDigits - 1; i >= 0; i-- {
		r.Double(&r).Double(&r).Add(&r, &e.digits[s.digit(i)])
	}
	return r
}

// A table holds a point's multiples by the digits; that by zero is not used.
type table [16]bn254.G1Affine

// tables returns the tables of points.
func (e *endomorphism) tables(ps []bn254.G1Affine) []table {
	multiples := make([]bn254.G1Jac, 2*len(ps))
	for i := range ps {
		double, other := &multiples[2*i], &multiples[2*i+1]
		double.DoubleMixed(&ps[i])
		lambdaP := ps[i]
		lambdaP.X.Mul(&lambdaP.X, &e.omega)
		other.Set(double).AddMixed(&lambdaP)
	}
	affine := bn254.BatchJacobianToAffineG1(multiples)
	tables := make([]table, len(ps))
	for i := range tables {
		t := &tables[i]
		t[1], t[7], t[13] = ps[i], affine[2*i+1], affine[2*i]
		for _, first := range []int{1, 7, 13} {
			for j := first; j < first+2; j++ {
				t[j+1] = t[j]
				t[j+1].X.Mul(&t[j].X, &e.omega)
			}
		}
		for _, first := range []int{1, 7} {
			for j := first; j < first+3; j++ {
				t[j+3].Neg(&t[j])
			}
		}
	}
	return tables
}

// combine returns Σ sᵢpᵢ for the tables of the points p, sharing the doublings.
func combine(tables []table, scalars []scalar) (sum bn254.G1Jac) {
	sum.FromAffine(new(bn254.G1Affine))
	for i := numDigits - 1; i >= 0; i-- {
		sum.DoubleAssign().DoubleAssign()
		for k := range tables {
			if d := scalars[k].digit(i); d != 0 {
				sum.AddMixed(&tables[k][d])
			}
		}
	}
	return sum
}
