package dp

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

func categorical(t testing.TB, s Scheme, bins int, epsilon float64) *Categorical {
	t.Helper()
	c, err := NewCategorical(s, bins, epsilon)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// exponentials returns fractions of 2¹²⁸ that e^ε lies above by less than one, for the float64 nearest to each ε, from 600-bit
// arithmetic (mpmath, exp).
func exponentials(t testing.TB) map[float64]*big.Int {
	t.Helper()
	es := make(map[float64]*big.Int)
	for epsilon, digits := range map[float64]string{
		0.001: "10041919b7ee33ce87ab67871f5e78b3f",
		0.01:  "10292a5d2f22267d3c6ae567dab5a2c68",
		0.1:   "11aec7b35a00d3a20ad9d3c71f58f0e8c",
		0.25:  "148b5e3c3e81866767bc3b69baabe534e",
		0.5:   "1a61298e1e069bc972dfefab6df33f9b1",
		1.0:   "2b7e151628aed2a6abf7158809cf4f3c7",
		2.0:   "763992e35376b730ce8ee881ada2aeea1",
		3.0:   "1415e5bf6fb105f2d4bdfc53744c3a3905",
		10.0:  "560a773e54157e7c1faa3015b44d322ea985",
		50.0:  "119103e4080b45664d7740cf8c5d8b4f40a43a0e9fa5a50dc2e",
	} {
		e, ok := new(big.Int).SetString(digits, 16)
		if !ok {
			t.Fatal(digits)
		}
		es[epsilon] = e
	}
	return es
}

// TestCategoricalReference compares with mpmath in 600 bits: the size is the best of all sizes by trial, and the thresholds are
// ⌊2⁶⁴·d·e^ε/(d·e^ε + k − d)⌋.
func TestCategoricalReference(t *testing.T) {
	for _, c := range []struct {
		bins        int
		epsilon     float64
		subset      int
		threshold   uint64
		keep, other float64
		response    uint64 // the threshold of randomised response
	}{
		{1, 0.001, 1, 9227983722488896066, 0.50024999997916667, 0.49975000002083333, 9227983722488896066},
		{1, 1, 1, 13485650502877570762, 0.73105857863000488, 0.26894142136999512, 13485650502877570762},
		{2, 0.001, 1, 6153014650682252557, 0.33355559258024177, 0.33322220370987911, 6153014650682252557},
		{10, 0.5, 4, 8948524138086015118, 0.48510046555259168, 0.35148995344474083, 2610890811336110899},
		{24, 0.25, 11, 9264129590569206354, 0.50220947141411901, 0.43740793869107837, 936800523469809038},
		{24, 1, 7, 9479431843918069098, 0.51388102995521208, 0.2702549570851995, 1876746773304443378},
		{24, 2, 3, 9258281573814869067, 0.50189244979062981, 0.10408781459205709, 4342406040298228060},
		{24, 4, 1, 12814017888903206740, 0.6946493016708487, 0.012722945763714638, 12814017888903206740},
		{255, 0.001, 128, 9227983722488896066, 0.50024999997916667, 0.49999901960792484, 72129405776359454},
		{255, 1, 69, 9237197343488092346, 0.500749471374356, 0.26862451187696331, 194566907919925718},
		{255, 3, 12, 9166826208986125924, 0.49693464452899092, 0.045110060217533369, 1346900180028530672},
		{255, 50, 1, math.MaxUint64, 1, 0x1p-64 / 255, math.MaxUint64}, // the ideal threshold is 2⁶⁴ − 0.9
		{8, 0.1, 4, 8656189207747884183, 0.46925295722429168, 0.44134338034696354, 2239035957356503029},
		{64, 0.7, 22, 9360985315573282214, 0.50746003078747289, 0.33582093701894574, 562718816896525226},
	} {
		got := categorical(t, SubsetSelection, c.bins, c.epsilon)
		near := math.Abs(got.Keep()-c.keep) < 1e-15 && math.Abs(got.Other()-c.other) < 1e-15
		if got.Subset() != c.subset || got.threshold != c.threshold || !near {
			t.Errorf("%d bins, ε = %g: subset %d, threshold %d, keep %.17g, other %.17g, want %+v",
				c.bins, c.epsilon, got.Subset(), got.threshold, got.Keep(), got.Other(), c)
		}
		response := categorical(t, RandomizedResponse, c.bins, c.epsilon)
		if response.Subset() != 1 || response.threshold != c.response {
			t.Errorf("%d bins, ε = %g: response of %d, threshold %d, want 1, %d", c.bins, c.epsilon, response.Subset(), response.threshold, c.response)
		}
	}
}

// law returns the exact probability of every release of the category: draw under all numbers it can be given, each with its
// probability, and the two sides of the threshold with theirs.
func law(c *Categorical, category int) map[string]*big.Rat {
	probabilities := make(map[string]*big.Rat)
	kept := new(big.Int).SetUint64(c.threshold)
	all := new(big.Int).Lsh(big.NewInt(1), 64)
	for keep, weight := range map[bool]*big.Int{true: kept, false: new(big.Int).Sub(all, kept)} {
		// The numbers to come form a counter whose digits have the bases that draw asks for.
		digits, bases := []int64{}, []int64{}
		for {
			p, at := new(big.Rat).SetFrac(weight, all), 0
			values := c.draw(category, keep, func(n int64) int64 {
				if at == len(digits) {
					digits, bases = append(digits, 0), append(bases, n)
				}
				at++
				p.Mul(p, big.NewRat(1, n))
				return digits[at-1]
			})
			key := fmt.Sprint(values)
			if probabilities[key] == nil {
				probabilities[key] = new(big.Rat)
			}
			probabilities[key].Add(probabilities[key], p)
			for len(digits) > 0 && digits[len(digits)-1] == bases[len(bases)-1]-1 {
				digits, bases = digits[:len(digits)-1], bases[:len(bases)-1]
			}
			if len(digits) == 0 {
				break
			}
			digits[len(digits)-1]++
		}
	}
	return probabilities
}

// TestCategoricalRatio is the guarantee itself, in exact arithmetic: every output of every category of small mechanisms is
// enumerated, and no two categories give any of them probabilities with a ratio above e^ε, rounded down in 128
// fractional bits. A threshold larger by one would break it.
func TestCategoricalRatio(t *testing.T) {
	for _, s := range []Scheme{SubsetSelection, RandomizedResponse} {
		for bins := 1; bins <= 5; bins++ {
			for epsilon, e := range exponentials(t) {
				c := categorical(t, s, bins, epsilon)
				limit := new(big.Rat).SetFrac(e, new(big.Int).Lsh(big.NewInt(1), 128))
				if ratio := maxRatio(t, c); ratio.Cmp(limit) > 0 {
					t.Errorf("scheme %d, %d bins, ε = %g: ratio %s is above %s", s, bins, epsilon, ratio.FloatString(30), limit.FloatString(30))
				}
				if c.threshold == math.MaxUint64 {
					continue
				}
				c.threshold++
				above := new(big.Rat).Add(limit, new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), 128)))
				if ratio := maxRatio(t, c); ratio.Cmp(above) < 0 {
					t.Errorf("scheme %d, %d bins, ε = %g: a larger threshold would do", s, bins, epsilon)
				}
			}
		}
	}
}

// maxRatio returns the largest ratio of the probabilities that two categories give one output, and checks that the probabilities
// add up, that every output has them from every category and passes Check, and that Keep and Other say what they are.
func maxRatio(t *testing.T, c *Categorical) *big.Rat {
	t.Helper()
	low, high := make(map[string]*big.Rat), make(map[string]*big.Rat)
	for category := range c.Categories() {
		sum := new(big.Rat)
		outputs := law(c, category)
		for out, p := range outputs {
			sum.Add(sum, p)
			if low[out] == nil || p.Cmp(low[out]) < 0 {
				low[out] = p
			}
			if high[out] == nil || p.Cmp(high[out]) > 0 {
				high[out] = p
			}
		}
		if sum.Cmp(big.NewRat(1, 1)) != 0 {
			t.Fatalf("the probabilities of category %d add up to %s", category, sum)
		}
		if n, want := len(outputs), new(big.Int).Binomial(int64(c.Categories()), int64(c.Subset())); int64(n) != want.Int64() {
			t.Fatalf("category %d has %d outputs, want %s", category, n, want)
		}
	}
	largest := new(big.Rat)
	for out := range low {
		if ratio := new(big.Rat).Quo(high[out], low[out]); ratio.Cmp(largest) > 0 {
			largest = ratio
		}
	}
	return largest
}

// TestCategoricalEverySize checks what the enumeration rests on for every number of bins: the ratio of the two values in the
// package comment.
func TestCategoricalEverySize(t *testing.T) {
	one, es := new(big.Int).Lsh(big.NewInt(1), 128), exponentials(t)
	for bins := 1; bins <= MaxBins; bins++ {
		for epsilon, e := range es {
			for _, s := range []Scheme{SubsetSelection, RandomizedResponse} {
				c := categorical(t, s, bins, epsilon)
				d, rest := big.NewInt(int64(c.Subset())), big.NewInt(int64(c.Categories()-c.Subset()))
				hit := new(big.Int).Mul(new(big.Int).SetUint64(c.threshold), rest)
				miss := new(big.Int).Mul(new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 64), new(big.Int).SetUint64(c.threshold)), d)
				if miss.Sign() <= 0 || new(big.Int).Mul(hit, one).Cmp(new(big.Int).Mul(miss, e)) > 0 {
					t.Fatalf("scheme %d, %d bins, ε = %g: the ratio is above e^ε", s, bins, epsilon)
				}
				if hit.Cmp(miss) <= 0 || c.Keep() <= c.Other() {
					t.Fatalf("scheme %d, %d bins, ε = %g: the truth is not likelier", s, bins, epsilon)
				}
			}
		}
	}
}

// TestCategoricalDraws compares the frequencies of real releases with Keep and Other.
func TestCategoricalDraws(t *testing.T) {
	const n = 40_000
	for _, s := range []Scheme{SubsetSelection, RandomizedResponse} {
		c := categorical(t, s, 7, 1)
		x := []int64{0, 0, 5, 0, 4, 0, 0}
		counts := make([]int, c.Categories())
		for range n {
			y, err := c.Release(x)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Check(y); err != nil {
				t.Fatal(err)
			}
			for i, v := range y {
				counts[i] += int(v)
			}
		}
		for i, count := range counts {
			want := c.Other()
			if i == 2 {
				want = c.Keep()
			}
			if got := float64(count) / n; math.Abs(got-want) > falseAlarm*math.Sqrt(want*(1-want)/n) {
				t.Errorf("scheme %d: category %d is in %.4f of the releases, want %.4f", s, i, got, want)
			}
		}
	}
}

func TestKeptAtThreshold(t *testing.T) {
	c := categorical(t, SubsetSelection, 24, 1)
	if c.kept(c.threshold) || !c.kept(c.threshold-1) || !c.kept(0) || c.kept(math.MaxUint64) {
		t.Error("not exactly the draws below the threshold keep the truth")
	}
}

func TestCategory(t *testing.T) {
	c := categorical(t, SubsetSelection, 3, 1)
	for name, k := range map[string]struct {
		x    []int64
		want int
	}{
		"largest":            {[]int64{1, 3, 2}, 1},
		"lowest of two":      {[]int64{1, 7, 7}, 1},
		"idle":               {[]int64{0, 0, 0}, 3},
		"negative is idle":   {[]int64{-1, math.MinInt64, 0}, 3},
		"negative and small": {[]int64{math.MinInt64, 0, 1}, 2},
		"huge":               {[]int64{0, 1, math.MaxInt64}, 2},
	} {
		if got, err := c.Category(k.x); err != nil || got != k.want {
			t.Errorf("%s: category %d, %v, want %d", name, got, err, k.want)
		}
		if y, err := c.Release(k.x); err != nil || c.Check(y) != nil {
			t.Errorf("%s: release %v, %v", name, y, err)
		}
	}
	for _, x := range [][]int64{nil, {1, 2}, {1, 2, 3, 4}} {
		if _, err := c.Category(x); err == nil {
			t.Errorf("%d totals have a category", len(x))
		}
		if _, err := c.Release(x); err == nil {
			t.Errorf("%d totals were released", len(x))
		}
	}
}

func TestCategoricalCheck(t *testing.T) {
	c := categorical(t, SubsetSelection, 10, 0.5) // 4 of 11
	good := []int64{1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1}
	if err := c.Check(good); err != nil {
		t.Fatal(err)
	}
	for want, y := range map[string][]int64{
		"10 values, want 11":        good[:10],
		"12 values, want 11":        append(append([]int64{}, good...), 0),
		"0 values, want 11":         nil,
		"value 2 is 2":              {1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0},
		"value 0 is -1":             {-1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0},
		"value 10 is 4294967297":    {1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1<<32 + 1},
		"3 categories are in":       {1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0},
		"5 categories are in":       {1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0},
		"11 categories are in the ": {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
	} {
		if err := c.Check(y); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
}

func TestNewCategoricalRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		scheme  Scheme
		bins    int
		epsilon float64
		want    string
	}{
		"no scheme":        {0, 5, 1, "scheme 0 is neither"},
		"unknown scheme":   {3, 5, 1, "scheme 3 is neither"},
		"no bins":          {SubsetSelection, 0, 1, "0 bins, want 1 to 255"},
		"negative bins":    {SubsetSelection, math.MinInt, 1, "bins, want 1 to 255"},
		"many bins":        {SubsetSelection, 256, 1, "256 bins"},
		"zero epsilon":     {RandomizedResponse, 5, 0, "epsilon 0 is outside"},
		"negative epsilon": {RandomizedResponse, 5, -1, "epsilon -1 is outside"},
		"huge epsilon":     {RandomizedResponse, 5, 50.1, "epsilon 50.1 is outside"},
		"NaN epsilon":      {SubsetSelection, 5, math.NaN(), "epsilon NaN is outside"},
		"infinite epsilon": {SubsetSelection, 5, math.Inf(1), "epsilon +Inf is outside"},
	} {
		if _, err := NewCategorical(c.scheme, c.bins, c.epsilon); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
}

// TestCategoricalShareKnown computes one share by hand: randomised response with k = 2 and e^ε = 3 keeps 3/4.
func TestCategoricalShareKnown(t *testing.T) {
	c := categorical(t, RandomizedResponse, 1, math.Log(3))
	got, err := c.Share(800, 2000)
	if err != nil {
		t.Fatal(err)
	}
	variance := 0.4 * 0.6 * 2000 / 1999 / 0.25
	stdErr := math.Sqrt(variance / 2000)
	near(t, "share", got.Mean, 0.3)
	near(t, "variance", got.Variance, variance)
	near(t, "noise", got.NoiseVariance, 0.75)
	near(t, "standard error", got.StdErr, stdErr)
	near(t, "low", got.Low, 0.3-1.959963984540054*stdErr)
	near(t, "high", got.High, 0.3+1.959963984540054*stdErr)
	if got.N != 2000 || got.Suppressed != "" {
		t.Errorf("got %+v", got)
	}
	four, err := c.ClusteredShare(800, 2000, 4)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "clustered", four.StdErr, math.Sqrt((0.75+4*(variance-0.75))/2000))
}

func near(t *testing.T, name string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-12*math.Abs(want)) {
		t.Errorf("%s is %.17g, want %.17g", name, got, want)
	}
}

func TestCategoricalShareSuppresses(t *testing.T) {
	c := categorical(t, SubsetSelection, 10, 0.5)
	for name, k := range map[string]struct {
		count, n uint64
		want     Suppression
	}{
		"few":            {500, 999, FewReports},
		"none":           {0, 0, FewReports},
		"not positive":   {350, 1000, WideError}, // other is 0.3515
		"wide":           {400, 1000, WideError},
		"never answered": {0, 1 << 20, WideError},
	} {
		if got, err := c.Share(k.count, k.n); err != nil || got != (Estimate{N: k.n, Suppressed: k.want}) {
			t.Errorf("%s: got %+v, %v, want nothing but n and %q", name, got, err, k.want)
		}
	}
	if got, err := c.Share(480, 1000); err != nil || got.Suppressed != "" {
		t.Errorf("got %+v, %v, want a share", got, err)
	}
	for _, k := range [][2]uint64{{2, 1}, {1 << 33, 1 << 33}, {math.MaxUint64, math.MaxUint64}} {
		if _, err := c.Share(k[0], k[1]); err == nil {
			t.Errorf("a share of %d in %d", k[0], k[1])
		}
	}
	for _, per := range []float64{0, 0.999, -1, math.NaN(), math.Inf(1)} {
		if _, err := c.ClusteredShare(480, 1000, per); err == nil {
			t.Errorf("%g reports per vehicle", per)
		}
	}
}

// TestCategoricalIntervalCovers counts how often the interval holds the true share of a random population, whose answers are
// drawn by Keep and Other, which TestCategoricalDraws ties to Release.
func TestCategoricalIntervalCovers(t *testing.T) {
	const trials, n, truth = 3000, 4000, 0.4
	rng := rand.New(rand.NewPCG(3, 5))
	for _, s := range []Scheme{SubsetSelection, RandomizedResponse} {
		c := categorical(t, s, 10, 1)
		held, sum := 0, 0.0
		for range trials {
			count := uint64(0)
			for range n {
				p := c.Other()
				if rng.Float64() < truth {
					p = c.Keep()
				}
				if rng.Float64() < p {
					count++
				}
			}
			e, err := c.Share(count, n)
			if err != nil || e.Suppressed != "" {
				t.Fatalf("got %+v, %v", e, err)
			}
			sum += e.Mean
			if e.Low <= truth && truth <= e.High {
				held++
			}
			if e.NoiseVariance > e.Variance {
				t.Fatalf("noise %g is more than everything, %g", e.NoiseVariance, e.Variance)
			}
		}
		if share := float64(held) / trials; share < 0.93 || share > 0.97 {
			t.Errorf("scheme %d: the interval held the share in %.1f %% of trials", s, 100*share)
		}
		if mean := sum / trials; math.Abs(mean-truth) > 0.005 {
			t.Errorf("scheme %d: the mean share is %.4f, want %.4f", s, mean, truth)
		}
	}
}

func BenchmarkCategoricalRelease64(b *testing.B) {
	c := categorical(b, SubsetSelection, 64, 0.5)
	x := make([]int64, 64)
	for b.Loop() {
		if _, err := c.Release(x); err != nil {
			b.Fatal(err)
		}
	}
}
