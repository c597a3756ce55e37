package seal

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"rawstone/agent/internal/flash"
	"rawstone/pkg/wire"
)

// The store with spool, journal and archive is damaged and set aside while a claim and a report wait: the ECU's repetition and the
// collector's head let the car go on, it gives up only what the ECU no longer holds, and the privacy budget stands.
func TestGoesOnAfterStoreIsSetAside(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.EveryDays, c.Families = each(2), allow(wire.FamilyHours) })
	w.start()
	for range 6 {
		w.drive(10_000)
		w.exchange()
	}
	credited, charged := w.col.km, w.ledger.Summary(0).Releases
	if credited == 0 || charged == 0 {
		t.Fatalf("%d km, %d charges before", credited, charged)
	}
	w.drive(km(4, 10)...)
	w.settle()
	if len(w.spool.IDs(wire.KindClaim)) != 1 || len(w.spool.IDs(wire.KindReport)) != 2 {
		t.Fatal("no claim or not the reports of two dispatches wait")
	}
	w.close()

	dir := filepath.Join(w.dir, "spool")
	if err := os.Truncate(filepath.Join(dir, "MANIFEST"), 5); err != nil {
		t.Fatal(err)
	}
	db, found, err := flash.OpenStore(flash.StoreConfig{Dir: dir, Reserve: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil || found.Aside == "" {
		t.Fatalf("%+v %v", found, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	w.open()
	if n, _ := w.spool.Depth(); n != 0 {
		t.Fatalf("%d submissions in a new spool", n)
	}
	w.start()
	for range 8 {
		w.drive(10_000)
		w.exchange()
	}
	last := w.col.claims[len(w.col.claims)-1]
	if last.To.Day < firstDay+16 {
		t.Errorf("the last claim ends on day %d", last.To.Day-firstDay)
	}
	// All of it was still in the ECU's memory: no kilometre between two claims is given up.
	for i, c := range w.col.claims[1:] {
		if c.Forfeit || c.From.Seq != w.col.claims[i].To.Seq {
			t.Errorf("claim %d gives something up", i+1)
		}
	}
	w.checkReports(t, 4)
	if n := w.ledger.Summary(0).Releases; n < charged {
		t.Errorf("%d charges, had %d: the budget was reset", n, charged)
	}
}
