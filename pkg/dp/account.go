package dp

import (
	"fmt"
	"math"
)

// MaxMu is the largest μ the accounting accepts: a year of daily releases at ε = 10 is below 50. Long before it (ε > 500 at
// μ = 30) nothing is private any more.
const MaxMu = 100

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

// Mu returns the largest μ at which a Gaussian mechanism is still (ε, δ)-private for δ = target, rounded up in the last digits:
// what an (ε, δ) release costs at most. ε is in [MinEpsilon, MaxEpsilon] and target in [MinDelta, MaxDelta].
func Mu(epsilon, target float64) (float64, error) {
	if err := checkGuarantee(epsilon, target); err != nil {
		return 0, fmt.Errorf("cannot compute mu: %w", err)
	}
	return bisect(0, MaxMu, func(mu float64) bool { return delta(epsilon, mu) <= target }), nil
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
