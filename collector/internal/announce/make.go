package announce

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"rawstone/collector/internal/announce/internal/record"
	"rawstone/collector/internal/offering"
	"rawstone/collector/internal/policy"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// A maker writes down what a record holds.
type maker struct{ *record.Record }

// announce makes the announcement of a record's year, which was read from the log that the checkpoint signs.
func announce(of *record.Record, year int, at tlog.Checkpoint) *Announcement {
	r := &maker{of}
	a := &Announcement{
		Format: Format, Year: year, Ledger: Ledger{Size: at.Size, Root: at.Root.String(), Key: r.Program.LogKey}, Program: r.describe(), Period: Period{r.days(r.Period.Span)}, Emission: r.emission(),
		Cultivation: Cultivation{SupplyMilli: reward.CultivatedSupply, LeftMilli: reward.CultivatedSupply},
		Rules:       rules(r.Program), Validators: r.validators(), Charter: r.terms(), Kinds: r.kinds(), Offers: r.offered(),
	}
	a.Policies = r.described(a.Kinds)
	if b := r.Block; b != nil {
		a.State = &State{
			Drop: b.Drop, Day: b.Day, Date: date(r.Program.Timing, b.Day), Height: r.Height, SupplyMilli: b.Supply,
			CultivatedMilli: b.Cultivated, Boxes: b.Boxes, RedeemedMilli: b.Redeemed,
		}
		a.Cultivation.GivenMilli = b.Cultivated
		a.Cultivation.LeftMilli -= min(b.Cultivated, a.Cultivation.LeftMilli)
	}
	return a
}

func (r *maker) describe() Program {
	p := r.Program
	keys := func(set wire.KeySet) []string {
		out := make([]string, 0, len(set))
		for _, k := range set {
			out = append(out, fmt.Sprintf("%x", k[:]))
		}
		return out
	}
	return Program{
		ID: r.ID.String(), Name: p.Name, Environment: string(p.Environment), Genesis: p.Timing.DropTime(0).Format(time.RFC3339),
		OffsetS: p.Timing.OffsetS, DayS: p.Timing.DayS, DropS: p.Timing.DropS, Root: fmt.Sprintf("%x", r.Root[:]),
		PolicyKeys: keys(p.Policy), BoardKeys: keys(p.Board), BoardQuorum: p.BoardQuorum, Quorum: p.Quorum,
	}
}

func (r *maker) logged(entry uint64, day uint32) Logged {
	return Logged{Entry: entry, Day: day, Date: date(r.Program.Timing, day)}
}

// from returns days that begin on a day and end before another; without end where that is 0, or the last day that a policy can name.
func (r *maker) from(day, before uint32) Days {
	if before == 0 || before > terms.MaxDay {
		return Days{FromDay: day, FromDate: date(r.Program.Timing, day)}
	}
	return r.days(record.Span{FromDay: day, ToDay: before - 1})
}

// validators returns who the validators are from the year's first day on, each with the day on which they really begin.
func (r *maker) validators() []ValidatorSet {
	set := func(serial uint16, at Logged, days Days, validators []terms.Validator) ValidatorSet {
		s := ValidatorSet{Serial: serial, Days: days, Logged: at, Validators: make([]Validator, 0, len(validators))}
		for _, v := range validators {
			s.Validators = append(s.Validators, Validator{v.Name, fmt.Sprintf("%x", v.Key), fmt.Sprintf("%x", v.VRF)})
		}
		return s
	}
	// The days of changes rise: each set ends where the next begins.
	var sets []ValidatorSet
	first, changes := r.Period.FromDay, r.Witnesses
	before := func(i int) uint32 {
		if i < len(changes) {
			return changes[i].Doc.FromDay
		}
		return 0
	}
	if len(changes) == 0 || changes[0].Doc.FromDay > first {
		own := r.Program.Validators
		sets = append(sets, set(0, r.logged(0, r.genesisDay()), r.from(r.genesisDay(), before(0)), own))
	}
	for i, w := range changes {
		if end := before(i + 1); end == 0 || end > first {
			sets = append(sets, set(w.Doc.Serial, r.logged(w.Entry, w.Day), r.from(w.Doc.FromDay, end), w.Doc.Validators))
		}
	}
	return sets
}

func (r *maker) genesisDay() uint32 { return r.Program.Timing.Day(r.Program.Timing.DropTime(0)) }

func (r *maker) terms() *Charter {
	if r.Charter == nil {
		return nil
	}
	c := r.Charter.Doc
	out := &Charter{
		Serial: c.Serial, Logged: r.logged(r.Charter.Entry, r.Charter.Day), Kinds: append(make([]string, 0, len(c.Kinds)), c.Kinds...), TierRatioMilli: c.TierRatioMilli,
		Families: make([]string, 0), EpsilonMicro: c.Usage.EpsilonMicro, DeltaPico: c.Usage.DeltaPico, Clip: c.Usage.Clip, YearlyDispatches: c.Usage.YearlyDispatches,
	}
	for _, l := range wire.Layouts() {
		if c.Usage.Families&l.Family != 0 {
			out.Families = append(out.Families, l.Name)
		}
	}
	return out
}

// kinds returns the calendar of each kind of policy in the year.
func (r *maker) kinds() []Kind {
	out := make([]Kind, 0)
	policies := record.List(r.Policies)
	// Which policy is the newest on a day, whether or not it is a stop.
	plain := make([]*terms.Policy, len(policies))
	var names []string
	for i, p := range policies {
		q := *p
		q.Stop = false
		plain[i] = &q
		names = append(names, p.Kind)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		k := Kind{Kind: name}
		turns := []uint32{r.Period.FromDay}
		for _, p := range policies {
			for _, day := range []uint32{p.FromDay, p.ToDay + 1} {
				if p.Kind == name && day > r.Period.FromDay && day <= r.Period.ToDay {
					turns = append(turns, day)
				}
			}
		}
		slices.Sort(turns)
		turns = slices.Compact(turns)
		for i, day := range turns {
			end := r.Period.ToDay + 1
			if i+1 < len(turns) {
				end = turns[i+1]
			}
			s := Segment{Days: r.from(day, end)}
			if p := terms.InForce(plain, name, day); p != nil {
				s.Serial, s.Stopped = &p.Serial, terms.InForce(policies, name, day) == nil
			}
			if n := len(k.Segments); n > 0 && same(k.Segments[n-1].Serial, s.Serial) {
				k.Segments[n-1].ToDay, k.Segments[n-1].ToDate = s.ToDay, s.ToDate
				continue
			}
			k.Segments = append(k.Segments, s)
		}
		out = append(out, k)
	}
	return out
}

func same(a, b *uint16) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// described spells out the policies that the calendars name, and those for later.
func (r *maker) described(kinds []Kind) []Policy {
	named := make(map[uint16]bool)
	for _, k := range kinds {
		for _, s := range k.Segments {
			if s.Serial != nil {
				named[*s.Serial] = true
			}
		}
	}
	words := func(rows []wire.Row) []string {
		out := make([]string, 0, len(rows))
		for _, row := range rows {
			out = append(out, policy.Words(row))
		}
		return out
	}
	out := make([]Policy, 0)
	for _, d := range r.Policies {
		p := d.Doc
		if !named[p.Serial] && p.FromDay <= r.Period.ToDay {
			continue
		}
		q := Policy{
			Serial: p.Serial, Kind: p.Kind, Days: r.from(p.FromDay, p.ToDay+1), Logged: r.logged(d.Entry, d.Day), CapKm: p.CapKm, MinAgent: p.MinAgent, Stop: p.Stop,
			Circuit: p.Circuit.String(), ProvingKey: p.ProvingKey.String(), VerifyingKey: p.VerifyingKey.String(), Lock: p.Lock.String(),
			Rows: words(p.Rows), Tiers: make([]Tier, 0, len(p.Tiers)),
		}
		for _, t := range p.Tiers {
			q.Tiers = append(q.Tiers, Tier{t.Km, words(t.Rows)})
		}
		out = append(out, q)
	}
	slices.SortStableFunc(out, func(a, b Policy) int { return cmp.Compare(a.Serial, b.Serial) })
	return out
}

// offered spells out the offers that are in force in the year, each with the day on which they really begin, and those for later.
func (r *maker) offered() []Offers {
	out := make([]Offers, 0)
	all := record.List(r.Offers)
	turns := []uint32{r.Period.FromDay}
	for _, o := range all {
		if o.FromDay > r.Period.FromDay {
			turns = append(turns, o.FromDay)
		}
	}
	slices.Sort(turns)
	for _, day := range slices.Compact(turns) {
		now := cultivation.InForce(all, day)
		n := len(out)
		if now == nil || n > 0 && out[n-1].Serial == now.Serial {
			continue
		}
		if n > 0 {
			out[n-1].Days = r.from(out[n-1].FromDay, day)
		}
		d := r.Offers[slices.Index(all, now)]
		out = append(out, Offers{
			Serial: now.Serial, Days: r.from(now.FromDay, 0), Logged: r.logged(d.Entry, d.Day), DailyCrystals: offering.Daily(now),
			Tasks: offering.ShowTasks(now), Boxes: offering.ShowBoxes(now), Catalogue: offering.ShowCatalogue(now),
		})
	}
	return out
}
