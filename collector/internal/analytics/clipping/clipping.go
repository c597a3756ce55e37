// Package clipping chooses the L2 bound of usage reports and says what clipping does to the means: over simulated vehicle-weeks, because
// what the cars' reports held before the noise nobody knows.
//
// Bias is deterministic in its arguments. The package sees no report, and its population is an assumption, not a measurement.
package clipping

import (
	"fmt"
	"math"
	"slices"

	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// DefaultClip is c, the L2 bound of a scaled weekly vector: the 99th percentile of the norm, 2,579, rounded, over the 20,000
// vehicle-weeks of DefaultPopulation with scales hours 1, speed 1, trips 30, charge 1, feature 1. Command:
//
//	go test -run TestDefaultClip -v ./collector/internal/analytics/clipping
//
// It also prints what smaller bounds would do: noise shrinks with c, bias grows. It belongs to those scales and a weekly dispatch.
const DefaultClip = 2600

// Mechanism returns the mechanism that a charter's usage parameters fix. It must equal what the cars' seal makes of them: a
// coordinate that alone reaches c counts no further, so that it does not clip the others away.
func Mechanism(u terms.Usage) (*dp.Gaussian, error) {
	layouts := wire.Layouts()
	if u.Mechanism != terms.GaussianVector {
		return nil, fmt.Errorf("cannot make mechanism: mechanism %d clips nothing", u.Mechanism)
	}
	if len(u.Scale) != len(layouts) {
		return nil, fmt.Errorf("cannot make mechanism: %d scales for %d families", len(u.Scale), len(layouts))
	}
	coordinates := make([]dp.Coordinate, wire.VectorLen)
	for i, l := range layouts {
		scale := int64(u.Scale[i])
		if scale == 0 {
			return nil, fmt.Errorf("cannot make mechanism: family %s has scale 0", l.Name)
		}
		k := dp.Coordinate{Max: (int64(u.Clip) + scale - 1) / scale, Scale: scale}
		for j := range l.Len {
			coordinates[l.Offset+j] = k
		}
	}
	return dp.NewGaussian(dp.Params{
		Epsilon: float64(u.EpsilonMicro) / 1e6, Delta: float64(u.DeltaPico) / 1e12,
		Clip: int64(u.Clip), Coordinates: coordinates,
	})
}

// Clipping is what clipping does to a simulated population.
type Clipping struct {
	// Bias is, for each coordinate, the mean after clamping, clipping and flooring minus the mean before, in natural units; at most 0.
	Bias []float64
	// Mean is the mean before clipping, in natural units.
	Mean []float64
	// Clipped is the share of vehicle-weeks that clipping changes, and Norm99 the 99th percentile of the scaled norm.
	Clipped, Norm99 float64
}

// Bias simulates p and clips every vehicle-week as g does, without noise. The same arguments give the same result.
func Bias(g *dp.Gaussian, p Population) (Clipping, error) {
	if g.Dim() != wire.VectorLen {
		return Clipping{}, fmt.Errorf("cannot measure clipping bias: the mechanism has %d coordinates, want %d", g.Dim(), wire.VectorLen)
	}
	var before, after [wire.VectorLen]int64
	norms := make([]float64, 0, min(max(p.Weeks, 0), maxWeeks))
	clipped := 0
	err := p.Simulate(func(week []int64) error {
		kept, err := g.Clip(week)
		if err != nil {
			return err
		}
		norm2, changed := 0.0, false
		for i, v := range week {
			scaled := v * g.Scale(i)
			before[i] += scaled
			after[i] += kept[i]
			norm2 += float64(scaled) * float64(scaled)
			changed = changed || kept[i] != scaled
		}
		norms = append(norms, math.Sqrt(norm2))
		if changed {
			clipped++
		}
		return nil
	})
	if err != nil {
		return Clipping{}, fmt.Errorf("cannot measure clipping bias: %w", err)
	}
	slices.Sort(norms)
	n := float64(len(norms))
	c := Clipping{Bias: make([]float64, g.Dim()), Mean: make([]float64, g.Dim()), Clipped: float64(clipped) / n, Norm99: norms[len(norms)*99/100]}
	for i := range before {
		unit := float64(g.Scale(i)) * n
		c.Mean[i] = float64(before[i]) / unit
		c.Bias[i] = float64(after[i]-before[i]) / unit
	}
	return c, nil
}
