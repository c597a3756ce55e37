package evidence

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"rawstone/pkg/dp"
)

// A test of a law gives the deviates of its statistics by name.
type deviates map[string]float64

// worst returns the statistic that strays farthest.
func (d deviates) worst() (name string, z float64) {
	for n, v := range d {
		if math.Abs(v) > math.Abs(z) || name == "" {
			name, z = n, v
		}
	}
	return name, z
}

// gaussianLaw compares n releases of x with the law that Release promises: the clipped x plus, on every coordinate, independently and
// anew in each call, a normal number of standard deviation sigma that is rounded to the nearest integer.
func gaussianLaw(t testing.TB, m mechanism, x, centre []int64, sigma float64, n int) deviates {
	t.Helper()
	// Cells end halfway between integers, so that their probabilities are exact also where sigma is small.
	var edges []float64
	for i := 1; i < 100; i++ {
		e := math.Floor(sigma*quantile(float64(i)/100)) + 0.5
		if len(edges) == 0 || e > edges[len(edges)-1] {
			edges = append(edges, e)
		}
	}
	probability := make([]float64, len(edges)+1)
	below := 0.0
	for i, e := range edges {
		probability[i] = phi(e/sigma) - below
		below = phi(e / sigma)
	}
	probability[len(edges)] = 1 - below
	// Mean 0, variance σ² and Sheppard's 1/12; the kurtosis of a rounded normal is 3 closely enough where σ > 0.5.
	variance := sigma*sigma + 1.0/12

	counts := make([]int, len(probability))
	var sum, square float64
	between, following := make([][2]float64, n), make([][2]float64, n)
	last, same := slices.Clone(centre), 0
	for i := range n {
		y := release(t, m, x)
		if slices.Equal(y, last) {
			same++
		}
		z := make([]float64, len(y))
		for j := range y {
			z[j] = float64(y[j] - centre[j])
		}
		// One coordinate a release, in turn, so that what the coordinates share does not pass for a fault of the law.
		one := z[i%len(z)]
		sum += one
		square += one * one
		cell, _ := slices.BinarySearch(edges, one)
		counts[cell]++
		between[i] = [2]float64{z[i%len(z)], z[(i+1)%len(z)]}
		following[i] = [2]float64{float64(last[0] - centre[0]), z[0]}
		last = y
	}
	d := deviates{
		"mean":                sum / math.Sqrt(float64(n)*variance),
		"variance":            (square/float64(n)/variance - 1) * math.Sqrt(float64(n)/2),
		"shape":               fit(counts, probability),
		"between coordinates": dependence(between),
		"from call to call":   dependence(following[1:]),
	}
	if sigma > 1000 && same > 0 { // with four coordinates two equal vectors among a million releases have probability below 1e-7
		d["releases repeated"] = math.Inf(1)
	}
	return d
}

func TestGaussianLaw(t *testing.T) {
	n := pick(20_000, 200_000)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "mechanism\tσ\treleases\tfarthest statistic\tdeviations")
	check := func(name string, m mechanism, g *dp.Gaussian, x []int64, mutant bool) {
		t.Helper()
		d := gaussianLaw(t, m, x, clipped(t, g, x), g.Sigma(), n)
		statistic, z := d.worst()
		fmt.Fprintf(w, "%s\t%.4g\t%d\t%s\t%.1f\n", name, g.Sigma(), n, statistic, z)
		if caught := math.Abs(z) > strayed; caught != mutant {
			t.Errorf("%s: caught %t, want %t: %v", name, caught, mutant, d)
		}
	}
	x := []int64{300, 0, 700, 1 << 30}
	at := func(epsilon, delta float64, clip int64) *dp.Gaussian {
		return gaussian(t, dp.Params{Epsilon: epsilon, Delta: delta, Clip: clip, Coordinates: coordinates(len(x), dp.MaxClip)})
	}
	g := at(1, 1e-6, 900)
	check("gaussian, ε = 1, c = 900", g, g, x, false)
	coarse := at(8, 1e-2, 1)
	check("gaussian, σ near the integers' step", coarse, coarse, x, false)
	if long() {
		for _, p := range []*dp.Gaussian{at(0.25, 1e-6, 2600), at(4, dp.MaxDelta, dp.MaxClip), at(dp.MinEpsilon, dp.MinDelta, dp.MaxClip)} {
			check(fmt.Sprintf("gaussian, ε = %g, δ = %g", p.Epsilon(), p.Delta()), p, p, x, false)
		}
	}

	noised := func(g *dp.Gaussian, draw func() float64) mechanism {
		return released(func(x []int64) []int64 {
			y := clipped(t, g, x)
			for i := range y {
				y[i] += int64(math.Round(draw()))
			}
			return y
		})
	}
	check("mutant: σ 8 % smaller", noised(g, func() float64 { return 0.92 * g.Sigma() * rand.NormFloat64() }), g, x, true)
	check("mutant: uniform of the same variance", noised(g, func() float64 { return (rand.Float64() - 0.5) * math.Sqrt(12) * g.Sigma() }), g, x, true)
	check("mutant: Laplace of the same variance", noised(g, func() float64 {
		return math.Copysign(rand.ExpFloat64(), rand.Float64()-0.5) * g.Sigma() / math.Sqrt2
	}), g, x, true)
	check("mutant: rounded towards zero", released(func(x []int64) []int64 {
		y := clipped(t, coarse, x)
		for i := range y {
			y[i] += int64(rand.NormFloat64() * coarse.Sigma())
		}
		return y
	}), coarse, x, true)
	check("mutant: one draw for all coordinates", released(func(x []int64) []int64 {
		y, noise := clipped(t, g, x), int64(math.Round(rand.NormFloat64()*g.Sigma()))
		for i := range y {
			y[i] += noise
		}
		return y
	}), g, x, true)
	var before []int64
	check("mutant: every second release repeats the one before", released(func(x []int64) []int64 {
		if before != nil {
			y := before
			before = nil
			return y
		}
		before = release(t, g, x)
		return before
	}), g, x, true)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("a law is refuted beyond %g deviations\n%s", strayed, b.String())
}

// categoricalLaw compares n releases of a category with the law that dp.Categorical promises: every subset of d of the k categories
// that holds the true one is equally likely, so is every other subset of d, and nothing else is released.
func categoricalLaw(t testing.TB, m mechanism, c *dp.Categorical, category, n int) deviates {
	t.Helper()
	k, d := c.Categories(), c.Subset()
	x := make([]int64, k-1)
	if category < k-1 {
		x[category] = 25
	}
	var index = make(map[uint32]int)
	var probability []float64
	with, without := binomial(k-1, d-1), binomial(k-1, d)
	for s := range uint32(1) << k {
		if bits.OnesCount32(s) != d {
			continue
		}
		index[s] = len(probability)
		if s>>category&1 == 1 {
			probability = append(probability, c.Keep()/with)
		} else {
			probability = append(probability, (1-c.Keep())/without)
		}
	}
	counts := make([]int, len(probability))
	following := make([][2]float64, n)
	kept, last := 0.0, 0.0
	for i := range n {
		var s uint32
		for j, v := range release(t, m, x) {
			s |= uint32(v) << j
		}
		at, ok := index[s]
		if !ok {
			return deviates{"no such subset": math.Inf(1)}
		}
		kept += float64(s >> category & 1)
		counts[at]++
		// A little continuous noise parts equal answers, so that quartiles exist.
		now := float64(at) + rand.Float64()
		following[i] = [2]float64{last, now}
		last = now
	}
	keep := c.Keep()
	return deviates{
		"shape":             fit(counts, probability),
		"true category":     (kept - float64(n)*keep) / math.Sqrt(float64(n)*keep*(1-keep)),
		"from call to call": dependence(following[1:]),
	}
}

func binomial(n, k int) float64 {
	v := 1.0
	for i := range k {
		v = v * float64(n-i) / float64(i+1)
	}
	return v
}

func TestCategoricalLaw(t *testing.T) {
	n := pick(60_000, 600_000)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "mechanism\tk\td\treleases\tfarthest statistic\tdeviations")
	check := func(name string, m mechanism, c *dp.Categorical, category int, mutant bool) {
		t.Helper()
		d := categoricalLaw(t, m, c, category, n)
		statistic, z := d.worst()
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%.1f\n", name, c.Categories(), c.Subset(), n, statistic, z)
		if caught := math.Abs(z) > strayed; caught != mutant {
			t.Errorf("%s: caught %t, want %t: %v", name, caught, mutant, d)
		}
	}
	small := categorical(t, dp.SubsetSelection, 7, 0.5)
	ten := categorical(t, dp.SubsetSelection, 10, 1)
	answer := categorical(t, dp.RandomizedResponse, 10, 2)
	check("subset selection, ε = 0.5", small, small, 2, false)
	check("subset selection, ε = 0.5, idle", small, small, 7, false)
	check("subset selection, ε = 1", ten, ten, 9, false)
	check("randomised response, ε = 2", answer, answer, 4, false)
	check("randomised response, ε = 2, idle", answer, answer, 10, false)

	k, d := ten.Categories(), ten.Subset()
	check("mutant: threshold 5 % larger", chosen{k, d, 1.05 * ten.Keep()}, ten, 9, true)
	check("mutant: a subset larger by one", chosen{k, d + 1, ten.Keep()}, ten, 9, true)
	check("mutant: a subset smaller by one", chosen{k, d - 1, ten.Keep()}, ten, 9, true)
	check("mutant: idle counts as the first bin", released(func(x []int64) []int64 {
		return release(t, small, append([]int64{x[0] + 1}, x[1:]...))
	}), small, 7, true)
	check("mutant: the others are neighbours of one another", released(func(x []int64) []int64 {
		y := make([]int64, k)
		first, left := rand.IntN(k), d
		if rand.Float64() < ten.Keep() {
			y[9] = 1
			left--
		}
		for i := range k {
			if j := (first + i) % k; j != 9 && left > 0 {
				y[j] = 1
				left--
			}
		}
		return y
	}), ten, 9, true)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("a law is refuted beyond %g deviations\n%s", strayed, b.String())
}
