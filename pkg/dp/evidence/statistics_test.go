package evidence

import (
	"math"
	"slices"
	"testing"
)

// phi is the standard normal distribution function, quantile its inverse on (0, 1).
func phi(x float64) float64      { return 0.5 * math.Erfc(-x/math.Sqrt2) }
func quantile(p float64) float64 { return -math.Sqrt2 * math.Erfcinv(2*p) }

// betaInc is the regularised incomplete beta function I_x(a, b) for a, b > 0, by its continued fraction (DLMF 8.17.22) evaluated
// after Lentz, on the side where that converges fast.
func betaInc(a, b, x float64) float64 {
	switch {
	case x <= 0:
		return 0
	case x >= 1:
		return 1
	case x > (a+1)/(a+b+2):
		return 1 - betaInc(b, a, 1-x)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab-la-lb+a*math.Log(x)+b*math.Log1p(-x)) / a
	const tiny = 1e-300
	c, d := 1.0, 1-(a+b)*x/(a+1)
	if math.Abs(d) < tiny {
		d = tiny
	}
	d = 1 / d
	h := d
	for m := 1.0; m < 1e6; m++ {
		step := 1.0
		for _, k := range [2]float64{
			m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m)),
			-(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1)),
		} {
			if d = 1 + k*d; math.Abs(d) < tiny {
				d = tiny
			}
			if c = 1 + k/c; math.Abs(c) < tiny {
				c = tiny
			}
			d = 1 / d
			step = c * d
			h *= step
		}
		if math.Abs(step-1) < 1e-14 {
			break
		}
	}
	return front * h
}

// atLeast and atMost are Clopper and Pearson's one-sided bounds (Biometrika 26, 1934) on a probability of which k of n independent
// trials spoke: each is wrong with probability at most alpha, whatever the probability is.
func atLeast(k, n int, alpha float64) float64 {
	if k == 0 {
		return 0
	}
	// P(Bin(n, p) ≥ k) = I_p(k, n−k+1) grows with p: the bound is where it reaches alpha.
	lo, hi := 0.0, float64(k)/float64(n)
	for range 100 {
		if mid := (lo + hi) / 2; betaInc(float64(k), float64(n-k+1), mid) < alpha {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

func atMost(k, n int, alpha float64) float64 { return 1 - atLeast(n-k, n, alpha) }

// roughly is Wilson's bound on a probability (1927) at some five standard deviations to one side: good enough for choosing.
func roughly(k, n int, side float64) float64 {
	const z = 5.2
	p, m := float64(k)/float64(n), float64(n)
	return (p + z*z/(2*m) + side*z*math.Sqrt(p*(1-p)/m+z*z/(4*m*m))) / (1 + z*z/m)
}

// normalised returns the deviate of a chi-square statistic, by Wilson and Hilferty (1931): standard normal where the hypothesis
// holds, large where it does not.
func normalised(chi2 float64, freedom int) float64 {
	k := 2 / (9 * float64(freedom))
	return (math.Cbrt(chi2/float64(freedom)) - (1 - k)) / math.Sqrt(k)
}

// strayed is the deviate beyond which a hypothesis is rejected: a true one is with probability 1e-9.
const strayed = 6.0

// fit returns the deviate of Pearson's chi-square of counts against probabilities. Cells that expect fewer than 20 are pooled with
// the one after them, so that the statistic has its asymptotic law.
func fit(counts []int, probability []float64) float64 {
	n := 0
	for _, c := range counts {
		n += c
	}
	var chi2, seen, want float64
	cells := 0
	for i, c := range counts {
		seen += float64(c)
		want += probability[i] * float64(n)
		if want >= 20 {
			chi2 += (seen - want) * (seen - want) / want
			cells++
			seen, want = 0, 0
		}
	}
	if want > 0 { // what is left at the end is a cell of its own, however small: it may hide nothing
		chi2 += (seen - want) * (seen - want) / max(want, 1)
		cells++
	}
	return normalised(chi2, cells-1)
}

// dependence returns the deviate of the chi-square test of independence over quartiles of pairs of numbers from one law.
func dependence(pairs [][2]float64) float64 {
	const q = 4
	edges := func(i int) []float64 {
		v := make([]float64, len(pairs))
		for j, p := range pairs {
			v[j] = p[i]
		}
		slices.Sort(v)
		return []float64{v[len(v)/4], v[len(v)/2], v[3*len(v)/4]}
	}
	cell := func(e []float64, x float64) int {
		n, _ := slices.BinarySearch(e, x)
		return n
	}
	var table [q][q]float64
	var row, column [q]float64
	e0, e1 := edges(0), edges(1)
	for _, p := range pairs {
		i, j := cell(e0, p[0]), cell(e1, p[1])
		table[i][j]++
		row[i]++
		column[j]++
	}
	var chi2 float64
	var rows, columns int // ties of a coarse law may leave a quartile empty
	for i := range q {
		if row[i] > 0 {
			rows++
		}
		if column[i] > 0 {
			columns++
		}
		for j := range q {
			want := row[i] * column[j] / float64(len(pairs))
			chi2 += (table[i][j] - want) * (table[i][j] - want) / max(want, 1)
		}
	}
	return normalised(chi2, (rows-1)*(columns-1))
}

// TestBounds compares the bounds with exact binomial sums: at the bound the tail has probability alpha.
func TestBounds(t *testing.T) {
	tail := func(n, k int, p float64) float64 { // P(Bin(n, p) ≥ k)
		var sum float64
		for i := k; i <= n; i++ {
			a, _ := math.Lgamma(float64(n + 1))
			b, _ := math.Lgamma(float64(i + 1))
			c, _ := math.Lgamma(float64(n - i + 1))
			sum += math.Exp(a - b - c + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
		}
		return sum
	}
	for _, c := range []struct{ k, n int }{{1, 1}, {1, 10}, {5, 10}, {10, 10}, {3, 1000}, {500, 1000}, {999, 1000}, {700, 5000}} {
		for _, alpha := range []float64{0.05, 1e-3, 1e-7} {
			low := atLeast(c.k, c.n, alpha)
			if got := tail(c.n, c.k, low); math.Abs(got/alpha-1) > 1e-6 {
				t.Errorf("%d of %d: P(at least as many) at the lower bound is %g, want %g", c.k, c.n, got, alpha)
			}
			if high := atMost(c.n-c.k, c.n, alpha); math.Abs(high+low-1) > 1e-12 {
				t.Errorf("%d of %d: bounds %g and %g are not each other's mirror", c.k, c.n, low, high)
			}
		}
	}
	if got := atLeast(0, 10, 0.05); got != 0 {
		t.Errorf("nothing of ten is at least %g", got)
	}
	// The textbook's rule of three: nothing seen in n trials.
	if got := atMost(0, 1000, 0.05); math.Abs(got-0.0029912) > 1e-6 {
		t.Errorf("nothing of 1,000 is at most %g", got)
	}
	// 99.99999 % of a million halves.
	if got, want := atLeast(500_000, 1_000_000, 1e-7), 0.5-5.1993*0.0005; math.Abs(got-want) > 1e-6 {
		t.Errorf("half of a million is at least %.7f, want %.7f", got, want)
	}
}

func TestNormalised(t *testing.T) {
	// Quantiles of chi-square from tables.
	for _, c := range []struct {
		freedom int
		chi2, z float64
	}{{9, 16.919, 1.6449}, {9, 27.877, 3.0902}, {100, 124.342, 1.6449}, {30, 29.336, 0}} {
		if got := normalised(c.chi2, c.freedom); math.Abs(got-c.z) > 0.03 {
			t.Errorf("chi-square %g of %d degrees is %.3f deviations, want %.3f", c.chi2, c.freedom, got, c.z)
		}
	}
}
