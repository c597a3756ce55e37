package trip

import (
	"log/slog"
	"testing"
	"time"

	"rawstone/agent/internal/vss"
	"rawstone/pkg/wire"
)

// TestConsentWhileDriving: what is turned off while the recorder runs is gone at once, from flash too; the others go on; and what is turned
// on counts from that moment, in the middle of a trip too.
func TestConsentWhileDriving(t *testing.T) {
	db := openStore(t, t.TempDir())
	defer db.Close()
	cfg := Config{DB: db, KeyFile: keyFile(db), Logger: slog.New(slog.DiscardHandler), Now: time.Now, Signals: signals(), Families: wire.FamilyHours | wire.FamilySpeed}
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	set := func(f wire.Family) {
		t.Helper()
		if err := r.SetFamilies(f); err != nil {
			t.Fatal(err)
		}
	}
	// A sample each second, at 20 m/s.
	at, odo := noon, int64(0)
	second := func(n int64) {
		for range n {
			at, odo = at+int64(time.Second), odo+20_000
			r.Observe(vss.Sample{Signal: distance, Time: at, Value: odo, Available: true})
			r.Observe(vss.Sample{Signal: speed, Time: at, Value: 20_000, Available: true})
		}
	}
	second(100)
	hours := func() (sum int64) {
		for _, v := range r.Usage().Hours {
			sum += v
		}
		return sum
	}
	if got := hours(); got != 99_000 {
		t.Fatalf("%d ms in use", got)
	}
	set(wire.FamilyHours | wire.FamilyTrips)
	if r.Usage().Speed != [numBands]int64{} || hours() != 99_000 {
		t.Errorf("speed was turned off: %+v", r.Usage())
	}
	rec, _, found, err := r.shelf.load()
	if err != nil || !found || rec.Use.Usage != r.Usage() || rec.Use.Families != wire.FamilyHours|wire.FamilyTrips {
		t.Errorf("on flash: %+v, %v, %v", rec.Use, found, err)
	}
	second(31) // 30 intervals, and 620 m of a trip that began before trips were on
	if got := hours(); got != 99_000+30_000 {
		t.Errorf("%d ms in use: the time before the change counts again, or that after it does not", got)
	}
	set(wire.FamilyHours)
	set(wire.FamilyHours | wire.FamilyTrips)
	second(31)      // 620 m again: with those before it would be a trip of more than a kilometre
	for range 400 { // it stands: the trip ends
		at += int64(time.Second)
		r.Observe(vss.Sample{Signal: speed, Time: at, Available: true})
	}
	if got := r.Usage(); got.Trips != [numBands]int64{1} || got.Speed != [numBands]int64{} {
		t.Errorf("%+v", got)
	}
	set(0)
	if r.Usage() != (Usage{}) {
		t.Errorf("all is off: %+v", r.Usage())
	}
	second(50)
	if rec, _, _, err := r.shelf.load(); err != nil || rec.Use != (use{}) {
		t.Errorf("on flash with all off: %+v, %v", rec.Use, err)
	}
	set(wire.FamilySpeed)
	second(11)
	if got := r.Usage().Speed[5]; got != 10_000 {
		t.Errorf("%d ms at that speed, want those since it was turned on", got)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// It was turned off while no agent ran.
	cfg.Families = wire.FamilySpeed | wire.FamilyCharge
	if r, err = Open(cfg); err != nil || r.Usage().Speed[5] != 10_000 {
		t.Errorf("%v, %+v", err, r.Usage())
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Families = wire.FamilyCharge
	if r, err = Open(cfg); err != nil || r.Usage() != (Usage{}) || r.use.OnTrip {
		t.Errorf("%v, %+v", err, r.use)
	}
}
