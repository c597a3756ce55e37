// Package usage decides whether a usage report, whose signature holds, is kept.
//
// A report is kept when it was made under the data charter in force, or under an earlier one before cars had heard of the next, and holds what that charter's mechanism can release, for an epoch for
// which its vehicle has not reported, not more often in a year than the charter allows, and when its charge fits those of the vehicle's other reports. In a vehicle's privacy budget epochs
// rise with the index of the charge, and an index is given once. Two reports that contradict that come of two ledgers that were one: one
// of them was put back to an older state, and drew noise again that was paid for once. Which of the two does not matter; the later comer is
// refused, and the vehicle told why. Reports that come late, or never, contradict nothing.
//
// The package is a pure function of the report and the records, and refuses to look at who sent it.
package usage

import (
	"errors"
	"fmt"

	"rawstone/collector/internal/inbox"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Rule is a charter's. Nil, and the zero value, refuse every report: there is no charter.
type Rule struct {
	charter  wire.Hash
	families wire.Family
	// until is the last epoch of its reports.
	until uint32
	// yearly is how many reports a vehicle may have in inbox.YearDays program days.
	yearly int
	// bound is the largest magnitude of a value under Gaussian noise.
	bound int64
	// categorical is the mechanism of a charter that has one; else nil.
	categorical *dp.Categorical
}

// New returns the rule of a charter with its identifier, for epochs up to and with one: math.MaxUint32 for the charter in force.
func New(c *terms.Charter, id wire.Hash, until uint32) (*Rule, error) {
	r := &Rule{charter: id, until: until, families: c.Usage.Families, yearly: int(c.Usage.YearlyDispatches)}
	var err error
	if c.Usage.Mechanism == terms.GaussianVector {
		var g *dp.Gaussian
		if g, err = gaussian(&c.Usage); err == nil {
			r.bound = g.Bound()
		}
	} else {
		r.categorical, err = categorical(&c.Usage)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot judge reports: %w", err)
	}
	return r, nil
}

// gaussian returns the mechanism as far as its bound goes, which does not depend on the scales.
func gaussian(u *terms.Usage) (*dp.Gaussian, error) {
	p := dp.Params{Epsilon: float64(u.EpsilonMicro) / 1e6, Delta: float64(u.DeltaPico) / 1e12, Clip: int64(u.Clip)}
	for range wire.VectorLen {
		p.Coordinates = append(p.Coordinates, dp.Coordinate{Max: int64(u.Clip), Scale: 1})
	}
	return dp.NewGaussian(p)
}

func categorical(u *terms.Usage) (*dp.Categorical, error) {
	for _, l := range wire.Layouts() {
		if l.Family == u.Families {
			return dp.NewCategorical(dp.Scheme(u.Mechanism), l.Len, float64(u.EpsilonMicro)/1e6)
		}
	}
	return nil, errors.New("its mechanism is categorical and it has not one family")
}

// Facts are what a decision depends on besides the report.
type Facts struct {
	// Today is the program day, and Added that of the vehicle's registration.
	Today, Added uint32
	inbox.Charges
}

// Judge returns why a report is refused, or nothing.
func (r *Rule) Judge(report *wire.Report, f Facts) wire.Reason {
	switch {
	case r == nil || r.charter.IsZero() || report.Charter != r.charter || report.Epoch > r.until || report.Families&^r.families != 0 || !r.releases(report):
		return wire.ReasonCharter
	case report.Epoch > f.Today && report.Epoch-f.Today > 1:
		return wire.ReasonFuture
	case report.Epoch < f.Added:
		// A day before the registration was no dispatch: it would let one vehicle fill past periods as if it were many.
		return wire.ReasonEpoch
	case contradicts(report, f.Charges):
		return wire.ReasonBudget
	case f.Reported:
		return wire.ReasonEpoch
	case f.Year > r.yearly:
		return wire.ReasonCharter
	}
	return ""
}

// releases says whether the charter's mechanism can have released the report's values.
func (r *Rule) releases(report *wire.Report) bool {
	values := report.Values()
	if r.categorical == nil {
		for _, v := range values {
			if v > r.bound || v < -r.bound {
				return false
			}
		}
		return true
	}
	k := r.categorical.Categories()
	for _, v := range values[k:] {
		if v != 0 {
			return false
		}
	}
	return r.categorical.Check(values[:k]) == nil
}

// contradicts says whether no one budget holds the charges of the report and of its neighbours.
func contradicts(r *wire.Report, c inbox.Charges) bool {
	if c.From.Charge.Index() == r.Charge.Index() {
		return c.From != inbox.Charged{Charge: r.Charge, Epoch: r.Epoch}
	}
	return c.Before.Charge.Index() != 0 && c.Before.Epoch >= r.Epoch || c.From.Charge.Index() != 0 && c.From.Epoch <= r.Epoch
}
