package trip

import (
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/bus"
	"rawstone/agent/internal/reader"
	"rawstone/agent/internal/vehicle"
	"rawstone/pkg/capturetest"
	"rawstone/pkg/wire"
)

// replayed plays a recorded drive through the whole reading side and returns the record that is left on flash.
func replayed(t *testing.T, vehicleMap, bus0, capture string, speed int) record {
	t.Helper()
	m, err := vehicle.Load(filepath.Join("..", "..", "..", "configs", "vehicles", vehicleMap))
	if err != nil {
		t.Fatal(err)
	}
	v, err := vehicle.Compile(m, func(string) (uint8, bool) { return 0, true }, nil)
	if err != nil {
		t.Fatal(err)
	}
	db := openStore(t, t.TempDir())
	defer db.Close()
	log := slog.New(slog.DiscardHandler)
	r, err := Open(Config{DB: db, KeyFile: keyFile(db), Logger: log, Now: time.Now, Signals: v.Signals(), Families: wire.AllFamilies})
	if err != nil {
		t.Fatal(err)
	}
	source := url.URL{Scheme: "replay", Path: capture, RawQuery: fmt.Sprintf("speed=%d", speed)}
	car, err := reader.Open(reader.Config{
		Buses: []bus.Bus{{Name: bus0, URL: source.String()}}, Vehicle: v, Observe: r.Observe, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := car.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := car.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	rec, _, found, err := r.shelf.load()
	if err != nil || !found {
		t.Fatalf("no record is left: %v", err)
	}
	return rec
}

// A recorded drive gives the same distance, events and usage at any speed of replay.
func TestReplaySpeedChangesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		vehicleMap, bus, capture string
		metres                   int64
	}{{"mustang.yaml", "can0", "mustang", 300}, {"css-gnss.yaml", "can2", "obd2-trip", 40_000}} {
		path := capturetest.Find(t, c.capture+".candump.log.gz")
		fast := replayed(t, c.vehicleMap, c.bus, path, 0)
		paced := replayed(t, c.vehicleMap, c.bus, path, 1000)
		if d := cmp.Diff(fast, paced); d != "" {
			t.Errorf("%s: %s", c.capture, d)
		}
		if fast.Odometer.Total < c.metres*1000 || fast.Use.Usage.Hours == [numHours]int64{} {
			t.Errorf("%s: %d mm counted, usage %+v", c.capture, fast.Odometer.Total, fast.Use)
		}
	}
}
