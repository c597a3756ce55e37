package seal

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"rawstone/agent/internal/archive"
	"rawstone/pkg/wire"
)

// TestTurnedOnWhileParked: no report is made of a dispatch from before the driver turned the first family on, nor of the one in which it was.
func TestTurnedOnWhileParked(t *testing.T) {
	for name, restart := range map[string]bool{"running": false, "stopped": true} {
		var families wire.Family
		w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = each(7), func() wire.Family { return families } })
		w.start()
		w.settle()
		w.drive(1000)
		w.settle()
		w.park(28)
		families = wire.FamilyHours
		if restart {
			w.reopen()
		}
		w.settle()
		w.drive(1000)
		w.settle()
		if n := w.ledger.Summary(0).Releases; n != 0 || w.use.days != 0 {
			t.Errorf("%s: %d charges for dispatches of before, %d days of use are left", name, n, w.use.days)
		}
		for range 7 {
			w.drive(1000)
			w.settle()
		}
		if n := w.ledger.Summary(0).Releases; n != 1 {
			t.Errorf("%s: %d charges in the first whole week", name, n)
		}
		// Another family beside it counts from the decision on, and holds nothing back.
		families |= wire.FamilySpeed
		w.settle()
		for range 7 {
			w.drive(1000)
			w.settle()
		}
		if n := w.ledger.Summary(0).Releases; n != 2 {
			t.Errorf("%s: %d charges in two weeks", name, n)
		}
		// One family in the place of all others is like the first.
		families = wire.FamilyTrips
		w.settle()
		for range 7 {
			w.drive(1000)
			w.settle()
		}
		if n := w.ledger.Summary(0).Releases; n != 2 {
			t.Errorf("%s: %d charges in three weeks", name, n)
		}
	}
}

// TestTurnedOffWhileWaiting: what dispatches keep of a family goes when it is turned off, and does not come back with it.
func TestTurnedOffWhileWaiting(t *testing.T) {
	families := wire.FamilyHours | wire.FamilySpeed
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = each(1), func() wire.Family { return families } })
	w.unheard = errors.New("not heard yet")
	w.start()
	w.settle()
	w.drive(1000)
	w.settle()
	for _, f := range []wire.Family{wire.FamilyHours, wire.FamilyHours | wire.FamilySpeed} {
		families = f
		if err := w.sealer.Withdraw(); err != nil {
			t.Fatal(err)
		}
	}
	hours, speed := wire.Layouts()[0].Offset, wire.Layouts()[1].Offset
	if v, _, err := w.sealer.windows.Of(firstDay + 1).Take(t.Context()); v[hours] != 1 || v[speed] != 0 || err != nil {
		t.Errorf("kept: %v, %v", v, err)
	}
}

// TestTurnedOffWithoutLedger: a ledger that does not open keeps no report in the car that tells of what is off.
func TestTurnedOffWithoutLedger(t *testing.T) {
	families, open := wire.FamilyHours|wire.FamilySpeed, true
	w := newWorld(t, func(c *Config) {
		if c.EveryDays, c.Families = each(1), func() wire.Family { return families }; !open {
			c.Budget, c.Heard = nil, nil
		}
	})
	w.start()
	w.settle()
	w.drive(1000)
	w.settle()
	open = false
	w.reopen()
	if n := len(w.spool.IDs(wire.KindReport)); n != 1 {
		t.Fatalf("%d reports wait", n)
	}
	families = wire.FamilyHours
	w.settle()
	w.drive(1000)
	w.settle()
	if n := len(w.spool.IDs(wire.KindReport)); n != 0 || w.ledger.Summary(0).Releases != 1 {
		t.Errorf("%d reports wait, %d charges", n, w.ledger.Summary(0).Releases)
	}
}

// TestEnrolledAnew: a report under the former device key is taken back, and an answer to it says nothing of the present ledger.
func TestEnrolledAnew(t *testing.T) {
	w := newWorld(t, daily)
	w.start()
	w.settle()
	w.drive(1000)
	w.settle()
	id, body, _ := w.waiting(wire.KindReport)
	w.device, w.col.device = newKey()
	w.reopen()
	if n := len(w.spool.IDs(wire.KindReport)); n != 0 {
		t.Errorf("%d reports of the former key wait", n)
	}
	r := &wire.Receipt{Version: wire.Version, Submission: id, Vehicle: carID, Reason: wire.ReasonBudget}
	if err := w.sealer.HandleReceipt(t.Context(), wire.KindReport, body, r, []byte("signed")); err != nil {
		t.Fatal(err)
	}
	if err := w.ledger.Err(); err != nil {
		t.Errorf("the ledger says %v", err)
	}
	w.drive(1000)
	w.settle()
	if epochs, _ := w.epochs(); !slices.Equal(epochs, []uint32{2}) {
		t.Errorf("reports of %v", epochs)
	}
}

// TestPowerCutsAndTurnedOff: wherever the power goes, nothing leaves afterwards of a family that was turned off before the agent was there
// again, and the journal names what each report told.
func TestPowerCutsAndTurnedOff(t *testing.T) {
	before := uint32(firstDay)
	for at := 1; ; at++ {
		families := wire.FamilyHours | wire.FamilySpeed
		w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = each(1), func() wire.Family { return families } })
		if err := w.sealer.archive.Commit(func(st *archive.State) { st.Boundary, st.Every = &before, 1 }); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.settle()
		w.drive(1000)
		w.guard.count, w.guard.at = 0, at
		cut := power(w.settle)
		w.guard.at = 0
		if cut {
			families = wire.FamilyHours
			w.reopen()
		}
		for range 3 {
			w.exchange()
			w.drive(1000)
		}
		w.exchange()
		for epoch, body := range w.col.reports {
			if r := must(wire.OpenReport(w.col.device, carID, body)); r.Families != families {
				t.Errorf("cut %d: the report of day %d tells of families %b", at, epoch-firstDay, r.Families)
			}
		}
		for _, e := range must(w.journal.List(0)) {
			if e.Kind == string(wire.KindReport) && e.Outcome == "accepted" && strings.Contains(e.Contents, "speed") == cut {
				t.Errorf("cut %d: journal: %s", at, e.Contents)
			}
		}
		w.checkReports(t, 3)
		w.close()
		if !cut {
			t.Logf("%d points", at-1)
			return
		}
	}
}
