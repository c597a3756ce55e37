package evidence

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"text/tabwriter"

	"rawstone/pkg/dp"
)

// tolerance is how far the error of an estimate may lie from theory.
const tolerance = 0.10

func TestGaussianError(t *testing.T) {
	const dim, clip, delta = 64, 900, 1e-6
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "fleet\tε\tσ\terror by theory\tstandard error / theory\tactual error / theory\t(real noise)\tactual / theory\t(seeded noise)\tpublished\t")
	for _, cell := range []struct{ vehicles, real, seeded int }{
		{1_000, pick(1, 20), 20}, {10_000, pick(0, 5), pick(4, 20)}, {100_000, pick(0, 6), pick(0, 20)},
	} {
		for i, epsilon := range []float64{0.25, 0.5, 1, 2} {
			if cell.seeded == 0 {
				continue
			}
			source := rand.New(rand.NewPCG(7, uint64(cell.vehicles)+uint64(i)))
			g := gaussian(t, dp.Params{Epsilon: epsilon, Delta: delta, Clip: clip, Coordinates: coordinates(dim, clip)})
			f := newFleet(t, g, weeks(source, dim, clip))
			seeded := survey(t, f, g, lawful(t, g, g.Sigma(), source), source, cell.vehicles, cell.seeded)
			// The seeded errors are the same in every run.
			if math.Abs(seeded.actual()-1) > tolerance {
				t.Errorf("%d vehicles, ε = %g: the error is %.3f of theory", cell.vehicles, epsilon, seeded.actual())
			}
			stdErr, actual := "-", "-\t"
			if cell.real > 0 {
				e := survey(t, f, g, g, source, cell.vehicles, cell.real)
				if r := e.stdErr / float64(e.n); math.Abs(r-1) > tolerance {
					t.Errorf("%d vehicles, ε = %g: the standard error is %.3f of theory", cell.vehicles, epsilon, r)
				}
				// Few estimates are uncertain themselves: what exceeds the tolerance must be beyond that.
				if math.Abs(e.actual()-1) > tolerance+strayed*e.uncertainty() {
					t.Errorf("%d vehicles, ε = %g: the error is %.3f ± %.3f of theory", cell.vehicles, epsilon, e.actual(), e.uncertainty())
				}
				if e.published > 0 && math.Abs(e.publishedError/float64(e.published)-1) > tolerance {
					t.Errorf("%d vehicles, ε = %g: published standard errors are %.3f of theory", cell.vehicles, epsilon, e.publishedError/float64(e.published))
				}
				stdErr = fmt.Sprintf("%.3f", e.stdErr/float64(e.n))
				actual = fmt.Sprintf("%.3f\t±%.3f, n = %d", e.actual(), e.uncertainty(), e.n)
			}
			fmt.Fprintf(w, "%d\t%g\t%.0f\t%.2f\t%s\t%s\t%.3f\tn = %d\t%.0f %%\t\n", cell.vehicles, epsilon, g.Sigma(),
				g.Sigma()/math.Sqrt(float64(cell.vehicles)), stdErr, actual, seeded.actual(), seeded.n, 100*float64(seeded.published)/float64(seeded.n))
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("means of 64 values, L2 bound %d, δ = %g\n%s", clip, delta, b.String())
}

// shares is an invented population of categories: k of them, the last one idle.
func shares(k int) []float64 {
	v := make([]float64, k)
	sum := 0.0
	for i := range v {
		v[i] = 1 / float64(i+2)
		sum += v[i]
	}
	for i := range v {
		v[i] /= sum
	}
	return v
}

// drawCategory returns the vector of a random dispatch: one minute in the bin of its category, nothing when idle.
func drawCategory(source *rand.Rand, share []float64) []int64 {
	x := make([]int64, len(share)-1)
	u := source.Float64()
	for i := range x {
		if u -= share[i]; u < 0 {
			x[i] = 1
			break
		}
	}
	return x
}

func TestCategoricalError(t *testing.T) {
	const bins = 24
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "fleet\tε\tscheme\tsubset\terror by theory\tactual error / theory\t\tpublished\t")
	share := shares(bins + 1)
	for _, cell := range []struct{ vehicles, replications int }{{1_000, pick(60, 200)}, {10_000, pick(0, 100)}, {100_000, pick(0, 40)}} {
		for i, epsilon := range []float64{0.25, 0.5, 1, 2} {
			for _, s := range []dp.Scheme{dp.SubsetSelection, dp.RandomizedResponse} {
				if cell.replications == 0 {
					continue
				}
				c := categorical(t, s, bins, epsilon)
				source := rand.New(rand.NewPCG(8, uint64(cell.vehicles)+uint64(i)))
				var square, typical float64
				var n, published int
				for range cell.replications {
					counts := make([]uint64, bins+1)
					for range cell.vehicles {
						for j, v := range release(t, c, drawCategory(source, share)) {
							counts[j] += uint64(v)
						}
					}
					for j, count := range counts {
						// Of the releases a fraction λ holds category j: an unbiased share, and its error by the binomial law.
						gain := c.Keep() - c.Other()
						lambda := share[j]*gain + c.Other()
						theory := math.Sqrt(lambda*(1-lambda)/float64(cell.vehicles)) / gain
						got := (float64(count)/float64(cell.vehicles) - c.Other()) / gain
						square += (got - share[j]) * (got - share[j]) / theory / theory
						typical += theory
						n++
						e, err := c.Share(count, uint64(cell.vehicles))
						if err != nil {
							t.Fatal(err)
						}
						if e.Suppressed != "" {
							continue
						}
						published++
						seen := float64(count) / float64(cell.vehicles)
						want := math.Sqrt(seen*(1-seen)/float64(cell.vehicles-1)) / gain
						if math.Abs(e.Mean-got) > 1e-12 || math.Abs(e.StdErr/want-1) > 1e-9 {
							t.Fatalf("category %d: published %g ± %g, want %g ± %g", j, e.Mean, e.StdErr, got, want)
						}
					}
				}
				actual, uncertainty := math.Sqrt(square/float64(n)), 1/math.Sqrt(2*float64(n))
				if math.Abs(actual-1) > tolerance {
					t.Errorf("%d vehicles, ε = %g, scheme %d: the error is %.3f ± %.3f of theory", cell.vehicles, epsilon, s, actual, uncertainty)
				}
				name := map[dp.Scheme]string{dp.SubsetSelection: "subset selection", dp.RandomizedResponse: "randomised response"}[s]
				fmt.Fprintf(w, "%d\t%g\t%s\t%d of %d\t%.3f\t%.3f\t±%.3f, n = %d\t%.0f %%\t\n", cell.vehicles, epsilon, name, c.Subset(), c.Categories(),
					typical/float64(n), actual, uncertainty, n, 100*float64(published)/float64(n))
			}
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("shares of %d categories\n%s", bins+1, b.String())
}
