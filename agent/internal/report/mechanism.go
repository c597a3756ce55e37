package report

import (
	"errors"
	"fmt"

	"rawstone/agent/internal/budget"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A mechanism is what a charter asks for: package dp's, and where its numbers stand in usage and in a report.
type mechanism struct {
	budget.Mechanism
	// family is the one that a categorical mechanism tells of; nil for the vector of all.
	family *wire.Layout
}

func newMechanism(u *terms.Usage) (mechanism, error) {
	if u.Mechanism == terms.GaussianVector {
		g, err := gaussian(u)
		return mechanism{Mechanism: g}, err
	}
	scheme := dp.SubsetSelection
	switch u.Mechanism {
	case terms.SubsetSelection:
	case terms.RandomizedResponse:
		scheme = dp.RandomizedResponse
	default:
		return mechanism{}, fmt.Errorf("charter's mechanism %d is not one that this agent knows; update it", u.Mechanism)
	}
	for _, l := range wire.Layouts() {
		if u.Families == l.Family {
			c, err := dp.NewCategorical(scheme, l.Len, float64(u.EpsilonMicro)/1e6)
			if err == nil && c.Categories() > wire.VectorLen {
				err = fmt.Errorf("%d categories do not fit a report", c.Categories())
			}
			return mechanism{Mechanism: c, family: &l}, err
		}
	}
	return mechanism{}, errors.New("charter's mechanism is categorical, and its families are not one")
}

// gaussian returns the noise of a charter's vector.
func gaussian(u *terms.Usage) (*dp.Gaussian, error) {
	params := dp.Params{
		Epsilon: float64(u.EpsilonMicro) / 1e6, Delta: float64(u.DeltaPico) / 1e12, Clip: int64(u.Clip),
		Coordinates: make([]dp.Coordinate, wire.VectorLen),
	}
	for i, l := range wire.Layouts() {
		if i >= len(u.Scale) || u.Scale[i] == 0 {
			return nil, errors.New("charter lacks a family's scale")
		}
		// A value beyond the clip alone would be clipped to it: counting it no further keeps it from clipping the others away.
		k := dp.Coordinate{Max: (int64(u.Clip) + int64(u.Scale[i]) - 1) / int64(u.Scale[i]), Scale: int64(u.Scale[i])}
		for j := range l.Len {
			params.Coordinates[l.Offset+j] = k
		}
	}
	return dp.NewGaussian(params)
}

// totals returns what of the usage the mechanism is given.
func (m mechanism) totals(all *[wire.VectorLen]int64) []int64 {
	if m.family == nil {
		return all[:]
	}
	return all[m.family.Offset : m.family.Offset+m.family.Len]
}

// values returns a release as a report holds it: VectorLen numbers, zeros after those of a categorical one.
func (m mechanism) values(release []int64) []int64 {
	return append(release, make([]int64, wire.VectorLen-len(release))...)
}

// explain tells the driver how a report hides what it says.
func (m mechanism) explain() string {
	if m.family == nil {
		return "What you did not allow is noise over zeros."
	}
	return "It names the class that was used most, or that there was no use, among others by chance, so that each of them may be false."
}
