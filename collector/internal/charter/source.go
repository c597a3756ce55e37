package charter

import (
	"maps"
	"math"
	"slices"
	"strconv"

	"rawstone/pkg/config"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Source is a charter in YAML, as configs/charter.yaml.
type Source struct {
	// Serial is the charter's number.
	Serial uint16 `yaml:"serial"`
	// Kinds are the kinds of policy that cars may prove, in any order.
	Kinds []string `yaml:"kinds"`
	// TierRatio is the smallest ratio between neighbouring tiers from 5 km on, at least 1.1.
	TierRatio float64 `yaml:"tier_ratio"`
	// Usage says what usage reports may hold.
	Usage UsageSource `yaml:"usage"`
}

// A UsageSource is the part about usage reports.
type UsageSource struct {
	// Mechanism is gaussian, which may be left out, subset-selection or randomised-response.
	Mechanism string `yaml:"mechanism"`
	// Families are the families that may be collected, by their names; one alone unless the mechanism is gaussian.
	Families []string `yaml:"families"`
	// Epsilon and Delta are the guarantee of one dispatch; only gaussian has a delta.
	Epsilon float64 `yaml:"epsilon"`
	Delta   float64 `yaml:"delta"`
	// Clip is the largest L2 norm of a scaled vector, and Scale the factor of each family; for gaussian alone.
	Clip  uint32            `yaml:"clip"`
	Scale map[string]uint16 `yaml:"scale"`
	// YearlyDispatches bounds the reports in 365 program days.
	YearlyDispatches uint16 `yaml:"yearly_dispatches"`
}

// mechanism returns the mechanism of the source's name; ok is false for none.
func (s *UsageSource) mechanism() (m terms.Mechanism, ok bool) {
	if s.Mechanism == "" {
		return terms.GaussianVector, true
	}
	for _, m := range []terms.Mechanism{terms.GaussianVector, terms.SubsetSelection, terms.RandomizedResponse} {
		if m.String() == s.Mechanism {
			return m, true
		}
	}
	return 0, false
}

// Validate implements config.Config.
func (s *Source) Validate(f *config.Faults) {
	for i, name := range s.Usage.Families {
		if _, err := wire.ParseFamily(name); err != nil {
			f.Add("$.usage.families["+strconv.Itoa(i)+"]", "%v", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Usage.Scale)) {
		if _, err := wire.ParseFamily(name); err != nil {
			f.Add("$.usage.scale", "%v", err)
		}
	}
	m, ok := s.Usage.mechanism()
	if !ok {
		f.Add("$.usage.mechanism", "%q is none of %s, %s and %s", s.Usage.Mechanism, terms.GaussianVector, terms.SubsetSelection, terms.RandomizedResponse)
	}
	// NaN, infinities and what the document's integers cannot hold never get as far as the document.
	within := func(path string, v, least, most float64) {
		if !(v >= least && v <= most) {
			f.Add(path, "%g is not within %g to %g", v, least, most)
		}
	}
	within("$.tier_ratio", s.TierRatio, 1.1, 65)
	within("$.usage.epsilon", s.Usage.Epsilon, 0.01, 10)
	if m == terms.GaussianVector {
		within("$.usage.delta", s.Usage.Delta, 1e-12, 1e-5)
	} else {
		within("$.usage.delta", s.Usage.Delta, 0, 0)
	}
	if err := s.Charter(wire.Hash{}).Validate(); err != nil {
		f.Add("$", "%v", err)
	}
}

// Charter returns the document of a program.
func (s *Source) Charter(program wire.Hash) *terms.Charter {
	m, _ := s.Usage.mechanism()
	c := &terms.Charter{
		Version: wire.Version, Program: program, Serial: s.Serial, Kinds: slices.Sorted(slices.Values(s.Kinds)),
		TierRatioMilli: whole[uint16](s.TierRatio * 1000),
		Usage: terms.Usage{
			EpsilonMicro: whole[uint32](s.Usage.Epsilon * 1e6), DeltaPico: whole[uint32](s.Usage.Delta * 1e12), Clip: s.Usage.Clip,
			YearlyDispatches: s.Usage.YearlyDispatches, Mechanism: m,
		},
	}
	for _, l := range wire.Layouts() {
		scale, given := s.Usage.Scale[l.Name]
		if !given && m != terms.GaussianVector {
			scale = 1
		}
		c.Usage.Scale = append(c.Usage.Scale, scale)
		if slices.Contains(s.Usage.Families, l.Name) {
			c.Usage.Families |= l.Family
		}
	}
	return c
}

// whole rounds to an integer type, 0 where it does not fit.
func whole[T uint16 | uint32](v float64) T {
	if v = math.Round(v); v >= 0 && v <= float64(^T(0)) {
		return T(v)
	}
	return 0
}
