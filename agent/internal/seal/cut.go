package seal

import (
	"errors"
	"slices"
	"strings"

	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A pick is a tier that a span reaches.
type pick struct {
	policy *terms.Policy
	tier   int
}

// A span is what one claim is about.
type span struct {
	from, to attest.Message
	forfeit  bool
	picks    []pick // policies' serials ascending
}

// cut returns the next claim's span, false where nothing may be claimed yet. It depends on the head, the archive and the schedule
// alone (and on today, which only keeps out snapshots of an ECU that runs ahead).
func (s *Sealer) cut(head *wire.Head, today uint32) (span, bool, error) {
	from, rest, forfeit, err := s.origin(head, today)
	if err != nil || len(rest) == 0 {
		return span{}, false, err
	}
	sp := span{from: from, forfeit: forfeit}
	plan := s.schedule()
	boundary := plan.next(from.Snapshot.Day)
	for i, to := range rest {
		if uint64(to.Snapshot.Day) < boundary {
			continue
		}
		boundary = plan.next(to.Snapshot.Day)
		if s.beyondTop(from, to) {
			if at, picks := s.within(from, rest[:i]); picks != nil {
				sp.to, sp.picks = at, picks
				return sp, true, nil
			}
		}
		if sp.picks = s.reach(from, to); len(sp.picks) > 0 {
			sp.to = to
			return sp, true, nil
		}
	}
	return span{}, false, nil
}

// origin returns the snapshot that the next claim begins with, the usable ones after it, and whether what lies between the head
// and it is forfeited.
func (s *Sealer) origin(head *wire.Head, today uint32) (from attest.Message, rest []attest.Message, forfeit bool, err error) {
	var low uint64
	if head != nil {
		low = head.Seq
	}
	list, err := s.archive.since(low)
	if err != nil {
		return from, nil, false, err
	}
	if head != nil && len(list) > 0 && list[0].Snapshot.Head() == *head {
		from, rest = list[0], list[1:]
	} else {
		forfeit = head != nil
		list = slices.DeleteFunc(list, func(m attest.Message) bool {
			return ahead(m, today) || head != nil && (m.Snapshot.Seq <= head.Seq || m.Snapshot.Day < head.Day)
		})
		if len(list) == 0 {
			return from, nil, false, nil
		}
		from, rest = list[0], list[1:]
	}
	rest = slices.DeleteFunc(rest, func(m attest.Message) bool { return ahead(m, today) || m.Snapshot.Day <= from.Snapshot.Day })
	return from, rest, forfeit, nil
}

// ahead says that a snapshot is from the future: one day is a clock's good right.
func ahead(m attest.Message, today uint32) bool { return uint64(m.Snapshot.Day) > uint64(today)+1 }

// beyondTop reports whether a span is longer than the highest tier in kilometres of the policies in force at its end.
func (s *Sealer) beyondTop(from, to attest.Message) bool {
	var top uint64
	for _, p := range s.inForce(to.Snapshot.Day) {
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
func (s *Sealer) within(from attest.Message, list []attest.Message) (attest.Message, []pick) {
	for _, m := range slices.Backward(list) {
		if s.beyondTop(from, m) {
			continue
		}
		if picks := s.reach(from, m); len(picks) > 0 {
			return m, picks
		}
	}
	return attest.Message{}, nil
}

// reach returns, for each policy in force at the end of a span, the highest tier whose statement holds.
func (s *Sealer) reach(from, to attest.Message) (picks []pick) {
	for _, p := range s.inForce(to.Snapshot.Day) {
		for tier := len(p.Tiers) - 1; tier >= 0; tier-- {
			if statement(from, to, p, tier).Check(from.Opening, to.Opening) == nil {
				picks = append(picks, pick{p, tier})
				break
			}
		}
	}
	return picks
}

func statement(from, to attest.Message, p *terms.Policy, tier int) claim.Statement {
	return claim.Statement{From: from.Snapshot.Commitment, To: to.Snapshot.Commitment, Rows: p.Statement(tier)}
}

// inForce returns the policies that a claim which ends on day is made under, serials ascending: of each kind the one with the
// highest serial whose days include it. Mileage comes first where there are more kinds than a claim holds.
func (s *Sealer) inForce(day uint32) (list []*terms.Policy) {
	newest := make(map[string]*terms.Policy)
	for _, p := range s.cfg.Policies {
		if p.FromDay <= day && day <= p.ToDay && (newest[p.Kind] == nil || newest[p.Kind].Serial < p.Serial) {
			newest[p.Kind] = p
		}
	}
	for _, p := range newest {
		if s.unusable(p) == nil {
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

// unusable says why a policy may not be used, or nil.
func (s *Sealer) unusable(p *terms.Policy) error {
	lock := s.cfg.Lock
	switch {
	case p.Program != s.cfg.Program:
		return errors.New("it belongs to another program")
	case p.Stop:
		return errors.New("it is stopped")
	case !p.Allows(s.cfg.AgentVersion):
		return errors.New("it asks for a newer agent: update it")
	case p.Circuit != lock.Circuit || p.ProvingKey != lock.ProvingKey || p.VerifyingKey != lock.VerifyingKey:
		return errors.New("its circuit or keys are not the ones on this car: install the proving key that it names")
	}
	return s.cfg.Charter.Covers(p)
}
