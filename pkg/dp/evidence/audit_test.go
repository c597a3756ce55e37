// Package evidence measures what pkg/dp claims: lower bounds on ε and μ by attack, the law of the noise, the coverage of the
// intervals, the error of the estimates. Every measurement is also made of mechanisms that are broken on purpose, and fails unless
// each of those is caught: a measurement that cannot see a fault proves nothing.
//
// The short form is a part of the ordinary tests. RAWSTONE_PRIVACY=long takes more samples and more cells, and mutates the real
// sources as well. What the budget's ledger must hold beyond the mechanisms is measured in
// agent/internal/budget/evidence.
//
// Mechanisms draw from the system's generator, so that no run repeats another. Limits are chosen so that an honest run fails with
// probability below 1e-5.
//
// The package has tests only.
package evidence

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
)

// long says whether the long form was asked for.
func long() bool { return os.Getenv("RAWSTONE_PRIVACY") == "long" }

// pick returns the short or the long form's figure.
func pick(short, longer int) int {
	if long() {
		return longer
	}
	return short
}

// A guarantee is what a mechanism claims: (ε, δ)-indistinguishability, and μ, which the budget's ledger is charged.
type guarantee struct{ epsilon, delta, mu float64 }

// An observer watches one release of one of two neighbouring inputs, 0 or 1, and returns how much it speaks for 0. It may watch
// many releases of the same input where the guarantee is of many.
type observer func(input int) float64

// alpha is the probability that one bound is wrong. A row of the table rests on four bounds.
const alpha = 1e-7

// A finding is what an attack proves: with probability 1 − 4·alpha the true ε (at the claimed δ) and μ are no smaller.
type finding struct{ epsilon, mu float64 }

// breaks reports whether the finding refutes the guarantee.
func (f finding) breaks(g guarantee) bool { return f.epsilon > g.epsilon || f.mu > g.mu }

// attack observes samples releases of each input. On the first half it looks for the event that tells the inputs apart best, on the
// second it bounds that event's probabilities, so that the choice cannot flatter the bounds.
//
// The ε bound assumes nothing: (ε, δ) means P(E) ≤ e^ε·Q(E) + δ for every event E. Nor does the μ bound: μ-Gaussian privacy means
// Φ⁻¹(P(E)) − Φ⁻¹(Q(E)) ≤ μ for every E (Dong, Roth and Su, definition 2.6).
func attack(samples int, delta float64, observe observer) finding {
	half := samples / 2
	var first, second [2][]float64
	for input := range 2 {
		all := make([]float64, 2*half)
		for i := range all {
			all[i] = observe(input)
		}
		first[input], second[input] = all[:half], all[half:]
		slices.Sort(first[input])
		slices.Sort(second[input])
	}
	type event struct {
		threshold float64
		above     bool
	}
	// chance counts an event: likelier says under which input it should be likelier, and the counts are of that input and the other.
	chance := func(s [2][]float64, e event) (p, q int) {
		beyond := func(v []float64) int {
			n, _ := slices.BinarySearchFunc(v, e.threshold, func(a, b float64) int {
				if a <= b {
					return -1
				}
				return 1
			})
			return len(v) - n
		}
		p, q = beyond(s[0]), beyond(s[1])
		if !e.above {
			p, q = half-q, half-p
		}
		return p, q
	}
	bound := func(low, high float64) finding {
		f := finding{mu: quantile(low) - quantile(high)}
		if low > delta {
			f.epsilon = math.Log((low - delta) / high)
		}
		return f
	}
	best := finding{epsilon: math.Inf(-1), mu: math.Inf(-1)}
	var forEpsilon, forMu event
	pool := append(slices.Clone(first[0]), first[1]...)
	slices.Sort(pool)
	const thresholds = 200
	for i := range thresholds {
		for _, above := range []bool{true, false} {
			e := event{pool[i*len(pool)/thresholds], above}
			p, q := chance(first, e)
			f := bound(roughly(p, half, -1), roughly(q, half, 1))
			if f.epsilon > best.epsilon {
				best.epsilon, forEpsilon = f.epsilon, e
			}
			if f.mu > best.mu {
				best.mu, forMu = f.mu, e
			}
		}
	}
	proven := func(e event) finding {
		p, q := chance(second, e)
		return bound(atLeast(p, half, alpha), atMost(q, half, alpha))
	}
	return finding{epsilon: max(proven(forEpsilon).epsilon, 0), mu: max(proven(forMu).mu, 0)}
}

// A mutant is a mechanism broken on purpose: what the attack must catch, with how many samples.
type mutant struct {
	name    string
	samples int
	observe observer
}

// A row is one mechanism under attack, with its mutants.
type row struct {
	name    string
	claim   guarantee
	samples int
	observe observer
	mutants []mutant
}

// TestAttacks attacks every mechanism and every mutant, and prints the table.
func TestAttacks(t *testing.T) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "mechanism\tclaimed ε\tδ\tmeasured ε ≥\tclaimed μ\tmeasured μ ≥\tsamples\tmutants caught")
	for _, r := range slices.Concat(gaussianRows(t), categoricalRows(t), yearRows(t)) {
		found := attack(r.samples, r.claim.delta, r.observe)
		if found.breaks(r.claim) {
			t.Errorf("%s: claims ε = %.4f at δ = %g and μ = %.4f, measured at least %.4f and %.4f", r.name,
				r.claim.epsilon, r.claim.delta, r.claim.mu, found.epsilon, found.mu)
		}
		var caught []string
		for _, m := range r.mutants {
			f := attack(m.samples, r.claim.delta, m.observe)
			if !f.breaks(r.claim) {
				t.Errorf("%s: the mutant %q is not caught: measured ε ≥ %.4f of %.4f, μ ≥ %.4f of %.4f", r.name, m.name,
					f.epsilon, r.claim.epsilon, f.mu, r.claim.mu)
				continue
			}
			caught = append(caught, fmt.Sprintf("%s (ε ≥ %.2f, μ ≥ %.2f)", m.name, f.epsilon, f.mu))
		}
		mutants := "-"
		if len(r.mutants) > 0 {
			mutants = fmt.Sprintf("%d of %d: %s", len(caught), len(r.mutants), strings.Join(caught, ", "))
		}
		fmt.Fprintf(w, "%s\t%.3f\t%g\t%.3f\t%.4f\t%.4f\t2 × %d\t%s\n", r.name, r.claim.epsilon, r.claim.delta,
			found.epsilon, r.claim.mu, found.mu, r.samples, mutants)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("each bound holds with probability 1 − %g\n%s", alpha, b.String())
}

// TestAttackItself attacks mechanisms whose ε and μ are known exactly: the bounds must come near and not pass.
func TestAttackItself(t *testing.T) {
	const samples = 200_000
	coin := observerOf(func(input int, u float64) float64 { // randomised response at ε = 1
		truth := u < math.E/(1+math.E)
		if truth == (input == 0) {
			return 1
		}
		return 0
	})
	mu := 2 * quantile(math.E/(1+math.E)) // what pure ε = 1 is in μ
	f := attack(samples, 0, coin)
	if f.epsilon > 1 || f.epsilon < 0.95 {
		t.Errorf("randomised response at ε = 1 measures %.4f", f.epsilon)
	}
	if f.mu > mu || f.mu < 0.95*mu {
		t.Errorf("randomised response at μ = %.4f measures %.4f", mu, f.mu)
	}
	// A normal of unit variance moved by 1 is exactly 1-Gaussian private: ε = 2.3178 at δ = 0.01.
	normal := observerOf(func(input int, u float64) float64 { return quantile(u) - float64(input) })
	f = attack(samples, 0.01, normal)
	if exact := 2.3178; f.mu > 1 || f.mu < 0.95 || f.epsilon > exact || f.epsilon < 0.75*exact {
		t.Errorf("a normal moved by 1 measures μ ≥ %.4f and ε ≥ %.4f", f.mu, f.epsilon)
	}
}
