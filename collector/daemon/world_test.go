package daemon

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/role"
	"rawstone/pkg/attest"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/wire"
)

// A world is a directory with a development program and a collector's configuration on free ports.
type world struct {
	dir string
	id  wire.Hash
	url string // of the program's only validator
}

const (
	// someValidator stands for the address of the world's own.
	someValidator = "https://127.0.0.1:9443"
	validatorPart = "validators: [{name: demo/operator, url: \"" + someValidator + "\"}]\n"
	internalPart  = "internal: {ca: ca/internal-ca.pem, certificate: nodes/all.pem, key: nodes/all.key}\n"
	// Relative paths are the file's, as in a shipped configuration.
	goodConfig = `environment: development
state_dir: state
program:
  root: program/root.pub
  file: program/program.cose
  charter: program/charter.cose
  policies: [program/policies/1.cose]
  claim_keys: program/claim
  ecu_ca: ca/ecu-ca.pem
  receipt_key: program/receipt.key
  log_key: program/log.key
vehicles: {ca_certificate: ca/vehicle-ca.pem, ca_key: ca/vehicle-ca.key}
mqtt: {listen: "127.0.0.1:0"}
web: 127.0.0.1:0
https: {listen: "127.0.0.1:0", certificate: server.pem, key: server.key}
` + validatorPart + internalPart
)

// source writes the demo's program with one validator, and returns where.
func (w *world) source(t *testing.T) string {
	t.Helper()
	demo, err := filepath.Abs("../../configs/demo")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("[operator, auditor, bank, owners]", "[operator]", "quorum: 3", "quorum: 1", "charter.yaml", demo+"/charter.yaml", "../policies", demo+"/../policies", "../offers", demo+"/../offers").
		Replace(string(readFile(t, demo+"/program.yaml")))
	w.write(t, "program.yaml", []byte(text))
	return w.path("program.yaml")
}

// validator runs one of the program's validators, which has nothing yet, until the test ends or stop is called, and returns where it is. Its clock is far
// ahead, so that the collector's may be any.
func (w *world) validator(t *testing.T, name, listen string) (url string, stop func()) {
	t.Helper()
	state, err := os.MkdirTemp(w.dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return w.validatorIn(t, state, name, listen)
}

// validatorIn is validator for one that has a state.
func (w *world) validatorIn(t *testing.T, state, name, listen string) (url string, stop func()) {
	t.Helper()
	w.write(t, name+".yaml", []byte("environment: development\nstate_dir: "+state+"\nroot: program/root.pub\nkey: program/validator-"+name+".key\nclaim_keys: [program/claim]\n"+
		"listen: "+listen+"\nweb: 127.0.0.1:0\ninternal: {ca: ca/internal-ca.pem, certificate: nodes/validator.pem, key: nodes/validator.key}\n"))
	cfg, err := LoadValidator(w.path(name + ".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- RunValidator(ctx, cfg, ValidatorDeps{Logger: slog.New(slog.DiscardHandler), OnReady: func(at, _ string) { ready <- at },
			Now: func() time.Time { return time.Now().AddDate(100, 0, 0) }})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("validator %s: %v", name, err)
		}
	})
	t.Cleanup(stop)
	select {
	case at := <-ready:
		return "https://" + at, stop
	case err := <-done:
		done <- err
		t.Fatal(err)
	}
	return "", nil
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	id, err := Init(w.source(t), w.path("program"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	w.id = id
	if err := ca.Init(w.path("ca"), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := ca.IssueServer(w.path("ca"), []string{"127.0.0.1"}, w.path("server.pem"), w.path("server.key"), time.Now()); err != nil {
		t.Fatal(err)
	}
	w.certify(t)
	w.url, _ = w.validator(t, "operator", "127.0.0.1:0")
	return w
}

// certify makes the certificates by which collector and validators know each other.
func (w *world) certify(t *testing.T) {
	t.Helper()
	for name, roles := range map[string][]string{"all": role.All.List(), "validator": role.Validator.List()} {
		if err := ca.IssueNode(w.path("ca"), name, roles, []string{"127.0.0.1"}, w.path("nodes"), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(w.path(name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// load reads the good configuration after replacing parts of it, in pairs of old and new.
func (w *world) load(t *testing.T, replace ...string) *Config {
	t.Helper()
	w.write(t, "collector.yaml", []byte(strings.ReplaceAll(strings.NewReplacer(replace...).Replace(goodConfig), someValidator, cmp.Or(w.url, someValidator))))
	c, err := Load(w.path("collector.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// car writes the files with which a vehicle is registered and returns what to register.
func (w *world) car(t *testing.T, id string) Vehicle {
	t.Helper()
	key := func(name string) (*ecdsa.PrivateKey, wire.PublicKey) {
		k, err := keyfile.Create(w.path(name))
		if err != nil {
			t.Fatal(err)
		}
		p, err := wire.NewPublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		return k, p
	}
	ecu, public := key(id + ".ecu")
	snapshot, err := attest.Sign(ecu, w.id, 1, 2, wire.Commitment{1})
	if err != nil {
		t.Fatal(err)
	}
	who := attest.Identity{Key: public, Program: w.id, Snapshot: snapshot}
	identity, err := attest.EncodeIdentity(who)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := ca.IssueECU(w.path("ca"), &who, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, id+".ecu.pem", certificate)
	w.write(t, id+".pem", identity)
	_, device := key(id + ".key")
	w.write(t, id+".pub", []byte(hex.EncodeToString(device[:])+"\n"))
	return Vehicle{ID: id, ECUKey: w.path(id + ".pem"), ECUCert: w.path(id + ".ecu.pem")}
}

// A running is a collector that runs.
type running struct {
	Addresses
	stop context.CancelFunc
	err  error // valid once done is closed
	done chan struct{}
	log  *logs
}

// logs is a buffer that goroutines may write to.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// hang bounds what would otherwise never end.
const hang = time.Minute

// start runs a collector and returns once it is ready.
func start(t *testing.T, cfg *Config) *running {
	t.Helper()
	return startAt(t, cfg, time.Now)
}

func startAt(t *testing.T, cfg *Config, now func() time.Time) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, done: make(chan struct{}), log: new(logs)}
	ready := make(chan Addresses, 1)
	go func() {
		defer close(r.done)
		r.err = Run(ctx, cfg, Deps{Logger: slog.New(slog.NewTextHandler(r.log, nil)), Now: now, OnReady: func(a Addresses) { ready <- a }})
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	select {
	case r.Addresses = <-ready:
	case <-r.done:
		t.Fatalf("did not become ready: %v\n%s", r.err, r.log)
	case <-time.After(hang):
		t.Fatalf("did not become ready\n%s", r.log)
	}
	return r
}

// end stops the collector and fails the test when it does not stop cleanly.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case <-r.done:
	case <-time.After(hang):
		t.Fatal("does not stop")
	}
	if r.err != nil {
		t.Errorf("stopped with %v", r.err)
	}
	if strings.Contains(r.log.String(), "level=ERROR") {
		t.Errorf("errors in the log:\n%s", r.log)
	}
}

// drawn waits until the ledger of a running collector holds a block. What the log of the process and the dashboard say of a drop they
// say from the records, which are ahead of the ledger.
func (w *world) drawn(t *testing.T, r *running) {
	t.Helper()
	for end := time.Now().Add(hang); ; time.Sleep(20 * time.Millisecond) {
		report, err := Audit(t.Context(), w.path("state/ledger"), w.path("program/root.pub"), "")
		if err == nil && report.Blocks > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no drop was drawn: %v\n%s", err, r.log)
		}
	}
}

// get fetches a page of the collector.
func (r *running) get(t *testing.T, path string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Web+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

// refuses runs a collector that must not start, and returns why.
func refuses(t *testing.T, cfg *Config) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	err := Run(ctx, cfg, Deps{Logger: slog.New(slog.DiscardHandler), OnReady: func(Addresses) {
		t.Error("became ready")
		cancel()
	}})
	if err == nil {
		t.Fatal("was not refused")
	}
	return err.Error()
}

func contains(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, w := range wants {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in: %.500s", w, text)
		}
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
