package daemon

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/peer"
	"rawstone/collector/internal/program"
	"rawstone/collector/internal/role"
	"rawstone/collector/internal/setting"
	"rawstone/pkg/wire"
)

func TestDemoConfig(t *testing.T) {
	c, err := Load("../../configs/demo/collector.yaml")
	if err != nil {
		t.Fatal(err)
	}
	demo := func(name string) string { return filepath.Join("../../build/demo", name) }
	want := &Config{
		Environment: wire.Development, StateDir: demo("collector"), Ledger: demo("collector/ledger"), Roles: role.All, Web: "127.0.0.1:8088",
		MQTT:     setting.MQTT{Listen: "127.0.0.1:18830", Certificate: demo("ca/server.pem"), Key: demo("ca/server.key")},
		Vehicles: setting.Vehicles{CACertificate: demo("ca/vehicle-ca.pem"), CAKey: demo("ca/vehicle-ca.key"), TokenDays: 30},
		Intake:   setting.Intake{RefusalsPerVehicleDay: 100},
		HTTPS: setting.HTTPS{
			Listen: "127.0.0.1:18443", Certificate: demo("ca/server.pem"), Key: demo("ca/server.key"),
		},
		Program: program.Config{
			Root: demo("program/root.pub"), File: demo("program/program.cose"), Charter: demo("program/charter.cose"),
			Policies: []string{demo("program/policies/1.cose"), demo("program/policies/2.cose"), demo("program/policies/3.cose")}, ClaimKeys: demo("program/claim"),
			Offers:     []string{demo("program/offers/1.cose")},
			ECUCA:      demo("ca/ecu-ca.pem"),
			ReceiptKey: demo("program/receipt.key"), LogKey: demo("program/log.key"),
		},
		Validators: []setting.Validator{
			{Name: "demo/operator", URL: "https://127.0.0.1:19441"}, {Name: "demo/auditor", URL: "https://127.0.0.1:19442"},
			{Name: "demo/bank", URL: "https://127.0.0.1:19443"}, {Name: "demo/owners", URL: "https://127.0.0.1:19444"},
		},
		API:      setting.API{Listen: "127.0.0.1:18444", JWKS: demo("app/jwks.json"), Issuer: "https://accounts.example", Audience: "rawstone", LeewayS: 10, StatementDays: 400, StatementMB: 20480},
		Internal: peer.Config{CA: demo("ca/internal-ca.pem"), Certificate: demo("nodes/collector.pem"), Key: demo("nodes/collector.key")},
	}
	if d := cmp.Diff(want, c); d != "" {
		t.Error(d)
	}
}

func TestDefaultsAreLoopback(t *testing.T) {
	w := &world{dir: t.TempDir()}
	c := w.load(t, `mqtt: {listen: "127.0.0.1:0"}`, "", "web: 127.0.0.1:0", "", `listen: "127.0.0.1:0", certificate`, "certificate")
	if c.MQTT.Listen != "127.0.0.1:8883" || c.Web != "127.0.0.1:8080" || c.HTTPS.Listen != "127.0.0.1:8443" {
		t.Errorf("listens on %s, %s and %s", c.MQTT.Listen, c.Web, c.HTTPS.Listen)
	}
}

// TestFaultsAreJoined checks that every fault of a file is reported at once, where it stands.
func TestFaultsAreJoined(t *testing.T) {
	w := &world{dir: t.TempDir()}
	w.write(t, "collector.yaml", []byte(`environment: staging
program:
  root: root.pub
  file: program.cose
  charter: ""
  policies: [a.cose, ""]
  receipt_key: receipt.key
vehicles: {ca_key: vehicle-ca.key, token_days: 366}
mqtt:
  listen: :8883
  certificate: mqtt.pem
web: example.org:80
https: {listen: "localhost:1", key: server.key}
bridge: {url: "tcp://127.0.0.1:1883", ca: ca.pem, key: bridge.key}
`))
	_, err := Load(w.path("collector.yaml"))
	if err == nil {
		t.Fatal("loaded")
	}
	file := w.path("collector.yaml")
	want := []string{
		"cannot use configuration:",
		file + ": bridge.certificate: must be set, as bridge.url is",
		file + ": https.certificate: must be set",
		file + ": program.claim_keys: must be set",
		file + ": program.ecu_ca: must be set",
		file + ": program.log_key: must be set",
		file + ": state_dir: must be set",
		file + ": validators: must say where the program's validators are",
		file + ": vehicles.ca_certificate: must be set",
		file + `:1:14: environment: "staging" is neither development nor production`,
		file + ":5:12: program.charter: must be set",
		file + ":6:22: program.policies[1]: must be set",
		file + ":8:48: vehicles.token_days: 366 is not from 1 to 365",
		file + ":10:3: mqtt: certificate and key go together",
		file + `:10:11: mqtt.listen: ":8883" is not IP:port`,
		file + `:12:6: web: "example.org:80" is not a loopback IP:port`,
		file + `:13:17: https.listen: "localhost:1" is not IP:port`,
		file + `:14:15: bridge.url: "tcp://127.0.0.1:1883" is not ssl://HOST:PORT`,
	}
	got := strings.Split(err.Error(), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d:\n%v", len(got), len(want), err)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("line %d: %q, want %q", i, got[i], want[i])
		}
	}
}

func TestBadFiles(t *testing.T) {
	w := &world{dir: t.TempDir()}
	for text, want := range map[string]string{
		"": "must be set",
		"environment: development\nweb: 1\nwebb: 2": "collector.yaml:3:1: webb: unknown key",
		"environment: [":                        "collector.yaml",
		"intake: {refusals_per_vehicle_day: 0}": "collector.yaml:1:36: intake.refusals_per_vehicle_day: 0 is not from 1 to 10000",
		strings.Replace(goodConfig, "policies: [program/policies/1.cose]", "policies: []", 1): "program.policies: must name at least one file",
	} {
		w.write(t, "collector.yaml", []byte(text))
		_, err := Load(w.path("collector.yaml"))
		if err == nil {
			t.Errorf("%q was loaded", text)
			continue
		}
		contains(t, err.Error(), want)
	}
	if _, err := Load(w.path("none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("a missing file: %v", err)
	}
}
