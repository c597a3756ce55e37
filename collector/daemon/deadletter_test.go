package daemon

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"rawstone/collector/internal/admin"
	"rawstone/collector/internal/deadletter"
	"rawstone/pkg/wire"
)

// TestDeadLetters takes a message that is too long from a vehicle to the operator: over the socket, and on the dashboard.
func TestDeadLetters(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	_, token, err := AddVehicle(t.Context(), cfg, w.car(t, "CAR1"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	client := admin.Dial(cfg.AdminSocket())
	if all, err := client.Letters(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	car, _, err := r.connect(t, "CAR1", w.enrols(t, r, "CAR1", token))
	if err != nil {
		t.Fatal(err)
	}
	if tok := car.Publish(wire.Topic("CAR1", wire.KindClaim), 1, false, make([]byte, 5000)); !tok.WaitTimeout(hang) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	var all []deadletter.Letter
	for end := time.Now().Add(hang); len(all) == 0; time.Sleep(20 * time.Millisecond) {
		if all, err = client.Letters(t.Context()); err != nil || time.Now().After(end) {
			t.Fatalf("%v\n%s", err, r.log)
		}
	}
	if l := all[0]; l.Reason != deadletter.TooLarge || l.Subject != wire.Subject("CAR1", wire.KindClaim) || l.Length != 5000 {
		t.Errorf("letter %+v", l)
	}
	if _, page := r.get(t, "/"); !strings.Contains(page, "longer than a submission may be") {
		t.Error("the dashboard does not show it")
	}
	// The letter is kept before it is counted.
	for end := time.Now().Add(hang); ; time.Sleep(20 * time.Millisecond) {
		if _, text := r.get(t, "/metrics"); strings.Contains(text, `rawstone_ingest_dead_letters_total{reason="too_large"} 1`) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is not counted")
		}
	}
	var refusal *admin.Refusal
	if err := client.Replay(t.Context(), all[0].Seq); !errors.As(err, &refusal) || !refusal.Skip {
		t.Errorf("replayed in part: %v", err)
	}
	r.end(t)
	if _, err := client.Letters(t.Context()); err == nil || !strings.Contains(err.Error(), "no collector runs") {
		t.Errorf("after its end: %v", err)
	}
	if _, err := os.Stat(cfg.AdminSocket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
}
