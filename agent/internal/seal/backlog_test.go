package seal

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/budget"
	"rawstone/pkg/wire"
)

// daily has the driver allow hours every day.
func daily(c *Config) { c.EveryDays, c.Families = each(1), allow(wire.FamilyHours) }

// park has the car stand off for days.
func (w *world) park(days uint32) { w.ecu.day += days }

// epochs returns the epochs of the reports in the spool in the order in which they leave, and the days on which they do.
func (w *world) epochs() (epochs []uint32, days []uint32) {
	w.t.Helper()
	type waiting struct {
		due   time.Time
		epoch uint32
	}
	var list []waiting
	var ids []wire.Hash
	w.spool.Each(func(id wire.Hash, kind wire.Kind, due time.Time) {
		if kind == wire.KindReport {
			ids, list = append(ids, id), append(list, waiting{due: due})
		}
	})
	for i, id := range ids {
		body, _ := w.spool.Bytes(id)
		list[i].epoch = must(wire.OpenReport(w.col.device, carID, body)).Epoch
	}
	slices.SortFunc(list, func(a, b waiting) int { return a.due.Compare(b.due) })
	for _, l := range list {
		epochs, days = append(epochs, l.epoch-firstDay), append(days, w.timing().Day(l.due)-firstDay)
	}
	return epochs, days
}

// TestEachMissedDispatchIsReported: a car that stood off has a report for each boundary it missed. The first tells of the use before it, the
// others of none; they leave one a program day, the newest last.
func TestEachMissedDispatchIsReported(t *testing.T) {
	w := newWorld(t, daily)
	w.start()
	w.settle()
	w.use.days = 3
	w.park(5)
	w.drive(1000) // day 6
	w.settle()
	w.use.days += 4 // driven since
	epochs, days := w.epochs()
	if want := []uint32{1, 2, 3, 4, 5, 6}; !slices.Equal(epochs, want) {
		t.Errorf("reports of %v, want %v", epochs, want)
	}
	if want := []uint32{7, 8, 9, 10, 11, 12}; !slices.Equal(days, want) {
		t.Errorf("they leave on days %v, want %v", days, want)
	}
	if w.use.taken != 4 || w.use.days != 4 {
		t.Errorf("%d days of use told, %d left", w.use.taken, w.use.days)
	}
	charges := w.ledger.Charges(firstDay + 6)
	for i, c := range charges {
		if c.Epoch != firstDay+1+uint64(i) {
			t.Errorf("charge %d is of epoch %d", i, c.Epoch)
		}
	}
	if len(charges) != 6 {
		t.Errorf("%d charges", len(charges))
	}
	// The next dispatch's follows those that wait.
	w.drive(1000)
	w.settle()
	if epochs, days := w.epochs(); len(epochs) != 7 || epochs[6] != 7 || days[6] != 13 || w.use.days != 0 {
		t.Errorf("reports of %v leave on %v, %d days of use left", epochs, days, w.use.days)
	}
	for range 10 {
		w.exchange()
		w.setDay(w.timing().Day(w.now) + 1)
	}
	w.checkReports(t, 7)
}

// TestBacklogIsBounded: of more boundaries than the charter allows in a year the older ones are passed over.
func TestBacklogIsBounded(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		daily(c)
		c.Charter.Usage.YearlyDispatches = 52
	})
	w.start()
	w.settle()
	w.park(3000)
	w.drive(1000)
	w.settle()
	epochs, _ := w.epochs()
	if len(epochs) != 52 || w.ledger.Summary(0).Releases != 52 {
		t.Errorf("%d reports, %d charges", len(epochs), w.ledger.Summary(0).Releases)
	}
	last, _ := w.sealer.book().Plan(8).Last(w.ecu.day)
	if epochs[len(epochs)-1] != last-firstDay || epochs[0] != last-firstDay-51*8 {
		t.Errorf("reports from %d to %d, want 52 up to %d one every 8 days", epochs[0], epochs[len(epochs)-1], last-firstDay)
	}
}

// TestBacklogSurvivesCuts: whatever the last step before the power goes, no dispatch is reported twice, and what was used after the first
// missed boundary is not told as the use of another.
func TestBacklogSurvivesCuts(t *testing.T) {
	for at := 1; ; at++ {
		w := newWorld(t, daily)
		w.start()
		w.settle()
		w.use.days = 3
		w.park(3)
		w.drive(1000)
		w.guard.count, w.guard.at = 0, at
		cut := power(w.settle)
		w.guard.at = 0
		if cut {
			w.use.days += 10 // driven before the agent is there again
			w.reopen()
			told := w.use.taken
			first := *w.sealer.archive.State().Boundary > firstDay
			w.settle()
			switch {
			case first && w.use.days != 10:
				t.Errorf("cut %d: what was used after the first missed boundary is told as another's: %d days are left", at, w.use.days)
			case !first && w.use.days != 0:
				t.Errorf("cut %d: %d days of use are left, %d were told", at, w.use.days, told)
			}
		}
		for range 8 {
			w.exchange()
			w.setDay(w.timing().Day(w.now) + 1)
		}
		w.checkReports(t, 3)
		if n := w.ledger.Summary(0).Releases; n != 4 {
			t.Errorf("cut %d: %d charges", at, n)
		}
		if n := len(w.journal.Waiting()); n != 0 {
			t.Errorf("cut %d: %d entries of the journal have no end", at, n)
		}
		w.close()
		if !cut {
			t.Logf("%d points", at-1)
			return
		}
	}
}

// TestReportsWaitForTheRecord: until the collector's record was compared nothing is charged, and each dispatch keeps its own use.
func TestReportsWaitForTheRecord(t *testing.T) {
	w := newWorld(t, daily)
	w.unheard = errors.New("not heard yet")
	w.start()
	w.settle()
	for range 3 {
		w.drive(1000)
		w.exchange()
		w.reopen()
	}
	for b := range uint32(3) {
		if v, _, err := w.sealer.windows.Of(firstDay + 1 + b).Take(t.Context()); v[0] != 1 || v[30] != 0 || err != nil {
			t.Errorf("dispatch %d keeps %v: %v", b+1, v, err)
		}
	}
	if n := w.ledger.Summary(0).Releases; n != 0 || len(w.spool.IDs(wire.KindReport)) != 0 || w.use.days != 0 {
		t.Errorf("%d charges, %d days of use left", n, w.use.days)
	}
	if w.col.km != 3 {
		t.Errorf("%d km: claims wait too", w.col.km)
	}
	w.unheard = nil
	w.drive(1000) // the dispatch that ends now takes what is open
	w.settle()
	if epochs, _ := w.epochs(); !slices.Equal(epochs, []uint32{1, 2, 3, 4}) || w.use.taken != 4 {
		t.Errorf("reports of %v, %d days of use told", epochs, w.use.taken)
	}
	if v, _, err := w.sealer.windows.Of(firstDay + 3).Take(t.Context()); v != [wire.VectorLen]int64{} || err != nil {
		t.Errorf("what was told is kept: %v, %v", v, err)
	}
}

// TestRefusedBudgetStopsReports: the collector knows a later charge than this ledger. Nothing more is drawn, also after a restart.
func TestRefusedBudgetStopsReports(t *testing.T) {
	w := newWorld(t, daily)
	w.start()
	w.settle()
	w.drive(1000)
	w.settle()
	id, body, _ := w.waiting(wire.KindReport)
	r := &wire.Receipt{Version: wire.Version, Submission: id, Vehicle: carID, Reason: wire.ReasonBudget}
	if err := w.sealer.HandleReceipt(t.Context(), wire.KindReport, body, r, []byte("signed")); err != nil {
		t.Fatal(err)
	}
	if err := w.ledger.Err(); !errors.Is(err, budget.ErrRolledBack) {
		t.Errorf("the ledger says %v", err)
	}
	for range 2 {
		w.drive(1000)
		w.exchange()
		if n := testutil.ToFloat64(w.sealer.metrics.Withheld); n != 1 {
			t.Errorf("%v withheld on a day", n)
		}
		w.reopen()
		w.settle()
	}
	if n := w.ledger.Summary(0).Releases; n != 1 || len(w.spool.IDs(wire.KindReport)) != 0 || w.col.km != 3 {
		t.Errorf("%d charges, %d reports wait, %d km", n, len(w.spool.IDs(wire.KindReport)), w.col.km)
	}
}

// TestCadenceChanges: a new cadence makes no boundary before the change, and none of the old one's after it.
func TestCadenceChanges(t *testing.T) {
	every := 7
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = func() int { return every }, allow(wire.FamilyHours) })
	w.start()
	w.settle()
	for range 7 + 5 {
		w.drive(1000)
		w.exchange()
	}
	before := len(w.col.reports) + len(w.spool.IDs(wire.KindReport))
	every = 1
	w.settle()
	if n := len(w.col.reports) + len(w.spool.IDs(wire.KindReport)); n != before {
		t.Errorf("the change alone made %d reports", n-before)
	}
	w.drive(1000, 1000)
	w.settle()
	if n := len(w.col.reports) + len(w.spool.IDs(wire.KindReport)); n != before+2 {
		t.Errorf("%d reports of two days", n-before)
	}
	if w.use.days != 0 {
		t.Errorf("%d days of use are left", w.use.days)
	}
	// What was missed at the old cadence is reported at that one, though the driver changed it while the car stood off.
	w.park(3)
	every = 30
	w.drive(1000)
	w.settle()
	if n := len(w.col.reports) + len(w.spool.IDs(wire.KindReport)); n != before+6 {
		t.Errorf("%d reports of four more days", n-before-2)
	}
	w.drive(km(3, 10)...)
	w.settle()
	if n := len(w.col.reports) + len(w.spool.IDs(wire.KindReport)); n > before+7 {
		t.Errorf("%d reports in three days of a monthly cadence", n-before-6)
	}
}

// TestBudgetBoundsTheCadence: a daily cadence under a charter of weekly reports claims daily and reports weekly.
func TestBudgetBoundsTheCadence(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		daily(c)
		c.Charter.Usage.YearlyDispatches = 53
	})
	w.start()
	w.settle()
	for range 21 {
		w.drive(1000)
		w.exchange()
	}
	// The first dispatch is not a whole one, unless it begins on the first day.
	if n := w.ledger.Summary(0).Releases; n < 2 || n > 3 || len(w.col.claims) != 21 {
		t.Errorf("%d reports, %d claims in three weeks", n, len(w.col.claims))
	}
}

// TestTurnedOffIsTakenBack: a report that tells of a family which the driver turns off does not leave, without a restart.
func TestTurnedOffIsTakenBack(t *testing.T) {
	families := wire.FamilyHours | wire.FamilySpeed
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = each(1), func() wire.Family { return families } })
	w.start()
	w.settle()
	w.drive(1000)
	w.settle()
	if n := len(w.spool.IDs(wire.KindReport)); n != 1 {
		t.Fatalf("%d reports wait", n)
	}
	families = wire.FamilyHours
	w.settle()
	if n := len(w.spool.IDs(wire.KindReport)); n != 0 || len(w.journal.Waiting()) != 1 { // the claim's
		t.Errorf("%d reports wait", n)
	}
	// Off and on again: nothing of the time between is told.
	families = 0
	w.drive(1000, 1000)
	w.settle()
	if w.use.days != 0 || w.ledger.Summary(0).Releases != 1 {
		t.Errorf("%d days of use are kept, %d charges", w.use.days, w.ledger.Summary(0).Releases)
	}
	families = wire.FamilyHours
	w.settle()
	w.drive(1000) // ends the dispatch in which the driver decided
	w.settle()
	w.drive(1000)
	w.settle()
	if epochs, _ := w.epochs(); !slices.Equal(epochs, []uint32{5}) || w.use.taken != 5 {
		t.Errorf("reports of %v, %d days taken", epochs, w.use.taken)
	}
}

// TestHostClockJumps: a host clock that is years ahead or behind spends no budget, and once it is right the car goes on as if nothing had been.
func TestHostClockJumps(t *testing.T) {
	for name, years := range map[string]int{"ahead": 7, "behind": -7, "at the beginning of time": -100} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, daily)
			w.start()
			w.settle()
			w.drive(1000)
			w.exchange()
			charged := w.ledger.Summary(0).Releases
			right := w.now
			w.now = w.now.AddDate(years, 0, 0)
			if w.now.Unix() < 0 {
				w.now = time.Unix(0, 0)
			}
			for range 3 {
				w.settle()
				w.now = w.now.Add(24 * time.Hour)
			}
			if n := w.ledger.Summary(0).Releases; n != charged {
				t.Errorf("%d charges, had %d", n, charged)
			}
			w.now = right
			for range 40 {
				w.drive(1000)
				w.exchange()
			}
			if n := w.ledger.Summary(0).Releases; n != 41 || w.col.km != 41 {
				t.Errorf("%d charges, %d km in 41 days", n, w.col.km)
			}
			if n := len(w.col.reports); n < 40 {
				t.Errorf("%d reports left in 41 days", n)
			}
			w.checkReports(t, 40)
			days := slices.Sorted(maps.Keys(w.col.reports))
			if days[len(days)-1] < firstDay+40 {
				t.Errorf("the last report is of day %d", days[len(days)-1]-firstDay)
			}
		})
	}
}

// TestStateOfTheLastRelease: a state without a cadence goes on at the one of the moment.
func TestStateOfTheLastRelease(t *testing.T) {
	w := newWorld(t, daily)
	w.start()
	w.settle()
	w.drive(1000)
	w.exchange()
	err := w.sealer.archive.Commit(func(st *archive.State) { st.Every, st.Noticed, st.Leaves = 0, 0, 0 })
	if err != nil {
		t.Fatal(err)
	}
	w.reopen()
	w.drive(1000, 1000)
	w.exchange()
	if n := w.ledger.Summary(0).Releases; n != 3 {
		t.Errorf("%d charges", n)
	}
}

// TestLeavesOnALaterDay: what is sealed when the ECU makes its first snapshot of a day leaves on another day, at an instant of that day which
// the time of sealing does not change.
func TestLeavesOnALaterDay(t *testing.T) {
	due := make(map[wire.Kind]map[time.Time]bool)
	var secret [32]byte
	for hour := range 3 {
		w := newWorld(t, func(c *Config) {
			daily(c)
			c.MaxDelay = 6 * time.Hour
		})
		if hour == 0 {
			secret = w.sealer.archive.State().Secret
		} else if err := w.sealer.archive.Commit(func(st *archive.State) { st.Secret = secret }); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.settle()
		w.drive(10_000)
		w.now = w.timing().DayStart(w.ecu.day).Add(time.Duration(1+7*hour) * time.Hour) // of the departure
		w.settle()
		n := 0
		w.spool.Each(func(_ wire.Hash, kind wire.Kind, at time.Time) {
			n++
			if day := w.timing().Day(at); day != w.ecu.day+1 || at.Sub(w.timing().DayStart(day)) >= 6*time.Hour {
				t.Errorf("a %s of day 1 leaves at %v", kind, at.Sub(w.timing().DayStart(w.ecu.day)))
			}
			if due[kind] == nil {
				due[kind] = make(map[time.Time]bool)
			}
			due[kind][at] = true
		})
		if n != 2 {
			t.Errorf("%d submissions wait", n)
		}
	}
	for kind, at := range due {
		if len(at) != 1 {
			t.Errorf("a %s leaves at %d instants, by the time of the departure", kind, len(at))
		}
	}
}
