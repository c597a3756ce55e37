package dp

import (
	"fmt"
	"math"
)

// MaxMu is the largest μ the accounting accepts: a year of daily releases at ε = 10 is below 50. Long before it (ε > 500 at
// μ = 30) nothing is private any more.
const MaxMu = 100

// MaxCompositions bounds the releases that ComposePure accepts: a daily one for 179 years.
const MaxCompositions = 1 << 16

// Delta returns the exact δ(ε) of a μ-Gaussian-private mechanism, Φ(−ε/μ + μ/2) − e^ε·Φ(−ε/μ − μ/2) (Dong, Roth and Su,
// corollary 2.13), for ε ≥ 0 and μ in (0, MaxMu].
func Delta(epsilon, mu float64) (float64, error) {
	if !(epsilon >= 0) || math.IsInf(epsilon, 0) {
		return 0, fmt.Errorf("cannot compute delta: epsilon %g is not finite and non-negative", epsilon)
	}
	if err := checkMu(mu); err != nil {
		return 0, fmt.Errorf("cannot compute delta: %w", err)
	}
	return delta(epsilon, mu), nil
}

// Epsilon returns the smallest ε for which a μ-Gaussian-private mechanism is (ε, δ)-private for δ = target, rounded up in the last
// digits. target is in [MinDelta, MaxDelta] and μ in (0, MaxMu]. The result is 0 where δ alone covers μ.
func Epsilon(target, mu float64) (float64, error) {
	if !(target >= MinDelta && target <= MaxDelta) {
		return 0, fmt.Errorf("cannot compute epsilon: delta %g is outside [%g, %g]", target, MinDelta, MaxDelta)
	}
	if err := checkMu(mu); err != nil {
		return 0, fmt.Errorf("cannot compute epsilon: %w", err)
	}
	if delta(0, mu) <= target {
		return 0, nil
	}
	hi := 1.0
	for delta(hi, mu) > target {
		hi *= 2
	}
	// δ falls as ε grows: keep lo on the side that is not private enough, hi on the side that is.
	return bisect(0, hi, func(epsilon float64) bool { return delta(epsilon, mu) > target }), nil
}

// Mu returns what an (ε, δ) release for δ = target costs at most. For target in [MinDelta, MaxDelta] that is the largest μ at which
// a Gaussian mechanism is still (ε, δ)-private, rounded up in the last digits. For target 0 it is the smallest μ for which every
// ε-private mechanism is μ-Gaussian-private, 2·Φ⁻¹(e^ε/(1 + e^ε)), rounded up by about one part in 10¹²; the package comment has the
// proof. ε is in [MinEpsilon, MaxEpsilon].
func Mu(epsilon, target float64) (float64, error) {
	if target == 0 {
		if err := checkGuarantee(epsilon, MinDelta); err != nil {
			return 0, fmt.Errorf("cannot compute mu: %w", err)
		}
		return pureMu(epsilon), nil
	}
	if err := checkGuarantee(epsilon, target); err != nil {
		return 0, fmt.Errorf("cannot compute mu: %w", err)
	}
	return bisect(0, MaxMu, func(mu float64) bool { return delta(epsilon, mu) <= target }), nil
}

// pureMu solves Φ(−μ/2) = 1/(1 + e^ε), for small ε as erf(μ/√8) = tanh(ε/2), which keeps its digits there. The last factor is far
// above the error of either.
func pureMu(epsilon float64) float64 {
	return bisect(0, MaxMu, func(mu float64) bool {
		if epsilon < 1 {
			return math.Erf(mu/math.Sqrt(8)) < math.Tanh(epsilon/2)
		}
		return math.Erfc(mu/math.Sqrt(8)) > 2/(1+math.Exp(epsilon))
	}) * (1 + 1e-12)
}

// Compose returns the μ of releasing under every one of mus, √Σμ²: exact for Gaussian mechanisms, also when they are chosen
// adaptively (Dong, Roth and Su, corollary 3.3).
func Compose(mus ...float64) float64 {
	var sum float64
	for _, mu := range mus {
		sum += mu * mu
	}
	return math.Sqrt(sum)
}

// ComposePure returns the ε at total δ = delta of n releases that are each epsilon-private with δ = 0, also when chosen
// adaptively: the smallest that holds for all such mechanisms (Kairouz, Oh and Viswanath, "The Composition Theorem for
// Differential Privacy", 2015, theorem 3.3), rounded up by at most one part in 10⁹. epsilon is in [MinEpsilon, MaxEpsilon], n
// from 0 to MaxCompositions, and delta in [MinDelta, MaxDelta] or 0, for which the result is n·epsilon.
func ComposePure(epsilon float64, n int, delta float64) (float64, error) {
	if err := checkGuarantee(epsilon, MinDelta); err != nil {
		return 0, fmt.Errorf("cannot compose: %w", err)
	}
	if n < 0 || n > MaxCompositions {
		return 0, fmt.Errorf("cannot compose: %d releases is outside [0, %d]", n, MaxCompositions)
	}
	if delta != 0 && !(delta >= MinDelta && delta <= MaxDelta) {
		return 0, fmt.Errorf("cannot compose: delta %g is neither 0 nor in [%g, %g]", delta, MinDelta, MaxDelta)
	}
	all := float64(n) * epsilon
	if n == 0 || delta == 0 {
		return all, nil
	}
	// The worst epsilon-private mechanism is randomised response on one bit, and n of them lose (n − 2l)·ε with l ~ Binomial(n,
	// 1/(1 + e^ε)). δ at ε' is the mean of 1 − e^(ε' − loss) over the losses above ε'.
	p, q := -math.Log1p(math.Exp(-epsilon)), -epsilon-math.Log1p(math.Exp(-epsilon))
	weight := make([]float64, n/2+1) // losses that are not negative
	top, _ := math.Lgamma(float64(n + 1))
	for l := range weight {
		a, _ := math.Lgamma(float64(l + 1))
		b, _ := math.Lgamma(float64(n - l + 1))
		weight[l] = math.Exp(top - a - b + float64(n-l)*p + float64(l)*q)
	}
	above := func(guarantee float64) bool {
		var sum float64
		for l, w := range weight {
			loss := float64(n-2*l) * epsilon
			if loss <= guarantee {
				break
			}
			sum -= w * math.Expm1(guarantee-loss)
		}
		// ln Γ of 65,537 is 660,000 ± 1e-10, which is the weights' relative error.
		return sum*(1+1e-9) > delta
	}
	if !above(0) {
		return 0, nil
	}
	return min(bisect(0, all, above)*(1+1e-12), all), nil
}

func checkMu(mu float64) error {
	if !(mu > 0 && mu <= MaxMu) {
		return fmt.Errorf("mu %g is outside (0, %d]", mu, MaxMu)
	}
	return nil
}

// delta is Delta without its checks. The second term is formed from logarithms because e^ε overflows before Φ vanishes.
func delta(epsilon, mu float64) float64 {
	first := math.Exp(logPhi(-epsilon/mu + mu/2))
	second := math.Exp(epsilon + logPhi(-epsilon/mu-mu/2))
	return max(first-second, 0)
}

// logPhi returns ln Φ(x), by erfc where that is a normal number and by the tail's asymptotic series (Abramowitz and Stegun
// 26.2.12) below, where its relative error is under 3e-14.
func logPhi(x float64) float64 {
	if x > -30 {
		return math.Log(0.5 * math.Erfc(-x/math.Sqrt2))
	}
	s := 1 / (x * x)
	series := 1 - s*(1-3*s*(1-5*s*(1-7*s*(1-9*s))))
	return -x*x/2 - math.Log(-x) - 0.5*math.Log(2*math.Pi) + math.Log(series)
}

// bisect returns the smallest number in [lo, hi], or nearly so, for which below does not hold. below holds left of some point
// and not at hi.
func bisect(lo, hi float64, below func(float64) bool) float64 {
	for range 200 {
		mid := lo + (hi-lo)/2
		if mid <= lo || mid >= hi {
			break
		}
		if below(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}
