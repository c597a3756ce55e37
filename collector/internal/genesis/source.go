package genesis

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"rawstone/pkg/config"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Source is the readable description of a development program.
type Source struct {
	// Name is the program's name, 1 to 64 bytes.
	Name string `yaml:"name"`
	// DayS is the length of a program day in seconds, default 86400; DropS the time between drops, default 600. DropS divides DayS.
	DayS  uint32 `yaml:"day_s"`
	DropS uint32 `yaml:"drop_s"`
	// OffsetS moves the day boundary away from midnight UTC, in seconds; default 28800, midnight in China.
	OffsetS int64 `yaml:"offset_s"`
	// BoardKeys is how many board keys are made, default 3; BoardQuorum how many sign the charter, default 2.
	BoardKeys   int   `yaml:"board_keys"`
	BoardQuorum uint8 `yaml:"board_quorum"`
	// Charter and Policies are the sources of the documents to sign; relative to this file.
	Charter  string   `yaml:"charter"`
	Policies []string `yaml:"policies"`
}

func defaultSource() Source {
	return Source{DayS: 86400, DropS: 600, OffsetS: 28800, BoardKeys: 3, BoardQuorum: 2}
}

// Validate implements config.Config.
func (s *Source) Validate(f *config.Faults) {
	if s.Name == "" {
		f.Add("$.name", "must be set")
	}
	if s.Charter == "" {
		f.Add("$.charter", "must name a file")
	}
	if len(s.Policies) == 0 {
		f.Add("$.policies", "must name at least one file")
	}
	if s.BoardKeys < 1 || s.BoardKeys > 16 || s.BoardQuorum < 1 || int(s.BoardQuorum) > s.BoardKeys {
		f.Add("$.board_quorum", "%d of %d board keys cannot be met", s.BoardQuorum, s.BoardKeys)
	}
}

// policySource is configs/policies/*.yaml.
type policySource struct {
	Kind     string       `yaml:"kind"`
	Serial   uint16       `yaml:"serial"`
	FromDay  uint32       `yaml:"from_day"`
	ToDay    uint32       `yaml:"to_day"`
	CapKm    uint32       `yaml:"cap_km_per_day"`
	MinAgent string       `yaml:"min_agent"`
	Stop     bool         `yaml:"stop"`
	Rows     []rowSource  `yaml:"rows"`
	TiersKm  []uint32     `yaml:"tiers_km"`
	Tiers    []tierSource `yaml:"tiers"`
}

// rowSource is one inequality, with counters by name.
type rowSource struct {
	Counters map[string]int32 `yaml:"counters"`
	AtLeast  int64            `yaml:"at_least"`
}

// tierSource is a tier of a kind that credits no kilometres.
type tierSource struct {
	Rows []rowSource `yaml:"rows"`
}

// Validate implements config.Config.
func (s *policySource) Validate(f *config.Faults) {
	if err := terms.CheckKind(s.Kind); err != nil {
		f.Add("$.kind", "%v", err)
	}
	if s.Kind == terms.KindMileage && len(s.Tiers) > 0 || s.Kind != terms.KindMileage && len(s.TiersKm) > 0 {
		f.Add("$.kind", "mileage has tiers_km, every other kind has tiers")
	}
	check := func(path string, rows []rowSource) {
		for i, r := range rows {
			for _, name := range slices.Sorted(maps.Keys(r.Counters)) {
				names := wire.CounterNames()
				if !slices.Contains(names[:], name) {
					f.Add(path+"["+strconv.Itoa(i)+"]", "counter %q is none of %s", name, strings.Join(names[:], ", "))
				}
			}
		}
	}
	check("$.rows", s.Rows)
	for i, t := range s.Tiers {
		check("$.tiers["+strconv.Itoa(i)+"].rows", t.Rows)
	}
	// The document's own bounds, with what it is still to be given filled in.
	doc := s.policy()
	doc.Program, doc.Circuit, doc.ProvingKey, doc.VerifyingKey = wire.Hash{1}, wire.Hash{1}, wire.Hash{1}, wire.Hash{1}
	if err := doc.Validate(); err != nil {
		f.Add("$", "%v", err)
	}
}

func (r rowSource) row() wire.Row {
	row := wire.Row{B: r.AtLeast}
	for i, name := range wire.CounterNames() {
		row.A[i] = r.Counters[name]
	}
	return row
}

func rows(from []rowSource) (out []wire.Row) {
	for _, r := range from {
		out = append(out, r.row())
	}
	return out
}

// policy returns the document without program and keys.
func (s *policySource) policy() *terms.Policy {
	p := &terms.Policy{
		Version: wire.Version, Serial: s.Serial, Kind: s.Kind, FromDay: s.FromDay, ToDay: s.ToDay,
		CapKm: s.CapKm, MinAgent: s.MinAgent, Stop: s.Stop, Rows: rows(s.Rows),
	}
	for _, km := range s.TiersKm {
		r := wire.Row{B: int64(km) * 1000}
		r.A[wire.OdometerM] = 1
		p.Tiers = append(p.Tiers, terms.Tier{Km: km, Rows: []wire.Row{r}})
	}
	for _, t := range s.Tiers {
		p.Tiers = append(p.Tiers, terms.Tier{Rows: rows(t.Rows)})
	}
	return p
}

// charterSource is configs/charter.yaml.
type charterSource struct {
	Serial    uint16   `yaml:"serial"`
	Kinds     []string `yaml:"kinds"`
	TierRatio float64  `yaml:"tier_ratio"`
	Usage     struct {
		Families         []string          `yaml:"families"`
		Epsilon          float64           `yaml:"epsilon"`
		Delta            float64           `yaml:"delta"`
		Clip             uint32            `yaml:"clip"`
		Scale            map[string]uint16 `yaml:"scale"`
		YearlyDispatches uint16            `yaml:"yearly_dispatches"`
	} `yaml:"usage"`
}

// Validate implements config.Config.
func (s *charterSource) Validate(f *config.Faults) {
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
	for path, v := range map[string]float64{"$.tier_ratio": s.TierRatio / 1000, "$.usage.epsilon": s.Usage.Epsilon / 10, "$.usage.delta": s.Usage.Delta} {
		if !(v > 0 && v <= 1) {
			f.Add(path, "is out of range")
		}
	}
	if err := s.charter().Validate(); err != nil {
		f.Add("$", "%v", err)
	}
}

// charter returns the document without its program.
func (s *charterSource) charter() *terms.Charter {
	c := &terms.Charter{
		Version: wire.Version, Serial: s.Serial, Kinds: slices.Sorted(slices.Values(s.Kinds)),
		TierRatioMilli: uint16(math.Round(min(s.TierRatio, 65) * 1000)),
		Usage: terms.Usage{
			EpsilonMicro: uint32(math.Round(s.Usage.Epsilon * 1e6)), DeltaPico: uint32(math.Round(min(s.Usage.Delta, 1e-4) * 1e12)),
			Clip: s.Usage.Clip, YearlyDispatches: s.Usage.YearlyDispatches,
		},
	}
	for _, l := range wire.Layouts() {
		c.Usage.Scale = append(c.Usage.Scale, s.Usage.Scale[l.Name])
		if slices.Contains(s.Usage.Families, l.Name) {
			c.Usage.Families |= l.Family
		}
	}
	return c
}
