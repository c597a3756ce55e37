package seal

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/seal/phase"
	"rawstone/agent/internal/verdict"
	"rawstone/pkg/wire"
)

func TestRebaseToAnArchivedHead(t *testing.T) {
	for _, reason := range []string{"stale", "gap"} {
		t.Run(reason, func(t *testing.T) {
			w := newWorld(t, every(1))
			w.start()
			w.drive(km(6, 10)...)
			three := w.ecu.kept[3].Snapshot.Head()
			if reason == "gap" { // the collector went back to a backup
				w.exchange()
				w.col.claims, w.col.km = nil, 0
				w.drive(10_000)
			}
			w.col.head = &three
			w.exchange()
			last := uint32(6)
			if reason == "gap" {
				last = 7
			}
			if s := w.spans(); len(s) == 0 || s[0][0] != 3 || s[len(s)-1][1] != last || w.col.claims[0].Forfeit {
				t.Errorf("spans %v", w.spans())
			}
			if st := w.sealer.archive.State(); st.Refusals != 0 || st.Reason != "" {
				t.Errorf("state %+v", st)
			}
		})
	}
}

func TestForfeitWhereTheHeadCannotBeOpened(t *testing.T) {
	w := newWorld(t, every(1))
	for range 40 { // the agent was installed long after the ECU was registered
		w.ecu.snapshot(w.ecu.day+1, 10_000)
	}
	w.setDay(w.ecu.day)
	w.start()
	w.exchange()
	if len(w.col.claims) == 0 || !w.col.claims[0].Forfeit || w.col.claims[1].Forfeit || w.col.claims[0].From.Seq != 9 {
		t.Fatalf("spans %v, first %+v", w.spans(), w.col.claims[0])
	}
	if w.col.km != 31*10 {
		t.Errorf("%d km, want 310", w.col.km)
	}
	if list := must(w.journal.List(0)); !strings.Contains(list[len(list)-2].Contents, "Gives up") {
		t.Errorf("the journal does not tell: %+v", list[len(list)-2])
	}
}

func TestStopsAndTriesAgain(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EveryDays, c.RetryAfter = each(1), time.Hour })
	w.start()
	w.col.unknown = true
	w.drive(10_000)
	w.exchange()
	first := len(w.col.receipts)
	if s := w.sealer.Status(); first != 1 || s.Phase != phase.Stopped || s.Reason != wire.ReasonUnknownVehicle || s.Remedy == "" || s.Retry.IsZero() {
		t.Fatalf("%d sent, %+v", first, s)
	}
	if n, _ := w.spool.Depth(); n != 0 {
		t.Error("a refused claim is still in the spool")
	}
	w.close()
	w.open()
	w.start()
	w.exchange()
	if len(w.col.receipts) != first {
		t.Error("a restart forgot the back-off")
	}
	w.now = w.now.Add(time.Hour)
	w.exchange()
	if len(w.col.receipts) != first+1 {
		t.Errorf("%d sent: the retry is not a new submission", len(w.col.receipts))
	}
	w.now = w.now.Add(time.Hour)
	w.exchange()
	if len(w.col.receipts) != first+1 {
		t.Error("the back-off does not grow")
	}
	w.col.unknown = false // registered at last
	w.now = w.now.Add(time.Hour)
	w.exchange()
	if w.col.km != 10 || w.sealer.Status().Reason != "" {
		t.Errorf("%d km, %+v", w.col.km, w.sealer.Status())
	}
	outcomes := map[string]int{}
	for _, e := range must(w.journal.List(0)) {
		outcomes[strings.SplitN(e.Outcome, ":", 2)[0]]++
	}
	if d := cmp.Diff(map[string]int{"accepted": 1, "refused (unknown_vehicle)": 2}, outcomes); d != "" {
		t.Error(d)
	}
}

func TestEndlessRebasesBackOff(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.drive(km(3, 10)...)
	for range 50 {
		w.settle()
		id, body, ok := w.waiting(wire.KindClaim)
		if !ok {
			break
		}
		head := w.ecu.kept[0].Snapshot.Head()
		r := &wire.Receipt{Version: wire.Version, Submission: id, Vehicle: carID, Reason: wire.ReasonGap, Head: &head}
		if err := w.sealer.HandleReceipt(t.Context(), wire.KindClaim, body, r, nil); err != nil {
			t.Fatal(err)
		}
	}
	if st := w.sealer.archive.State(); st.Refusals != verdict.MaxRebases+1 || w.sealer.Status().Phase != phase.Stopped {
		t.Errorf("%d claims sent in vain", st.Refusals)
	}
}

func TestHandleReceiptRefusesStrangers(t *testing.T) {
	w := newWorld(t, every(1))
	w.start()
	w.drive(10_000)
	w.settle()
	_, body, _ := w.waiting(wire.KindClaim)
	for i, r := range []*wire.Receipt{
		{Submission: wire.ID(nil), Vehicle: carID, Accepted: true},
		{Submission: wire.ID(body), Vehicle: "CAR2", Accepted: true},
	} {
		if err := w.sealer.HandleReceipt(t.Context(), wire.KindClaim, body, r, nil); err == nil {
			t.Errorf("receipt %d was acted upon", i)
		}
	}
	if w.sealer.archive.State().Head != nil || len(w.spool.IDs(wire.KindClaim)) != 1 {
		t.Error("a stranger's receipt changed something")
	}
}
