package usage

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rawstone/collector/internal/inbox"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	today = 1000
	added = 900
)

var charterID = wire.Hash{7}

func gaussianUsage() terms.Usage {
	return terms.Usage{
		Families: wire.FamilyHours | wire.FamilySpeed, EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 2600, Scale: []uint16{1, 1, 30, 1, 1}, YearlyDispatches: 53,
	}
}

func categoricalUsage(m terms.Mechanism) terms.Usage {
	return terms.Usage{
		Mechanism: m, Families: wire.FamilySpeed, EpsilonMicro: 500_000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: 12,
	}
}

func rule(t testing.TB, u terms.Usage) *Rule {
	t.Helper()
	c := &terms.Charter{Version: wire.Version, Kinds: []string{terms.KindMileage}, TierRatioMilli: 1200, Usage: u}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	r, err := New(c, charterID, math.MaxUint32)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func report(t testing.TB, families wire.Family, values ...int64) *wire.Report {
	t.Helper()
	r := &wire.Report{Version: wire.Version, Vehicle: "V1", Charter: charterID, Epoch: today, Families: families, Charge: wire.NewCharge(1, [32]byte{1})}
	if err := r.SetValues(append(values, make([]int64, wire.VectorLen-len(values))...)); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCharter(t *testing.T) {
	r := rule(t, gaussianUsage())
	g, err := gaussian(&terms.Usage{EpsilonMicro: 1_000_000, DeltaPico: 1_000_000, Clip: 2600})
	if err != nil {
		t.Fatal(err)
	}
	bound := g.Bound()
	for _, c := range []struct {
		name   string
		report *wire.Report
		want   wire.Reason
	}{
		{"zeros", report(t, wire.FamilyHours), ""},
		{"both families", report(t, wire.FamilyHours|wire.FamilySpeed, 5, -5), ""},
		{"largest", report(t, wire.FamilyHours, bound, -bound), ""},
		{"too large", report(t, wire.FamilyHours, 0, bound+1), wire.ReasonCharter},
		{"too small", report(t, wire.FamilyHours, -bound-1), wire.ReasonCharter},
		{"largest of the wire", report(t, wire.FamilyHours, math.MaxInt32), wire.ReasonCharter},
		{"smallest of the wire", report(t, wire.FamilyHours, math.MinInt32), wire.ReasonCharter},
		{"too large in a family that is off", report(t, wire.FamilyHours, append(make([]int64, 63), bound+1)...), wire.ReasonCharter},
		{"a family beyond the charter", report(t, wire.FamilyTrips), wire.ReasonCharter},
	} {
		if got := r.Judge(c.report, Facts{Today: today, Added: added}); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	other := report(t, wire.FamilyHours)
	other.Charter = wire.Hash{8}
	if got := r.Judge(other, Facts{Today: today}); got != wire.ReasonCharter {
		t.Errorf("another charter: %q", got)
	}
	none := report(t, wire.FamilyHours)
	none.Charter = wire.Hash{}
	if got := (*Rule)(nil).Judge(report(t, wire.FamilyHours), Facts{Today: today}); got != wire.ReasonCharter {
		t.Errorf("a charter that is not known: %q", got)
	}
	if got := new(Rule).Judge(none, Facts{Today: today}); got != wire.ReasonCharter {
		t.Errorf("no charter: %q", got)
	}
}

// TestReleases: whatever a car draws under the charter is kept.
func TestReleases(t *testing.T) {
	for _, m := range []terms.Mechanism{terms.SubsetSelection, terms.RandomizedResponse} {
		u := categoricalUsage(m)
		r := rule(t, u)
		mechanism, err := dp.NewCategorical(dp.Scheme(m), 10, 0.5)
		if err != nil {
			t.Fatal(err)
		}
		if r.categorical.Categories() != 11 {
			t.Fatalf("%d categories of the speeds", r.categorical.Categories())
		}
		for range 50 {
			values, err := mechanism.Release([]int64{0, 3, 0, 9, 0, 0, 0, 0, 0, 0})
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Judge(report(t, wire.FamilySpeed, values...), Facts{Today: today}); got != "" {
				t.Fatalf("mechanism %d released %v, and that is refused: %s", m, values, got)
			}
			for name, bad := range map[string]*wire.Report{
				"one more":          report(t, wire.FamilySpeed, edit(values, func(v []int64) { v[slices.Index(v, 0)] = 1 })...),
				"one less":          report(t, wire.FamilySpeed, edit(values, func(v []int64) { v[slices.Index(v, 1)] = 0 })...),
				"two":               report(t, wire.FamilySpeed, edit(values, func(v []int64) { v[slices.Index(v, 1)] = 2 })...),
				"negative":          report(t, wire.FamilySpeed, edit(values, func(v []int64) { v[slices.Index(v, 0)] = -1 })...),
				"behind the last":   report(t, wire.FamilySpeed, append(slices.Clone(values), 1)...),
				"the vector's last": report(t, wire.FamilySpeed, append(append(slices.Clone(values), make([]int64, 52)...), 1)...),
				"another family":    report(t, wire.FamilyHours, values...),
				"zeros":             report(t, wire.FamilySpeed),
			} {
				if got := r.Judge(bad, Facts{Today: today}); got != wire.ReasonCharter {
					t.Fatalf("mechanism %d, %s: %q", m, name, got)
				}
			}
		}
	}
	g, err := gaussian(&terms.Usage{EpsilonMicro: 10_000, DeltaPico: 1, Clip: 100_000}) // the widest noise that a charter may have
	if err != nil {
		t.Fatal(err)
	}
	u := gaussianUsage()
	u.EpsilonMicro, u.DeltaPico, u.Clip = 10_000, 1, 100_000
	r := rule(t, u)
	for range 20 {
		values, err := g.Release(make([]int64, wire.VectorLen))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Judge(report(t, wire.FamilyHours, values...), Facts{Today: today}); got != "" {
			t.Fatalf("released %v, and that is refused: %s", values, got)
		}
	}
}

func edit(values []int64, fn func([]int64)) []int64 {
	values = slices.Clone(values)
	fn(values)
	return values
}

// TestOrder: the first that is wrong is what the vehicle hears.
func TestOrder(t *testing.T) {
	r := rule(t, gaussianUsage())
	next := inbox.Charged{Charge: wire.NewCharge(1, [32]byte{2}), Epoch: today}
	for _, c := range []struct {
		name  string
		epoch uint32
		facts inbox.Charges
		want  wire.Reason
	}{
		{"today", today, inbox.Charges{}, ""},
		{"tomorrow", today + 1, inbox.Charges{}, ""},
		{"the day after", today + 2, inbox.Charges{Reported: true, From: next}, wire.ReasonFuture},
		{"the last day of all", math.MaxUint32, inbox.Charges{}, wire.ReasonFuture},
		{"the first day", added, inbox.Charges{}, ""},
		{"the day before", added - 1, inbox.Charges{From: next}, wire.ReasonEpoch},
		{"reported", today, inbox.Charges{Reported: true}, wire.ReasonEpoch},
		{"reported, and another charge", today, inbox.Charges{Reported: true, From: next}, wire.ReasonBudget},
		{"the last of a year", today, inbox.Charges{Year: 53}, ""},
		{"one too many in a year", today, inbox.Charges{Year: 54}, wire.ReasonCharter},
		{"one too many, and another charge", today, inbox.Charges{Year: 54, From: next}, wire.ReasonBudget},
	} {
		rep := report(t, wire.FamilyHours)
		rep.Epoch = c.epoch
		if got := r.Judge(rep, Facts{today, added, c.facts}); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestNeighbours: the next lower index has an earlier epoch, the next higher one a later, and the index itself is this very charge.
func TestNeighbours(t *testing.T) {
	at := func(index uint64, epoch uint32) inbox.Charged {
		return inbox.Charged{Charge: wire.NewCharge(index, [32]byte{1}), Epoch: epoch}
	}
	for _, c := range []struct {
		before, from inbox.Charged
		want         wire.Reason
	}{
		{inbox.Charged{}, inbox.Charged{}, ""},
		{at(4, today-1), at(9, today+1), ""},
		{at(4, today), inbox.Charged{}, wire.ReasonBudget},
		{at(4, today+1), inbox.Charged{}, wire.ReasonBudget},
		{inbox.Charged{}, at(9, today), wire.ReasonBudget},
		{inbox.Charged{}, at(9, today-1), wire.ReasonBudget},
		{inbox.Charged{}, at(5, today), ""},
		{inbox.Charged{}, at(5, today+1), wire.ReasonBudget},
		{at(4, today-1), inbox.Charged{Charge: wire.NewCharge(5, [32]byte{2}), Epoch: today}, wire.ReasonBudget},
	} {
		r := report(t, wire.FamilyHours)
		r.Charge = wire.NewCharge(5, [32]byte{1})
		if got := rule(t, gaussianUsage()).Judge(r, Facts{today, added, inbox.Charges{Before: c.before, From: c.from}}); got != c.want {
			t.Errorf("between %v and %v: %q, want %q", c.before, c.from, got, c.want)
		}
	}
}

// purse is what a car's budget is: epochs that rise, each with an index and a hash of its own.
type purse []inbox.Charged

func (l purse) charge(epoch uint32, fork byte) purse {
	n := len(l) + 1
	return append(slices.Clone(l), inbox.Charged{Charge: wire.NewCharge(uint64(n), [32]byte{fork, byte(n)}), Epoch: epoch})
}

// charges are what the records return for a charge among those that were accepted.
func charges(accepted []inbox.Charged, of inbox.Charged) (c inbox.Charges) {
	for _, a := range accepted {
		c.Reported = c.Reported || a.Epoch == of.Epoch
		switch i := a.Charge.Index(); {
		case i < of.Charge.Index() && i > c.Before.Charge.Index():
			c.Before = a
		case i >= of.Charge.Index() && (c.From == inbox.Charged{} || i < c.From.Charge.Index()):
			c.From = a
		}
	}
	return c
}

// TestOneLedger: no order in which a ledger's reports come, and no loss of any, is a contradiction. A ledger that was put back to what it
// was before an accepted charge contradicts with its first report for a day that is new.
func TestOneLedger(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var l purse
		epoch := uint32(added)
		for range rapid.IntRange(1, 12).Draw(rt, "charges") {
			epoch += rapid.Uint32Range(1, 3).Draw(rt, "days")
			l = l.charge(epoch, 0)
		}
		r := rule(t, gaussianUsage())
		judge := func(accepted []inbox.Charged, c inbox.Charged) wire.Reason {
			rep := report(t, wire.FamilyHours)
			rep.Epoch, rep.Charge = c.Epoch, c.Charge
			return r.Judge(rep, Facts{today, added, charges(accepted, c)})
		}
		var accepted []inbox.Charged
		highest := uint64(0)
		for _, c := range rapid.Permutation(l).Draw(rt, "order") {
			if rapid.IntRange(0, 3).Draw(rt, "lost") == 0 {
				continue
			}
			if got := judge(accepted, c); got != "" {
				rt.Fatalf("%v among %v: %q", c, accepted, got)
			}
			accepted, highest = append(accepted, c), max(highest, c.Charge.Index())
		}
		if highest == 0 {
			return
		}
		back := l[:rapid.IntRange(0, int(highest)-1).Draw(rt, "put back to")]
		fork := back.charge(epoch+1, 1)
		if got := judge(accepted, fork[len(fork)-1]); got != wire.ReasonBudget {
			rt.Fatalf("%v after %v was put back: %q", fork[len(fork)-1], accepted, got)
		}
	})
}
