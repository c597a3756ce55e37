package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/attest"
	"rawstone/pkg/wire"
)

func TestConfigurationIsRefused(t *testing.T) {
	w := newWorld(t, 60)
	head := "program: {file: p, root: r}\nstate: ecu\n"
	bus := "buses: [{name: a, url: udp://239.1.2.3:4}]\n"
	for _, tt := range []struct {
		text string
		want []string
	}{
		{"", []string{"sim.yaml: program.file", "program.root", "state", "buses"}},
		{head + bus + "speed: 3\n", []string{"sim.yaml:4:1: speed: unknown key"}},
		{head + bus + "mode: fly\n", []string{`sim.yaml:4:7: mode: "fly" is neither`}},
		{head + bus + "drive: {profile: racer, step_ms: 7}\necu: {overspeed_kmh: 10, standstill_kmh: 11, bus: b}\n",
			[]string{"sim.yaml:4:18: drive.profile", "sim.yaml:4:34: drive.step_ms", "ecu.overspeed_kmh: 10 is not", "ecu.standstill_kmh", `ecu.bus: "b"`}},
		{head + "buses: [{name: a, url: tcp://x:1}, {name: a, url: tcp://x:1}]\n",
			[]string{"sim.yaml:3:24: buses[0].url", "buses[1].name: \"a\" stands twice", "buses[1].url: \"tcp://x:1\" stands twice", "one bus"}},
		{head + bus + "mode: replay\nreplay: {speed: 0, sensors: {bus: z, speed: {unit: c}}}\n",
			[]string{"replay.dbc", "replay.speed", "replay.sensors.bus", "sim.yaml:5:52: replay.sensors.speed.unit", "odometer.signal"}},
	} {
		path := filepath.Join(w.dir, "sim.yaml")
		if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in the refusal of\n%s\n%v", want, tt.text, err)
			}
		}
	}
}

func TestRunRefuses(t *testing.T) {
	w := newWorld(t, 60)
	cfg := w.load(t, "")
	logger := slog.New(slog.DiscardHandler)
	check := func(name, want string, cfg *Config) {
		t.Helper()
		if err := Run(t.Context(), cfg, Deps{Logger: logger}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	check("no ECU", "ecu init", cfg)
	birth(t, cfg)
	if _, err := Init(cfg, nil); err == nil {
		t.Error("made two ECUs in one place")
	}
	other := *cfg
	other.Program.File += "x"
	check("no program", "no such file", &other)
	other = *cfg
	other.Program.Root = filepath.Join(newWorld(t, 60).dir, "root.pub")
	check("other root", "program.cose", &other)
	other = *cfg
	other.Buses = []BusConfig{{"a", "udp://127.0.0.1:4000"}}
	check("no multicast", "multicast", &other)
	other = *w.load(t, replayYAML)
	check("no DBC file", "capture.dbc", &other)
	other.Replay.Capture = ""
	check("no capture", "no capture is named", &other)
	if err := Run(t.Context(), cfg, Deps{}); err == nil {
		t.Error("ran without a logger")
	}
}

// TestReferenceConfiguration keeps the commented reference in step with the keys and their defaults.
func TestReferenceConfiguration(t *testing.T) {
	path := filepath.Join("..", "..", "configs", "firmware-sim.yaml")
	for _, mode := range []Mode{ModeDrive, ModeReplay} {
		got, err := LoadAs(path, mode)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, 60)
		def := w.load(t, "")
		if d := cmp.Diff(def.Drive, got.Drive); d != "" {
			t.Errorf("drive (-default +reference):\n%s", d)
		}
		if d := cmp.Diff(ECUConfig{Bus: "can2", OverspeedKmh: def.ECU.OverspeedKmh}, got.ECU); d != "" {
			t.Errorf("ecu (-default +reference):\n%s", d)
		}
		if got.Mode != mode || got.Replay.Speed != def.Replay.Speed || got.Replay.Loop != def.Replay.Loop {
			t.Errorf("%+v", got)
		}
	}
}

// TestGroundTruth keeps the last of two snapshots with one number: a crash between record and state makes the ECU sign again.
func TestGroundTruth(t *testing.T) {
	cfg := &Config{State: t.TempDir(), History: true}
	keep := record(cfg)
	var want []Truth
	for i, seq := range []uint64{0, 1, 1, 2} {
		m := attest.Message{
			Snapshot: wire.Snapshot{Seq: seq, Day: uint32(i), Commitment: wire.Commitment{byte(i)}},
			Opening:  wire.Opening{Counters: wire.Counters{uint32(i)}, Salt: wire.Salt{30: byte(i)}},
		}
		if err := keep(m); err != nil {
			t.Fatal(err)
		}
		if i != 1 {
			want = append(want, Truth{seq, m.Snapshot.Day, m.Snapshot.Commitment, m.Opening})
		}
	}
	got, err := GroundTruth(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	path := filepath.Join(cfg.State, historyFile)
	for _, line := range []string{"{", `{"seq":3,"commitment":"00","salt":"00"}`} {
		if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := GroundTruth(cfg); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%s: line 1", path)) {
			t.Errorf("%s: %v", line, err)
		}
	}
	if record(&Config{State: cfg.State}) != nil {
		t.Error("keeps a history that was not asked for")
	}
}
