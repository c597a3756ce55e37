package replay

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/firmware-sim/internal/ecu"
	"rawstone/pkg/can"
	"rawstone/pkg/capturetest"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func capture(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "capture.log")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func config(path string, speed float64) Config {
	return Config{Path: path, Speed: speed, Buses: []string{"can1", "can2"}, Logger: slog.New(slog.DiscardHandler)}
}

const drive = `(1000.000000) can2 006#01
(1000.500000) can9 006#02
(1001.000000) can1 006#03
garbage
(1000.900000) can2 006#04
(1010.000000) can2 006#05
`

// TestRecordedDrive plays the recorded drive in memory: the ECU counts the distance that the trip counter shows.
func TestRecordedDrive(t *testing.T) {
	dir := capturetest.Dir(t)
	sensors, _, err := LoadSensors(filepath.Join(dir, "obd2-trip.dbc"), SensorConfig{
		Odometer: SignalConfig{Signal: "DistanceTrip", Unit: "m", Valid: "DistanceValid"},
		Speed:    SignalConfig{Signal: "Speed", Unit: "m/s", Valid: "SpeedValid"},
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	cfg := ecu.Config{
		Dir: t.TempDir(), Program: wire.Hash{1}, Clock: terms.Clock{Timing: terms.Timing{DayS: 60, DropS: 60}, Now: func() time.Time { return now }},
		OverspeedMH: 80_000, StandstillMH: 1000, Logger: slog.New(slog.DiscardHandler), Send: func(context.Context, []byte) error { return nil },
	}
	if _, err := ecu.Create(cfg); err != nil {
		t.Fatal(err)
	}
	e, err := ecu.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	p, err := New(config(filepath.Join(dir, "obd2-trip.candump.log.gz"), Unpaced()))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = p.Run(t.Context(), func(_ context.Context, f *can.Frame) error {
		n++
		if s, ok := sensors.Sample(f); ok && f.Bus == 1 {
			return e.Observe(ecu.Sample(s))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c := e.Counters()
	if n != 283_009 || c[wire.OdometerM] != 40_579 {
		t.Errorf("%d frames and %d m, want 283,009 and 40,579", n, c[wire.OdometerM])
	}
	if s := c[wire.DriveTimeS]; s < 1900 || s > 2272 || c[wire.OverspeedS] == 0 || c[wire.AssistedM] != 0 || c[wire.EnergyWh] != 0 {
		t.Errorf("counters %v", c)
	}
}

// TestTiming plays with a fake clock at twice the speed.
func TestTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := New(config(capture(t, drive), 2))
		if err != nil {
			t.Fatal(err)
		}
		if p.FirstTime() != 1000e9 {
			t.Errorf("first frame at %d", p.FirstTime())
		}
		type played struct {
			bus, data uint8
			ms        int64
		}
		want := []played{{1, 1, 0}, {0, 3, 1000}, {1, 4, 1000}, {1, 5, 10_000}} // the third was recorded out of order
		var got []played
		start := time.Now()
		if err := p.Run(t.Context(), func(_ context.Context, f *can.Frame) error {
			got = append(got, played{f.Bus, f.Data[0], f.Time/1e6 - 1_000_000})
			due := time.Duration(f.Time-1000e9) / 2
			if late := time.Since(start) - due; late < 0 || late > minPause {
				t.Errorf("frame %d came %v late", len(got), late)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(played{})); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if n := testutil.ToFloat64(p.dropped); n != 1 {
			t.Errorf("%v frames dropped, want 1", n)
		}
		if n := testutil.ToFloat64(p.broken); n != 1 {
			t.Errorf("%v broken lines, want 1", n)
		}
	})
}

func TestLoopGoesForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(capture(t, drive), 10)
		cfg.Loop = true
		p, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var times []int64
		start := time.Now()
		if err := p.Run(ctx, func(_ context.Context, f *can.Frame) error {
			if times = append(times, f.Time/1e6-1_000_000); len(times) == 10 {
				cancel()
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]int64{0, 1000, 1000, 10_000, 10_000, 11_000, 11_000, 20_000, 20_000, 21_000}, times); d != "" {
			t.Errorf("frame times in ms (-want +got):\n%s", d)
		}
		if took := time.Since(start); took < 2100*time.Millisecond || took > 2200*time.Millisecond {
			t.Errorf("21 s at ten times the speed took %v", took)
		}
	})
}

// TestShortLoopIsPaced plays a capture of one frame again and again: once a second of frame time.
func TestShortLoopIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(capture(t, "(1.0) can1 006#01\n"), 1)
		cfg.Loop = true
		p, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10500*time.Millisecond)
		defer cancel()
		n := 0
		if err := p.Run(ctx, func(context.Context, *can.Frame) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		if n != 11 {
			t.Errorf("%d frames in 10.5 s, want 11", n)
		}
	})
}

// TestBatches plays far too fast: pauses bound what listeners must take.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := New(config(capture(t, strings.Repeat("(1.0) can1 006#01\n", 10*maxBatch)), 100_000))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := p.Run(t.Context(), func(context.Context, *can.Frame) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 9*minPause || took > 11*minPause {
			t.Errorf("ten batches took %v", took)
		}
	})
}

func TestRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, text, want string
		alter            func(*Config)
	}{
		{name: "empty", want: "holds no frames"},
		{name: "no line is a frame", text: "hello\nworld\n", want: "record with `candump -L`"},
		{name: "missing", want: "no such file", alter: func(c *Config) { c.Path += "x" }},
		{name: "speed", text: drive, want: "not above 0", alter: func(c *Config) { c.Speed = 0 }},
		{name: "no bus", text: drive, want: "no bus", alter: func(c *Config) { c.Buses = nil }},
	} {
		cfg := config(capture(t, tt.text), 1)
		if tt.alter != nil {
			tt.alter(&cfg)
		}
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	cfg := config(capture(t, drive), Unpaced())
	cfg.Buses = []string{"vcan0"}
	cfg.Loop = true
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "[can2 can9 can1]") {
		t.Errorf("no frame on a bus: %v", err)
	}
}

// TestTruncatedGzip plays every whole line and then says what is wrong.
func TestTruncatedGzip(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for i := range 20_000 {
		fmt.Fprintf(w, "(%d.000000) can1 006#%08X\n", 1000+i, i*2654435761%(1<<32))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := New(config(capture(t, b.String()[:b.Len()/2]), Unpaced()))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = p.Run(t.Context(), func(context.Context, *can.Frame) error { n++; return nil })
	if err == nil || !strings.Contains(err.Error(), "to its end") || n < 5000 {
		t.Errorf("%d frames, %v", n, err)
	}
	stop := errors.New("stop")
	if err := p.Run(t.Context(), func(context.Context, *can.Frame) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("emit's error: %v", err)
	}
}
