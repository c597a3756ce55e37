package bus

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
	"rawstone/pkg/capturetest"
)

// groups returns n bus URLs on ports that are free now.
func groups(t *testing.T, n int) (urls []string) {
	t.Helper()
	for i := range n {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		urls = append(urls, fmt.Sprintf("udp://239.64.142.%d:%d", 10+i, c.LocalAddr().(*net.UDPAddr).Port))
	}
	return urls
}

func TestRunSerialisesAndKeepsOrder(t *testing.T) {
	urls := groups(t, 2)
	metrics := prometheus.NewRegistry()
	s, err := Open(Config{Buses: []Bus{{Name: "a", URL: urls[0]}, {Name: "b", URL: urls[1]}}, Logger: slog.New(slog.DiscardHandler), Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const n = 2000
	var inside, clashes atomic.Int32
	next := [2]uint32{}
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, func(f *can.Frame) {
			if inside.Add(1) != 1 {
				clashes.Add(1)
			}
			defer inside.Add(-1)
			if f.ID.Raw() != next[f.Bus] {
				t.Errorf("bus %d: frame %d, want %d", f.Bus, f.ID.Raw(), next[f.Bus])
			}
			if next[f.Bus]++; next[0] == n && next[1] == n {
				cancel()
			}
		})
	}()
	for i, url := range urls {
		car, err := link.Open(link.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		defer car.Close()
		go func() {
			for k := range n {
				if err := car.Send(ctx, &can.Frame{ID: can.Extended | can.ID(k), Len: 1}); err != nil && ctx.Err() == nil {
					t.Errorf("bus %d: %v", i, err)
					return
				}
			}
		}()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if clashes.Load() != 0 {
		t.Errorf("handler ran %d times beside itself", clashes.Load())
	}
	if got := s.Received(); got < 2*n {
		t.Errorf("received %d frames, want %d", got, 2*n)
	}
	if got := testutil.CollectAndCount(metrics, "rawstone_bus_frames_received_total"); got != 2 {
		t.Errorf("%d counters of received frames, want one a bus", got)
	}
}

func TestRunEndsWhenABusFails(t *testing.T) {
	s, err := Open(Config{Buses: []Bus{{Name: "a", URL: groups(t, 1)[0]}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context(), func(*can.Frame) {}); err == nil || !strings.Contains(err.Error(), "bus a") {
		t.Errorf("reading a closed bus: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	url := groups(t, 1)[0]
	for name, buses := range map[string][]Bus{
		"none":     nil,
		"twice":    {{Name: "a", URL: url}, {Name: "a", URL: url}},
		"too many": make([]Bus, MaxBuses+1),
		"no bus":   {{Name: "a", URL: "http://x"}},
	} {
		if s, err := Open(Config{Buses: buses, Logger: slog.New(slog.DiscardHandler)}); err == nil {
			t.Errorf("%s: opened", name)
			s.Close()
		}
	}
}

// capture writes a capture and returns its path.
func capture(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "capture.log")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Buses of one capture share a reader and keep its order across buses; Run ends with the last recorded drive.
func TestReplayShared(t *testing.T) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "(%d.0) can%d %08X#\n", 1000+i, i%3, i)
	}
	url := "replay://" + capture(t, text.String()) + "?speed=0"
	s, err := Open(Config{
		Buses:  []Bus{{Name: "can2", URL: url}, {Name: "can0", URL: url}, {Name: "can1", URL: url, Filters: []can.Filter{{ID: 1, Mask: 1}}}},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(s.sources) != 1 {
		t.Errorf("%d readers of one capture", len(s.sources))
	}
	var got, want []string
	for i := range 1000 {
		if bus := (i + 1) % 3; bus != 2 || i%2 == 1 {
			want = append(want, fmt.Sprintf("%d %08X", bus, i))
		}
	}
	if err := s.Run(t.Context(), func(f *can.Frame) { got = append(got, fmt.Sprintf("%d %s", f.Bus, f.ID)) }); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestRecordedDrives plays each recorded drive through a Set: every frame that the capture holds, no other.
func TestRecordedDrives(t *testing.T) {
	dir := capturetest.Dir(t)
	files, err := filepath.Glob(filepath.Join(dir, "*.candump.log*"))
	if err != nil || len(files) == 0 {
		t.Skipf("no recorded drives in %s: set RAWSTONE_CAPTURES to their folder", dir)
	}
	for _, file := range files {
		r, err := can.OpenFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := make(map[string]int)
		var sum int64
		var f can.Frame
		for r.Next(&f) == nil {
			if f.Flags&can.Error == 0 {
				want[r.Buses()[f.Bus]]++
				sum += f.Time % 1_000_000_007
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		var buses []Bus
		for name := range want {
			buses = append(buses, Bus{Name: name, URL: "replay://" + file + "?speed=0"})
		}
		s, err := Open(Config{Buses: buses, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]int)
		err = s.Run(t.Context(), func(f *can.Frame) {
			got[buses[f.Bus].Name]++
			sum -= f.Time % 1_000_000_007
		})
		if d := cmp.Diff(want, got); d != "" || err != nil || sum != 0 {
			t.Errorf("%s: times differ by %d, %v: %s", filepath.Base(file), sum, err, d)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// One frame more costs no allocation.
func TestReplayAllocates(t *testing.T) {
	run := func(frames int) float64 {
		url := "replay://" + capture(t, strings.Repeat("(1000.0) can1 123#0011223344556677\n", frames)) + "?speed=0"
		return testing.AllocsPerRun(1, func() {
			s, err := Open(Config{Buses: []Bus{{Name: "can1", URL: url}}, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Run(t.Context(), func(*can.Frame) {}); err != nil {
				t.Error(err)
			}
			s.Close()
		})
	}
	if few, many := run(10), run(20_000); many > few+20 {
		t.Errorf("%v allocations for ten frames, %v for 20,000", few, many)
	}
}

func TestCheckURL(t *testing.T) {
	for url, ok := range map[string]bool{
		"udp://239.64.142.1:4000": true, "socketcan://can0": true, "replay:///x?speed=2": true,
		"": false, "can0": false, "http://x": false, "udp://x": false, "socketcan://": false, "replay://x": false, "replay:///x?y=1": false,
	} {
		if err := CheckURL(url); (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// Frames show that a bus is alive whether or not they are wanted; one that is down is silent.
func TestCarried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &car{}, Bus{Name: "can1", URL: "replay://" + capture(t, "(1.0) can1 00A#\n(2.0) can1 00B#\n") + "?speed=0", Filters: []can.Filter{can.Exact(0xA)}})
		if n := r.set.Carried(); n != 2 {
			t.Errorf("%d frames carried, want the drive's 2", n)
		}
		r.last().frames <- can.Frame{ID: 7} // a double's every frame comes with three that it keeps out
		synctest.Wait()
		if n := r.set.Carried(); n != 6 {
			t.Errorf("%d frames carried, want 6", n)
		}
		r.setDown(errDown)
		r.last().fail <- errDown
		synctest.Wait()
		if n := r.set.Carried(); n != 2 {
			t.Errorf("%d frames carried while down, want 2", n)
		}
		r.end(t)
	})
}
