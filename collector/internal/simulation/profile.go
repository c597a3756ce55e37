package simulation

import (
	"fmt"
	"strconv"

	"rawstone/collector/internal/policy"
	"rawstone/pkg/claim"
	"rawstone/pkg/config"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// The bounds of what is simulated.
const (
	MaxVehicles = 4_000_000
	MaxYears    = 50

	// YearDays is how many program days a year has here.
	YearDays = 365

	maxYearKm = 300_000
)

// A Profile is a fleet's file, as configs/simulation/*.yaml hold it.
type Profile struct {
	// Name stands on the page.
	Name string `yaml:"name"`
	// Seed is what all randomness follows from.
	Seed string `yaml:"seed"`
	// Policy is the source of the mileage policy, relative to the profile.
	Policy string `yaml:"policy"`
	// DropsPerDay is 1 to 1440.
	DropsPerDay uint32 `yaml:"drops_per_day"`
	// ClaimDays is how many days a claim spans, 1 to 30, and more when there was no drive.
	ClaimDays uint32 `yaml:"claim_days"`
	// Growth holds the share of vehicles that have joined, in rising months from 0 and rising percent to 100.
	Growth []Growth `yaml:"growth"`
	// Owners are the kinds of owners; their shares add up to 100.
	Owners []Group `yaml:"owners"`
	Task   Task    `yaml:"task"`
	Box    Box     `yaml:"box"`

	policy *terms.Policy
	box    cultivation.Box
}

// A Growth is a point of the fleet's curve.
type Growth struct {
	Month   uint32 `yaml:"month"`
	Percent uint32 `yaml:"percent"`
}

// A Group is a kind of owners.
type Group struct {
	Name    string `yaml:"name"`
	Percent uint32 `yaml:"percent"`
	// KmYearFrom and KmYearTo bound the distance of a year, at most 300,000 km.
	KmYearFrom uint32 `yaml:"km_year_from"`
	KmYearTo   uint32 `yaml:"km_year_to"`
	// DaysPerWeek is 1 to 7.
	DaysPerWeek uint32 `yaml:"days_per_week"`
}

// A Task grants crystals for each claim, within an account's limits.
type Task struct {
	Crystals uint32 `yaml:"crystals"`
	Daily    uint64 `yaml:"daily"`
	Total    uint64 `yaml:"total"`
}

// A Box is what cultivation.NewBox takes.
type Box struct {
	Cost   uint32 `yaml:"cost"`
	Owners []Odds `yaml:"owners"`
	Others []Odds `yaml:"others"`
}

// Odds are the chance of a prize in parts of 1,000,000; a prize is of one kind, or nothing.
type Odds struct {
	Parts    uint32 `yaml:"parts"`
	Milli    uint64 `yaml:"milli"`
	Crystals uint32 `yaml:"crystals"`
	Goods    string `yaml:"goods"`
}

// Validate implements config.Config.
func (p *Profile) Validate(f *config.Faults) {
	if p.Name == "" {
		f.Add("$.name", "must not be empty")
	}
	if p.Policy == "" {
		f.Add("$.policy", "must be the file of a mileage policy's source")
	}
	between := func(path string, v, low, high uint32) {
		if v < low || v > high {
			f.Add(path, "must be %d to %d", low, high)
		}
	}
	between("$.drops_per_day", p.DropsPerDay, 1, 1440)
	between("$.claim_days", p.ClaimDays, 1, 30)
	for i, g := range p.Growth {
		at := "$.growth[" + strconv.Itoa(i) + "]"
		between(at+".month", g.Month, 0, 12*MaxYears)
		switch {
		case i == 0 && g.Month != 0:
			f.Add(at+".month", "must be 0, where the program begins")
		case i > 0 && (g.Month <= p.Growth[i-1].Month || g.Percent < p.Growth[i-1].Percent):
			f.Add(at, "must have a later month than the point before, and no smaller percent")
		}
	}
	if n := len(p.Growth); n == 0 || p.Growth[n-1].Percent != 100 {
		f.Add("$.growth", "must end with 100 percent")
	}
	sum := uint64(0)
	for i, g := range p.Owners {
		at := "$.owners[" + strconv.Itoa(i) + "]"
		sum += uint64(g.Percent)
		between(at+".km_year_from", g.KmYearFrom, 1, maxYearKm)
		between(at+".km_year_to", g.KmYearTo, g.KmYearFrom, maxYearKm)
		between(at+".days_per_week", g.DaysPerWeek, 1, 7)
	}
	if sum != 100 {
		f.Add("$.owners", "must have shares that add up to 100 percent, not %d", sum)
	}
	if err := p.limit().Allow(0, 0, p.Task.Crystals); err != nil || p.Task.Crystals == 0 {
		f.Add("$.task", "must grant at least 1 crystal within its own limits")
	}
	var err error
	if p.box, err = cultivation.NewBox(p.Box.Cost, table(p.Box.Owners), table(p.Box.Others)); err != nil {
		f.Add("$.box", "%v", err)
	}
}

func (p *Profile) limit() cultivation.Limit {
	return cultivation.Limit{Daily: p.Task.Daily, Total: p.Task.Total}
}

func table(list []Odds) (out []cultivation.Odds) {
	for _, o := range list {
		out = append(out, cultivation.Odds{Parts: o.Parts, Prize: cultivation.Prize{Milli: o.Milli, Crystals: o.Crystals, Goods: o.Goods}})
	}
	return out
}

// LoadProfile reads a profile and the policy that it names.
func LoadProfile(path string) (*Profile, error) {
	p := new(Profile)
	if err := config.LoadAs("simulation profile", path, p); err != nil {
		return nil, err
	}
	config.Resolve(path, &p.Policy)
	var source policy.Source
	if err := config.LoadAs("policy source", p.Policy, &source); err != nil {
		return nil, err
	}
	if source.Kind != terms.KindMileage {
		return nil, fmt.Errorf("cannot use policy source %s: its kind is %s; give one of kind %s", p.Policy, source.Kind, terms.KindMileage)
	}
	p.policy = source.Policy(wire.Hash{}, claim.Lock{}) // nothing is proven here: no program, no keys
	return p, nil
}

// joined returns how many of all vehicles have joined by the beginning of a day.
func (p *Profile) joined(all int, day uint32) int {
	at := func(month uint32) uint64 { return uint64(month) * YearDays / 12 }
	for i, g := range p.Growth {
		if end := at(g.Month); uint64(day) < end {
			b := p.Growth[i-1] // the first point is on day 0
			begin := at(b.Month)
			percents := uint64(b.Percent)*(end-begin) + uint64(g.Percent-b.Percent)*(uint64(day)-begin)
			return int(uint64(all) * percents / (100 * (end - begin)))
		}
	}
	return all
}
