package rawstone_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	agent "rawstone/agent/daemon"
	collector "rawstone/collector/daemon"
	sim "rawstone/firmware-sim/daemon"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
)

// childRole makes the test binary run a daemon instead of the tests; childConfig is the daemon's configuration.
const (
	childRole   = "RAWSTONE_E2E_CHILD"
	childConfig = "RAWSTONE_E2E_CONFIG"
)

func TestMain(m *testing.M) {
	role := os.Getenv(childRole)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := child(role, os.Getenv(childConfig)); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
}

func child(role, path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	os.NewFile(3, "ready").Close() // from here on it can be told to stop
	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	if strings.HasPrefix(role, "validator") {
		cfg, err := collector.LoadValidator(path)
		if err != nil {
			return err
		}
		return collector.RunValidator(ctx, cfg, collector.ValidatorDeps{Logger: logger})
	}
	if role == "collector" {
		cfg, err := collector.Load(path)
		if err != nil {
			return err
		}
		return collector.Run(ctx, cfg, collector.Deps{Logger: logger})
	}
	cfg, err := agent.Load(path)
	if err != nil {
		return err
	}
	return agent.Run(ctx, cfg, agent.Deps{Logger: logger})
}

// A world is a program with one vehicle, its configuration files in dir.
type world struct {
	dir string
	now func() time.Time
	// mqtt and https are where the collector listens.
	mqtt, https string
	// stopValidator ends the program's validator, which runs in this process.
	stopValidator func()
}

// car is what the simulated car and the agent's reading side are configured with.
type car struct{ sim, buses, vehicle, bus, consent string }

// drivenCar has invented days; its step keeps the frames of a short day few.
func drivenCar(url string) car {
	return car{
		bus:     "can0",
		consent: "hours, trips",
		sim:     fmt.Sprintf("buses: [{name: can0, url: %q}]\ndrive: {profile: commuter, step_ms: 2000}\n", url),
		buses:   fmt.Sprintf("- {name: can0, url: %q}", url),
		vehicle: config("vehicles/sim.yaml"),
	}
}

// config returns the absolute path of a shipped configuration file.
func config(name string) string {
	path, err := filepath.Abs(filepath.Join("configs", name))
	if err != nil {
		panic(err)
	}
	return path
}

// freePort returns a port of this machine that is free now. It is below those that the kernel gives away by itself, so that nobody has
// taken it when a killed collector comes back.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 10_000 + rand.IntN(20_000)
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// busURL returns a multicast bus that no other test uses now.
func busURL(t *testing.T) string { return fmt.Sprintf("udp://239.64.143.1:%d", freePort(t)) }

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return w.path(name)
}

// newWorld begins a program of short or long days, makes an ECU and a device key, and registers the vehicle CAR1. The agent reaches
// the broker at broker, or directly when that is empty.
func newWorld(t *testing.T, dayS int, now func() time.Time, c car, broker string) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), now: now, mqtt: "127.0.0.1:" + strconv.Itoa(freePort(t)), https: "127.0.0.1:" + strconv.Itoa(freePort(t))}
	if broker == "" {
		broker = w.mqtt
	}
	source := w.write(t, "program.yaml", fmt.Sprintf("name: e2e\nday_s: %d\ndrop_s: %d\nvalidators: [operator]\ncharter: %q\npolicies: [%q]\n",
		dayS, max(dayS/144, 1), config("demo/charter.yaml"), config("policies/mileage.yaml")))
	if _, err := collector.Init(source, w.path("program"), now); err != nil {
		t.Fatal(err)
	}
	if err := collector.InitCA(w.path("ca"), []string{"127.0.0.1"}, now()); err != nil {
		t.Fatal(err)
	}
	const documents = "  root: program/root.pub\n  file: program/program.cose\n"
	const charter = "  charter: program/charter.cose\n"
	const authority = "vehicles: {ca_certificate: ca/vehicle-ca.pem, ca_key: ca/vehicle-ca.key}\n"
	w.write(t, "collector.yaml", "environment: development\nstate_dir: collector\nprogram:\n"+documents+charter+
		"  policies: [program/policies/1.cose]\n  claim_keys: program/claim\n  ecu_ca: ca/ecu-ca.pem\n"+
		"  receipt_key: program/receipt.key\n  log_key: program/log.key\n"+
		w.validator(t, "e2e", "program")+authority+"mqtt: {listen: "+w.mqtt+"}\nhttps: {listen: "+w.https+", certificate: ca/server.pem, key: ca/server.key}\nweb: 127.0.0.1:0\n")
	w.write(t, "sim.yaml", "program:\n"+documents+"state: ecu\nhistory: true\n"+c.sim)
	w.write(t, "agent.yaml", "environment: development\nvehicle: CAR1\nstate_dir: agent\ndevice_key: device.key\nprogram:\n"+documents+charter+
		"collector_url: https://"+w.https+"\ncollector_ca: ca/server-ca.pem\nnews_every: 1s\nbuses:\n"+c.buses+"\nvehicle_map: "+c.vehicle+"\necu: {bus: "+c.bus+", identity: identity.pem, answer_wait: 500ms}\n"+
		"dispatch: {max_delay: 50ms, retry_after: 1s}\n"+
		"mqtt: {url: \"ssl://"+broker+"\", retry_min: 50ms, retry_max: 500ms, receipt_wait: 1s}\n")
	identity, err := sim.Init(w.car(t), now)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "identity.pem", string(identity))
	if err := collector.CertifyECU(w.path("ca"), w.path("identity.pem"), w.path("ecu.pem"), now()); err != nil {
		t.Fatal(err)
	}
	_, token, err := collector.AddVehicle(t.Context(), w.collector(t), collector.Vehicle{
		ID: "CAR1", ECUKey: w.path("identity.pem"), ECUCert: w.path("ecu.pem"),
	}, now)
	if err != nil {
		t.Fatal(err)
	}
	w.stopValidator = w.validate(t, "e2e")
	w.enroll(t, token)
	w.decide(t, c.consent, "daily")
	return w
}

// decide decides as the driver what the car may tell and how often; the agent does not run.
func (w *world) decide(t *testing.T, names, cadence string) {
	t.Helper()
	desk, closer, err := agent.Desk(t.Context(), w.agent(t), agent.Deps{Logger: slog.New(slog.DiscardHandler), Now: w.now})
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(names, ", ") {
		if _, err := desk.Turn(t.Context(), name, true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := desk.SetCadence(t.Context(), cadence); err != nil {
		t.Fatal(err)
	}
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
}

// validator writes the configuration of the only validator of a program, validator-NAME.yaml, and returns what the collector's says of it.
// The program is in dir.
func (w *world) validator(t *testing.T, name, dir string) string {
	t.Helper()
	at := "127.0.0.1:" + strconv.Itoa(freePort(t))
	if _, err := os.Stat(w.path("nodes")); err != nil {
		for node, roles := range map[string][]string{"collector": {"broker", "ingest", "settle", "web"}, "validator": {"validator"}} {
			if err := collector.CertifyNode(w.path("ca"), node, roles, []string{"127.0.0.1"}, w.path("nodes"), w.now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	const internal = "internal: {ca: ca/internal-ca.pem, certificate: nodes/NODE.pem, key: nodes/NODE.key}\n"
	w.write(t, "validator-"+name+".yaml", "environment: development\nstate_dir: validator-"+name+"\nroot: "+dir+"/root.pub\nkey: "+dir+"/validator-operator.key\nclaim_keys: ["+dir+"/claim]\n"+
		"listen: "+at+"\nweb: 127.0.0.1:0\n"+strings.ReplaceAll(internal, "NODE", "validator"))
	return "validators: [{name: " + name + "/operator, url: \"https://" + at + "\"}]\n" + strings.ReplaceAll(internal, "NODE", "collector")
}

// validate runs a program's validator in this process until the test ends or stop is called.
func (w *world) validate(t *testing.T, name string) (stop func()) {
	t.Helper()
	cfg, err := collector.LoadValidator(w.path("validator-" + name + ".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	ready := make(chan struct{})
	stop = start(t, func(ctx context.Context) error {
		return collector.RunValidator(ctx, cfg, collector.ValidatorDeps{Logger: logger, Now: w.now, OnReady: func(string, string) { close(ready) }})
	})
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("the validator is not ready within a minute")
	}
	return stop
}

// enroll gives the vehicle its device key and certificate from a collector that runs for just that.
func (w *world) enroll(t *testing.T, token string) {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	ready := make(chan struct{})
	stop := start(t, func(ctx context.Context) error {
		return collector.Run(ctx, w.collector(t), collector.Deps{Logger: logger, Now: w.now, OnReady: func(collector.Addresses) { close(ready) }})
	})
	defer stop()
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("the collector is not ready within a minute")
	}
	if err := agent.Enroll(t.Context(), w.agent(t), token, agent.Deps{Logger: logger, Now: w.now}); err != nil {
		t.Fatal(err)
	}
}

func must[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (w *world) car(t *testing.T) *sim.Config {
	c, err := sim.Load(w.path("sim.yaml"))
	return must(t, c, err)
}

func (w *world) agent(t *testing.T) *agent.Config {
	c, err := agent.Load(w.path("agent.yaml"))
	return must(t, c, err)
}

func (w *world) collector(t *testing.T) *collector.Config {
	c, err := collector.Load(w.path("collector.yaml"))
	return must(t, c, err)
}

// start runs a daemon until the test or the returned function stops it, and fails the test when it fails.
func start(t *testing.T, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

// credited returns the kilometres and the number of all credits in the ledger.
func (w *world) credited(t *testing.T) (km uint64, n int) {
	t.Helper()
	root, err := terms.LoadRoot(w.path("program/root.pub"))
	if err != nil {
		t.Fatal(err)
	}
	err = audit.Read(t.Context(), w.path("collector/ledger"), root, func(e *ledger.Entry) error {
		if e.Type != ledger.TypeCredit {
			return nil
		}
		c, err := e.Credit()
		km, n = km+uint64(c.Km), n+1
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Logf("ledger is not readable yet: %v", err)
	}
	return km, n
}

// until waits for a condition that must come true in bounded time.
func until(t *testing.T, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not happen within %v", what, limit)
		}
	}
}
