package daemon

import (
	"bytes"
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
	"rawstone/pkg/attest"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/wire"
)

// A world is a directory with a development program and a collector's configuration on free ports.
type world struct {
	dir string
	id  wire.Hash
}

const (
	demoProgram = "../../configs/demo/program.yaml"
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
  validator_key: program/validator.key
vehicles: {ca_certificate: ca/vehicle-ca.pem, ca_key: ca/vehicle-ca.key}
mqtt: {listen: "127.0.0.1:0"}
web: 127.0.0.1:0
https: {listen: "127.0.0.1:0", certificate: server.pem, key: server.key}
`
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	id, err := Init(demoProgram, w.path("program"), time.Now)
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
	return w
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
	w.write(t, "collector.yaml", []byte(strings.NewReplacer(replace...).Replace(goodConfig)))
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
