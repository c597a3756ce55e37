package batch

import (
	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
)

// A pair is one (P, Q) on its way through the Miller loop. For u = −x(P)/y(P), q is (u²·x(Q), u³·y(Q)), on a curve that is isomorphic
// over 𝔽p: the formulas of addition and ψ are the same there, slopes come out with the factor u that their evaluation at P asks for,
// and a line's constant lacks the factor scale = 1/(u³·y(P)).
type pair struct {
	q, t    bn254.G2Affine // t is the running multiple of q
	scale   fp.Element
	outside bool
}

// A line is 1 + r0·w + r1·v·w in gnark-crypto's tower, after division by y(P).
type line struct{ r0, r1 bn254.E2 }

// millerLoop returns ∏ f(pᵢ, qᵢ), the optimal ate Miller loop of the pairs up to factors that the final exponentiation removes.
// Every q is on the twist, and no p or q is
// infinity. It reports which of them are outside the subgroup G2; where any is, the product is
// meaningless.
//
// All pairs go in step, in affine coordinates: each step's division costs three multiplications a pair and one inversion in all,
// and the lines come out in the form of a fixed-argument pairing, whose product with the accumulator is the cheapest. That is a
// quarter less than gnark-crypto's projective loop over points that are not known before.
//
// The test for the subgroup is what the loop has at its end anyway (Scott, eprint 2021/1130; El Housni, Guillevic, Piellard,
// eprint 2022/352). With ψ the untwisted Frobenius, which on G2 multiplies by p, q is in G2 exactly when
//
//	[6x₀+2]q + ψ(q) − ψ²(q) + ψ³(q) = 0.
//
// On G2 this is 6x₀+2+p−p²+p³ ≡ 0 (mod r), the vector of the optimal ate pairing. Conversely ψ²−tψ+p = 0 on the whole twist reduces
// the left side to a+bψ, of norm N = a²+abt+b²p, so that N·q = 0; the twist over 𝔽p² has r·(2p−r) points, and
// gcd(N, r·(2p−r)) = r (TestSubgroupLaw), hence r·q = 0. A point for which a step divides by zero meets a multiple j·q = ±q, 2·j·q = 0
// or the like with j below r, none of which happens in G2.
func millerLoop(ps []bn254.G1Affine, qs []bn254.G2Affine) (f bn254.GT, outside []bool) {
	pairs := newPairs(ps, qs)
	divisors := make([]bn254.E2, 2*len(pairs))
	f.SetOne()
	for i := len(bn254.LoopCounter) - 2; i >= 0; i-- { // the highest digit is q itself
		f.Square(&f)
		double(&f, pairs, divisors)
		if digit := bn254.LoopCounter[i]; digit != 0 {
			add(&f, pairs, divisors, digit < 0)
		}
	}
	for _, negative := range []bool{false, true} { // ψ(q) and −ψ²(q)
		for k := range pairs {
			pairs[k].q = psi(&pairs[k].q)
		}
		add(&f, pairs, divisors, negative)
	}
	outside = make([]bool, len(pairs))
	for k := range pairs {
		p := &pairs[k]
		last := psi(&p.q)
		last.Neg(&last)
		outside[k] = p.outside || !p.t.Equal(&last)
	}
	return f, outside
}

func newPairs(ps []bn254.G1Affine, qs []bn254.G2Affine) []pair {
	inverses := make([]fp.Element, 2*len(ps))
	for k := range ps {
		inverses[2*k], inverses[2*k+1] = ps[k].X, ps[k].Y
	}
	inverses = fp.BatchInvert(inverses) // no point of the curve has x = 0: its order would be 3
	pairs := make([]pair, len(ps))
	for k := range pairs {
		p := &pairs[k]
		var u, u2, u3 fp.Element
		u.Mul(&ps[k].X, &inverses[2*k+1]).Neg(&u)
		u2.Square(&u)
		u3.Mul(&u2, &u)
		p.q.X.MulByElement(&qs[k].X, &u2)
		p.q.Y.MulByElement(&qs[k].Y, &u3)
		p.t = p.q
		// 1/(u³·y) = −y²/x³
		p.scale.Square(&inverses[2*k]).Mul(&p.scale, &inverses[2*k])
		u.Square(&ps[k].Y)
		p.scale.Mul(&p.scale, &u).Neg(&p.scale)
	}
	return pairs
}

// double doubles every t and multiplies f by the tangents.
func double(f *bn254.GT, pairs []pair, divisors []bn254.E2) {
	for k := range pairs {
		divisors[k].Double(&pairs[k].t.Y)
	}
	invert(pairs, divisors)
	var lines [2]line
	for k := range pairs {
		p := &pairs[k]
		var slope, sum bn254.E2
		sum.Square(&p.t.X)
		slope.Double(&sum).Add(&slope, &sum).Mul(&slope, &divisors[k])
		sum.Double(&p.t.X)
		p.advance(&lines[k%2], &slope, &sum)
		if k%2 == 1 {
			mulLines(f, &lines)
		}
	}
	if len(pairs)%2 == 1 {
		f.MulBy34(&lines[0].r0, &lines[0].r1)
	}
}

// add adds q, or −q, to every t and multiplies f by the lines through both.
func add(f *bn254.GT, pairs []pair, divisors []bn254.E2, negative bool) {
	for k := range pairs {
		divisors[k].Sub(&pairs[k].t.X, &pairs[k].q.X)
	}
	invert(pairs, divisors)
	var lines [2]line
	for k := range pairs {
		p := &pairs[k]
		var slope, sum bn254.E2
		if negative {
			slope.Add(&p.t.Y, &p.q.Y)
		} else {
			slope.Sub(&p.t.Y, &p.q.Y)
		}
		slope.Mul(&slope, &divisors[k])
		sum.Add(&p.t.X, &p.q.X)
		p.advance(&lines[k%2], &slope, &sum)
		if k%2 == 1 {
			mulLines(f, &lines)
		}
	}
	if len(pairs)%2 == 1 {
		f.MulBy34(&lines[0].r0, &lines[0].r1)
	}
}

// advance replaces t by the sum of the two points, t among them, in which a line of the given slope meets the curve; sum is that of
// their x coordinates.
func (p *pair) advance(l *line, slope, sum *bn254.E2) {
	var r1 bn254.E2
	r1.Mul(slope, &p.t.X).Sub(&r1, &p.t.Y)
	p.t.X.Square(slope).Sub(&p.t.X, sum)
	p.t.Y.Mul(slope, &p.t.X).Sub(&r1, &p.t.Y)
	l.r0 = *slope
	l.r1.MulByElement(&r1, &p.scale)
}

// invert replaces the first divisors, one for each pair, by their inverses, all for the price of one. A zero marks its pair as
// outside and becomes one. The others are working space.
func invert(pairs []pair, divisors []bn254.E2) {
	divisors, products := divisors[:len(pairs)], divisors[len(pairs):]
	var product bn254.E2
	product.SetOne()
	for k := range divisors {
		if divisors[k].IsZero() {
			pairs[k].outside = true
			divisors[k].SetOne()
		}
		products[k] = product
		product.Mul(&product, &divisors[k])
	}
	product.Inverse(&product)
	for k := len(divisors) - 1; k >= 0; k-- {
		products[k].Mul(&products[k], &product)
		product.Mul(&product, &divisors[k])
		divisors[k] = products[k]
	}
}

// mulLines multiplies f by two lines: their product first, because it has five coefficients of f's six and saves a third.
func mulLines(f *bn254.GT, lines *[2]line) {
	a, b := &lines[0], &lines[1]
	var product [5]bn254.E2
	var r00, r11, sum bn254.E2
	r00.Mul(&a.r0, &b.r0)
	r11.Mul(&a.r1, &b.r1)
	product[2].Add(&a.r0, &a.r1)
	sum.Add(&b.r0, &b.r1)
	product[2].Mul(&product[2], &sum).Sub(&product[2], &r00).Sub(&product[2], &r11)
	sum.SetOne()
	product[0].MulByNonResidue(&r11).Add(&product[0], &sum)
	product[1] = r00
	product[3].Add(&a.r0, &b.r0)
	product[4].Add(&a.r1, &b.r1)
	f.MulBy01234(&product)
}

// psi returns the untwisted Frobenius of q.
func psi(q *bn254.G2Affine) (r bn254.G2Affine) {
	r.X.Conjugate(&q.X).MulByNonResidue1Power2(&r.X)
	r.Y.Conjugate(&q.Y).MulByNonResidue1Power3(&r.Y)
	return r
}
