package rawstone_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	sim "rawstone/firmware-sim/daemon"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A carRecord is what is known of one car when a campaign is over.
type carRecord struct {
	vehicle string
	key     wire.KeyID
	// truth is what the ECU itself counted and signed.
	truth []sim.Truth
	// claims are those that the collector accepted, in any order.
	claims []*wire.Claim
	// journal holds what the agent says of each submission, and answered what the collector's records do: identifiers, and whether it
	// was accepted.
	journal  []journalEntry
	answered map[string]bool
}

// A journalEntry is what a driver is told of a submission.
type journalEntry struct {
	Submission, Kind, Outcome string
}

// A ledgerCredit is a numbered credit with what its entry hides.
type ledgerCredit struct {
	ledger.CreditOpening
	km uint32
}

// A reckoning is the comparison of what was credited with what is true.
type reckoning struct {
	claims, reports  int // accepted
	refused          int
	snapshots        int
	metres, km, owed uint64
	// lost counts what was acknowledged and is gone, doubled what was credited or kept more than once; faults says which, and whatever
	// else is not as it should be.
	lost, doubled int
	faults        []string
}

func (r *reckoning) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// creditOf names what may be credited once.
type creditOf struct {
	ecu  wire.KeyID
	to   uint64
	kind string
}

// reckon holds every car's credits against the ECU's own counters. The credited spans must tile the car's life from its binding on, each
// must be credited once for each kind, and for exactly the tier that the policy gives for the true distance of that span; what was answered and
// what the driver was told must be the same.
func reckon(policies []*terms.Policy, cars []carRecord, credits []ledgerCredit) *reckoning {
	r := new(reckoning)
	due := make(map[creditOf]uint32)
	names := make(map[wire.KeyID]string)
	for i := range cars {
		names[cars[i].key] = cars[i].vehicle
		r.spans(policies, &cars[i], due)
		r.answers(&cars[i])
	}
	seen := make(map[creditOf]bool)
	for _, c := range credits {
		of := creditOf{c.ECU, c.ToSeq, c.Kind}
		km, ok := due[of]
		switch {
		case !ok:
			r.doubled++
			r.fault("%s: a credit of %d km (%s) up to snapshot %d that no claim earned", names[c.ECU], c.km, c.Kind, c.ToSeq)
		case seen[of]:
			r.doubled++
			r.fault("%s: %s up to snapshot %d is credited again, %d km", names[c.ECU], c.Kind, c.ToSeq, c.km)
		case km != c.km:
			r.fault("%s: %d km are credited up to snapshot %d, the true distance is worth %d", names[c.ECU], c.km, c.ToSeq, km)
		}
		seen[of] = true
		r.km += uint64(c.km)
	}
	for of, km := range due {
		r.owed += uint64(km)
		if !seen[of] {
			r.lost++
			r.fault("%s: %d km (%s) up to snapshot %d were accepted and are not credited", names[of.ecu], km, of.kind, of.to)
		}
	}
	if r.km != r.owed {
		r.fault("%d km are credited in all, the true distances are worth %d", r.km, r.owed)
	}
	slices.Sort(r.faults)
	return r
}

// spans walks a car's claims in order and notes what each must be credited.
func (r *reckoning) spans(policies []*terms.Policy, c *carRecord, due map[creditOf]uint32) {
	slices.SortFunc(c.claims, func(a, b *wire.Claim) int { return int(a.To.Seq) - int(b.To.Seq) })
	bySeq := make(map[uint64]sim.Truth, len(c.truth))
	for _, s := range c.truth {
		bySeq[s.Seq] = s
	}
	r.snapshots += len(c.truth)
	head := uint64(0) // the ECU's birth, with which it was bound
	for i, m := range c.claims {
		if m.ECU != c.key {
			r.fault("%s: a claim of another ECU", c.vehicle)
			continue
		}
		from, to := bySeq[m.From.Seq], bySeq[m.To.Seq]
		switch {
		case i > 0 && m.To.Seq == c.claims[i-1].To.Seq && m.From.Seq == c.claims[i-1].From.Seq:
			// Another claim over the same span, for the kinds that the first had no proof of.
		case m.From.Seq < head:
			r.doubled++
			r.fault("%s: the claim from snapshot %d to %d overlaps what was credited up to %d", c.vehicle, m.From.Seq, m.To.Seq, head)
		case m.From.Seq > head || m.Forfeit:
			r.lost++
			r.fault("%s: snapshots %d to %d are given up", c.vehicle, head, m.From.Seq)
		}
		head = max(head, m.To.Seq)
		r.claims++
		if len(to.Opening.Counters) == 0 || to.Commitment != m.To.Commitment || to.Day != m.To.Day || m.From.Seq != from.Seq {
			r.fault("%s: the claim up to snapshot %d ends with one that the ECU did not count", c.vehicle, m.To.Seq)
			continue
		}
		metres := to.Opening.Counters[wire.OdometerM] - from.Opening.Counters[wire.OdometerM]
		for _, proof := range m.Proofs {
			p := bySerial(policies, proof.Policy)
			if p == nil {
				r.fault("%s: a claim under policy %d, which there is not", c.vehicle, proof.Policy)
				continue
			}
			of, km := creditOf{m.ECU, m.To.Seq, p.Kind}, uint32(0)
			if p.Kind == terms.KindMileage {
				km = min(floor(p, metres), p.CapKm*(to.Day-from.Day))
				r.metres += uint64(metres)
			}
			if _, ok := due[of]; ok {
				r.fault("%s: %s up to snapshot %d was accepted twice", c.vehicle, p.Kind, m.To.Seq)
				r.doubled++
			}
			due[of] = km
		}
	}
}

// answers holds what the driver was told against the collector's records.
func (r *reckoning) answers(c *carRecord) {
	told := make(map[string]bool)
	for _, e := range c.journal {
		switch {
		case e.Kind != string(wire.KindClaim) && e.Kind != string(wire.KindReport):
			continue
		case e.Outcome == "":
			r.lost++
			r.fault("%s: %s %.8s has no outcome", c.vehicle, e.Kind, e.Submission)
		case !strings.HasPrefix(e.Outcome, "accepted"):
			continue
		case told[e.Submission]:
			r.doubled++
			r.fault("%s: %s %.8s was accepted twice", c.vehicle, e.Kind, e.Submission)
		case !c.answered[e.Submission]:
			r.lost++
			r.fault("%s: the agent was told that its %s %.8s is accepted, the records do not hold it", c.vehicle, e.Kind, e.Submission)
		}
		told[e.Submission] = true
		if e.Kind == string(wire.KindReport) {
			r.reports++
		}
	}
	for id, accepted := range c.answered {
		if !accepted {
			r.refused++
		}
		if accepted && !told[id] {
			r.fault("%s: the records hold %.8s as accepted, the agent was never told", c.vehicle, id)
		}
	}
}

// behind says what of a car's true distance, as it stood at truth, is not claimed yet although it is worth something; empty for nothing.
func behind(policies []*terms.Policy, c *carRecord, truth []sim.Truth) string {
	head := uint64(0)
	for _, m := range c.claims {
		head = max(head, m.To.Seq)
	}
	last := truth[len(truth)-1]
	p := terms.InForce(policies, terms.KindMileage, last.Day)
	i := slices.IndexFunc(truth, func(s sim.Truth) bool { return s.Seq == head })
	if p == nil || i < 0 {
		return ""
	}
	if metres := last.Opening.Counters[wire.OdometerM] - truth[i].Opening.Counters[wire.OdometerM]; floor(p, metres) > 0 && last.Day > truth[i].Day {
		return fmt.Sprintf("%s: %d m from snapshot %d to %d", c.vehicle, metres, head, last.Seq)
	}
	return ""
}

func bySerial(policies []*terms.Policy, serial uint16) *terms.Policy {
	for _, p := range policies {
		if p.Serial == serial {
			return p
		}
	}
	return nil
}

// floor returns the highest tier in km that a distance reaches, 0 for none.
func floor(p *terms.Policy, metres uint32) (km uint32) {
	for _, tier := range p.Tiers {
		if uint64(metres) >= 1000*uint64(tier.Km) {
			km = tier.Km
		}
	}
	return km
}

// TestReckoning shows the comparison each thing that it must find.
func TestReckoning(t *testing.T) {
	policies := []*terms.Policy{{Serial: 1, Kind: terms.KindMileage, CapKm: 1500, ToDay: 99, Tiers: []terms.Tier{{Km: 1}, {Km: 5}, {Km: 10}}}}
	key := wire.KeyID{1}
	sound := func() ([]carRecord, []ledgerCredit) {
		c := carRecord{vehicle: "CAR1", key: key, answered: map[string]bool{"a": true, "b": true, "r": true, "x": false}, journal: []journalEntry{
			{"a", "claim", "accepted: 5 km"}, {"b", "claim", "accepted"}, {"r", "report", "accepted"}, {"x", "claim", "refused (gap)"}, {"y", "report", "never left"},
			{"", "note", ""},
		}}
		for i, m := range []uint32{0, 7000, 7500, 18_000, 18_500} {
			s := sim.Truth{Seq: uint64(i), Day: uint32(i), Commitment: wire.Commitment{byte(i)}}
			s.Opening.Counters[wire.OdometerM] = m
			c.truth = append(c.truth, s)
		}
		for _, span := range [][2]uint64{{0, 1}, {1, 3}} {
			c.claims = append(c.claims, &wire.Claim{
				ECU: key, From: wire.Origin{Seq: span[0]}, To: wire.Snapshot{Seq: span[1], Day: uint32(span[1]), Commitment: wire.Commitment{byte(span[1])}},
				Proofs: []wire.ClaimProof{{Policy: 1}},
			})
		}
		credit := func(to uint64, km uint32) ledgerCredit {
			return ledgerCredit{ledger.CreditOpening{ECU: key, ToSeq: to, Kind: terms.KindMileage}, km}
		}
		return []carRecord{c}, []ledgerCredit{credit(1, 5), credit(3, 10)}
	}
	cars, credits := sound()
	r := reckon(policies, cars, credits)
	if len(r.faults) > 0 || r.km != 15 || r.metres != 18_000 || r.claims != 2 || r.reports != 1 {
		t.Fatalf("sound records: %+v", r)
	}
	if late := behind(policies, &cars[0], cars[0].truth); late != "" {
		t.Errorf("behind although 500 m are worth nothing: %s", late)
	}
	cars[0].claims = cars[0].claims[:1]
	if late := behind(policies, &cars[0], cars[0].truth); !strings.Contains(late, "11500 m from snapshot 1 to 4") {
		t.Errorf("11.5 km are not missed: %q", late)
	}
	for _, tt := range []struct {
		want          string
		lost, doubled int
		spoil         func(c *carRecord, l *[]ledgerCredit)
	}{
		{"credited again", 0, 1, func(c *carRecord, l *[]ledgerCredit) { *l = append(*l, (*l)[1]) }},
		{"that no claim earned", 0, 1, func(c *carRecord, l *[]ledgerCredit) { c.claims = c.claims[:1] }},
		{"are not credited", 1, 0, func(c *carRecord, l *[]ledgerCredit) { *l = (*l)[:1] }},
		{"worth 10", 0, 0, func(c *carRecord, l *[]ledgerCredit) { (*l)[1].km = 5 }},
		{"credited in all", 0, 0, func(c *carRecord, l *[]ledgerCredit) { (*l)[1].km = 11 }},
		{"given up", 1, 0, func(c *carRecord, l *[]ledgerCredit) { c.claims[1].From.Seq = 2 }},
		{"given up", 1, 0, func(c *carRecord, l *[]ledgerCredit) { c.claims[1].Forfeit = true }},
		{"overlaps", 0, 1, func(c *carRecord, l *[]ledgerCredit) { c.claims[1].From.Seq = 0 }},
		{"did not count", 0, 1, func(c *carRecord, l *[]ledgerCredit) { c.claims[1].To.Commitment[5] = 1 }},
		{"another ECU", 0, 1, func(c *carRecord, l *[]ledgerCredit) { c.claims[1].ECU[0]++ }},
		{"accepted twice", 0, 1, func(c *carRecord, l *[]ledgerCredit) { c.claims = append(c.claims, c.claims[1]) }},
		{"no outcome", 1, 0, func(c *carRecord, l *[]ledgerCredit) { c.journal[4].Outcome = "" }},
		{"do not hold it", 1, 0, func(c *carRecord, l *[]ledgerCredit) { delete(c.answered, "r") }},
		{"do not hold it", 1, 0, func(c *carRecord, l *[]ledgerCredit) { c.journal[3].Outcome = "accepted" }},
		{"never told", 0, 0, func(c *carRecord, l *[]ledgerCredit) { c.answered["z"] = true }},
		{"r was accepted twice", 0, 1, func(c *carRecord, l *[]ledgerCredit) { c.journal = append(c.journal, c.journal[2]) }},
	} {
		cars, credits := sound()
		tt.spoil(&cars[0], &credits)
		r := reckon(policies, cars, credits)
		if !strings.Contains(strings.Join(r.faults, "\n"), tt.want) || r.lost != tt.lost || r.doubled != tt.doubled {
			t.Errorf("%q: lost %d (want %d), doubled %d (want %d): %q", tt.want, r.lost, tt.lost, r.doubled, tt.doubled, r.faults)
		}
	}
}
