// Package dp releases usage under differential privacy, accounts for what releases cost, and estimates population means, shares
// and totals from many releases.
//
// Unit and adjacency: one release of one fixed-size vector of non-negative integers (one vehicle's dispatch), under replacement:
// whatever the vector was exchanged for, the release is (ε, δ)-indistinguishable. That a release happened is not protected: always
// release.
//
// [Gaussian]: clamp, scale, clip to L2 norm c, floor, add Gaussian noise to every coordinate with the full ε and δ (Balle and
// Wang, "Improving the Gaussian Mechanism", 2018, as implemented by Google's library, which also samples in a way that floating
// point cannot betray). Its sensitivity, for x and y non-negative with ‖x‖, ‖y‖ ≤ c:
//
//	‖x − y‖² = ‖x‖² + ‖y‖² − 2⟨x, y⟩;
//	x, y ≥ 0 gives ⟨x, y⟩ ≥ 0, so ‖x − y‖² ≤ 2c², that is Δ₂ ≤ √2·c;
//	flooring keeps coordinates non-negative and never raises a norm, so the bound holds for what is noised.
//
// Google's library takes Δ₂ = √l0·lInf, hence l0 = 2 and lInf = c. Its adjacency is adding or removing one person; passing the
// replacement sensitivity turns its guarantee into the one above. Clipping is exact integer arithmetic: a norm that floating
// point rounds to just above c would void the proof. The library's sampler ends 8.8 σ from its centre: a thousandth of δ is kept
// for outputs that one vector's noise reaches and another's does not, and parameters for which that is too little are refused.
//
// [Categorical]: the vector's largest bin, one of k categories, is answered by a random set of d of them that holds the truth with
// probability t/2⁶⁴ and is else uniform, with δ = 0. d = 1 is k-ary randomised response (Kairouz, Bonawitz and Ramage, "Discrete
// Distribution Estimation under Local Privacy", 2016), the best d subset selection (Ye and Barg, "Optimal Schemes for Discrete
// Distribution Estimation under Locally Differential Privacy", 2018; Wang et al., 2016). Its guarantee:
//
//	a set S has probability t/2⁶⁴/C(k−1, d−1) if it holds the truth, else (1 − t/2⁶⁴)/C(k−1, d): two values;
//	the first is t·(k−d)/(d·(2⁶⁴−t)) times the second, as C(k−1, d)/C(k−1, d−1) = (k−d)/d;
//	t is the largest integer for which that is at most e^ε, and it is above 1, so every ratio is within [e^−ε, e^ε].
//
// Accounting is in Gaussian differential privacy (Dong, Roth and Su, "Gaussian Differential Privacy", 2022): [Mu], [Compose],
// [Epsilon], [Delta], exact for Gaussian noise. Composition adds squares, so n releases cost √n times one, at one total δ. A pure
// release has a μ too, the least for which every ε-private mechanism is μ-Gaussian-private:
//
//	no ε-private mechanism has a trade-off below f, straight from (0, 1) to (a, a) to (1, 0), with a = 1/(1 + e^ε);
//	the Gaussian trade-off is convex and joins (0, 1) and (1, 0), through (a, a) exactly where Φ(−μ/2) = a;
//	a convex curve lies below its chords, so at that μ it lies below f, and at a smaller one (a, a) is below it.
//
// Where all releases are pure with one ε, [ComposePure] is the exact composition and may be the smaller. Estimates ([Moments],
// [Categorical.Share]) take their intervals from the empirical variance, which holds both sampling and noise.
//
// The package refuses parameters at which the library hangs, overflows or loses accuracy. It never refuses a vector for its
// values, because a missing release would speak about them: they are clamped. It holds no budget: that is the caller's.
package dp

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/google/differential-privacy/go/v3/noise"

	"rawstone/pkg/dp/internal/sums"
)

// Limits of the parameters. Inside them no integer below overflows, the library's calibration terminates and is accurate to
// 0.15 %, and a noised coordinate stays far from the ends of int64.
const (
	// MinEpsilon and MaxEpsilon bound the ε of one release.
	MinEpsilon, MaxEpsilon = 1e-3, 50.0
	// MinDelta and MaxDelta bound the δ of one release.
	MinDelta, MaxDelta = 1e-12, 1e-2
	// MaxClip bounds the L2 bound and each coordinate, both in scaled units.
	MaxClip = 1 << 24
	// MaxDim bounds the number of coordinates.
	MaxDim = sums.MaxDim
)

// Coordinate says how one coordinate enters the vector.
type Coordinate struct {
	// Max is the largest value counted, in natural units, at least 1. Larger values count as Max, so that one wild value does
	// not clip all the others away.
	Max int64
	// Scale is the number of scaled units per natural unit, at least 1: the weight that makes unlike quantities comparable
	// under one norm. Max*Scale is at most MaxClip.
	Scale int64
}

// Params are the public parameters of a Gaussian mechanism. The zero value is refused.
type Params struct {
	// Epsilon and Delta are the guarantee of one release.
	Epsilon, Delta float64
	// Clip is c, the L2 bound of the scaled vector, from 1 to MaxClip scaled units.
	Clip int64
	// Coordinates describes the vector, 1 to MaxDim of them, in order.
	Coordinates []Coordinate
}

// Gaussian is the mechanism. It is immutable and safe for concurrent use.
type Gaussian struct {
	params     Params
	calibrated float64 // the part of δ that the noise is calibrated for
	sigma      float64
}

// NewGaussian checks p and calibrates the noise.
func NewGaussian(p Params) (*Gaussian, error) {
	if err := checkGuarantee(p.Epsilon, p.Delta); err != nil {
		return nil, fmt.Errorf("cannot make gaussian mechanism: %w", err)
	}
	if p.Clip < 1 || p.Clip > MaxClip {
		return nil, fmt.Errorf("cannot make gaussian mechanism: clip %d is outside [1, %d]", p.Clip, MaxClip)
	}
	if len(p.Coordinates) < 1 || len(p.Coordinates) > MaxDim {
		return nil, fmt.Errorf("cannot make gaussian mechanism: %d coordinates, want 1 to %d", len(p.Coordinates), MaxDim)
	}
	for i, k := range p.Coordinates {
		if k.Max < 1 || k.Max > MaxClip {
			return nil, fmt.Errorf("cannot make gaussian mechanism: coordinate %d: max %d is outside [1, %d]", i, k.Max, MaxClip)
		}
		if k.Scale < 1 || k.Scale > MaxClip/k.Max {
			return nil, fmt.Errorf("cannot make gaussian mechanism: coordinate %d: scale %d is outside [1, %d] for max %d",
				i, k.Scale, MaxClip/k.Max, k.Max)
		}
	}
	p.Coordinates = append([]Coordinate(nil), p.Coordinates...)
	g := &Gaussian{params: p, calibrated: p.Delta * (1 - endPart)}
	g.sigma = noise.SigmaForGaussian(sensitivityL0, float64(p.Clip), p.Epsilon, g.calibrated)
	// With all of the distance on one coordinate, one vector's noise ends μ·σ beyond the other's. Spread over coordinates it comes
	// to less than the other half of the part.
	if beyond := math.Exp(logPhi(g.Mu() - samplerEnd)); beyond > p.Delta*endPart/2 {
		return nil, fmt.Errorf("cannot make gaussian mechanism: epsilon %g at delta %g needs so little noise that the end of the sampler's range would show; lower epsilon or raise delta",
			p.Epsilon, p.Delta)
	}
	return g, nil
}

// sensitivityL0 makes the library's √l0·lInf the L2 sensitivity √2·c proved in the package comment.
const sensitivityL0 = 2

// checkGuarantee refuses an ε or δ outside the package's limits; the comparisons are written so that NaN fails them.
func checkGuarantee(epsilon, delta float64) error {
	if !(epsilon >= MinEpsilon && epsilon <= MaxEpsilon) {
		return fmt.Errorf("epsilon %g is outside [%g, %g]", epsilon, MinEpsilon, MaxEpsilon)
	}
	if !(delta >= MinDelta && delta <= MaxDelta) {
		return fmt.Errorf("delta %g is outside [%g, %g]", delta, MinDelta, MaxDelta)
	}
	return nil
}

// Epsilon returns the ε of one release.
func (g *Gaussian) Epsilon() float64 { return g.params.Epsilon }

// Delta returns the δ of one release.
func (g *Gaussian) Delta() float64 { return g.params.Delta }

// Dim returns the number of coordinates.
func (g *Gaussian) Dim() int { return len(g.params.Coordinates) }

// Scale returns the scaled units per natural unit of coordinate i.
func (g *Gaussian) Scale(i int) int64 { return g.params.Coordinates[i].Scale }

// Sigma returns the standard deviation of the noise on each coordinate, in scaled units, as the library computes it: the
// smallest that gives (ε, δ), or up to 0.15 % above.
func (g *Gaussian) Sigma() float64 { return g.sigma }

// Mu returns what one release costs in Gaussian differential privacy, Δ₂/σ. It is at most Mu(Epsilon(), Delta()).
func (g *Gaussian) Mu() float64 { return math.Sqrt2 * float64(g.params.Clip) / g.sigma }

// The library's sampler draws up to 2σ·√(ln(s)/2) and never beyond, with s from 2⁵⁶ to 2⁵⁷ (binomialProbability in its
// gaussian_noise.go): these many σ at least and at most.
const samplerEnd, samplerLimit = 8.8, 9.0

// endPart is the part of δ that is kept for the sampler's end.
const endPart = 1e-3

// Bound returns the largest magnitude a released coordinate can have, in scaled units, below MaxValue. A larger value did not
// come from Release.
func (g *Gaussian) Bound() int64 { return g.params.Clip + int64(math.Ceil(samplerLimit*g.sigma)) }

// Clip returns what Release adds noise to: x, in natural units, clamped to [0, Max], scaled, clipped to L2 norm c and floored.
// The result is private: it is for Release and for measuring the clipping bias on simulated vectors. The only error is a
// wrong length.
func (g *Gaussian) Clip(x []int64) ([]int64, error) {
	if len(x) != g.Dim() {
		return nil, fmt.Errorf("cannot clip vector: %d coordinates, want %d", len(x), g.Dim())
	}
	y := make([]int64, len(x))
	var norm2 uint64 // at most MaxDim·MaxClip² = 2⁶⁰
	for i, k := range g.params.Coordinates {
		y[i] = min(max(x[i], 0), k.Max) * k.Scale
		norm2 += uint64(y[i]) * uint64(y[i])
	}
	c2 := uint64(g.params.Clip) * uint64(g.params.Clip)
	if norm2 <= c2 {
		return y, nil
	}
	for i, v := range y {
		// ⌊v·c/‖y‖⌋ = ⌊√⌊v²c²/‖y‖²⌋⌋. The quotient fits: v² ≤ ‖y‖² and c² < 2⁶⁴ make the high word smaller than the divisor.
		hi, lo := bits.Mul64(uint64(v)*uint64(v), c2)
		q, _ := bits.Div64(hi, lo, norm2)
		y[i] = int64(floorSqrt(q))
	}
	return y, nil
}

// Release returns Clip(x) with fresh noise on every coordinate, in scaled units; coordinates may be negative. Each call draws
// anew and costs Mu() again. The only errors are a wrong length and a refusal by the library.
func (g *Gaussian) Release(x []int64) ([]int64, error) {
	y, err := g.Clip(x)
	if err != nil {
		return nil, err
	}
	source := noise.Gaussian()
	for i := range y {
		y[i], err = source.AddNoiseInt64(y[i], sensitivityL0, g.params.Clip, g.params.Epsilon, g.calibrated)
		if err != nil {
			return nil, fmt.Errorf("cannot add noise to coordinate %d: %w", i, err)
		}
	}
	return y, nil
}

// floorSqrt returns ⌊√q⌋. The floating root is off by at most one for q < 2⁶⁰ and is put right in integers.
func floorSqrt(q uint64) uint64 {
	r := uint64(math.Sqrt(float64(q)))
	for r*r > q {
		r--
	}
	for (r+1)*(r+1) <= q {
		r++
	}
	return r
}
