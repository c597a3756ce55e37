package dp

import (
	"fmt"
	"math"
	"math/big"
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

// Estimate is a population mean per release, a share (without unit) or a total. When Suppressed is set, only N is given.
type Estimate struct {
	// N is the number of releases.
	N uint64
	// Mean is the mean, share or total, with its standard error and its 95 % confidence interval, in natural units. Noise is part
	// of the empirical variance the interval rests on; clipping bias is not.
	Mean, StdErr, Low, High float64
	// Variance is the empirical variance of what one release says of a mean or share, and NoiseVariance the part of it that the
	// mechanism added, both in natural units squared. The rest is how vehicles differ.
	Variance, NoiseVariance float64
	Suppressed              Suppression
}

// publish returns the estimate of n releases with this mean, whose one release varies by variance, of which noise is the
// mechanism's. per is the number of reports per vehicle, and the part of the variance that is not noise counts per times:
// a vehicle's releases share their vehicle and not their noise. It is exact where a vehicle's true values are all alike, and
// too wide otherwise. An estimate outside the publication limits is suppressed; for n below 2 the other arguments may be NaN.
func publish(n uint64, mean, variance, noise, per float64) Estimate {
	if n < MinReports {
		return Estimate{N: n, Suppressed: FewReports}
	}
	stdErr := math.Sqrt((variance + (per-1)*max(variance-noise, 0)) / float64(n))
	// A mean that is not positive cannot be told from an empty bin: its relative error counts as infinite. NaN is suppressed too.
	if !(mean > 0 && stdErr <= MaxRelativeError*mean) {
		return Estimate{N: n, Suppressed: WideError}
	}
	return Estimate{
		N: n, Mean: mean, StdErr: stdErr, Low: mean - quantile975*stdErr, High: mean + quantile975*stdErr,
		Variance: variance, NoiseVariance: noise,
	}
}

// Estimate returns the mean of coordinate i in natural units. sigma is the noise's standard deviation in scaled units
// (Gaussian.Sigma) and scale the scaled units per natural unit. An index out of range or a sigma or scale that is not positive
// is an error.
func (m *Moments) Estimate(i int, sigma float64, scale int64) (Estimate, error) {
	return m.Clustered(i, sigma, scale, 1)
}

// Clustered is Estimate for a window in which one vehicle may report several times. per ≥ 1 is the number of reports per vehicle
// in the window, where they differ the largest, or Σr²/Σr over the vehicles' numbers r: the variance that is not noise is
// multiplied by it, as if each vehicle repeated itself (Kish, "Survey Sampling", 1965, section 5.4, with correlation 1).
func (m *Moments) Clustered(i int, sigma float64, scale int64, per float64) (Estimate, error) {
	if err := m.checkEstimate(i, sigma, scale, per); err != nil {
		return Estimate{}, err
	}
	unit, n := float64(scale), new(big.Int).SetUint64(m.N())
	first := m.sums.First(i)
	// n·Σx² − (Σx)² in integers: the difference of two large floats would lose the variance.
	spread := new(big.Int).Mul(n, m.sums.Square(i))
	spread.Sub(spread, new(big.Int).Mul(first, first))
	variance := float(spread) / float64(m.N()) / float64(m.N()-1) / (unit * unit)
	return publish(m.N(), float(first)/float64(m.N())/unit, variance, sigma*sigma/(unit*unit), per), nil
}

// Share returns coordinate i's share of the sum of all coordinates, Σx/ΣT, with the delta method's variance (Cochran, "Sampling
// Techniques", 1977, section 6.4). All coordinates must have the one scale; the share has none. It is suppressed too where the
// relative standard error of the total is above MaxRelativeError: a quotient by so uncertain a number has no normal law.
// Errors as Estimate's.
func (m *Moments) Share(i int, sigma float64, scale int64) (Estimate, error) {
	return m.ClusteredShare(i, sigma, scale, 1)
}

// ClusteredShare is Share for a window in which one vehicle may report several times; per as for Clustered.
func (m *Moments) ClusteredShare(i int, sigma float64, scale int64, per float64) (Estimate, error) {
	if err := m.checkEstimate(i, sigma, scale, per); err != nil {
		return Estimate{}, err
	}
	n := new(big.Int).SetUint64(m.N())
	total, totalSquare := m.sums.Total()
	first, square, cross := m.sums.First(i), m.sums.Square(i), m.sums.Cross(i)
	count, mean, dim := float64(m.N()), float(total)/float64(m.N()), float64(m.Dim())

	spread := new(big.Int).Mul(n, totalSquare)
	spread.Sub(spread, new(big.Int).Mul(total, total))
	of := publish(m.N(), mean, float(spread)/count/(count-1), dim*sigma*sigma, per)
	if of.Suppressed != "" {
		return of, nil
	}

	// One release says R + (x − R·T)/mean T of the share R = Σx/ΣT. Σ(x − R·T) is 0, so Σ(x − R·T)² is all of its spread; times
	// (ΣT)² it is an integer.
	residual := new(big.Int).Mul(square, new(big.Int).Mul(total, total))
	residual.Sub(residual, new(big.Int).Lsh(new(big.Int).Mul(cross, new(big.Int).Mul(first, total)), 1))
	residual.Add(residual, new(big.Int).Mul(totalSquare, new(big.Int).Mul(first, first)))
	share := float(first) / float(total)
	variance := float(residual) / float(total) / float(total) / (count - 1) / (mean * mean)
	// The noise in x − R·T is (1 − R) of coordinate i's and −R of each of the others'.
	noise := sigma * sigma * ((1-share)*(1-share) + (dim-1)*share*share) / (mean * mean)
	return publish(m.N(), share, variance, noise, per), nil
}

// Sum returns the total of coordinate i over all releases in natural units, N times Clustered's mean with its interval. It
// speaks of the vehicles that reported, as a sample of all: for the whole fleet, scale it by the fleet's size. Variance and
// NoiseVariance stay those of one release.
func (m *Moments) Sum(i int, sigma float64, scale int64, per float64) (Estimate, error) {
	e, err := m.Clustered(i, sigma, scale, per)
	if err != nil {
		return Estimate{}, err
	}
	n := float64(e.N)
	e.Mean, e.StdErr, e.Low, e.High = e.Mean*n, e.StdErr*n, e.Low*n, e.High*n
	return e, nil
}

func (m *Moments) checkEstimate(i int, sigma float64, scale int64, per float64) error {
	switch {
	case i < 0 || i >= m.Dim():
		return fmt.Errorf("cannot estimate: coordinate %d of %d", i, m.Dim())
	case !(sigma > 0) || math.IsInf(sigma, 0):
		return fmt.Errorf("cannot estimate: sigma %g is not positive and finite", sigma)
	case scale < 1:
		return fmt.Errorf("cannot estimate: scale %d is below 1", scale)
	}
	return checkPer(per)
}

func checkPer(per float64) error {
	if !(per >= 1) || math.IsInf(per, 0) {
		return fmt.Errorf("cannot estimate: %g reports per vehicle is not finite and at least 1", per)
	}
	return nil
}

// float returns the float64 nearest to b.
func float(b *big.Int) float64 {
	f, _ := new(big.Float).SetInt(b).Float64()
	return f
}
