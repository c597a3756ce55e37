package dp

import (
	"fmt"
	"math"
)

// Publication limits: an estimate outside them is suppressed.
const (
	// MinReports is the smallest cohort an estimate is published for.
	MinReports = 1000
	// MaxRelativeError is the largest ratio of standard error to mean an estimate is published with.
	MaxRelativeError = 0.30
)

// quantile975 is the standard normal 97.5 % quantile: with at least MinReports releases, Student's differs by 0.13 %.
const quantile975 = 1.959963984540054

// Suppression says why an estimate is not published; empty means that it is.
type Suppression string

// The reasons, as the reader sees them.
const (
	FewReports Suppression = "n < 1,000"
	WideError  Suppression = "relative standard error above 30 %"
)

// Estimate is a population mean per release. When Suppressed is set, only N is given.
type Estimate struct {
	// N is the number of releases.
	N uint64
	// Mean, its standard error and its 95 % confidence interval, in natural units. Noise is part of the empirical variance the
	// interval rests on; clipping bias is not.
	Mean, StdErr, Low, High float64
	// Variance is the empirical variance of one release and NoiseVariance the part of it that the mechanism added, both in
	// natural units squared. The rest is how vehicles differ.
	Variance, NoiseVariance float64
	Suppressed              Suppression
}

// Moments accumulates releases of one dimension: Welford's mean and sum of squared deviations of each coordinate (Welford,
// 1962), mergeable by Chan, Golub and LeVeque's rule (1979). Merging in any grouping gives the same estimates up to rounding.
// It is not safe for concurrent use.
type Moments struct {
	n        uint64
	mean, m2 []float64
}

// NewMoments returns empty moments of dim coordinates, 1 to MaxDim.
func NewMoments(dim int) (*Moments, error) {
	if dim < 1 || dim > MaxDim {
		return nil, fmt.Errorf("cannot make moments: dimension %d is outside [1, %d]", dim, MaxDim)
	}
	return &Moments{mean: make([]float64, dim), m2: make([]float64, dim)}, nil
}

// N returns the number of releases added.
func (m *Moments) N() uint64 { return m.n }

// Dim returns the number of coordinates.
func (m *Moments) Dim() int { return len(m.mean) }

// Add takes one release in. It never clips: clipping noised values before pooling would bias the mean. The only error is a
// wrong length, after which m is unchanged.
func (m *Moments) Add(x []int64) error {
	if len(x) != len(m.mean) {
		return fmt.Errorf("cannot add release: %d coordinates, want %d", len(x), len(m.mean))
	}
	m.n++
	inverse := 1 / float64(m.n)
	for i, v := range x {
		d := float64(v) - m.mean[i]
		m.mean[i] += d * inverse
		m.m2[i] += d * (float64(v) - m.mean[i])
	}
	return nil
}

// Merge adds o's releases to m and leaves o alone. The only error is a different dimension, after which m is unchanged.
func (m *Moments) Merge(o *Moments) error {
	if len(o.mean) != len(m.mean) {
		return fmt.Errorf("cannot merge moments: %d coordinates, want %d", len(o.mean), len(m.mean))
	}
	if o.n == 0 {
		return nil
	}
	total := m.n + o.n
	share := float64(o.n) / float64(total)
	for i := range m.mean {
		d := o.mean[i] - m.mean[i]
		m.m2[i] += o.m2[i] + d*d*float64(m.n)*share
		m.mean[i] += d * share
	}
	m.n = total
	return nil
}

// Estimate returns the mean of coordinate i in natural units. sigma is the noise's standard deviation in scaled units
// (Gaussian.Sigma) and scale the scaled units per natural unit. An index out of range or a sigma or scale that is not positive
// is an error.
func (m *Moments) Estimate(i int, sigma float64, scale int64) (Estimate, error) {
	switch {
	case i < 0 || i >= len(m.mean):
		return Estimate{}, fmt.Errorf("cannot estimate: coordinate %d of %d", i, len(m.mean))
	case !(sigma > 0) || math.IsInf(sigma, 0):
		return Estimate{}, fmt.Errorf("cannot estimate: sigma %g is not positive and finite", sigma)
	case scale < 1:
		return Estimate{}, fmt.Errorf("cannot estimate: scale %d is below 1", scale)
	}
	if m.n < MinReports {
		return Estimate{N: m.n, Suppressed: FewReports}, nil
	}
	unit := float64(scale)
	variance := m.m2[i] / float64(m.n-1) / (unit * unit)
	mean, stdErr := m.mean[i]/unit, math.Sqrt(variance/float64(m.n))
	// A mean that is not positive cannot be told from an empty bin: its relative error counts as infinite.
	if mean <= 0 || stdErr > MaxRelativeError*mean {
		return Estimate{N: m.n, Suppressed: WideError}, nil
	}
	return Estimate{
		N: m.n, Mean: mean, StdErr: stdErr, Low: mean - quantile975*stdErr, High: mean + quantile975*stdErr,
		Variance: variance, NoiseVariance: sigma * sigma / (unit * unit),
	}, nil
}
