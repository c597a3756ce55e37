package report

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"rawstone/agent/internal/budget"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// categorical makes the charter one of a single family.
func categorical(u *terms.Usage, m terms.Mechanism, f wire.Family) {
	*u = terms.Usage{Mechanism: m, Families: f, EpsilonMicro: 2_000_000, Scale: []uint16{1, 1, 1, 1, 1}, YearlyDispatches: u.YearlyDispatches}
}

// TestCategoricalReports: a report of one family is a subset of its categories that mostly holds the true one, and zeros.
func TestCategoricalReports(t *testing.T) {
	const draws = 60
	for name, m := range map[string]terms.Mechanism{"subset": terms.SubsetSelection, "response": terms.RandomizedResponse} {
		t.Run(name, func(t *testing.T) {
			layout := wire.Layouts()[2]
			u := &usage{}
			u.totals[layout.Offset+1], u.totals[layout.Offset+2] = 3, 7
			u.totals[0] = 900 // of a family that is not the charter's
			c := config(t, u)
			categorical(&c.Charter.Usage, m, layout.Family)
			if err := c.Charter.Validate(); err != nil {
				t.Fatal(err)
			}
			c.Families = allow(wire.AllFamilies)
			c.Budget = open(t, must(budget.YearLimit(Cost(&c.Charter.Usage), draws)))
			maker := must(New(c))
			mechanism := maker.mechanism.Mechanism.(*dp.Categorical)
			device := must(wire.NewPublicKey(c.Device.Public()))
			counts := make([]int, mechanism.Categories())
			for epoch := range uint32(draws) {
				use := c.Usage
				if epoch%2 == 1 {
					use = &usage{}
				}
				sealed, lost, err := maker.Make(t.Context(), epoch, use)
				if lost != nil || err != nil {
					t.Fatal(lost, err)
				}
				r := must(wire.OpenReport(device, "CAR1", sealed))
				v := r.Values()
				if err := mechanism.Check(v[:mechanism.Categories()]); err != nil || r.Families != layout.Family {
					t.Fatalf("%v, families %v", err, r.Families)
				}
				for i, x := range v {
					if i >= len(counts) && x != 0 {
						t.Fatalf("value %d behind the categories is %d", i, x)
					} else if i < len(counts) {
						counts[i] += int(x)
					}
				}
			}
			// Half of the dispatches are of category 2, half idle; at epsilon 2 each of them is far ahead of the others.
			for i, n := range counts {
				if i == 2 || i == len(counts)-1 {
					continue
				}
				if n >= counts[2] || n >= counts[len(counts)-1] {
					t.Errorf("counts %v", counts)
					break
				}
			}
			if contents, cost := maker.Explain(terms.Timing{DayS: 86400}, 7, nil); !strings.Contains(contents, "by chance") || !strings.Contains(cost, "epsilon 2 at delta 0") {
				t.Errorf("%s %s", contents, cost)
			}
		})
	}
	u := charter().Usage
	categorical(&u, terms.SubsetSelection, wire.FamilyHours|wire.FamilySpeed)
	if _, err := newMechanism(&u); err == nil {
		t.Error("a categorical charter of two families is accepted")
	}
	if u.Mechanism = terms.RandomizedResponse + 1; true {
		if _, err := newMechanism(&u); err == nil {
			t.Error("an unknown mechanism is accepted")
		}
	}
}

// TestReportsLeaveOtherWindows: an idle dispatch's report neither tells of the open window nor consumes it.
func TestReportsLeaveOtherWindows(t *testing.T) {
	u := &usage{}
	u.totals[0] = 1_000_000
	c := config(t, u)
	c.Families = allow(wire.FamilyHours)
	c.Charter.Usage.EpsilonMicro, c.Charter.Usage.DeltaPico = 10_000_000, 10_000_000
	c.Budget = open(t, must(budget.YearLimit(Cost(&c.Charter.Usage), 60)))
	m := must(New(c))
	device := must(wire.NewPublicKey(c.Device.Public()))
	var idle, busy int64
	for epoch := range uint32(60) {
		use := u
		if epoch%2 == 0 {
			use = &usage{}
		}
		sealed, lost, err := m.Make(t.Context(), epoch, use)
		if lost != nil || err != nil {
			t.Fatal(lost, err)
		}
		if v := must(wire.OpenReport(device, "CAR1", sealed)).Values()[0]; epoch%2 == 0 {
			idle += v
		} else {
			busy += v
		}
	}
	if idle/30 > 500 || busy/30 < 500 || u.taken != 30 { // clipped to 1000; a standard error is below 70
		t.Errorf("means %d idle and %d busy, consumed %d times", idle/30, busy/30, u.taken)
	}
}

// TestReportsNameTheirCharge: the collector is told the report's place in the ledger, and the ledger agrees.
func TestReportsNameTheirCharge(t *testing.T) {
	c := config(t, &usage{})
	c.Families = allow(wire.FamilyHours)
	c.Budget = open(t, must(budget.YearLimit(Cost(&c.Charter.Usage), 2)))
	m := must(New(c))
	device := must(wire.NewPublicKey(c.Device.Public()))
	for i := range uint32(2) {
		sealed, _, err := m.Make(t.Context(), 7+i, c.Usage)
		if err != nil {
			t.Fatal(err)
		}
		charge := must(wire.OpenReport(device, "CAR1", sealed)).Charge
		if charge.Index() != uint64(i)+1 || c.Budget.Compare(charge.Index(), charge.Head()) != nil {
			t.Errorf("charge %d of report %d", charge.Index(), i)
		}
	}
}

// TestRefusedBudget: after the collector's refusal nothing is drawn, and the loss is named.
func TestRefusedBudget(t *testing.T) {
	u := &usage{}
	c := config(t, u)
	c.Families = allow(wire.FamilyHours)
	waiting := errors.New("not connected yet")
	c.Heard = func() error { return waiting }
	m := must(New(c))
	if err := m.Wait(); !errors.Is(err, waiting) {
		t.Errorf("waits for %v", err)
	}
	sealed, lost, err := m.Make(t.Context(), 7, u)
	if lost != nil || err != nil {
		t.Fatal(lost, err)
	}
	// A report of before the car was enrolled anew says nothing of this ledger.
	other := c
	other.Device = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	if err := must(New(other)).Refuse(sealed); err != nil || c.Budget.Err() != nil {
		t.Errorf("a report under another key is refused: %v, the ledger says %v", err, c.Budget.Err())
	}
	if err := m.Refuse(sealed); err != nil {
		t.Fatal(err)
	}
	if sealed, lost, err := m.Make(t.Context(), 8, u); sealed != nil || !errors.Is(lost, budget.ErrRolledBack) || err != nil || u.taken != 2 {
		t.Errorf("lost %v, %v, consumed %d times", lost, err, u.taken)
	}
	if m.Families() != wire.FamilyHours || m.Drawn() != 0 {
		t.Errorf("families %v, of which %v can be drawn", m.Families(), m.Drawn())
	}
}

// TestStoredReportOfAnotherKey: what was stored before the car was enrolled anew is not sent, and goes.
func TestStoredReportOfAnotherKey(t *testing.T) {
	u := &usage{}
	c := config(t, u)
	c.Families = allow(wire.FamilyHours)
	if _, lost, err := must(New(c)).Make(t.Context(), 7, u); lost != nil || err != nil {
		t.Fatal(lost, err)
	}
	c.Device = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	m := must(New(c))
	if sealed, lost, err := m.Make(t.Context(), 7, u); sealed != nil || !errors.Is(lost, errOtherKey) || err != nil || u.taken != 2 {
		t.Errorf("lost %v, %v, consumed %d times", lost, err, u.taken)
	}
	if _, found, err := c.Budget.Stored(t.Context(), 7); found || err != nil {
		t.Errorf("still stored: %v", err)
	}
}

// TestTurnedOffWhileStored: what was turned off between the ledger's store and the spool does not leave.
func TestTurnedOffWhileStored(t *testing.T) {
	families := wire.FamilyHours | wire.FamilySpeed
	u := &usage{}
	c := config(t, u)
	c.Families = func() wire.Family { return families }
	m := must(New(c))
	first, lost, err := m.Make(t.Context(), 7, u)
	if lost != nil || err != nil {
		t.Fatal(lost, err)
	}
	families = wire.FamilyHours
	if contents, _ := m.Explain(terms.Timing{DayS: 86400}, 7, first); !strings.Contains(contents, ": hours, speed.") {
		t.Errorf("what was sealed is told as %q", contents)
	}
	if sealed, lost, err := m.Make(t.Context(), 7, u); sealed != nil || !errors.Is(lost, errTurnedOff) || err != nil || u.taken != 2 {
		t.Errorf("lost %v, %v, consumed %d times", lost, err, u.taken)
	}
	if _, found, err := c.Budget.Stored(t.Context(), 7); found || err != nil {
		t.Errorf("still stored: %v", err)
	}
	if sealed, lost, err := m.Make(t.Context(), 7, u); sealed != nil || !errors.Is(lost, budget.ErrCharged) || err != nil {
		t.Errorf("drawn again: %v, %v", lost, err)
	}
}

func TestWithdrawnReports(t *testing.T) {
	families := wire.FamilyHours | wire.FamilySpeed
	c := config(t, &usage{})
	c.Families = func() wire.Family { return families }
	m := must(New(c))
	sealed, lost, err := m.Make(t.Context(), 7, c.Usage)
	if lost != nil || err != nil {
		t.Fatal(lost, err)
	}
	for f, want := range map[wire.Family]bool{
		wire.FamilyHours | wire.FamilySpeed: false, wire.AllFamilies: false, wire.FamilyHours: true, wire.FamilyTrips: true, 0: true,
	} {
		if families = f; m.Withdrawn(sealed) != want {
			t.Errorf("with families %v allowed, withdrawn is %v", f, !want)
		}
	}
	if m.Withdrawn([]byte("nonsense")) {
		t.Error("what is no report of this car is withdrawn")
	}
}

func TestCadenceFollowsTheBudget(t *testing.T) {
	for _, c := range []struct {
		yearly        uint16
		cadence, want int
	}{{53, 7, 7}, {53, 1, 7}, {53, 30, 30}, {366, 1, 1}, {365, 1, 1}, {364, 1, 2}, {52, 7, 8}, {12, 30, 31}, {1, 7, 365}} {
		got := EveryDays(&terms.Usage{YearlyDispatches: c.yearly}, c.cadence)
		// In any 365 days there are at most as many boundaries as the charter allows dispatches.
		if got != c.want || got > c.cadence && 364/got+1 > int(c.yearly) {
			t.Errorf("%d a year, one every %d days: %d, want %d", c.yearly, c.cadence, got, c.want)
		}
	}
}
