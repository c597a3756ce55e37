package seal

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/resend"
	"rawstone/agent/internal/seal/phase"
	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func every(n int) func(*Config) { return func(c *Config) { c.EveryDays = each(n) } }

// boundaries returns the first days after begin, both counted from firstDay, on which a dispatch's period ends, up to end.
func (w *world) boundaries(begin, end uint32) (days []uint32) {
	plan := w.sealer.plan()
	for d := plan.Next(firstDay + begin); d <= uint64(firstDay+end); d = plan.Next(uint32(d)) {
		days = append(days, uint32(d)-firstDay)
	}
	return days
}

func km(n int, perDay uint32) []uint32 { return slices.Repeat([]uint32{perDay * 1000}, n) }

func TestCutsAtBoundariesWhateverTheTiming(t *testing.T) {
	w := newWorld(t, every(7))
	w.start()
	for range 60 { // always on, always connected
		w.drive(30_000)
		w.exchange()
	}
	var want [][2]uint32
	from := uint32(0)
	for _, b := range w.boundaries(0, 60) {
		want = append(want, [2]uint32{from, b})
		from = b
	}
	if d := cmp.Diff(want, w.spans()); d != "" {
		t.Errorf("always on: %s", d)
	}
	undisturbed := w.col.km
	if undisturbed == 0 || w.sealer.Status().Phase != phase.Idle {
		t.Errorf("%d km, %+v", undisturbed, w.sealer.Status())
	}

	// The same schedule and drive, but never connected before the end.
	late := newWorld(t, every(7))
	late.start()
	secret := w.sealer.archive.State().Secret
	if err := late.sealer.archive.Commit(func(s *archive.State) { s.Secret = secret }); err != nil {
		t.Fatal(err)
	}
	for range 60 {
		late.drive(30_000)
		late.settle()
	}
	if n := len(late.spool.IDs(wire.KindClaim)); n != 1 {
		t.Errorf("%d claims in flight, want 1", n)
	}
	late.exchange()
	if d := cmp.Diff(want, late.spans()); d != "" || late.col.km != undisturbed {
		t.Errorf("backlog: %d km, want %d; %s", late.col.km, undisturbed, d)
	}
}

func TestSpanWithoutTierIsCarried(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	for _, metres := range []uint32{0, 300, 0, 500, 300, 0} { // the first kilometre is full on day 5
		w.drive(metres)
		w.exchange()
	}
	if d := cmp.Diff([][2]uint32{{0, 5}}, w.spans()); d != "" || w.col.km != 1 {
		t.Errorf("%d km; %s", w.col.km, d)
	}
}

func TestNoSpanExceedsTheTopTier(t *testing.T) {
	w := newWorld(t, every(31))
	w.rule(mileage(1, 50, 100))
	w.start()
	w.drive(km(32, 30)...) // cut at 90 km, three days each; a boundary on the first day alone would reach no tier
	w.exchange()
	for _, c := range w.col.claims {
		if days := c.To.Day - c.From.Day; days > 3 {
			t.Errorf("a claim spans %d days, more than the top tier", days)
		}
	}
	if len(w.col.claims) < 1 {
		t.Fatal("nothing was claimed")
	}
	n := len(w.col.claims)
	w.drive(500_000) // one day alone beyond the top: nothing stored to cut at
	w.drive(km(31, 1)...)
	w.exchange()
	if len(w.col.claims) <= n {
		t.Error("a day beyond the top tier stopped claiming")
	}
}

func TestFutureDayIsSkipped(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.drive(10_000)
	if err := w.deliver(w.ecu.snapshot(firstDay+500, 10_000)); err != nil {
		t.Fatal(err)
	}
	w.ecu.day = firstDay + 1 // corrected downwards
	w.drive(10_000, 10_000)
	w.exchange()
	if d := cmp.Diff([][2]uint32{{0, 1}, {1, 2}, {2, 3}}, w.spans()); d != "" {
		t.Error(d)
	}
	w.setDay(firstDay + 2) // the host's clock falls behind: two days ahead of it is too far
	if err := w.deliver(w.ecu.snapshot(firstDay+4, 10_000)); err != nil {
		t.Fatal(err)
	}
	w.settle()
	if n := len(w.spool.IDs(wire.KindClaim)); n != 0 {
		t.Error("a snapshot two days ahead was claimed")
	}
	w.setDay(firstDay + 3)
	w.exchange()
	if n := len(w.spool.IDs(wire.KindClaim)); n != 1 || len(w.col.claims) != 3 {
		t.Errorf("%d claims wait once the day is near, want 1 that waits for it", n)
	}
	w.setDay(firstDay + 4)
	w.exchange()
	if n := len(w.col.claims); n != 4 {
		t.Errorf("%d claims in the end, want 4", n)
	}
}

func TestMissingSnapshotsAreAskedForBeforeSealing(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.drive(10_000)
	w.exchange()
	w.setDay(firstDay + 2)
	w.ecu.snapshot(firstDay+2, 10_000) // lost on the bus
	w.asked = nil
	w.mute = true
	w.drive(10_000)
	if wait, err := w.sealer.turn(t.Context()); err != nil || wait > w.sealer.cfg.ResendWait {
		t.Errorf("does not wait for the ECU: %v %v", wait, err)
	}
	if wait, err := w.sealer.turn(t.Context()); err != nil || wait > w.sealer.cfg.ResendWait {
		t.Errorf("does not wait for the answer: %v %v", wait, err)
	}
	if !slices.Equal(w.asked, []uint8{2}) {
		t.Errorf("asked %v, want the last 2", w.asked)
	}
	if n := len(w.spool.IDs(wire.KindClaim)); n != 0 {
		t.Error("sealed across a gap before the ECU could answer")
	}
	w.mute = false
	w.exchange()
	if d := cmp.Diff([][2]uint32{{0, 1}, {1, 2}, {2, 3}}, w.spans()); d != "" {
		t.Error(d)
	}

	w.mute = true // an ECU that cannot repeat holds nothing up for ever
	w.ecu.snapshot(firstDay+4, 10_000)
	w.drive(10_000)
	w.asked = nil
	w.exchange()
	if len(w.asked) != resend.MaxTries || len(w.col.claims) != 4 {
		t.Errorf("asked %v, %d claims", w.asked, len(w.col.claims))
	}
}

func TestStartAsksForWhatWasMissedWhileOff(t *testing.T) {
	w := newWorld(t, every(1))
	for range 5 { // the agent is off, the ECU is not
		w.ecu.snapshot(w.ecu.day+1, 10_000)
	}
	w.setDay(w.ecu.day)
	w.mute = true // and asleep when it is asked
	w.start()
	w.settle()
	if !slices.Equal(w.asked, []uint8{32}) || len(w.spool.IDs(wire.KindClaim)) != 0 {
		t.Fatalf("asked %v", w.asked)
	}
	w.now = w.now.Add(time.Hour)
	w.mute = false
	w.drive(10_000) // now it wakes up and speaks
	for range 2 {   // asked again, and then within the wait for the answer
		if _, err := w.sealer.turn(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n, _ := w.spool.Depth(); n != 0 {
			t.Error("sealed before the ECU could repeat")
		}
	}
	w.exchange()
	if len(w.asked) < 2 || w.asked[1] != 32 {
		t.Errorf("asked %v: an ECU that slept was not asked again", w.asked)
	}
	if len(w.col.claims) != 6 {
		t.Errorf("spans %v", w.spans())
	}
}

func TestNewSnapshotsAreTold(t *testing.T) {
	type told struct {
		day    uint32
		metres uint32
		answer bool
	}
	var got []told
	w := newWorld(t, func(c *Config) {
		c.OnSnapshot = func(m *attest.Message, answer bool) {
			got = append(got, told{m.Snapshot.Day, m.Opening.Counters[wire.OdometerM], answer})
		}
	})
	w.start() // which answers with the birth snapshot
	w.now = w.now.Add(24 * time.Hour)
	m := w.ecu.snapshot(firstDay+1, 1000)
	for range 2 { // a repetition is not new
		if err := w.deliver(m); err != nil {
			t.Fatal(err)
		}
	}
	want := []told{{firstDay, 100_000_000, true}, {firstDay + 1, 100_001_000, false}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(told{})); d != "" {
		t.Error(d)
	}
}

func TestDeliverRefuses(t *testing.T) {
	w := newWorld(t, nil)
	w.drive(1000)
	before := w.archived()
	m := w.ecu.snapshot(firstDay+2, 1000)
	forged := m
	forged.Snapshot.Day++
	opened := m
	opened.Opening.Counters[wire.OdometerM]++
	conflict := w.ecu.kept[1]
	conflict.Opening.Counters[wire.OdometerM]++
	conflict.Snapshot = must(attest.Sign(w.ecu.key, program, conflict.Snapshot.Seq, conflict.Snapshot.Day, claim.Commit(conflict.Opening)))
	for name, bad := range map[string][]byte{
		"signature": must(forged.Encode()), "opening": must(opened.Encode()), "second under one number": must(conflict.Encode()), "nonsense": {1, 2, 3},
	} {
		if err := w.sealer.Deliver(t.Context(), bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if n := testutil.ToFloat64(w.sealer.metrics.Refused); n != 4 {
		t.Errorf("%v refusals counted", n)
	}
	if d := cmp.Diff(before, w.archived()); d != "" {
		t.Errorf("a refused message changed the archive: %s", d)
	}
	if err := w.deliver(w.ecu.kept[1]); err != nil {
		t.Errorf("a repetition is refused: %v", err)
	}
}

func (w *world) archived() []attest.Message { return must(w.sealer.archive.Since(0)) }

func TestArchiveHealsAndKeepsItsBound(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EveryDays, c.MaxSnapshots = each(1), 64 })
	w.start()
	w.drive(km(3, 10)...)
	w.settle()
	w.setBytes(w.seqKey(2), func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	w.close()
	w.open()
	w.asked = nil
	w.start()
	w.exchange()
	if len(w.archived()) != 4 || len(w.col.claims) != 3 {
		t.Errorf("%d snapshots, spans %v after damage", len(w.archived()), w.spans())
	}
	w.setBytes(w.seqKey(2), func(b []byte) []byte { return b[:3] }) // while open: found at the next reading
	w.drive(10_000)
	w.exchange()
	w.drive(km(100, 10)...) // never connected: the oldest go, never the head
	head := w.sealer.archive.State().Head.Seq
	if _, err := w.sealer.archive.Get(head); err != nil || len(w.archived()) != 64 {
		t.Errorf("%d snapshots; head: %v", len(w.archived()), err)
	}
	before := w.col.km
	w.exchange()
	if got := w.col.km - before; got < 640 {
		t.Errorf("%d km after thinning out, want at least 640", got)
	}
}

func TestPolicyChoice(t *testing.T) {
	foreign := mileage(9, 1)
	foreign.Program = wire.ID([]byte("other"))
	newer := mileage(8, 1)
	newer.MinAgent = "2.0.0"
	feature := mileage(7, 1)
	feature.Kind = "feature/x" // not in the charter
	later := mileage(6, 100)
	later.FromDay = firstDay + 3
	safe := mileage(3, 1)
	safe.Kind, safe.Tiers[0].Km = terms.KindSafe, 0
	stopped := mileage(4, 1)
	stopped.Kind, stopped.Stop, stopped.FromDay = terms.KindSafe, true, firstDay+2
	w := newWorld(t, every(1))
	w.rule(feature, later, stopped, safe, mileage(1, 1), mileage(2, 5, 10))
	w.start()
	w.drive(km(13, 10)...)
	w.exchange()
	type proven struct {
		day uint32
		p   []uint16
	}
	var got []proven
	for _, c := range w.col.claims {
		p := proven{day: c.To.Day - firstDay}
		for _, x := range c.Proofs {
			p.p = append(p.p, x.Policy)
		}
		got = append(got, p)
	}
	// Day 1: mileage 2 over 1, and safe 3. Day 2: safe is stopped. From day 3 the tier is 100 km: carried to day 12.
	want := []proven{{1, []uint16{2, 3}}, {2, []uint16{2}}, {12, []uint16{6}}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(proven{})); d != "" {
		t.Error(d)
	}
	for _, p := range []*terms.Policy{foreign, newer, feature, stopped} {
		if w.sealer.cfg.Rules().Unusable(p) == nil {
			t.Errorf("policy %d is used", p.Serial)
		}
	}
}

func TestRealProofs(t *testing.T) {
	dir := t.TempDir()
	real, err := claim.Setup(dir)
	if err != nil {
		t.Fatal(err)
	}
	verifier := must(claim.OpenVerifier(dir, real))
	w := newWorld(t, every(1))
	w.prover = must(claim.OpenProver(dir, real))
	w.col.verify = verifier.Verify
	w.start()
	w.drive(40_579, 3_000)
	w.settle()
	_, body, ok := w.waiting(wire.KindClaim)
	if !ok || len(body) != wire.ClaimLen(3) { // of mileage and the two kinds that the driver allows
		t.Fatalf("claim of %d bytes", len(body))
	}
	w.exchange()
	if w.col.km != 40+2 {
		t.Errorf("%d km, want 42", w.col.km)
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t, nil)
	for name, change := range map[string]func(*Config){
		"zero":        func(c *Config) { *c = Config{} },
		"no charter":  func(c *Config) { c.Charter = nil },
		"foreign":     func(c *Config) { c.Program = wire.ID(nil) },
		"delay":       func(c *Config) { c.MaxDelay = 25 * time.Hour },
		"archive":     func(c *Config) { c.MaxSnapshots = 63 },
		"negative":    func(c *Config) { c.RetryAfter = -1 },
		"no ECU":      func(c *Config) { c.ECU = wire.PublicKey{} },
		"no vehicle":  func(c *Config) { c.Vehicle = "" },
		"bad charter": func(c *Config) { c.Charter = &terms.Charter{Program: program} },
	} {
		cfg := w.config()
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
