package evidence

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/differential-privacy/go/v3/noise"

	"rawstone/pkg/dp"
)

// observerOf makes an observer of a function of a uniform number from (0, 1), seeded alike in every run: for mechanisms whose
// guarantee is known by heart.
func observerOf(release func(input int, u float64) float64) observer {
	source := rand.New(rand.NewPCG(1, 2))
	return func(input int) float64 { return release(input, source.Float64()+0x1p-54) }
}

// mechanism is what dp's mechanisms have in common, and what the broken ones imitate.
type mechanism interface {
	Release(x []int64) ([]int64, error)
}

// released makes a mechanism of a function that cannot fail.
type released func(x []int64) []int64

func (r released) Release(x []int64) ([]int64, error) { return r(x), nil }

func release(t testing.TB, m mechanism, x []int64) []int64 {
	t.Helper()
	y, err := m.Release(x)
	if err != nil {
		t.Fatal(err)
	}
	return y
}

// claimed is what a mechanism promises of one release: its ε and δ, and the μ that they cost in the budget's ledger.
func claimed(t testing.TB, m interface {
	Epsilon() float64
	Delta() float64
}) guarantee {
	t.Helper()
	mu, err := dp.Mu(m.Epsilon(), m.Delta())
	if err != nil {
		t.Fatal(err)
	}
	return guarantee{m.Epsilon(), m.Delta(), mu}
}

// along observes releases of two inputs along the direction in which they differ once they were prepared (clipped, or one-hot):
// for Gaussian noise of one variance, and for the categorical schemes, that is a monotone function of the likelihood ratio, so no
// observer sees more.
func along(t testing.TB, m mechanism, inputs, prepared [2][]int64) observer {
	return func(input int) float64 {
		var score float64
		for i, v := range release(t, m, inputs[input]) {
			score += float64(v) * float64(prepared[0][i]-prepared[1][i])
		}
		return score
	}
}

// times observes n releases of the same input at once.
func times(n int, o observer) observer {
	return func(input int) float64 {
		var sum float64
		for range n {
			sum += o(input)
		}
		return sum
	}
}

func gaussian(t testing.TB, p dp.Params) *dp.Gaussian {
	t.Helper()
	g, err := dp.NewGaussian(p)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func categorical(t testing.TB, s dp.Scheme, bins int, epsilon float64) *dp.Categorical {
	t.Helper()
	c, err := dp.NewCategorical(s, bins, epsilon)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func coordinates(dim int, most int64) []dp.Coordinate {
	k := make([]dp.Coordinate, dim)
	for i := range k {
		k[i] = dp.Coordinate{Max: most, Scale: 1}
	}
	return k
}

// plus adds the library's noise at a sensitivity of one's own choice: what a broken mechanism does.
func plus(t testing.TB, x []int64, l0, lInf int64, epsilon, delta float64) []int64 {
	t.Helper()
	y := make([]int64, len(x))
	for i, v := range x {
		var err error
		if y[i], err = noise.Gaussian().AddNoiseInt64(v, l0, lInf, epsilon, delta); err != nil {
			t.Fatal(err)
		}
	}
	return y
}

func clipped(t testing.TB, g *dp.Gaussian, x []int64) []int64 {
	t.Helper()
	y, err := g.Clip(x)
	if err != nil {
		t.Fatal(err)
	}
	return y
}

// gaussianRows attacks the clipped vector with Gaussian noise.
func gaussianRows(t *testing.T) []row {
	const clip = 900
	// far are the two inputs of full norm that have nothing in common: √2·c apart, the sensitivity itself.
	far := [2][]int64{{clip, 0}, {0, clip}}
	build := func(epsilon, delta float64, samples, forMutant int) row {
		g := gaussian(t, dp.Params{Epsilon: epsilon, Delta: delta, Clip: clip, Coordinates: coordinates(2, 1<<20)})
		watch := func(m mechanism) observer { return along(t, m, far, far) }
		r := row{"gaussian, inputs √2·c apart", claimed(t, g), samples, watch(g), nil}
		if forMutant == 0 {
			return r
		}
		r.mutants = []mutant{
			{"sensitivity of l0 = 1", forMutant, watch(released(func(x []int64) []int64 {
				return plus(t, clipped(t, g, x), 1, clip, epsilon, delta)
			}))},
			{"noise drawn anew on each of 3 retries", forMutant / 6, times(4, watch(g))},
		}
		return r
	}
	rows := []row{
		build(1, 1e-6, pick(10_000, 250_000), pick(0, 300_000)),
		build(2, 1e-2, pick(20_000, 250_000), pick(25_000, 100_000)),
	}
	if long() {
		for _, epsilon := range []float64{0.25, 0.5, 2} {
			rows = append(rows, build(epsilon, 1e-6, 250_000, 0))
		}
	}

	// One hour may count for no more than the clip allows, whatever its value: the largest integers there are.
	wild := [2][]int64{{math.MaxInt64, 0}, {0, math.MaxInt64}}
	g := gaussian(t, dp.Params{Epsilon: 2, Delta: 1e-6, Clip: clip, Coordinates: coordinates(2, 4*clip)})
	rows = append(rows, row{"gaussian, one wild value", claimed(t, g), pick(6_000, 200_000), along(t, g, wild, far), []mutant{
		{"clamped to the largest value, not clipped", 2_000, along(t, released(func(x []int64) []int64 {
			y := make([]int64, len(x))
			for i, v := range x {
				y[i] = min(max(v, 0), 4*clip)
			}
			return plus(t, y, 2, clip, 2, 1e-6)
		}), wild, far)},
	}})

	// A whole vector against another, each value small.
	dim, each := 16, int64(clip/3)
	if long() {
		dim, each = 64, clip/6
	}
	var spread [2][]int64
	for i := range spread {
		spread[i] = make([]int64, dim)
		for j := range dim {
			if j%2 == i {
				spread[i][j] = each
			}
		}
	}
	g = gaussian(t, dp.Params{Epsilon: 2, Delta: 1e-6, Clip: clip, Coordinates: coordinates(dim, each)})
	prepared := [2][]int64{clipped(t, g, spread[0]), clipped(t, g, spread[1])}
	rows = append(rows, row{"gaussian, every value differs", claimed(t, g), pick(1_500, 50_000), along(t, g, spread, prepared), []mutant{
		{"each coordinate calibrated by itself", 1_000, along(t, released(func(x []int64) []int64 {
			return plus(t, x, 1, each, 2, 1e-6)
		}), spread, spread)},
	}})
	return rows
}

// chosen is a categorical mechanism whose parameters are one's own choice: subsets of size d of k categories, which hold the true
// one with probability keep. With the right ones it has dp.Categorical's law, with wrong ones it is a mutant.
type chosen struct {
	k, d int
	keep float64
}

func (c chosen) Release(x []int64) ([]int64, error) {
	category, most := c.k-1, int64(0)
	for i, v := range x {
		if v > most {
			category, most = i, v
		}
	}
	y := make([]int64, c.k)
	ones := c.d
	if rand.Float64() < c.keep {
		y[category] = 1
		ones--
	}
	for _, i := range rand.Perm(c.k) {
		if i != category && ones > 0 {
			y[i] = 1
			ones--
		}
	}
	return y, nil
}

// oneHot is the vector of k values that is 1 at the category.
func oneHot(k, category int) []int64 {
	y := make([]int64, k)
	y[category] = 1
	return y
}

// categoricalRows attacks subset selection and randomised response, with two bins as inputs and with a bin and an idle dispatch.
func categoricalRows(t *testing.T) []row {
	var rows []row
	build := func(s dp.Scheme, name string, bins int, epsilon float64, idle bool) {
		c := categorical(t, s, bins, epsilon)
		k, d := c.Categories(), c.Subset()
		inputs := [2][]int64{make([]int64, bins), make([]int64, bins)}
		prepared := [2][]int64{oneHot(k, 0), oneHot(k, bins-1)}
		inputs[0][0], inputs[1][bins-1] = 40, 40
		if idle {
			inputs[1] = make([]int64, bins)
			prepared[1] = oneHot(k, k-1)
			name += ", against idle"
		}
		watch := func(m mechanism) observer { return along(t, m, inputs, prepared) }
		r := row{name, claimed(t, c), pick(40_000, 1_000_000), watch(c), []mutant{
			{"noise drawn anew on each of 3 retries", pick(20_000, 200_000), times(4, watch(c))},
		}}
		few := pick(60_000, 400_000)
		odds := math.Exp(epsilon + 0.4)
		r.mutants = append(r.mutants, mutant{
			"threshold of ε + 0.4", few,
			watch(chosen{k, d, float64(d) * odds / (float64(d)*odds + float64(k-d))}),
		})
		if d > 1 {
			r.mutants = append(r.mutants, mutant{"a subset smaller by one", few, watch(chosen{k, d - 1, c.Keep()})})
		} else {
			r.mutants = append(r.mutants, mutant{
				"the other answer may be the true one", few,
				watch(chosen{k, 1, c.Keep() + (1-c.Keep())/float64(k)}),
			})
		}
		rows = append(rows, r)
	}
	build(dp.SubsetSelection, "subset selection of 11", 10, 1, false)
	build(dp.RandomizedResponse, "randomised response of 11", 10, 1, true)
	if long() {
		for _, epsilon := range []float64{0.25, 0.5, 1, 2} {
			build(dp.SubsetSelection, "subset selection of 25", 24, epsilon, true)
			build(dp.RandomizedResponse, "randomised response of 3", 2, epsilon, false)
		}
	}
	return rows
}

// yearRows attacks many releases of one car at once: what composition claims of a year, or of a quarter, at one total δ.
func yearRows(t *testing.T) []row {
	const delta = 1e-6
	weeks := pick(13, 52)
	g := gaussian(t, dp.Params{Epsilon: 1, Delta: delta, Clip: 900, Coordinates: coordinates(2, 900)})
	mus := make([]float64, weeks)
	for i := range mus {
		mus[i] = claimed(t, g).mu
	}
	year := guarantee{0, delta, dp.Compose(mus...)}
	var err error
	if year.epsilon, err = dp.Epsilon(delta, year.mu); err != nil {
		t.Fatal(err)
	}
	far := [2][]int64{{900, 0}, {0, 900}}
	week := along(t, g, far, far)
	refunded := week
	if !long() { // the same law, drawn faster
		refunded = along(t, lawful(t, g, g.Sigma(), rand.New(rand.NewPCG(3, 4))), far, far)
	}
	rows := []row{{fmt.Sprintf("%d gaussian weeks", weeks), year, pick(1_500, 20_000), times(weeks, week), []mutant{
		{"each charge refunded three times", pick(3_000, 6_000), times(4*weeks, refunded)},
	}}}

	// Randomised response on one bit is what pure composition is worst for.
	const epsilon = 0.25
	weeks = 52
	c := categorical(t, dp.RandomizedResponse, 1, epsilon)
	pure := guarantee{0, delta, math.Sqrt(float64(weeks)) * claimed(t, c).mu}
	if pure.epsilon, err = dp.ComposePure(epsilon, weeks, delta); err != nil {
		t.Fatal(err)
	}
	answer := along(t, c, [2][]int64{{1}, {0}}, [2][]int64{oneHot(2, 0), oneHot(2, 1)})
	return append(rows, row{"52 randomised responses of 2", pure, pick(4_000, 200_000), times(weeks, answer), []mutant{
		{"each charge refunded three times", pick(3_000, 20_000), times(4*weeks, answer)},
	}})
}
