package reader

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/bus"
	"rawstone/agent/internal/vehicle"
	"rawstone/agent/internal/vss"
)

// TestEndOfRecordedDrive holds that a reader of recorded drives alone ends with them, without error.
func TestEndOfRecordedDrive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drive.log")
	if err := os.WriteFile(path, []byte("(1.000000) can0 123#00\n(1.000100) can0 320#E803000001000000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := vehicle.Compile(shipped(t, "sim.yaml"), func(string) (uint8, bool) { return 0, true }, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []vss.Sample
	r, err := Open(Config{
		Buses: []bus.Bus{{Name: "can0", URL: "replay://" + path + "?speed=0"}}, Vehicle: v, Observe: func(s vss.Sample) { got = append(got, s) },
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Value != 1_000_000 || got[0].Time != 1_000_100_000 {
		t.Errorf("samples %+v, want one of 1,000 m", got)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestRecordedIsNotAsked holds that a recorded drive is asked for nothing, while a bus beside it is.
func TestRecordedIsNotAsked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drive.log")
	if err := os.WriteFile(path, []byte("(1.000000) can0 7E8#03410D48\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := vehicle.Load(writeMap(t, "vss: '6.0'\nbuses: [{name: can0}, {name: can1}]\nsignals:\n"+
		"  - {path: Vehicle.Speed, bus: can0, pid: 0x0D, every: 100ms}\n  - {path: Vehicle.Speed, bus: can1, pid: 0x0D, every: 100ms}\n"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := vehicle.Compile(m, func(name string) (uint8, bool) { return name[3] - '0', true }, nil)
	if err != nil {
		t.Fatal(err)
	}
	url := busURL(t)
	asked := engine(t, url)
	speeds := make(chan vss.Sample, 64)
	log, registry := new(syncBuffer), prometheus.NewRegistry()
	r, err := Open(Config{
		Metrics: registry,
		Buses:   []bus.Bus{{Name: "can0", URL: "replay://" + path + "?speed=0"}, {Name: "can1", URL: url}},
		Vehicle: v, Poll: true, ECUBus: 1, Logger: slog.New(slog.NewTextHandler(log, nil)),
		Observe: func(s vss.Sample) {
			select {
			case speeds <- s:
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, r)
	for counted(t, registry, "poll_answered") < 2 { // an answer is told to the right request, or it would be given up as silent
		wait(t, asked, "request")
	}
	seen := make(map[int]int64)
	for len(seen) < 2 {
		s := wait(t, speeds, "speed")
		seen[s.Signal] = s.Value
	}
	if seen[0] != 20_000 || seen[1] != 13_889 {
		t.Errorf("speeds %v, want the recorded 72 km/h and the answered 50 km/h", seen)
	}
	if n := counted(t, registry, "vehicle_answers"); n < 2 {
		t.Errorf("%v answers are counted", n)
	}
	if strings.Contains(log.String(), "cannot ask") {
		t.Errorf("a recorded drive was asked:\n%s", log)
	}
}

func counted(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "rawstone_"+name+"_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// A syncBuffer takes what several goroutines log.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func writeMap(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "map.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
