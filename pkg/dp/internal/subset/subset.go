// Package subset computes, for a categorical mechanism that answers with d of k categories, the exact threshold of random draws
// that keeps it ε-private, and the d that estimates best.
//
// Everything is computed in integers and fractions, and e^ε rounded down: vehicle and collector must agree on size and threshold
// whatever their processors do to the last bit of a float, and no rounding may cost privacy. It checks no arguments: that is
// package dp's.
package subset

import "math/big"

// MaxCategories bounds k.
const MaxCategories = 256

// Choice is a subset size with its consequences.
type Choice struct {
	// Size is d, the number of categories in an answer.
	Size int
	// Threshold is how many of 2⁶⁴ draws put the true category into the answer: the largest t for which
	// t·(k − d) ≤ e^ε·d·(2⁶⁴ − t).
	Threshold uint64
	// Keep is the probability that the true category is in the answer, and Other that any one other is: the float64 nearest.
	Keep, Other float64

	loss *big.Rat // summed variance of the estimates of all shares, for one answer
}

// Best returns the size with the smallest summed variance of the estimated shares, the smaller of two equals. k is 2 to
// MaxCategories and epsilon in (0, 50].
func Best(k int, epsilon float64) Choice {
	e, one := expFloor(epsilon), new(big.Int).Lsh(big.NewInt(1), fraction)
	// The best size is k/(e^ε + 1) rounded one way or the other (Ye and Barg, 2018, section IV).
	low := new(big.Int).Quo(new(big.Int).Mul(big.NewInt(int64(k)), one), new(big.Int).Add(e, one)).Int64()
	best := choose(k, max(int(low), 1), e)
	if next := int(low) + 1; next > best.Size && next < k {
		if c := choose(k, next, e); c.loss.Cmp(best.loss) < 0 {
			best = c
		}
	}
	return best
}

// Size returns what answers of d of k categories lead to, 1 ≤ d < k. k and epsilon as for Best.
func Size(k, d int, epsilon float64) Choice { return choose(k, d, expFloor(epsilon)) }

// choose is Size with e = ⌊e^ε·2¹²⁸⌋.
func choose(k, d int, e *big.Int) Choice {
	in, out := big.NewInt(int64(d)), big.NewInt(int64(k-d))
	up := new(big.Int).Mul(e, in)
	down := new(big.Int).Add(up, out.Lsh(out, fraction))
	t := up.Quo(up.Lsh(up, 64), down) // below 2⁶⁴, since k > d

	one, rest := big.NewRat(1, 1), big.NewRat(int64(k-1), 1)
	keep := new(big.Rat).SetFrac(t, new(big.Int).Lsh(big.NewInt(1), 64))
	// An answer has keep + (k − 1)·other = d categories.
	other := new(big.Rat).Sub(new(big.Rat).SetInt(in), keep)
	other.Quo(other, rest)
	// For whatever shares, one of the k categories has variance keep·(1 − keep) and k − 1 have other·(1 − other).
	loss := new(big.Rat).Mul(other, new(big.Rat).Sub(one, other))
	loss.Mul(loss, rest)
	loss.Add(loss, new(big.Rat).Mul(keep, new(big.Rat).Sub(one, keep)))
	gain := new(big.Rat).Sub(keep, other)
	loss.Quo(loss, gain.Mul(gain, gain))

	c := Choice{Size: d, Threshold: t.Uint64(), loss: loss}
	c.Keep, _ = keep.Float64()
	c.Other, _ = other.Float64()
	return c
}

const fraction = 128 // fractional bits of expFloor

// expFloor returns e^ε·2¹²⁸ rounded down, for ε in [0, 50]. Every term of the series is positive and every step rounds down, so
// the result is never above e^ε; with 256 bits for a number below 2⁷³ it is the floor but for a chance of 2⁻⁴⁰.
func expFloor(epsilon float64) *big.Int {
	number := func() *big.Float { return new(big.Float).SetPrec(256).SetMode(big.ToZero) }
	x, term, sum := number().SetFloat64(epsilon), number().SetInt64(1), number().SetInt64(1)
	for i := int64(1); term.Sign() > 0 && term.MantExp(nil) > -256; i++ {
		term.Quo(term.Mul(term, x), number().SetInt64(i))
		sum.Add(sum, term)
	}
	floor, _ := sum.SetMantExp(sum, fraction).Int(nil)
	return floor
}
