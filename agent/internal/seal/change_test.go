package seal

import (
	"testing"
	"time"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/seal/phase"
	"rawstone/pkg/wire"
)

// A workshop swaps the ECU: another key, another odometer, sequence numbers from 0. The car goes on earning.
func TestAnotherECU(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.settle()
	for range 5 {
		w.drive(10_000)
		w.exchange()
	}
	if w.col.km != 50 {
		t.Fatalf("%d km before the swap, want 50", w.col.km)
	}
	w.close()
	old := w.ecu
	w.ecu = &ecu{}
	w.ecu.key, w.ecu.pub = newKey()
	w.col.pub = must(w.ecu.pub.Key())
	birth := w.ecu.snapshot(old.day, 0)
	head := birth.Snapshot.Head()
	w.col.head = &head
	w.open()
	w.start()
	w.settle()
	for range 3 {
		w.drive(20_000)
		w.exchange()
	}
	if w.col.km != 50+60 {
		t.Errorf("%d km after the swap, want 110", w.col.km)
	}
}

// swapECU puts another ECU in; the collector closes the old one's binding at a sequence number.
func (w *world) swapECU(cut uint64) *binding {
	w.close()
	old := &binding{pub: w.col.pub, head: w.col.head, cut: cut}
	w.col.old = map[wire.KeyID]*binding{w.ecu.pub.ID(): old}
	day := w.ecu.day
	w.ecu = &ecu{}
	w.ecu.key, w.ecu.pub = newKey()
	w.col.pub = must(w.ecu.pub.Key())
	birth := w.ecu.snapshot(day, 0)
	head := birth.Snapshot.Head()
	w.col.head = &head
	w.open()
	w.start()
	w.settle()
	return old
}

// What the old ECU left is claimed under its key up to the hand-over, where the collector still credits it, beside what the new one earns.
func TestBacklogOfASwappedECU(t *testing.T) {
	for name, c := range map[string]struct {
		every int
		cut   uint64
		prior int    // days of which the collector has heard
		spool bool   // a claim is on its way
		km    uint32 // of the old one; not asked where dispatches are at random days
	}{
		"of which nothing was heard":      {every: 1, cut: 5, km: 50},
		"of which some was heard":         {every: 1, cut: 5, prior: 2, km: 50},
		"a claim is on its way":           {every: 1, cut: 5, spool: true, km: 50},
		"on its way, after others":        {every: 1, cut: 5, prior: 2, spool: true, km: 50},
		"no dispatch ends with it":        {every: 31, cut: 5},
		"hand-over before the last":       {every: 1, cut: 3, km: 30},
		"no dispatch ends with it either": {every: 31, cut: 3},
		"revoked":                         {every: 1, cut: 0, km: 0},
		"revoked and on its way":          {every: 1, cut: 0, spool: true, km: 0},
		"all was heard":                   {every: 1, cut: 5, prior: 5, km: 50},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, every(c.every))
			w.start()
			w.settle()
			for day := range 5 {
				w.drive(10_000)
				if day < c.prior {
					w.exchange()
				}
			}
			if c.spool {
				w.settle()
			}
			old := w.swapECU(c.cut)
			for range 3 {
				w.drive(20_000)
				w.exchange()
			}
			if w.col.km != c.km+60 && c.every == 1 || old.head.Seq != c.cut {
				t.Errorf("%d km, want %d and 60; claimed up to %d", w.col.km, c.km, old.head.Seq)
			}
			if n := len(w.sealer.archive.State().Former); n != 0 {
				t.Errorf("%d keys are still waited for", n)
			}
			if head := w.sealer.archive.State().Head; c.every == 1 && *head != *w.col.head {
				t.Errorf("head %d, want %d", head.Seq, w.col.head.Seq)
			}
		})
	}
}

// A refusal of the old key's claims holds up only these, and they are tried again.
func TestBacklogOfASwappedECUHoldsNothingUp(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.drive(10_000)
	old := w.swapECU(5)
	old.unknown = true
	w.drive(20_000)
	w.exchange()
	if s := w.sealer.Status(); w.col.km != 20 || s.Reason != "" || s.Phase != phase.Idle {
		t.Fatalf("%d km, %+v", w.col.km, s)
	}
	old.unknown = false
	w.close()
	w.open()
	w.now = w.now.Add(DefaultRetryAfter + time.Minute)
	w.exchange()
	if w.col.km != 30 || len(w.sealer.archive.State().Former) != 0 {
		t.Errorf("%d km", w.col.km)
	}
	// Without rules for its days a backlog stays.
	w.drive(10_000)
	w.rule()
	w.swapECU(5)
	w.exchange()
	if n := len(w.sealer.archive.State().Former); n != 1 {
		t.Fatal("given up without rules")
	}
	w.rule(mileage(1, 1, 2, 5, 10))
	w.exchange()
	if w.col.km != 40 || len(w.sealer.archive.State().Former) != 0 {
		t.Errorf("%d km", w.col.km)
	}
}

// What was used before the first whole dispatch is told by no report.
func TestFirstWindowIsNotTold(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = each(1), allow(wire.FamilyHours) })
	w.use.days = 20
	w.start()
	w.settle()
	if w.use.days != 0 || len(w.col.reports) != 0 {
		t.Errorf("%d days of usage wait for the first report", w.use.days)
	}
	w.drive(1000)
	w.exchange()
	if w.use.taken != 21 || len(w.col.reports) != 1 {
		t.Errorf("%d reports, %d days consumed", len(w.col.reports), w.use.taken)
	}
}

// A host that starts in 1970 gets the time later: the sealer must notice without a snapshot or a receipt.
func TestClockSetAfterTheStart(t *testing.T) {
	w := newWorld(t, every(1))
	w.drive(10_000)
	right := w.now
	w.now = time.Unix(0, 0)
	w.start()
	w.settle()
	wait, err := w.sealer.turn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if wait > maxTurn {
		t.Errorf("the sealer sleeps for %v", wait)
	}
	w.now = right
	w.exchange()
	if w.col.km != 10 {
		t.Errorf("%d km, want 10", w.col.km)
	}
}

// The head's opening is lost and the ECU sleeps: it may still hold it, so nothing is forfeit before it has spoken.
func TestNothingForfeitBeforeTheECUSpoke(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.settle()
	w.drive(100_000, 10_000)
	w.setBytes(w.seqKey(0), func(b []byte) []byte { b[9] ^= 1; return b })
	w.col.head = &wire.Head{Seq: w.ecu.kept[0].Snapshot.Seq, Day: w.ecu.kept[0].Snapshot.Day, Commitment: w.ecu.kept[0].Snapshot.Commitment}
	w.close()
	w.open()
	if err := w.sealer.archive.Commit(func(st *archive.State) { st.Head = w.col.head }); err != nil {
		t.Fatal(err)
	}
	w.mute = true
	w.start()
	w.settle()
	if n := len(w.spool.IDs(wire.KindClaim)); n != 0 {
		t.Fatal("a claim is made while the ECU may still repeat the head")
	}
	w.now = w.now.Add(time.Hour)
	w.mute = false
	w.drive(10_000)
	w.exchange()
	if w.col.km < 100 {
		t.Errorf("%d km: the first 100 were given up", w.col.km)
	}
}

// A transfer of the newest snapshot that failed leaves no gap: it is asked for.
func TestNewestIsAskedFor(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.settle()
	w.drive(10_000)
	w.exchange()
	day := w.ecu.day + 1
	w.ecu.snapshot(day, 10_000) // nobody hears it
	w.setDay(day)
	w.asked = nil
	w.exchange()
	if len(w.asked) != 1 || w.asked[0] != 1 || w.col.km != 20 {
		t.Errorf("asked %v, %d km", w.asked, w.col.km)
	}
}
