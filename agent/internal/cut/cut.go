// Package cut decides what the next claim is about: which stored snapshot it begins and ends with, and which tier of each policy its
// span reaches.
//
// Invariants: a cut depends on the head, the snapshots and the plan of dispatches alone, never on when the agent ran. One claim a
// dispatch period, which ends at the first snapshot on or after the boundary; a span that reaches no tier is carried into the next
// claim, one beyond the top tier ends earlier, at a stored snapshot. A claim begins at the head, or, where that cannot be opened,
// forfeits and begins at the oldest snapshot after it that can.
//
// The package refuses policies that belong to another program, are stopped, ask for a newer agent, cannot be proven on this car, or
// that the charter does not cover; it never ends a claim at a snapshot from the future. It proves only with what it is given, and keeps nothing.
package cut

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"rawstone/agent/internal/dispatch"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Rules are what claims are made under; without policies nothing is claimed. Program, Charter and AgentVersion are required. Who holds
// a Rules may believe that nothing in it changes: new rules are a new value.
type Rules struct {
	Program wire.Hash
	// Charter and Policies are verified documents.
	Charter  *terms.Charter
	Policies []*terms.Policy
	// Kinds are the kinds of policy beside mileage that the driver lets claims tell of. None by default.
	Kinds []string
	// AgentVersion is this program's version, major.minor.patch.
	AgentVersion string
	// Provable says why proofs under a policy are not to be made on this car, such as keys of a development setup in production, or
	// nil. A key that is only not here yet is no such reason: who proves waits for it. A nil function means that all may be proven.
	Provable func(*terms.Policy) error
}

// A Pick is a tier that a span reaches.
type Pick struct {
	Policy *terms.Policy
	Tier   int
}

// A Span is what one claim is about.
type Span struct {
	From, To attest.Message
	// Forfeit says that what lies between the head and From is given up.
	Forfeit bool
	// Picks are by serial, ascending; at least one, at most wire.MaxClaimProofs.
	Picks []Pick
	// Kinds is the number of kinds that the driver lets claims tell of, mileage among them: the claim's size follows it and not Picks, so
	// that the size does not tell which of them the span earned.
	Kinds int
}

// Statement returns what the claim proves for one of its picks.
func (sp Span) Statement(p Pick) claim.Statement { return statement(sp.From, sp.To, p.Policy, p.Tier) }

// Explain tells the driver what the claim reveals and what that costs.
func (sp Span) Explain(t terms.Timing) (contents, cost string) {
	var b strings.Builder
	from, to := sp.From.Snapshot, sp.To.Snapshot
	fmt.Fprintf(&b, "Proves, for the time from %s to %s:", t.Date(from.Day), t.Date(to.Day))
	for i, p := range sp.Picks {
		if i > 0 {
			b.WriteString(";")
		}
		if km := p.Policy.Tiers[p.Tier].Km; km > 0 {
			fmt.Fprintf(&b, " driven at least %d km (policy %d)", km, p.Policy.Serial)
		} else {
			fmt.Fprintf(&b, " %s level %d (policy %d)", p.Policy.Kind, p.Tier+1, p.Policy.Serial)
		}
	}
	if sp.Forfeit {
		b.WriteString(". Gives up what was driven before, because its snapshot is lost")
	}
	return b.String(), fmt.Sprintf("Exact, outside the privacy budget: the distance to within its tier, both days, and that %d snapshots lie between them. "+
		"Odometer, places and times of day stay in the car.", to.Seq-from.Seq-1)
}

// Next returns the next claim's span, false where nothing may be claimed yet. list holds the snapshots from the head on, ascending;
// it may be changed. head is nil where the collector's head is not known. today only keeps out snapshots of an ECU that runs ahead.
func (r Rules) Next(plan dispatch.Plan, head *wire.Head, list []attest.Message, today uint32) (Span, bool) {
	from, rest, forfeit := origin(head, list, today)
	if len(rest) == 0 {
		return Span{}, false
	}
	sp := Span{From: from, Forfeit: forfeit}
	boundary := plan.Next(from.Snapshot.Day)
	for i, to := range rest {
		if uint64(to.Snapshot.Day) < boundary {
			continue
		}
		boundary = plan.Next(to.Snapshot.Day)
		if r.beyondTop(from, to) {
			if at, picks := r.within(from, rest[:i]); picks != nil {
				sp.To, sp.Picks = at, picks
				return sp, true
			}
		}
		if sp.Picks = r.reach(from, to); len(sp.Picks) > 0 {
			sp.To = to
			return sp, true
		}
	}
	return Span{}, false
}

// Rest returns the longest claim within the top tier from the head on, whatever the plan, false where none may be made. It is for the
// snapshots of an ECU that is no longer in the car; list is as for Next.
func (r Rules) Rest(head *wire.Head, list []attest.Message, today uint32) (Span, bool) {
	from, rest, forfeit := origin(head, list, today)
	at, picks := r.within(from, rest)
	if picks == nil && len(rest) > 0 {
		at, picks = rest[0], r.reach(from, rest[0]) // one interval beyond the top tier
	}
	return Span{From: from, To: at, Forfeit: forfeit, Picks: picks}, len(picks) > 0
}

// Done reports whether nothing of list, to which no snapshot will be added and of which Choose makes no claim, can be claimed later:
// there is nothing in it beyond the head, or its end falls under rules that are here.
func (r Rules) Done(head *wire.Head, list []attest.Message, today uint32) bool {
	if len(list) == 0 || head != nil && list[len(list)-1].Snapshot.Seq <= head.Seq {
		return true
	}
	end := list[len(list)-1]
	return !Ahead(end, today) && slices.ContainsFunc(r.inForce(end.Snapshot.Day), func(p *terms.Policy) bool { return p.Kind == terms.KindMileage })
}

// origin returns the snapshot that the next claim begins with, the usable ones after it, and whether what lies between the head
// and it is forfeited.
func origin(head *wire.Head, list []attest.Message, today uint32) (from attest.Message, rest []attest.Message, forfeit bool) {
	if head != nil && len(list) > 0 && list[0].Snapshot.Head() == *head {
		from, rest = list[0], list[1:]
	} else {
		forfeit = head != nil
		list = slices.DeleteFunc(list, func(m attest.Message) bool {
			return Ahead(m, today) || head != nil && (m.Snapshot.Seq <= head.Seq || m.Snapshot.Day < head.Day)
		})
		if len(list) == 0 {
			return from, nil, false
		}
		from, rest = list[0], list[1:]
	}
	rest = slices.DeleteFunc(rest, func(m attest.Message) bool { return Ahead(m, today) || m.Snapshot.Day <= from.Snapshot.Day })
	return from, rest, forfeit
}

// Ahead says that a snapshot is from the future: one day is a clock's good right.
func Ahead(m attest.Message, today uint32) bool { return uint64(m.Snapshot.Day) > uint64(today)+1 }

// beyondTop reports whether a span is longer than the highest tier in kilometres of the policies in force at its end.
func (r Rules) beyondTop(from, to attest.Message) bool {
	var top uint64
	for _, p := range r.inForce(to.Snapshot.Day) {
		top = max(top, uint64(p.Tiers[len(p.Tiers)-1].Km))
	}
	return top > 0 && growth(from, to) > top*1000
}

// growth returns the metres of a span; counters that decrease give 0, and Check refuses them.
func growth(from, to attest.Message) uint64 {
	a, b := from.Opening.Counters[wire.OdometerM], to.Opening.Counters[wire.OdometerM]
	return uint64(max(a, b) - a)
}

// within returns the last of list that is within the top tier and reaches any.
func (r Rules) within(from attest.Message, list []attest.Message) (attest.Message, []Pick) {
	for _, m := range slices.Backward(list) {
		if r.beyondTop(from, m) {
			continue
		}
		if picks := r.reach(from, m); len(picks) > 0 {
			return m, picks
		}
	}
	return attest.Message{}, nil
}

// reach returns, for each policy in force at the end of a span, the highest tier whose statement holds. A span that reaches no tier of a
// mileage policy reaches none at all where the charter knows mileage: a claim of other kinds alone would move the head and give its
// kilometres up. They are carried also while no mileage policy can be used, be it that its days are over and the next one's notice has
// not come, that it is stopped or that it asks for a newer agent: one that is in force later credits them, as it looks at a span's end.
func (r Rules) reach(from, to attest.Message) (picks []Pick) {
	credited := !slices.Contains(r.Charter.Kinds, terms.KindMileage)
	for _, p := range r.inForce(to.Snapshot.Day) {
		for tier := len(p.Tiers) - 1; tier >= 0; tier-- {
			if statement(from, to, p, tier).Check(from.Opening, to.Opening) == nil {
				picks = append(picks, Pick{p, tier})
				credited = credited || p.Kind == terms.KindMileage
				break
			}
		}
	}
	if !credited {
		return nil
	}
	return picks
}

func statement(from, to attest.Message, p *terms.Policy, tier int) claim.Statement {
	return claim.Statement{From: from.Snapshot.Commitment, To: to.Snapshot.Commitment, Rows: p.Statement(tier)}
}

// inForce returns the policies that a claim which ends on day is made under, serials ascending: of each kind the one in force, where
// this car can use it. Mileage comes first where there are more kinds than a claim holds.
func (r Rules) inForce(day uint32) (list []*terms.Policy) {
	for _, p := range r.Policies {
		if terms.InForce(r.Policies, p.Kind, day) == p && r.chosen(p) && r.Unusable(p) == nil {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(a, b *terms.Policy) int {
		if mileage := func(p *terms.Policy) bool { return p.Kind == terms.KindMileage }; mileage(a) != mileage(b) {
			if mileage(a) {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Kind, b.Kind)
	})
	list = list[:min(len(list), wire.MaxClaimProofs)]
	slices.SortFunc(list, func(a, b *terms.Policy) int { return int(a.Serial) - int(b.Serial) })
	return list
}

// chosen says whether the driver lets claims tell of a policy's kind.
func (r Rules) chosen(p *terms.Policy) bool {
	return p.Kind == terms.KindMileage || slices.Contains(r.Kinds, p.Kind)
}

// kinds returns the number of kinds that the driver lets claims tell of, as far as a claim holds them.
func (r Rules) kinds() int {
	list := append([]string{terms.KindMileage}, r.Kinds...)
	slices.Sort(list)
	return min(len(slices.Compact(list)), wire.MaxClaimProofs)
}

// Unusable says why a policy may not be used, or nil.
func (r Rules) Unusable(p *terms.Policy) error {
	switch {
	case p.Program != r.Program:
		return errors.New("it belongs to another program")
	case p.Stop:
		return errors.New("it is stopped")
	case !p.Allows(r.AgentVersion):
		return errors.New("it asks for a newer agent: update it")
	}
	if err := r.Charter.Covers(p); err != nil || r.Provable == nil {
		return err
	}
	return r.Provable(p)
}

// LastDay returns the day of the newest of list, ascending, that is not ahead.
func LastDay(list []attest.Message, today uint32) (uint32, bool) {
	for _, m := range slices.Backward(list) {
		if !Ahead(m, today) {
			return m.Snapshot.Day, true
		}
	}
	return 0, false
}
