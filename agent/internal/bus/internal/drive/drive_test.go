package drive

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
)

func capture(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "capture.log")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// play opens a drive of can1 (index 5) and can2 (index 3) and returns what it logs.
func play(t testing.TB, text, options string) (*Drive, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	d, err := Open("replay://"+capture(t, text)+options, slog.New(slog.NewTextHandler(&log, nil)), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	d.Add("can1", 5, nil)
	d.Add("can2", 3, nil)
	return d, &log
}

// A heard frame is what the tests look at.
type heard struct {
	Bus, Data uint8
	MS        int64 // since 1000 s
}

func rest(t testing.TB, d *Drive) (all []heard) {
	t.Helper()
	var f can.Frame
	for {
		if err := d.Receive(t.Context(), &f); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, heard{f.Bus, f.Data[0], f.Time/1e6 - 1_000_000})
	}
}

const journey = `(1000.000000) can2 006#01
(1000.500000) can9 006#02
(1001.000000) can1 006#03
garbage
(1000.900000) can2 006#04
(1001.000000) can2 20000040#0000000000000000
(1010.000000) can2 006#05
`

func TestPlays(t *testing.T) {
	d, log := play(t, journey, "?speed=0")
	want := []heard{{3, 1, 0}, {5, 3, 1000}, {3, 4, 900}, {3, 5, 10_000}} // time goes back where the capture's does
	if d := cmp.Diff(want, rest(t, d)); d != "" {
		t.Error(d)
	}
	if err := d.Receive(t.Context(), new(can.Frame)); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	if d := cmp.Diff(State{Stats: link.Stats{Received: 1}, Broken: 1}, d.State(5)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(State{Stats: link.Stats{Received: 3, ErrorFrames: link.ErrorCounts{link.BusOff: 1}}}, d.State(3)); d != "" {
		t.Error(d)
	}
	if n := strings.Count(log.String(), "capture ended"); n != 1 || strings.Count(log.String(), "broken lines") != 1 || strings.Contains(log.String(), "do not occur") {
		t.Errorf("said the end %d times:\n%s", n, log)
	}
}

func TestFilters(t *testing.T) {
	var text strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&text, "(1000.000000) can1 %03X#01\n(1000.000000) can2 %08X#02\n", i%0x7FF, i)
	}
	d, _ := play(t, text.String()+"(1001.000000) can1 7FF#07\n", "?speed=0")
	d.tracks[0].want = can.NewMatcher([]can.Filter{can.Exact(0x7FF)})
	d.tracks[1].want = can.NewMatcher([]can.Filter{})
	if d := cmp.Diff([]heard{{5, 7, 1000}}, rest(t, d)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]State{{Stats: link.Stats{Received: 1, Filtered: 5000}}, {Stats: link.Stats{Filtered: 5000}}}, []State{d.State(5), d.State(3)}); d != "" {
		t.Error(d)
	}
}

// A drive of which nothing is wanted keeps time while it lasts, and is not played for ever.
func TestNothingWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := play(t, journey, "?loop=true")
		d.tracks[0].want, d.tracks[1].want = can.NewMatcher([]can.Filter{}), can.NewMatcher([]can.Filter{})
		start := time.Now()
		if got := rest(t, d); got != nil {
			t.Errorf("heard %v", got)
		}
		if took := time.Since(start); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("ten seconds took %v", took)
		}
	})
}

// TestPace plays with a fake clock at twice the speed.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := play(t, journey, "?speed=2")
		start := time.Now()
		var f can.Frame
		for range 4 {
			if err := d.Receive(t.Context(), &f); err != nil {
				t.Fatal(err)
			}
			due := time.Duration(f.Time-1000e9) / 2
			if f.Data[0] == 4 {
				due = 500 * time.Millisecond // it was recorded after its successor
			}
			if late := time.Since(start) - due; late < 0 || late > minSleep {
				t.Errorf("frame %d came %v late", f.Data[0], late)
			}
		}
		if s := d.State(3); s.Received != 2 || !s.Up {
			t.Errorf("before the last pause the counters say %+v", s) // which came before the last frame
		}
	})
}

// A busy bus costs a sleep for many frames.
func TestPaceInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		const n = 4000
		for i := range n {
			fmt.Fprintf(&text, "(1000.%06d) can1 006#01\n", i*250)
		}
		d, _ := play(t, text.String(), "")
		start := time.Now()
		sleeps := 0
		var f can.Frame
		for last := start; ; {
			if err := d.Receive(t.Context(), &f); err != nil {
				break
			}
			if now := time.Now(); now != last {
				last = now
				sleeps++
			}
		}
		if took := time.Since(start); took < 990*time.Millisecond || took > 1010*time.Millisecond || sleeps > 201 {
			t.Errorf("a second took %v with %d pauses", took, sleeps)
		}
	})
}

// A clock that was set is no reason to wait for years, or not at all.
func TestClockWasSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _ := play(t, `(5.000000) can1 006#01
(1700000000.000000) can1 006#02
(1700000001.000000) can1 006#03
(9223372035.000000) can1 006#04
(10.000000) can1 006#05
(12.000000) can1 006#06
`, "")
		start := time.Now()
		got := rest(t, d)
		if took := time.Since(start); took < 3*time.Second || took > 3*time.Second+2*minSleep {
			t.Errorf("took %v", took)
		}
		if len(got) != 6 || got[1].MS != 1_700_000_000_000-1_000_000 || got[5].MS != 12_000-1_000_000 {
			t.Errorf("times %v", got)
		}
	})
}

func TestLoopGoesForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, log := play(t, journey, "?speed=10&loop=true")
		start := time.Now()
		var times []int64
		var f can.Frame
		for range 12 {
			if err := d.Receive(t.Context(), &f); err != nil {
				t.Fatal(err)
			}
			times = append(times, f.Time/1e6-1_000_000)
		}
		if d := cmp.Diff([]int64{0, 1000, 900, 10_000, 10_000, 11_000, 10_900, 20_000, 20_000, 21_000, 20_900, 30_000}, times); d != "" {
			t.Errorf("frame times in ms (-want +got):\n%s", d)
		}
		if took := time.Since(start); took < 3*time.Second || took > 3100*time.Millisecond {
			t.Errorf("30 s at ten times the speed took %v", took)
		}
		if n := strings.Count(log.String(), "broken lines"); n != 1 {
			t.Errorf("said of broken lines %d times", n)
		}
	})
}

// A capture of one frame is played once a second of frame time, and a round never begins before the latest of the round before.
func TestLoopSeam(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []int64
	}{
		"one frame":        {"(1000.0) can1 006#01\n", []int64{0, 1000, 2000}},
		"ends in the past": {"(1005.0) can1 006#01\n(1001.0) can1 006#01\n", []int64{5000, 1000, 9000, 5000, 13_000}},
	} {
		d, _ := play(t, c.text, "?speed=0&loop=true")
		var got []int64
		for range c.want {
			var f can.Frame
			if err := d.Receive(t.Context(), &f); err != nil {
				t.Fatal(err)
			}
			got = append(got, f.Time/1e6-1_000_000)
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// A capture that reaches the end of time ends there.
func TestLoopEndsWithTime(t *testing.T) {
	d, log := play(t, "(1000.0) can1 006#01\n(9223372035.0) can1 006#02\n", "?speed=0&loop=true")
	if got := rest(t, d); len(got) != 2 || !strings.Contains(log.String(), "2262") {
		t.Errorf("%v\n%s", got, log)
	}
}

// None of the buses asked for: said once, and not played for ever.
func TestUnknownBuses(t *testing.T) {
	d, log := play(t, "(1.0) can7 006#01\n(2.0) vcan0 006#01\n", "?speed=0&loop=true")
	if got := rest(t, d); got != nil {
		t.Errorf("heard %v", got)
	}
	if strings.Count(log.String(), "do not occur") != 1 || !strings.Contains(log.String(), "[can1 can2]") || !strings.Contains(log.String(), "[can7 vcan0]") {
		t.Errorf("said\n%s", log)
	}
}

// A capture that is cut is played as far as it is whole, in every round.
func TestCutGzip(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for i := range 20_000 {
		fmt.Fprintf(w, "(%d.000000) can1 006#%08X\n", 1000+i, i*2654435761%(1<<32))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	cut := b.String()[:b.Len()/2]
	d, log := play(t, cut, "?speed=0")
	got := rest(t, d)
	if len(got) < 5000 || d.State(5).Broken != 1 || d.State(5).Up || !strings.Contains(log.String(), "to its end") {
		t.Errorf("%d frames, %+v:\n%s", len(got), d.State(5), log)
	}
	d, _ = play(t, cut, "?speed=0&loop=true")
	var f can.Frame
	for range 2*len(got) + 1 {
		if err := d.Receive(t.Context(), &f); err != nil {
			t.Fatal(err)
		}
	}
	if n := d.State(5).Broken; n != 2 {
		t.Errorf("%d broken lines in two rounds", n)
	}
}

// A capture that is taken away ends.
func TestCaptureGoesAway(t *testing.T) {
	d, log := play(t, journey, "?speed=0&loop=true")
	if err := os.Remove(d.path); err != nil {
		t.Fatal(err)
	}
	if got := rest(t, d); len(got) != 4 || !strings.Contains(log.String(), "played again") {
		t.Errorf("%v\n%s", got, log)
	}
}

func TestEndsWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f can.Frame
		start := func(d *Drive, ctx context.Context) chan error {
			if err := d.Receive(ctx, &f); err != nil {
				t.Fatal(err)
			}
			done := make(chan error)
			go func() { done <- d.Receive(ctx, &f) }()
			synctest.Wait()
			return done
		}
		d, _ := play(t, "(1.0) can1 006#01\n(2.0) can1 006#01\n", "")
		ctx, cancel := context.WithCancel(t.Context())
		done := start(d, ctx)
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("cancelled: %v", err)
		}
		d, _ = play(t, "(1.0) can1 006#01\n(2.0) can1 006#01\n", "")
		done = start(d, t.Context())
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if err := d.Receive(t.Context(), &f); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if err := d.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed twice: %v", err)
		}
	})
}

// FuzzReceive feeds any capture: times and counts stay sane.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(journey))
	f.Add([]byte("(9223372035.999999999) can1 006#01\n(0.0) can2 006#01\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Open("replay://"+capture(t, string(text))+"?speed=0&loop=true", slog.New(slog.DiscardHandler), time.Now)
		if err != nil {
			return
		}
		defer d.Close()
		d.Add("can1", 0, nil)
		d.Add("can2", 1, []can.Filter{{ID: 1, Mask: 1}})
		latest := int64(math.MinInt64)
		var frame can.Frame
		for shift := d.shift; ; {
			if err := d.Receive(t.Context(), &frame); err != nil || d.shift > 4*minLoop {
				return
			}
			if frame.Time < 0 || frame.Bus > 1 || d.shift != shift && frame.Time < latest {
				t.Fatalf("frame %+v after %d", frame, latest)
			}
			if d.shift != shift {
				return // one seam tells
			}
			latest = max(latest, frame.Time)
		}
	})
}
