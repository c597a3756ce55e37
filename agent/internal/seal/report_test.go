package seal

import (
	"context"
	"crypto"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/agent/internal/archive"
	"rawstone/pkg/claim"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func TestReportsEveryDispatchEvenWhenIdle(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = each(7), allow(wire.FamilyHours) })
	w.start()
	w.settle()
	for range 30 {
		w.drive(0) // parked
		w.exchange()
	}
	bounds := w.boundaries(0, 30)
	if last, _ := w.sealer.plan().Last(firstDay); last != firstDay {
		bounds = bounds[1:] // not a whole dispatch
	}
	if len(w.col.reports) != len(bounds) {
		t.Errorf("%d reports for %d boundaries", len(w.col.reports), len(bounds))
	}
	for _, b := range bounds {
		body, ok := w.col.reports[firstDay+b]
		if !ok {
			t.Errorf("no report for day %d", b)
			continue
		}
		r := must(wire.OpenReport(w.col.device, carID, body))
		if r.Families != wire.FamilyHours || r.Charter != wire.ID([]byte("charter")) {
			t.Errorf("report %+v", r)
		}
	}
	if w.use.taken != int64(bounds[len(bounds)-1]) {
		t.Errorf("%d days consumed, want %d", w.use.taken, bounds[len(bounds)-1])
	}
	w.checkReports(t, len(bounds))
	for _, e := range must(w.journal.List(0)) {
		if e.Kind != "report" || !strings.Contains(e.Contents, "hours") || strings.Contains(e.Contents, "speed") || !strings.Contains(e.Cost, "epsilon 1 ") || e.Outcome != "accepted" {
			t.Errorf("journal: %+v", e)
		}
	}
}

func TestNoConsentNoReport(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Device, c.Budget, c.Usage = each(1), nil, nil, nil })
	w.start()
	w.settle()
	w.drive(km(5, 10)...)
	w.exchange()
	if len(w.col.reports) != 0 || w.use.taken != 0 || len(w.col.claims) == 0 {
		t.Errorf("%d reports", len(w.col.reports))
	}
}

func TestBacklogLeavesOneReportAProgramDay(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = each(1), allow(wire.FamilyHours) })
	w.start()
	w.settle()
	for range 6 { // never connected
		w.drive(1000)
		w.settle()
	}
	if n := len(w.spool.IDs(wire.KindReport)); n != 6 {
		t.Fatalf("%d reports wait", n)
	}
	day := w.ecu.day
	for i := range 8 {
		w.setDay(day + uint32(i))
		w.exchange()
	}
	w.checkReports(t, 6)
	if len(w.col.days) != 6 {
		t.Errorf("reports left on %d days", len(w.col.days))
	}
}

func TestYesterdaysReportHoldsTodaysBack(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = each(1), allow(wire.FamilyHours) })
	w.start()
	w.settle()
	w.drive(1000)
	w.settle() // not connected
	w.setDay(w.ecu.day + 1)
	w.exchange() // yesterday's report leaves today
	w.drive(1000)
	w.exchange()
	if n := len(w.col.reports); n != 1 {
		t.Errorf("%d reports left on two days' dispatches in one day", n)
	}
	w.setDay(w.ecu.day + 1)
	w.exchange()
	w.checkReports(t, 2)
}

func TestExhaustedBudgetWithholds(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = each(1), allow(wire.FamilyHours) })
	w.start()
	w.settle()
	for range 60 {
		w.drive(1000)
		w.exchange()
	}
	if len(w.col.reports) != 52 || w.use.days != 0 {
		t.Errorf("%d reports in a year of 52; %d days of use are left for one that tells of more than its own", len(w.col.reports), w.use.days)
	}
	if n := testutil.ToFloat64(w.sealer.metrics.Withheld); n != 8 {
		t.Errorf("%v withheld, want 8", n)
	}
	if w.col.km != 60 {
		t.Errorf("%d km: reports stopped the claims", w.col.km)
	}
}

// failingSigner is a device key whose chip does not answer.
type failingSigner struct {
	crypto.Signer
	broken bool
}

func (k *failingSigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if k.broken {
		return nil, errBroken
	}
	return k.Signer.Sign(r, digest, opts)
}

func TestUsageIsConsumedOnlyWithAStoredReport(t *testing.T) {
	chip := &failingSigner{broken: true}
	w := newWorld(t, func(c *Config) {
		c.EveryDays, c.Families = each(1), allow(wire.FamilyHours)
		chip.Signer, c.Device = c.Device, chip
	})
	w.start()
	w.settle()
	w.drive(1000)
	w.now = w.now.Add(w.sealer.cfg.ResendWait)
	if _, err := w.sealer.turn(t.Context()); !errors.Is(err, errBroken) {
		t.Fatalf("error is %v", err)
	}
	chip.broken = false
	w.exchange() // the epoch is charged: its report is lost, and the usage goes into the next one
	if len(w.col.reports) != 0 || w.use.taken != 0 || w.col.km != 1 {
		t.Errorf("%d reports, %d days consumed, %d km", len(w.col.reports), w.use.taken, w.col.km)
	}
	if n := w.ledger.Summary(0).Releases; n != 1 {
		t.Errorf("%d charges", n)
	}
	w.drive(1000)
	w.exchange()
	if len(w.col.reports) != 1 || w.use.taken != 2 {
		t.Errorf("%d reports, %d days consumed", len(w.col.reports), w.use.taken)
	}
}

func TestRetrySendsTheSameBytes(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = each(1), allow(wire.FamilyHours) })
	w.start()
	w.settle()
	w.drive(1000)
	w.settle()
	_, first, ok := w.waiting(wire.KindReport)
	if !ok {
		t.Fatal("no report")
	}
	// The sealer forgets that it made the report, as if the power had gone before its last step.
	before := uint32(firstDay)
	if err := w.sealer.archive.Commit(func(s *archive.State) { s.Boundary = &before }); err != nil {
		t.Fatal(err)
	}
	// Once with the report in the spool, once before it got there.
	w.reopen()
	w.settle()
	if ids := w.spool.IDs(wire.KindReport); len(ids) != 1 || ids[0] != wire.ID(first) {
		t.Errorf("%d reports after a retry", len(ids))
	}
	if err := w.spool.Free(wire.ID(first)); err != nil {
		t.Fatal(err)
	}
	if err := w.sealer.archive.Commit(func(s *archive.State) { s.Boundary = &before }); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	w.settle()
	if ids := w.spool.IDs(wire.KindReport); len(ids) != 1 || ids[0] != wire.ID(first) {
		t.Errorf("%d reports after a retry", len(ids))
	}
}

func TestDamagedStateHeals(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = each(1), allow(wire.FamilyHours) })
	w.start()
	w.settle()
	for range 3 {
		w.drive(10_000)
		w.exchange()
	}
	w.setBytes([]byte(stateKey), func(b []byte) []byte { b[9] ^= 1; return b })
	w.reopen()
	if n := testutil.ToFloat64(w.sealer.metrics.Damaged); n != 1 {
		t.Errorf("%v damaged records counted", n)
	}
	for range 3 {
		w.drive(10_000)
		w.exchange()
	}
	if w.col.km != 60 {
		t.Errorf("%d km, want 60", w.col.km)
	}
	w.checkReports(t, 5)
}

func TestReceiptAndOpeningsAreKept(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.settle()
	w.drive(10_000)
	w.exchange()
	c := w.col.claims[0]
	b := must(c.EncodeFor(3))
	id := wire.ID(b)
	want := []archive.Receipt{{ECU: w.ecu.pub.ID(), Seq: c.To.Seq, Claim: id, Signed: []byte("signed"), Came: w.now.Truncate(time.Second).UTC(), Kinds: []string{terms.KindMileage}}}
	if d := cmp.Diff(want, must(w.sealer.Archive().Receipts())); d != "" {
		t.Errorf("kept receipts (-want +got):\n%s", d)
	}
	for _, m := range w.archived() {
		if claim.Commit(m.Opening) != m.Snapshot.Commitment {
			t.Error("an opening is lost")
		}
	}
}

// TestRun lets the loop run on the real clock.
func TestRun(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.EveryDays, c.ResendWait = each(1), 100*time.Millisecond
		c.Clock.Now = time.Now
	})
	today := w.timing().Day(time.Now())
	w.ecu.snapshot(today-1, 0)
	newest := w.ecu.snapshot(today, 10_000)
	w.ecu.kept = w.ecu.kept[:len(w.ecu.kept)-1] // which Run reads from now on; the newest comes by itself
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.sealer.Run(ctx) }()
	if err := w.deliver(newest); err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.spool.Changed():
	case <-time.After(2 * time.Minute):
		t.Error("nothing was sealed")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
