package rawstone_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	collector "rawstone/collector/daemon"
)

// A convoy is the fleet's program and the collector's, built for a test, with a collector to drive for.
type convoy struct {
	*world
	bin      string
	programs map[string]string // by the names of their collectors
}

func newConvoy(t *testing.T) *convoy {
	t.Helper()
	c := &convoy{&world{
		dir: t.TempDir(), now: time.Now, mqtt: "127.0.0.1:" + strconv.Itoa(freePort(t)), https: "127.0.0.1:" + strconv.Itoa(freePort(t)),
	}, t.TempDir(), make(map[string]string)}
	build := exec.Command("go", "build", "-o", c.bin+"/", "./collector", "./firmware-sim")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := collector.InitCA(c.path("ca"), []string{"127.0.0.1"}, c.now()); err != nil {
		t.Fatal(err)
	}
	c.begin(t, "program", "collector")
	return c
}

// begin begins a program of short days and writes the configuration of a collector for it.
func (c *convoy) begin(t *testing.T, program, collectorName string) {
	t.Helper()
	source := c.write(t, program+".yaml", fmt.Sprintf("name: %s\nday_s: 3600\ndrop_s: 2\nvalidators: [operator]\ncharter: %q\npolicies: [%q]\n", program, config("charter.yaml"), config("policies/mileage.yaml")))
	if _, err := collector.Init(source, c.path(program), c.now); err != nil {
		t.Fatal(err)
	}
	c.programs[collectorName] = program
	c.write(t, collectorName+".yaml", strings.ReplaceAll("environment: development\nstate_dir: "+collectorName+"\nprogram:\n  root: PROGRAM/root.pub\n  file: PROGRAM/program.cose\n"+
		"  charter: PROGRAM/charter.cose\n  policies: [PROGRAM/policies/1.cose]\n  claim_keys: PROGRAM/claim\n  ecu_ca: ca/ecu-ca.pem\n"+
		"  receipt_key: PROGRAM/receipt.key\n  log_key: PROGRAM/log.key\n"+c.validator(t, program, program)+
		"vehicles: {ca_certificate: ca/vehicle-ca.pem, ca_key: ca/vehicle-ca.key}\nmqtt: {listen: "+c.mqtt+"}\n"+
		"https: {listen: "+c.https+", certificate: ca/server.pem, key: ca/server.key}\nweb: 127.0.0.1:0\n", "PROGRAM", program))
}

func (c *convoy) serve(t *testing.T, name string) (stop func()) {
	t.Helper()
	cfg, err := collector.Load(c.path(name + ".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	stopValidator := c.validate(t, c.programs[name])
	ready := make(chan struct{})
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	stopCollector := start(t, func(ctx context.Context) error {
		return collector.Run(ctx, cfg, collector.Deps{Logger: logger, OnReady: func(collector.Addresses) { close(ready) }})
	})
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("the collector is not ready within a minute")
	}
	return func() { stopCollector(); stopValidator() }
}

// command returns the fleet's command.
func (c *convoy) command(t *testing.T, name, dir string, vehicles, days int, more ...string) *exec.Cmd {
	args := append([]string{"fleet", "--collector", c.path(name + ".yaml"), "--bin", c.bin, "--dir", c.path(dir),
		"--vehicles", strconv.Itoa(vehicles), "--days", strconv.Itoa(days)}, more...)
	return exec.CommandContext(t.Context(), filepath.Join(c.bin, "firmware-sim"), args...)
}

// plays plays a fleet that must end well, and returns how many claims were accepted.
func (c *convoy) plays(t *testing.T, name, dir string, vehicles, days int, more ...string) int {
	t.Helper()
	out, err := c.command(t, name, dir, vehicles, days, more...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var result struct {
		Accepted, Earlier, Unanswered, Wrong int
		P50                                  float64 `json:"receipt_p50_ms"`
		P99                                  float64 `json:"receipt_p99_ms"`
	}
	c.read(t, filepath.Join(dir, "result.json"), &result)
	if result.Accepted+result.Earlier != vehicles*days || result.Unanswered+result.Wrong != 0 || result.Accepted > 0 && !(0 < result.P50 && result.P50 <= result.P99) {
		t.Errorf("result %+v of %d vehicles with %d claims each\n%s", result, vehicles, days, out)
	}
	return result.Accepted
}

// refused plays a fleet that must not be played.
func (c *convoy) refused(t *testing.T, want, name, dir string, vehicles, days int, more ...string) {
	t.Helper()
	if out, err := c.command(t, name, dir, vehicles, days, more...).CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%v, want %q in\n%s", err, want, out)
	}
}

func (c *convoy) read(t *testing.T, name string, v any) {
	t.Helper()
	text, err := os.ReadFile(c.path(name))
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// truth returns the kilometres and claims of all vehicles of a fleet, of whom each must have its share of the claims.
func (c *convoy) truth(t *testing.T, dir string, vehicles, days int) (km uint64, claims int) {
	t.Helper()
	var all map[string]struct {
		Km     uint64
		Claims int
	}
	c.read(t, filepath.Join(dir, "truth.json"), &all)
	if len(all) != vehicles {
		t.Errorf("%d vehicles have a truth, want %d", len(all), vehicles)
	}
	for name, v := range all {
		if v.Claims != days || v.Km < uint64(days) {
			t.Errorf("vehicle %s: %+v, want %d claims of 1 km and more", name, v, days)
		}
		km, claims = km+v.Km, claims+v.Claims
	}
	return km, claims
}

// proofs returns what a fleet keeps of its proofs.
func (c *convoy) proofs(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.path(dir), "proofs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]byte)
	for _, f := range files {
		if all[filepath.Base(f)], err = os.ReadFile(f); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestFleet plays fleets with the real programs, kills one in the middle, spoils what it keeps, lets it grow, and compares what it holds
// receipts for with the ledger.
func TestFleet(t *testing.T) {
	c := newConvoy(t)
	c.refused(t, "cannot enrol vehicle", "collector", "alone", 1, 1) // registration needs no collector; enrolment does
	stop := c.serve(t, "collector")
	c.plays(t, "collector", "alone", 1, 1)

	// Slow, so that there is time to kill it after the first receipts were kept.
	cmd := c.command(t, "collector", "fleet", 6, 2, "--rate", "0.5", "--connections", "3")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, 2*time.Minute, "first receipt", func() bool {
		b, err := os.ReadFile(c.path("fleet/receipts"))
		return err == nil && bytes.Contains(b, []byte("\n"))
	})
	c.refused(t, "another run of the fleet uses it", "collector", "fleet", 6, 2)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	proven := c.proofs(t, "fleet")

	// What was cut off, spoilt or does not belong there costs no more than it was.
	for name, b := range proven {
		path := filepath.Join(c.path("fleet/proofs"), name)
		spoilt := bytes.Clone(b[:len(b)-100])
		spoilt[200] ^= 1
		if err := os.WriteFile(path, spoilt, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.write(t, "fleet/proofs/rubbish", "rubbish")
	for name, tail := range map[string]string{"receipts": "0 1", "certificates": "F", "vehicles.csv": "id"} {
		f, err := os.OpenFile(c.path("fleet/"+name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = f.WriteString(tail)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	if n := c.plays(t, "collector", "fleet", 6, 2); n >= 12 {
		t.Error("the receipts of the killed run are forgotten")
	}
	for name, b := range c.proofs(t, "fleet") {
		if old := proven[name]; old != nil && (len(b) != len(old) || !bytes.Equal(b[:128], old[:128]) || !bytes.Equal(b[256:len(b)-128], old[256:len(old)-128])) {
			t.Error("proofs that held were made anew")
		}
	}
	if n := c.plays(t, "collector", "fleet", 6, 2); n != 0 {
		t.Errorf("%d claims were accepted twice", n)
	}
	if n := c.plays(t, "collector", "fleet", 8, 2); n != 4 {
		t.Errorf("two more vehicles have %d claims, want 4", n)
	}
	km, claims := c.truth(t, "fleet", 8, 2)
	km1, claims1 := c.truth(t, "alone", 1, 1)
	until(t, time.Minute, "credit of all claims", func() bool { _, n := c.credited(t); return n >= claims+claims1 })
	if got, n := c.credited(t); got != km+km1 || n != claims+claims1 {
		t.Errorf("the ledger has %d km in %d credits, the fleets hold receipts for %d km in %d", got, n, km+km1, claims+claims1)
	}

	c.refused(t, "was made for --days 2", "collector", "fleet", 8, 3)
	c.begin(t, "second", "other")
	c.refused(t, "was made for another program", "other", "fleet", 8, 2)
	stop()
	c.serve(t, "other")
	// Proofs under another policy do not serve: they are made anew beside those that are there.
	if err := os.MkdirAll(c.path("next"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(c.path("fleet/proofs"), c.path("next/proofs")); err != nil {
		t.Fatal(err)
	}
	c.plays(t, "other", "next", 2, 2)
	if n := len(c.proofs(t, "next")); n != len(proven)+2 { // and the rubbish
		t.Errorf("%d files of proofs, want one more", n)
	}
}
