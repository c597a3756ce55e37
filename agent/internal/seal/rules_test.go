package seal

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/seal/phase"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func safe(serial uint16) *terms.Policy {
	p := mileage(serial, 1)
	p.Kind, p.Tiers[0].Km = terms.KindSafe, 0
	return p
}

// proven returns the serials of each accepted claim by the day on which it ends, from firstDay on.
func (w *world) proven() map[uint32][]uint16 {
	list := make(map[uint32][]uint16)
	for _, c := range w.col.claims {
		for _, p := range c.Proofs {
			list[c.To.Day-firstDay] = append(list[c.To.Day-firstDay], p.Policy)
		}
	}
	return list
}

func (w *world) notes() (n int) {
	for _, e := range must(w.journal.List(0)) {
		if e.Kind == "note" {
			n++
		}
	}
	return n
}

// An ECU with a broken random generator repeats a salt: with equal counters the collector would see that the car stood still.
func TestSaltReuseIsRefused(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.drive(10_000)
	w.exchange()
	before := w.archived()
	for i, seq := range []uint64{2, 3} { // of the birth snapshot, which the head has passed, and of the newest
		m := attest.Message{Opening: wire.Opening{Counters: w.ecu.at, Salt: w.ecu.kept[i].Opening.Salt}}
		m.Snapshot = must(attest.Sign(w.ecu.key, program, seq, firstDay+2, claim.Commit(m.Opening)))
		err := w.deliver(m)
		if !errors.Is(err, archive.ErrSalt) {
			t.Errorf("salt of snapshot %d again: %v", i, err)
		}
	}
	if d := cmp.Diff(before, w.archived()); d != "" {
		t.Errorf("the archive changed: %s", d)
	}
	if n := testutil.ToFloat64(w.sealer.metrics.Salts); n != 2 || w.notes() != 1 {
		t.Errorf("%v counted, %d notes for the driver, want 2 and 1", n, w.notes())
	}
	if err := w.deliver(w.ecu.kept[1]); err != nil {
		t.Errorf("a repetition of the snapshot itself: %v", err)
	}
	w.reopen() // what is compared with is read at the start, and the driver has been told
	m := attest.Message{Opening: wire.Opening{Counters: w.ecu.at, Salt: w.ecu.kept[0].Opening.Salt}}
	m.Snapshot = must(attest.Sign(w.ecu.key, program, 4, firstDay+2, claim.Commit(m.Opening)))
	if err := w.deliver(m); !errors.Is(err, archive.ErrSalt) || w.notes() != 1 {
		t.Errorf("after a restart: %v, %d notes", err, w.notes())
	}
	w.ecu.seq = 5 // the ECU recovers
	w.drive(10_000)
	w.exchange()
	if w.col.km != 20 {
		t.Errorf("%d km, want 20", w.col.km)
	}
}

func TestPolicyNotYetOrNoLongerValidIsNotUsed(t *testing.T) {
	w := newWorld(t, every(1))
	p := mileage(1, 1, 10)
	p.FromDay, p.ToDay = firstDay+3, firstDay+5
	w.rule(p)
	w.start()
	for day := uint32(1); day <= 8; day++ {
		w.drive(10_000)
		w.exchange()
		now, in := w.sealer.Status().Phase, day >= 3 && day <= 5
		if in != (now == phase.Idle) || in == (now == phase.Unruled) {
			t.Errorf("day %d: %s", day, now)
		}
	}
	// The first claim ends on the policy's first day, with what was driven before it; none ends after its last.
	if d := cmp.Diff(map[uint32][]uint16{3: {1}, 4: {1}, 5: {1}}, w.proven()); d != "" {
		t.Error(d)
	}
	if s := w.sealer.Status(); s.Remedy == "" || len(s.Policies) != 1 || !strings.Contains(s.Policies[0].Idle, "over") {
		t.Errorf("%+v", s)
	}
	next := mileage(2, 1, 10)
	next.FromDay = firstDay + 6
	w.rule(p, next)
	w.exchange()
	if got := w.proven(); !slices.Equal(got[6], []uint16{2}) || !slices.Equal(got[8], []uint16{2}) {
		t.Errorf("under the next policy: %v", got)
	}
}

func TestTwoPoliciesOfAKindOnlyTheNewestIsUsed(t *testing.T) {
	w := newWorld(t, every(1))
	newest := mileage(7, 1, 10)
	newest.FromDay = firstDay + 2
	w.rule(mileage(3, 1, 10), newest, mileage(5, 1, 10))
	w.start()
	w.drive(km(3, 10)...)
	w.exchange()
	if d := cmp.Diff(map[uint32][]uint16{1: {5}, 2: {7}, 3: {7}}, w.proven()); d != "" {
		t.Error(d)
	}
	// The newest is stopped: the older ones do not come back.
	stop := mileage(8, 1)
	stop.FromDay, stop.Stop = firstDay+4, true
	w.rule(append(w.policies, stop)...)
	w.drive(10_000)
	w.exchange()
	if s := w.sealer.Status(); s.Phase != phase.Unruled || len(w.col.claims) != 3 {
		t.Errorf("%d claims, %+v", len(w.col.claims), s)
	}
}

func TestRulesThatChangeInFlightChangeNothing(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.drive(10_000)
	w.settle()
	_, body, ok := w.waiting(wire.KindClaim)
	if !ok {
		t.Fatal("nothing to send")
	}
	body = bytes.Clone(body)
	old := w.policies[0]
	old.ToDay = firstDay + 1
	next := mileage(2, 1, 10)
	w.rule(old, next)
	w.lacking = []uint16{1} // its key has gone with it
	w.settle()
	if _, now, _ := w.waiting(wire.KindClaim); !bytes.Equal(body, now) || len(w.spool.IDs(wire.KindClaim)) != 1 {
		t.Error("the claim in flight changed")
	}
	w.exchange()
	w.drive(10_000)
	w.exchange()
	if d := cmp.Diff(map[uint32][]uint16{1: {1}, 2: {2}}, w.proven()); d != "" {
		t.Error(d)
	}
}

// swap is a prover under whose hands the rules change.
type swap struct {
	Prover
	f func()
}

func (p swap) Prove(s claim.Statement, from, to wire.Opening) (wire.Proof, error) {
	p.f()
	return p.Prover.Prove(s, from, to)
}

func TestRulesThatChangeWhileProvingChangeNothing(t *testing.T) {
	w := newWorld(t, every(1))
	w.rule(mileage(1, 1, 10), safe(2))
	w.prover = swap{quickProver{}, func() {
		w.policies, w.lacking = []*terms.Policy{mileage(9, 1)}, []uint16{1, 2}
	}}
	w.start()
	w.drive(10_000)
	w.exchange()
	if d := cmp.Diff(map[uint32][]uint16{1: {1, 2}}, w.proven()); d != "" {
		t.Error(d)
	}
}

// One key of two is still being fetched: a claim without its kind would lose it, so claims wait, for a day and over restarts.
func TestKeyOfAnotherKindIsWaitedForADay(t *testing.T) {
	w := newWorld(t, every(1))
	w.rule(mileage(1, 1, 10), safe(2))
	w.lacking = []uint16{2}
	w.start()
	w.drive(10_000)
	began := w.now
	for h := range 24 {
		if w.now = began.Add(time.Duration(h) * time.Hour); h%6 == 5 {
			w.reopen()
		}
		w.exchange()
		if s := w.sealer.Status(); len(w.col.claims) != 0 || s.Phase != phase.Keys || s.Remedy == "" || s.Policies[1].Idle == "" || s.Policies[0].Idle != "" {
			t.Fatalf("after %d hours: %d claims, %+v", h, len(w.col.claims), s)
		}
	}
	w.now = began.Add(24*time.Hour + time.Minute)
	w.exchange()
	w.drive(10_000) // and not for every claim again
	w.exchange()
	if d := cmp.Diff(map[uint32][]uint16{1: {1}, 2: {1}}, w.proven()); d != "" {
		t.Fatal(d)
	}
	newer := safe(3) // which has its own day
	w.rule(w.policies[0], w.policies[1], newer)
	w.lacking = append(w.lacking, 3)
	w.drive(10_000)
	w.exchange()
	if len(w.col.claims) != 2 {
		t.Error("the key of a newer policy is not waited for")
	}
	w.lacking = nil // here it is
	w.sealer.Wake()
	w.exchange()
	if d := cmp.Diff([]uint16{1, 3}, w.proven()[3]); d != "" {
		t.Error(d)
	}
}

// The kilometres' own key is missing: they are never given up for another kind, however long it takes.
func TestKilometresAreNotGivenUpForAnotherKind(t *testing.T) {
	w := newWorld(t, every(1))
	w.rule(mileage(1, 1, 10, 20, 40), safe(2))
	w.lacking = []uint16{1}
	w.start()
	for range 5 {
		w.drive(8_000)
		w.exchange()
	}
	if len(w.col.claims) != 0 || w.sealer.Status().Phase != phase.Keys {
		t.Fatalf("claimed %v without kilometres", w.proven())
	}
	w.lacking = nil
	w.exchange()
	if w.col.km != 5 || len(w.col.claims) != 5 { // a tier of 1 km each day
		t.Errorf("%d km in %d claims", w.col.km, len(w.col.claims))
	}
}

// The driver turns a kind off while a claim that tells of it waits: it does not leave the car any more, and no kilometre is lost,
// whether or not it had been sent before.
func TestKindTurnedOffIsWithdrawn(t *testing.T) {
	for _, sent := range []bool{false, true} {
		w := newWorld(t, every(1))
		w.rule(mileage(1, 1, 10), safe(2))
		w.start()
		w.drive(10_000)
		w.settle()
		_, body, _ := w.waiting(wire.KindClaim)
		body = bytes.Clone(body)
		if sent {
			w.col.answer(wire.KindClaim, body) // whose receipt is lost
		}
		w.reopen()
		if _, again, _ := w.waiting(wire.KindClaim); !bytes.Equal(again, body) {
			t.Error("withdrawn although nothing was turned off")
		}
		w.change = func(c *Config) {
			rules := c.Rules
			c.EveryDays, c.Rules = each(1), func() cut.Rules {
				r := rules()
				r.Kinds = nil
				return r
			}
		}
		w.reopen()
		if w.spool.Has(wire.ID(body)) {
			t.Error("the claim still waits to be sent")
		}
		if e := must(w.journal.List(1))[0]; !strings.Contains(e.Outcome, "you turned off what it tells of") {
			t.Errorf("the journal says %q", e.Outcome)
		}
		w.drive(10_000)
		w.exchange()
		first := []uint16{1}
		if sent {
			first = []uint16{1, 2}
		}
		if d := cmp.Diff(map[uint32][]uint16{1: first, 2: {1}}, w.proven()); d != "" || w.col.km != 20 {
			t.Errorf("sent %v: %d km: %s", sent, w.col.km, d)
		}
	}
}

func TestRefusedPolicyAsksForNewsAndTriesAgain(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EveryDays, c.RetryAfter = each(1), time.Hour })
	w.start()
	w.drive(10_000)
	w.settle()
	id, body, _ := w.waiting(wire.KindClaim)
	w.receiveAs(id, body, wire.ReasonPolicy)
	if s := w.sealer.Status(); w.news != 1 || s.Reason != wire.ReasonPolicy || s.Retry.IsZero() {
		t.Fatalf("asked %d times, %+v", w.news, s)
	}
	w.rule(mileage(2, 1, 10))
	w.settle()
	if n := len(w.spool.IDs(wire.KindClaim)); n != 0 {
		t.Error("tried again before its time")
	}
	w.now = w.now.Add(time.Hour)
	w.exchange()
	if d := cmp.Diff(map[uint32][]uint16{1: {2}}, w.proven()); d != "" || w.news != 1 {
		t.Errorf("asked %d times: %s", w.news, d)
	}
}

func (w *world) receiveAs(id wire.Hash, body []byte, why wire.Reason) {
	w.t.Helper()
	r := &wire.Receipt{Version: wire.Version, Submission: id, Vehicle: carID, Reason: why}
	if err := w.sealer.HandleReceipt(w.t.Context(), wire.KindClaim, body, r, []byte("signed")); err != nil {
		w.t.Fatal(err)
	}
}

// The workshop put another ECU in, or the key was revoked: claims stop, and the driver is told why.
func TestRevokedKeyStops(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.drive(10_000)
	w.settle()
	id, body, _ := w.waiting(wire.KindClaim)
	w.receiveAs(id, body, wire.ReasonRevoked)
	w.settle()
	s := w.sealer.Status()
	if s.Phase != phase.Stopped || s.Reason != wire.ReasonRevoked || !strings.Contains(s.Remedy, "no longer the one registered") || w.news != 0 {
		t.Errorf("asked for news %d times, %+v", w.news, s)
	}
	if n := len(w.spool.IDs(wire.KindClaim)); n != 0 {
		t.Error("claims go on")
	}
	if e := must(w.journal.List(1))[0]; !strings.Contains(e.Outcome, "revoked") || !strings.Contains(e.Outcome, "replaced") {
		t.Errorf("the journal says %q", e.Outcome)
	}
}

func TestUnfitPolicyIsToldOnceForEachChange(t *testing.T) {
	var text bytes.Buffer
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Logger = each(1), slog.New(slog.NewTextHandler(&text, nil)) })
	why := "its setup is for development"
	w.provable = func(p *terms.Policy) error {
		if p.Serial == 2 && why != "" {
			return errors.New(why)
		}
		return nil
	}
	said := func() int { return strings.Count(text.String(), "policy is not used") }
	w.rule(mileage(1, 1, 10), safe(2))
	w.start()
	for range 3 {
		w.drive(10_000)
		w.exchange()
	}
	if said() != 1 || !strings.Contains(text.String(), why) {
		t.Errorf("told %d times: %s", said(), text.String())
	}
	why = "its lock cannot be read"
	w.exchange()
	w.exchange()
	if said() != 2 {
		t.Errorf("told %d times after a change", said())
	}
	why = ""
	w.drive(10_000)
	w.exchange()
	if d := cmp.Diff([]uint16{1, 2}, w.proven()[4]); d != "" || said() != 2 {
		t.Errorf("told %d times: %s", said(), d)
	}
}
