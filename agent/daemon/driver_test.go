package daemon

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/journal"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// TestDriverDecidesWhileTheAgentRuns turns things on and off over the socket of an agent that runs: its rooms follow before the command
// returns, and what was decided holds after a restart.
func TestDriverDecidesWhileTheAgentRuns(t *testing.T) {
	w := newWorld(t, wire.Development)
	w.fetched()
	a := w.opened()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.control.Serve(ctx) }()
	at := int64(1_700_000_000)
	drive := func() {
		for range 61 {
			at++
			a.recorder.Observe(vss.Sample{Signal: 1, Time: at * int64(time.Second), Value: 60_000, Available: true})
		}
	}
	sum := func() (n int64) {
		for _, v := range a.recorder.Usage().Hours {
			n += v
		}
		return n
	}
	drive()
	if s := a.snapshot(); sum() != 0 || s.Reports != "off" || s.Cadence != "weekly" || len(s.Consent) != 0 || len(a.book.Rules().Kinds) != 0 {
		t.Errorf("%+v, %d ms", s, sum())
	}
	desk, closer, err := Desk(t.Context(), w.load(), w.deps())
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	must(desk.Turn(t.Context(), "hours", true))
	must(desk.Turn(t.Context(), terms.KindSafe, true))
	must(desk.SetCadence(t.Context(), "daily"))
	drive()
	if s := a.snapshot(); sum() != 60_000 || s.Reports != "on" || s.BudgetLeft != 1000 || s.Cadence != "daily" || strings.Join(s.Consent, " ") != "hours safe" {
		t.Errorf("%+v, %d ms", s, sum())
	}
	if r := a.book.Rules(); len(r.Kinds) != 1 || r.Kinds[0] != terms.KindSafe {
		t.Errorf("claims may tell of %v", r.Kinds)
	}
	if v, err := desk.Turn(t.Context(), "biometrics", true); err == nil {
		t.Errorf("%+v", v)
	}
	// A claim has the size of the kinds that are on, whatever it tells of; one of mileage alone stays whatever is turned off.
	w.seal(a)
	waiting := a.spool.IDs(wire.KindClaim)
	if b, ok := a.spool.Bytes(waiting[0]); !ok || len(b) != wire.ClaimLen(2) {
		t.Errorf("a claim of %d bytes", len(b))
	}
	must(desk.Turn(t.Context(), "hours", false))
	if sum() != 0 {
		t.Error("what was recorded is still there")
	}
	must(desk.Turn(t.Context(), terms.KindSafe, false))
	if !a.spool.Has(waiting[0]) {
		t.Error("a claim of mileage alone was withdrawn")
	}
	var told []string
	for _, e := range must(a.journal.List(0)) {
		if e.Kind == journal.KindNote && strings.HasPrefix(e.Contents, "You ") {
			told = append(told, e.Contents)
		}
	}
	if len(told) != 5 || !strings.HasPrefix(told[0], "You turned off safe") || !strings.HasPrefix(told[4], "You turned on hours") {
		t.Errorf("noted %q", told)
	}
	if s, err := desk.Privacy(t.Context()); err != nil || s.Yearly != 52 || s.Ever != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := Reset(a.cfg); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Errorf("reset below a running agent: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	a.opened = nil
	if c := w.opened().consent.Choice(); c.Families != 0 || len(c.Kinds) != 0 || c.Cadence != "daily" {
		t.Errorf("after a restart: %+v", c)
	}
}

// TestReset: a new owner finds nothing of the one before, but what was spent of the car's privacy.
func TestReset(t *testing.T) {
	w := newWorld(t, wire.Development)
	w.charge()
	w.fetched()
	w.decide("hours", "speed")
	a := w.opened()
	w.seal(a)
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	a.opened = nil
	key := must(os.ReadFile(w.path("device.key")))
	if err := Reset(a.cfg); err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range must(os.ReadDir(w.path("state"))) {
		left = append(left, e.Name())
	}
	if got := strings.Join(left, " "); got != "budget budget.anchor reset.done" {
		t.Errorf("left %s", got)
	}
	if again := must(os.ReadFile(w.path("device.key"))); string(again) != string(key) {
		t.Error("the device key is another one")
	}
	b := w.opened()
	s := b.snapshot()
	if items, _ := b.spool.Depth(); items != 0 || len(must(b.journal.List(0))) != 0 || b.sealer.Archive().Len() != 0 || len(s.Consent) != 0 || s.Cadence != "weekly" || len(s.Policies) != 0 {
		t.Errorf("%d items wait; %+v", items, s)
	}
	if s.BudgetLeft != 961 { // 50 of 52 releases
		t.Errorf("%d thousandths of the budget are left", s.BudgetLeft)
	}
}

// TestResetIsCarriedOn: the power went in the middle of a reset; nothing is read before it is complete.
func TestResetIsCarriedOn(t *testing.T) {
	w := newWorld(t, wire.Development)
	w.decide("hours")
	w.write("state/reset.pending", "")
	if a := w.opened(); a.consent.Families() != 0 || len(must(a.journal.List(0))) != 0 {
		t.Errorf("%+v", a.consent.Choice())
	}
}

// TestDamagedConsentIsTold: everything is off, and the driver hears of it.
func TestDamagedConsentIsTold(t *testing.T) {
	w := newWorld(t, wire.Development)
	w.decide("hours")
	db, _, err := flash.OpenStore(flash.StoreConfig{Dir: w.path("state/state"), Logger: w.deps().Logger})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte("consent/choice"), []byte("damaged")) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	a := w.opened()
	if list := must(a.journal.List(1)); a.consent.Families() != 0 || len(list) != 1 || !strings.Contains(list[0].Contents, "everything is off") {
		t.Errorf("%+v, noted %v", a.consent.Choice(), list)
	}
}
