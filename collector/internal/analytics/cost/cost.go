// Package cost says what a year of usage reports costs a vehicle in privacy, as it stands beside the charts.
//
// It states the guarantee of a charter, kept by the budget in each car; it sees no report and keeps no account.
package cost

import (
	"errors"
	"fmt"

	"rawstone/pkg/dp"
)

// Privacy is what reports cost each vehicle that makes them.
type Privacy struct {
	// Epsilon and Delta are the guarantee of one dispatch, under replacement of all of it. Delta is 0 for categorical reports.
	Epsilon, Delta float64
	// YearEpsilon is the ε of a year of Dispatches at a total δ of YearDelta: by exact Gaussian composition and, where Delta is 0,
	// by optimal pure composition where that gives less.
	YearEpsilon, YearDelta float64
	Dispatches             int
}

// pureYearDelta is the total δ at which a year of pure releases is stated, that of the default charter's year.
const pureYearDelta = 1e-6

// A Mechanism is what releases are made by.
type Mechanism interface {
	Epsilon() float64
	Delta() float64
	Mu() float64
}

// Of composes a year of dispatches of a mechanism, at least 1.
func Of(r Mechanism, dispatches int) (p Privacy, err error) {
	if dispatches < 1 {
		return Privacy{}, errors.New("the charter allows no dispatches in a year")
	}
	p = Privacy{Epsilon: r.Epsilon(), Delta: r.Delta(), YearDelta: r.Delta(), Dispatches: dispatches}
	if p.Delta == 0 {
		p.YearDelta = pureYearDelta
	}
	mus := make([]float64, dispatches)
	for i := range mus {
		mus[i] = r.Mu()
	}
	if p.YearEpsilon, err = dp.Epsilon(p.YearDelta, dp.Compose(mus...)); err == nil && p.Delta == 0 {
		var pure float64
		if pure, err = dp.ComposePure(p.Epsilon, dispatches, p.YearDelta); err == nil {
			p.YearEpsilon = min(p.YearEpsilon, pure)
		}
	}
	if err != nil {
		return Privacy{}, fmt.Errorf("cannot compose %d dispatches: %w", dispatches, err)
	}
	return p, nil
}
