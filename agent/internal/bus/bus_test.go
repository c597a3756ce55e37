package bus

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
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
	s, err := Open(Config{Buses: []Bus{{"a", urls[0]}, {"b", urls[1]}}, Logger: slog.New(slog.DiscardHandler), Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if i, ok := s.Index("b"); !ok || i != 1 {
		t.Errorf("bus b has index %d, %v", i, ok)
	}
	if _, ok := s.Index("c"); ok {
		t.Error("found a bus that is not there")
	}
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
	s, err := Open(Config{Buses: []Bus{{"a", groups(t, 1)[0]}}, Logger: slog.New(slog.DiscardHandler)})
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
		"twice":    {{"a", url}, {"a", url}},
		"too many": make([]Bus, MaxBuses+1),
		"no bus":   {{"a", "http://x"}},
	} {
		if s, err := Open(Config{Buses: buses, Logger: slog.New(slog.DiscardHandler)}); err == nil {
			t.Errorf("%s: opened", name)
			s.Close()
		}
	}
}
