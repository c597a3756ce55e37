package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rawstone/agent/internal/setting"
	"rawstone/pkg/wire"
)

func TestFaultsAreAllNamed(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"empty": {"", []string{"agent.yaml: environment:", "vehicle:", "state_dir: must", "device_key: no place of the device key given", "program.root: must", "program.file: must",
			"program.charter: must", "ecu.identity: must", "buses: 0 buses", `mqtt.url: "" is not ssl://HOST:PORT`, `collector_url: "" is not https://HOST:PORT`}},
		"unknown key":  {agentYAML + "telemetry: 3\n", []string{"agent.yaml:16:1: telemetry: unknown key"}},
		"repeated key": {agentYAML + "vehicle: CAR2\n", []string{"agent.yaml:16:1: vehicle: the key is repeated"}},
		"many": {strings.NewReplacer(
			"environment: development", "environment: test", "CAR1", "car one", "max_delay: 1s", "max_delay: 49h", "100ms", "99ms",
		).Replace(agentYAML), []string{
			`agent.yaml:1:14: environment: "test" is neither`, "agent.yaml:2:10: vehicle:",
			"agent.yaml:12:50: ecu.answer_wait: 99ms is not within 100ms to 1m0s", "agent.yaml:13:23: dispatch.max_delay: 49h0m0s",
		}},
		"buses": {strings.Replace(agentYAML, "buses:\n", "buses:\n  - {name: can0, url: \"udp://239.64.144.2:1\"}\n  - {url: x}\n", 1),
			[]string{`buses[2].name: "can0" is empty or stands twice`, `buses[1].name: "" is empty`, `agent.yaml:11:11: buses[1].url: `}},
		"ECU's bus":           {strings.Replace(agentYAML, "ecu: {bus: can0", "ecu: {bus: can7", 1), []string{`agent.yaml:12:12: ecu.bus: there is no bus "can7"`}},
		"broker in plaintext": {strings.Replace(agentYAML, "ssl://", "tcp://", 1), []string{`agent.yaml:14:13: mqtt.url: "tcp://127.0.0.1:1" is not ssl://HOST:PORT`}},
		"broker with a user":  {strings.Replace(agentYAML, "ssl://", "ssl://me:secret@", 1), []string{"mqtt.url:", "is not ssl://HOST:PORT"}},
		"TPM without a handle": {strings.Replace(agentYAML, "device.key", "tpm:///dev/tpmrm0", 1),
			[]string{`agent.yaml:4:13: device_key: "tpm:///dev/tpmrm0" is neither a file nor tpm:///DEVICE?handle=0x81010001`}},
		"another's handle":    {strings.Replace(agentYAML, "device.key", "tpm:///dev/tpmrm0?handle=1", 1), []string{"the handle is not one of the owner's"}},
		"collector over http": {strings.Replace(agentYAML, "https://127.0.0.1:1", "http://127.0.0.1:1", 1), []string{`collector_url: "http://127.0.0.1:1" is not https://HOST:PORT`}},
		"collector's user":    {strings.Replace(agentYAML, "https://", "https://me:secret@", 1), []string{"collector_url:", "is not https://HOST:PORT"}},
		"collector's path":    {strings.Replace(agentYAML, "127.0.0.1:1\n", "127.0.0.1:1/v1\n", 1), []string{"collector_url:", "is not https://HOST:PORT"}},
		"no news":             {agentYAML + "news_every: 745h\n", []string{"news_every: 745h0m0s is not within 1s to 744h0m0s"}},
		"consent by file":     {agentYAML + "consent: [hours]\nclaim_kinds: [safe]\n", []string{"agent.yaml:16:1: consent: unknown key", "agent.yaml:17:1: claim_kinds: unknown key"}},
		"cadence by file":     {strings.Replace(agentYAML, "{max_delay", "{every_days: 1, max_delay", 1), []string{"agent.yaml:13:12: dispatch.every_days: unknown key"}},
		"counter":             {agentYAML + "budget_counter: tpm:///dev/tpmrm0?index=1\n", []string{"agent.yaml:16:17: budget_counter: "}},
		"policies by file":    {strings.Replace(agentYAML, "buses:\n", "  policies: [x]\nbuses:\n", 1), []string{"program.policies: unknown key"}},
		"status for all":      {agentYAML + "status: 0.0.0.0:8081\n", []string{"agent.yaml:16:9: status:", "not a loopback IP:port"}},
		"status by a name":    {agentYAML + "status: localhost:8081\n", []string{"not a loopback IP:port"}},
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
		if c.Environment != wire.Development || c.Spool.MaxKiB != setting.Defaults().Spool.MaxKiB {
			t.Errorf("%s: %+v", path, c)
		}
		if err := Check(path); err != nil {
			t.Error(err)
		}
	}
}

func TestDefaultsAndPaths(t *testing.T) {
	w := newWorld(t, wire.Development)
	c := w.load("dispatch: {max_delay: 1s}\n", "", ", answer_wait: 100ms", "", "collector_url:", "collector_ca: ca.pem\ncollector_url:")
	d := setting.Defaults()
	if c.Dispatch != d.Dispatch || c.ECU.AnswerWait != d.ECU.AnswerWait || c.UTCOffset != 8*time.Hour || c.BudgetCounter != "" || c.Status != "" {
		t.Errorf("%+v", c)
	}
	for _, path := range []string{c.StateDir, c.DeviceKey, c.Program.Root, c.Program.File, c.Program.Charter, c.CollectorCA,
		c.ECU.Identity, c.VehicleMap} {
		if filepath.Dir(path) != w.dir {
			t.Errorf("%s is not relative to the file", path)
		}
	}
	if c := w.load("device.key", "tpm:///dev/tpmrm0?handle=0x81010001"); c.DeviceKey != "tpm:///dev/tpmrm0?handle=0x81010001" {
		t.Errorf("a TPM's key is at %s", c.DeviceKey)
	}
}

// TestCheckReportsAll holds that the faults of a configuration and of the vehicle map that it names come at once, each with its place.
func TestCheckReportsAll(t *testing.T) {
	w := newWorld(t, wire.Development)
	if err := Check(w.path("agent.yaml")); err != nil {
		t.Error(err)
	}
	if err := Check(w.path("car.yaml")); err != nil {
		t.Error(err)
	}
	bad := w.write("bad.yaml", strings.NewReplacer("max_delay: 1s", "max_delay: 49h", "car.yaml", "bad-car.yaml").Replace(agentYAML))
	badMap := w.write("bad-car.yaml", strings.NewReplacer("Vehicle.TraveledDistance", "Vehicle.Driver.HeartRate", "unit: m", "unit: stone").Replace(carYAML))
	for path, want := range map[string][]string{
		bad:    {"bad.yaml:13:23: dispatch.max_delay:", "bad-car.yaml:4:10: signals[0].path:"},
		badMap: {"bad-car.yaml:4:10: signals[0].path:"},
	} {
		err := Check(path)
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q is not in the refusal:\n%v", path, part, err)
			}
		}
	}
	// The map is sound and names a bus that the agent does not have.
	other := w.write("other.yaml", strings.Replace(agentYAML, "name: can0", "name: can1", 1))
	if err := Check(other); err == nil || !strings.Contains(err.Error(), `no bus "can0"`) {
		t.Errorf("a map for another bus: %v", err)
	}
}
