package policy

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"rawstone/pkg/claim"
	"rawstone/pkg/config"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Source is the readable form of a policy, as configs/policies/*.yaml hold it. What it lacks is the program's identifier and the
// hashes of the proof system's files.
type Source struct {
	// Kind is mileage, safe or feature/NAME.
	Kind string `yaml:"kind"`
	// Serial names the policy in claims: 1 to 65535, rising.
	Serial uint16 `yaml:"serial"`
	// FromDay and ToDay are program days, both included.
	FromDay uint32 `yaml:"from_day"`
	ToDay   uint32 `yaml:"to_day"`
	// CapKm is the most that is credited for each day spanned, in km.
	CapKm uint32 `yaml:"cap_km_per_day"`
	// MinAgent is the lowest agent version, major.minor.patch, or empty.
	MinAgent string `yaml:"min_agent"`
	Stop     bool   `yaml:"stop"`
	// Rows hold for every tier.
	Rows []Row `yaml:"rows"`
	// TiersKm are the thresholds of a mileage policy whose tiers ask for their distance alone; Tiers are any others.
	TiersKm []uint32 `yaml:"tiers_km"`
	Tiers   []Tier   `yaml:"tiers"`
}

// A Row is one inequality: the growth of the counters, each times its coefficient, adds up to at least AtLeast.
type Row struct {
	// Counters holds coefficients by the names of wire.CounterNames.
	Counters map[string]int32 `yaml:"counters" json:"counters"`
	AtLeast  int64            `yaml:"at_least" json:"at_least"`
}

// A Tier is one threshold.
type Tier struct {
	// Km is the distance that a tier of a mileage policy proves and credits; its row need not be spelt out. Other kinds have none.
	Km   uint32 `yaml:"km"`
	Rows []Row  `yaml:"rows"`
}

// Validate implements config.Config.
func (s *Source) Validate(f *config.Faults) {
	if err := terms.CheckKind(s.Kind); err != nil {
		f.Add("$.kind", "%v", err)
	}
	if s.Serial == 0 {
		f.Add("$.serial", "must be 1 to 65535")
	}
	if len(s.TiersKm) > 0 && (s.Kind != terms.KindMileage || len(s.Tiers) > 0) {
		f.Add("$.tiers_km", "stands for all tiers of a mileage policy; give tiers instead")
	}
	check := func(path string, rows []Row) {
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
	some := wire.Hash{1}
	if err := s.Policy(some, claim.Lock{Circuit: some, ProvingKey: some, VerifyingKey: some}).Validate(); err != nil {
		f.Add("$", "%v", err)
	}
}

func (r Row) row() wire.Row {
	row := wire.Row{B: r.AtLeast}
	for i, name := range wire.CounterNames() {
		row.A[i] = r.Counters[name]
	}
	return row
}

func rows(from []Row) (out []wire.Row) {
	for _, r := range from {
		out = append(out, r.row())
	}
	return out
}

// distance is the row that proves whole kilometres.
func distance(km uint32) wire.Row {
	r := wire.Row{B: int64(km) * 1000}
	r.A[wire.OdometerM] = 1
	return r
}

// Policy returns the document of a program whose proofs are made and checked with the lock's files.
func (s *Source) Policy(program wire.Hash, lock claim.Lock) *terms.Policy {
	p := &terms.Policy{
		Version: wire.Version, Program: program, Serial: s.Serial, Kind: s.Kind, FromDay: s.FromDay, ToDay: s.ToDay,
		Circuit: lock.Circuit, ProvingKey: lock.ProvingKey, VerifyingKey: lock.VerifyingKey, Lock: lock.ID(),
		CapKm: s.CapKm, MinAgent: s.MinAgent, Stop: s.Stop, Rows: rows(s.Rows),
	}
	for _, km := range s.TiersKm {
		p.Tiers = append(p.Tiers, terms.Tier{Km: km, Rows: []wire.Row{distance(km)}})
	}
	for _, t := range s.Tiers {
		tier := terms.Tier{Km: t.Km, Rows: rows(t.Rows)}
		if s.Kind == terms.KindMileage {
			tier.Rows = slices.Insert(tier.Rows, 0, distance(t.Km))
		}
		p.Tiers = append(p.Tiers, tier)
	}
	return p
}
