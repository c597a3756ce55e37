package reader

import (
	"errors"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rawstone/agent/internal/bus"
	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/trip"
	"rawstone/agent/internal/vehicle"
	"rawstone/pkg/can"
	"rawstone/pkg/capturetest"
	"rawstone/pkg/wire"
)

// plain unpacks a capture, so that the benchmark does not measure gzip.
func plain(t testing.TB, name string) string {
	t.Helper()
	r, err := can.OpenFile(capturetest.Find(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var text []byte
	var f can.Frame
	for {
		if err := r.Next(&f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		text = can.AppendLine(text, r.Buses()[f.Bus], &f)
	}
	path := filepath.Join(t.TempDir(), "capture.log")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// shipped loads a vehicle map of configs.
func shipped(t testing.TB, name string) *vehicle.Map {
	t.Helper()
	m, err := vehicle.Load(filepath.Join("..", "..", "..", "configs", "vehicles", name))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// BenchmarkReading plays a recorded drive as fast as it goes through the whole reading side: candump text, bus, vehicle map, odometer
// and usage, with the writes of the latter to flash. x-candump is its speed as a share of that of reading the candump text alone in
// the same run.
func BenchmarkReading(b *testing.B) {
	path := plain(b, "mustang.candump.log.gz")
	log := slog.New(slog.DiscardHandler)
	db, err := flash.Open(flash.Config{Dir: b.TempDir(), Logger: log})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	var frames, alone uint64
	var reading, text time.Duration
	b.ReportAllocs()
	for b.Loop() {
		v, err := vehicle.Compile(shipped(b, "mustang.yaml"), func(string) (uint8, bool) { return 0, true }, nil)
		if err != nil {
			b.Fatal(err)
		}
		recorder, err := trip.Open(trip.Config{DB: db, KeyFile: filepath.Join(b.TempDir(), "key"), Logger: log, Now: time.Now, Signals: v.Signals(), Families: wire.AllFamilies})
		if err != nil {
			b.Fatal(err)
		}
		r, err := Open(Config{
			Buses:   []bus.Bus{{Name: "can0", URL: (&url.URL{Scheme: "replay", Path: path, RawQuery: "speed=0"}).String()}},
			Vehicle: v, Observe: recorder.Observe, Logger: log,
		})
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if err := r.Run(b.Context()); err != nil {
			b.Fatal(err)
		}
		reading += time.Since(start)
		frames += r.Received()
		if err := errors.Join(r.Close(), recorder.Close()); err != nil {
			b.Fatal(err)
		}

		b.StopTimer()
		start = time.Now()
		n, err := count(path)
		if err != nil {
			b.Fatal(err)
		}
		text += time.Since(start)
		alone += n
		b.StartTimer()
	}
	b.ReportMetric(float64(alone)/reading.Seconds(), "frames/s")
	b.ReportMetric(text.Seconds()/reading.Seconds(), "x-candump")
	if frames == 0 {
		b.Fatal("the reading side took nothing of the drive")
	}
}

// count reads a capture and does nothing else.
func count(path string) (n uint64, err error) {
	r, err := can.OpenFile(path)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for f := (can.Frame{}); ; n++ {
		if err := r.Next(&f); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}
