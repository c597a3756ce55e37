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

// minClip is the least clip of a source: rounding to whole numbers alone may move a clipped vector of 64 values by 8, and below a hundred or so
// little but rounding would be left of it.
const minClip = 100

// Validate implements config.Config. Each fault is said once, where it is: the document's own bounds are asked only when nothing was found here.
func (s *Source) Validate(f *config.Faults) {
	faulty := false
	fault := func(path, format string, args ...any) {
		faulty = true
		f.Add(path, format, args...)
	}
	// NaN, infinities and what the document's integers cannot hold never get as far as the document; unit is what its integers count.
	decimal := func(path string, v, least, most, unit float64, parts string) {
		switch {
		case !(v >= least && v <= most):
			fault(path, "%g is not within %g to %g", v, least, most)
		case math.Round(v*unit)/unit != v:
			fault(path, "%v is not whole in %s, which the charter counts in", v, parts)
		}
	}
	integer := func(path string, v, least, most uint32) {
		if v < least || v > most {
			fault(path, "%d is not within %d to %d", v, least, most)
		}
	}
	u := &s.Usage
	m, ok := u.mechanism()
	if !ok {
		fault("$.usage.mechanism", "%q is none of %s, %s and %s", u.Mechanism, terms.GaussianVector, terms.SubsetSelection, terms.RandomizedResponse)
	}
	integer("$.serial", uint32(s.Serial), 1, math.MaxUint16)
	if len(s.Kinds) == 0 {
		fault("$.kinds", "it is empty: cars could prove nothing; name mileage at least")
	}
	for i, kind := range s.Kinds {
		path := "$.kinds[" + strconv.Itoa(i) + "]"
		if err := terms.CheckKind(kind); err != nil {
			fault(path, "%v", err)
		} else if slices.Contains(s.Kinds[:i], kind) {
			fault(path, "kind %q stands twice", kind)
		}
	}
	decimal("$.tier_ratio", s.TierRatio, 1.1, 65, 1e3, "thousandths")
	for i, name := range u.Families {
		if _, err := wire.ParseFamily(name); err != nil {
			fault("$.usage.families["+strconv.Itoa(i)+"]", "%v", err)
		}
	}
	if len(u.Families) == 0 {
		fault("$.usage.families", "it is empty: reports would be noise over nothing; name a family at least")
	}
	decimal("$.usage.epsilon", u.Epsilon, 0.01, 10, 1e6, "millionths")
	integer("$.usage.yearly_dispatches", uint32(u.YearlyDispatches), 1, 366)
	for _, name := range slices.Sorted(maps.Keys(u.Scale)) {
		if _, err := wire.ParseFamily(name); err != nil {
			fault("$.usage.scale."+name, "%v", err)
		} else if m != terms.GaussianVector && u.Scale[name] != 1 {
			fault("$.usage.scale."+name, "mechanism %s scales nothing: leave it out", m)
		}
	}
	if m == terms.GaussianVector {
		decimal("$.usage.delta", u.Delta, 1e-12, 1e-5, 1e12, "millionths of a millionth")
		integer("$.usage.clip", u.Clip, minClip, 100_000)
		for _, l := range wire.Layouts() {
			if u.Scale[l.Name] == 0 {
				fault("$.usage.scale", "family %s has no scale or one of 0: give a whole number of at least 1", l.Name)
			}
		}
	} else {
		if len(u.Families) > 1 {
			fault("$.usage.families", "mechanism %s has one family", m)
		}
		if u.Delta != 0 {
			fault("$.usage.delta", "mechanism %s has no delta: leave it out", m)
		}
		if u.Clip != 0 {
			fault("$.usage.clip", "mechanism %s clips nothing: leave it out", m)
		}
	}
	if !faulty {
		if err := s.Charter(wire.Hash{}).Validate(); err != nil {
			f.Add("$", "%v", err)
		}
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
