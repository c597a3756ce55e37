package budget

import (
	"fmt"
	"math"

	"rawstone/pkg/dp"
)

// Cost is the guarantee of one release in exact integers. Its ranges are those of dp.Mu.
type Cost struct {
	// MicroEpsilon is ε in millionths.
	MicroEpsilon int64
	// PicoDelta is δ in units of 10⁻¹²; 0 means a pure release.
	PicoDelta int64
}

// NanoMu2 returns the cost as μ² in units of 10⁻⁹, rounded up.
func (c Cost) NanoMu2() (int64, error) {
	mu, err := dp.Mu(float64(c.MicroEpsilon)/1e6, float64(c.PicoDelta)/1e12)
	if err != nil {
		return 0, fmt.Errorf("cannot price release: %w", err)
	}
	return int64(math.Ceil(mu * mu * 1e9)), nil
}

// YearLimit returns the Limit that allows exactly n releases of cost c in a window. n is at least 1 and at most 100,000.
func YearLimit(c Cost, n int64) (int64, error) {
	if n < 1 || n > 100_000 {
		return 0, fmt.Errorf("cannot set budget limit: %d releases is outside [1, 100000]", n)
	}
	nano, err := c.NanoMu2()
	if err != nil {
		return 0, fmt.Errorf("cannot set budget limit: %w", err)
	}
	return n * nano, nil
}

// YearEpsilon returns the ε at total delta of n releases of cost c: what a window holds at most under YearLimit(c, n).
func YearEpsilon(c Cost, n int64, delta float64) (float64, error) {
	limit, err := YearLimit(c, n)
	if err != nil {
		return 0, err
	}
	if c.PicoDelta != 0 {
		return epsilon(limit, 0, 0, delta)
	}
	return epsilon(limit, c.MicroEpsilon, int(n), delta)
}

func epsilon(nano, pureEpsilon int64, pureCharges int, delta float64) (float64, error) {
	if nano == 0 {
		return 0, nil
	}
	gaussian, err := dp.Epsilon(delta, math.Sqrt(float64(nano)/1e9))
	if err != nil || pureCharges == 0 || pureCharges > dp.MaxCompositions {
		return gaussian, err
	}
	pure, err := dp.ComposePure(float64(pureEpsilon)/1e6, pureCharges, delta)
	return min(gaussian, pure), err
}
