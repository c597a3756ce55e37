package evidence

import (
	"math"
	"math/rand/v2"
	"testing"

	"rawstone/pkg/dp"
)

// A fleet is a population with known truth: each vehicle is one of its profiles, all equally likely.
type fleet struct {
	profiles [][]int64
	// mean and variance of each coordinate over the profiles, as the mechanism's clipping leaves them. Clipping bias is not the
	// estimator's error: the collector prints it apart.
	mean, variance []float64
}

// newFleet clips profiles and computes what is true of them.
func newFleet(t testing.TB, g *dp.Gaussian, profiles [][]int64) *fleet {
	f := &fleet{profiles: profiles, mean: make([]float64, g.Dim()), variance: make([]float64, g.Dim())}
	for _, p := range profiles {
		for i, v := range clipped(t, g, p) {
			f.mean[i] += float64(v)
			f.variance[i] += float64(v) * float64(v)
		}
	}
	for i := range f.mean {
		f.mean[i] /= float64(len(profiles))
		f.variance[i] = f.variance[i]/float64(len(profiles)) - f.mean[i]*f.mean[i]
	}
	return f
}

// weeks invents profiles: minutes in each of dim values, unlike in size from value to value and from car to car, about one car in
// twenty beyond the clip.
func weeks(source *rand.Rand, dim int, norm float64) [][]int64 {
	profiles := make([][]int64, 1000)
	for p := range profiles {
		x, square := make([]float64, dim), 0.0
		for i := range x {
			x[i] = source.ExpFloat64() * (1 + math.Sin(float64(i)))
			square += x[i] * x[i]
		}
		length := norm * min(0.35+0.25*source.ExpFloat64(), 2) / math.Sqrt(square)
		y := make([]int64, dim)
		for i := range y {
			y[i] = int64(x[i] * length)
		}
		profiles[p] = y
	}
	return profiles
}

// lawful releases with the law that TestGaussianLaw holds the real mechanism to where sigma is g's, from a seeded source: the same in every run, and
// three hundred times faster.
func lawful(t testing.TB, g *dp.Gaussian, sigma float64, source *rand.Rand) mechanism {
	return released(func(x []int64) []int64 {
		y := clipped(t, g, x)
		for i := range y {
			y[i] += int64(math.Round(sigma * source.NormFloat64()))
		}
		return y
	})
}

// errors are those of estimates of one coordinate's mean, relative to what theory says their standard deviation is.
type errors struct {
	n              int     // estimates
	square         float64 // sum of squared relative errors
	stdErr         float64 // sum of empirical standard errors over theory
	published      int
	publishedError float64 // sum of published standard errors over theory
}

// actual is the root mean square of the errors over theory: 1 where theory is right.
func (e errors) actual() float64 { return math.Sqrt(e.square / float64(e.n)) }

// uncertainty is the standard deviation of actual.
func (e errors) uncertainty() float64 { return 1 / math.Sqrt(2*float64(e.n)) }

// survey lets n vehicles of f report replications times and estimates each coordinate's mean each time.
func survey(t testing.TB, f *fleet, g *dp.Gaussian, m mechanism, source *rand.Rand, n, replications int) errors {
	t.Helper()
	var e errors
	for range replications {
		moments, err := dp.NewMoments(g.Dim())
		if err != nil {
			t.Fatal(err)
		}
		sum, square := make([]float64, g.Dim()), make([]float64, g.Dim())
		for range n {
			y := release(t, m, f.profiles[source.IntN(len(f.profiles))])
			if err := moments.Add(y); err != nil {
				t.Fatal(err)
			}
			for i, v := range y {
				sum[i] += float64(v)
				square[i] += float64(v) * float64(v)
			}
		}
		count := float64(n)
		for i := range f.mean {
			theory := math.Sqrt((f.variance[i] + g.Sigma()*g.Sigma() + 1.0/12) / count)
			total, err := moments.Total(i)
			if err != nil {
				t.Fatal(err)
			}
			deviation := (total/count - f.mean[i]) / theory
			e.n++
			e.square += deviation * deviation
			e.stdErr += math.Sqrt((square[i]-sum[i]*sum[i]/count)/(count-1)/count) / theory
			got, err := moments.Estimate(i, g.Sigma(), 1)
			if err != nil {
				t.Fatal(err)
			}
			if got.Suppressed != "" {
				continue
			}
			e.published++
			e.publishedError += got.StdErr / theory
			if math.Abs(got.Mean-total/count) > 1e-9*math.Abs(got.Mean) {
				t.Fatalf("the published mean is %g, that of the reports %g", got.Mean, total/count)
			}
		}
	}
	return e
}
