package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rawstone/pkg/wire"
)

func TestFaultsAreAllNamed(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty": {"", []string{"agent.yaml: environment:", "vehicle:", "state_dir: must", "device_key: must", "program.root: must", "program.file: must",
			"program.charter: must", "program.policies: must", "program.claim_keys: must", "ecu.identity: must", "buses: 0 buses", "signals: must", "mqtt.url:"}},
		"unknown key":  {agentYAML + "odometer: 3\n", []string{"[19:1]", `unknown field "odometer"`}},
		"repeated key": {agentYAML + "vehicle: CAR2\n", []string{"[19:1]", "vehicle"}},
		"many": {strings.NewReplacer(
			"environment: development", "environment: test", "CAR1", "car one", "unit: m}", "unit: mile}", `vss: "6.0", bus: can0`, "bus: can9",
			"every_days: 1", "every_days: 32", "max_delay: 1s", "max_delay: 49h", "100ms", "99ms", "speed]", "position]",
		).Replace(agentYAML), []string{
			`agent.yaml:1:14: environment: "test" is neither`, "agent.yaml:2:10: vehicle:", "agent.yaml:14:82: signals[0].unit:",
			"agent.yaml: signals[0].vss: must name the version", `agent.yaml:14:43: signals[0].bus: there is no bus "can9"`,
			"agent.yaml:15:50: ecu.answer_wait: 99ms is not within 100ms to 1m0s", "agent.yaml:16:24: dispatch.every_days: 32 is not within 1 to 31",
			"agent.yaml:16:39: dispatch.max_delay: 49h0m0s", "agent.yaml:17:18: consent[1]:",
		}},
		"biometrics cannot be said": {strings.Replace(agentYAML, "Vehicle.TraveledDistance", "Vehicle.Driver.HeartRate", 1), []string{"agent.yaml:14:12: signals[0].path:"}},
		"buses": {strings.Replace(agentYAML, "buses:\n", "buses:\n  - {name: can0, url: \"udp://239.64.144.2:1\"}\n  - {url: x}\n", 1),
			[]string{`buses[2].name: "can0" is empty or stands twice`, `buses[1].name: "" is empty`}},
		"bus without DBC": {strings.Replace(agentYAML, ", dbc: car.dbc", "", 1), []string{`signals[0].bus: bus "can0" has no dbc file`}},
		"ECU's bus":       {strings.Replace(agentYAML, "ecu: {bus: can0", "ecu: {bus: can7", 1), []string{`agent.yaml:15:12: ecu.bus: there is no bus "can7"`}},
		"broker elsewhere": {strings.Replace(agentYAML, "127.0.0.1:1", "192.0.2.1:1883", 1),
			[]string{"agent.yaml:18:13: mqtt.url: 192.0.2.1:1883 is not a loopback address: without enrolment nothing may leave the machine"}},
		"broker by a name": {strings.Replace(agentYAML, "127.0.0.1:1", "broker.example:1883", 1), []string{"is not a loopback address"}},
		"broker over TLS":  {strings.Replace(agentYAML, "tcp://", "ssl://", 1), []string{"is not tcp://HOST:PORT"}},
		"status for all":   {agentYAML + "status: 0.0.0.0:8081\n", []string{"agent.yaml:19:9: status:", "not a loopback IP:port"}},
		"status by a name": {agentYAML + "status: localhost:8081\n", []string{"not a loopback IP:port"}},
		"bounds": {agentYAML + "spool: {max_kib: 63}\nmemory_limit_mib: 15\nutc_offset: 25h\n",
			[]string{"spool.max_kib: 63", "memory_limit_mib: 15", "utc_offset: 25h0m0s"}},
	} {
		path := filepath.Join(t.TempDir(), "agent.yaml")
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in the refusal:\n%v", name, want, err)
			}
		}
	}
}

// TestShippedConfigurationsLoad keeps the demo's files in step with the keys.
func TestShippedConfigurationsLoad(t *testing.T) {
	dir := filepath.Join("..", "..", "configs", "demo")
	files, err := filepath.Glob(filepath.Join(dir, "agent-*.yaml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		c, err := Load(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if c.Environment != wire.Development || c.Spool.MaxKiB != Defaults().Spool.MaxKiB {
			t.Errorf("%s: %+v", path, c)
		}
		for _, b := range c.Buses {
			if _, err := os.Stat(b.DBC); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

func TestDefaultsAndPaths(t *testing.T) {
	w := newWorld(t, wire.Development)
	c := w.load("dispatch: {every_days: 1, max_delay: 1s}\n", "", "consent: [hours, speed]\n", "", ", answer_wait: 100ms", "")
	d := Defaults()
	if c.Dispatch != d.Dispatch || c.ECU.AnswerWait != d.ECU.AnswerWait || c.UTCOffset != 8*time.Hour || len(c.Consent) != 0 || c.Status != "" {
		t.Errorf("%+v", c)
	}
	for _, path := range []string{c.StateDir, c.DeviceKey, c.Program.Root, c.Program.File, c.Program.Charter, c.Program.Policies[0], c.Program.ClaimKeys,
		c.ECU.Identity, c.Buses[0].DBC} {
		if filepath.Dir(path) != w.dir {
			t.Errorf("%s is not relative to the file", path)
		}
	}
}
