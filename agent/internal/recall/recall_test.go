package recall

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/agent/internal/budget"
	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// ledger knows its charges by their number; the hash of charge n begins with n.
type ledger struct {
	mu     sync.Mutex
	last   uint64
	rolled error
	fail   error
}

func (l *ledger) Compare(index uint64, head [32]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	if index > l.last || index > 0 && head[0] != byte(index) {
		l.rolled = fmt.Errorf("%w: charge %d", budget.ErrRolledBack, index)
	}
	return l.rolled
}

func (l *ledger) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rolled
}

// gate holds what it is asked about until it is opened.
type gate struct {
	open  atomic.Bool
	asked atomic.Pointer[chan struct{}] // takes each question where somebody waits for it; nil for none
}

func (g *gate) Until(string, time.Time) time.Duration {
	if c := g.asked.Load(); c != nil {
		select {
		case *c <- struct{}{}:
		case <-time.After(10 * time.Millisecond):
		}
	}
	if g.open.Load() {
		return 0
	}
	return time.Millisecond
}

// A world is a car that recalls from a collector which answers as answer says.
type world struct {
	*Recall
	t        *testing.T
	gate     gate
	ledger   ledger
	ready    atomic.Bool
	requests chan *http.Request
	compared chan struct{}
	told     chan string
	mu       sync.Mutex
	answer   func(http.ResponseWriter)
}

func record(index uint64) []byte {
	r := wire.ChargeRecord{Version: wire.Version}
	if index > 0 {
		r.Charge, r.Epoch = wire.NewCharge(index, [32]byte{byte(index)}), 20_000
	}
	return must(wire.Marshal(&r))
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, requests: make(chan *http.Request, 100), compared: make(chan struct{}, 100), told: make(chan string, 100)}
	w.say(func(rw http.ResponseWriter) { rw.Write(record(2)) })
	w.ledger.last = 3
	w.ready.Store(true)
	server := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		answer := w.answer
		w.mu.Unlock()
		answer(rw)
		w.requests <- r
	}))
	t.Cleanup(server.Close)
	trust := server.Client().Transport.(*http.Transport).TLSClientConfig
	w.Recall = must(New(Config{
		Ledger: &w.ledger, URL: server.URL, TLS: trust, Ready: w.ready.Load, Hold: &w.gate, Now: time.Now,
		Changed: func() { w.compared <- struct{}{} }, Tell: func(text string) { w.told <- text },
		BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}))
	return w
}

func (w *world) say(answer func(http.ResponseWriter)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

// run runs it until the test ends.
func (w *world) run() {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
}

func (w *world) outcomes(outcome string) float64 {
	return testutil.ToFloat64(w.Recall.requests.WithLabelValues(outcome))
}

func TestComparedOnceWhenWanted(t *testing.T) {
	w := newWorld(t)
	w.gate.open.Store(true)
	w.run()
	w.Wake() // connected, and nobody wants the record
	if err := w.Heard(); !errors.Is(err, ErrWaiting) {
		t.Errorf("heard before anything was asked: %v", err)
	}
	<-w.compared
	if err := w.Heard(); err != nil {
		t.Error(err)
	}
	r := <-w.requests
	if r.Method != http.MethodGet || r.URL.Path != wire.ChargePath || r.Header.Get("User-Agent") != "" {
		t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
	}
	w.Wake()
	if err := w.Heard(); err != nil || len(w.requests) != 0 || w.outcomes(outcomeCompared) != 1 || len(w.told) != 0 {
		t.Errorf("%v, %d more requests", err, len(w.requests))
	}
}

// TestHeld: the moment at which a report is to be made is not the moment of asking, unless the car is connected anyway.
func TestHeld(t *testing.T) {
	w := newWorld(t)
	if w.wait() != lookEvery {
		t.Error("nobody wants the record, and it is due")
	}
	_ = w.Heard()
	if w.wait() <= 0 {
		t.Error("asked at once")
	}
	w.Wake()
	if w.wait() != 0 {
		t.Error("connected, and not asked")
	}
	w.run()
	<-w.compared
}

// TestSleepEndsConnected: what a car that was connected might do at once it does not do after a sleep, and after an attempt in vain the gate
// is asked again.
func TestSleepEndsConnected(t *testing.T) {
	w := newWorld(t)
	var slept atomic.Int64
	w.cfg.Now = func() time.Time { return time.Now().Add(time.Duration(slept.Load())) }
	w.say(func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusServiceUnavailable) })
	_ = w.Heard()
	w.Wake()
	if w.wait() != 0 {
		t.Fatal("connected, and not asked")
	}
	w.run()
	<-w.requests
	slept.Store(int64(8 * time.Hour))
	if w.wait() <= 0 {
		t.Error("connected after a sleep")
	}
	asked := make(chan struct{})
	w.gate.asked.Store(&asked)
	<-asked
	<-asked // a round later, so that what was asked before the sleep is over
	for len(w.requests) > 0 {
		<-w.requests
	}
	for range 5 { // longer than the back-off
		<-asked
	}
	if n := len(w.requests); n != 0 {
		t.Errorf("%d requests, and the gate is shut", n)
	}
	w.gate.asked.Store(nil)
	w.say(func(rw http.ResponseWriter) { rw.Write(record(0)) })
	w.gate.open.Store(true)
	<-w.compared
}

// TestRetries: answers that are no record are asked for again, and say why reports wait.
func TestRetries(t *testing.T) {
	w := newWorld(t)
	w.gate.open.Store(true)
	w.ready.Store(false)
	w.run()
	for name, answer := range map[string]func(http.ResponseWriter){
		"login page": func(rw http.ResponseWriter) { rw.Write([]byte("<html>" + strings.Repeat("x", 5000))) },
		"redirect":   func(rw http.ResponseWriter) { rw.Header().Set("Location", "/x"); rw.WriteHeader(http.StatusFound) },
		"busy":       func(rw http.ResponseWriter) { rw.WriteHeader(http.StatusServiceUnavailable) },
		"trailing":   func(rw http.ResponseWriter) { rw.Write(append(record(2), 0)) },
		"empty":      func(http.ResponseWriter) {},
		"none with a hash": func(rw http.ResponseWriter) {
			b := record(1)
			b[len(b)-1]++
			rw.Write(b[:len(b)-2])
		},
	} {
		w.say(answer)
		w.ready.Store(true)
		if err := w.Heard(); !errors.Is(err, ErrWaiting) {
			t.Errorf("%s: %v", name, err)
		}
		for len(w.requests) > 0 {
			<-w.requests
		}
		<-w.requests
		<-w.requests // again
	}
	w.say(func(rw http.ResponseWriter) { rw.Write(record(0)) }) // a new car
	<-w.compared
	if err := w.Heard(); err != nil {
		t.Error(err)
	}
	if w.outcomes(outcomeFailed) < 6 {
		t.Errorf("%v failures", w.outcomes(outcomeFailed))
	}
}

// TestRolledBack: an older copy of the ledger is found, said once, and not asked about again.
func TestRolledBack(t *testing.T) {
	for name, index := range map[string]uint64{"fewer charges": 4, "another charge": 3} {
		w := newWorld(t)
		w.gate.open.Store(true)
		w.say(func(rw http.ResponseWriter) {
			r := wire.ChargeRecord{Version: wire.Version, Charge: wire.NewCharge(index, [32]byte{9}), Epoch: 20_000}
			rw.Write(must(wire.Marshal(&r)))
		})
		w.run()
		_ = w.Heard()
		if text := <-w.told; !strings.Contains(text, "older copy") || !strings.Contains(text, "enrolled anew") {
			t.Errorf("%s: told %q", name, text)
		}
		<-w.compared
		if err := w.Heard(); err != nil || !errors.Is(w.ledger.Err(), budget.ErrRolledBack) || w.outcomes(outcomeRolledBack) != 1 {
			t.Errorf("%s: %v, %v", name, err, w.ledger.Err())
		}
	}
	w := newWorld(t)
	w.ledger.rolled = budget.ErrRolledBack
	if err := w.Heard(); err != nil || !w.Recall.wanted.IsZero() {
		t.Errorf("known to be rolled back: %v", err)
	}
}

// TestFailedComparison: a ledger that cannot be compared is tried again.
func TestFailedComparison(t *testing.T) {
	w := newWorld(t)
	w.gate.open.Store(true)
	w.ledger.fail = errors.New("the flash is worn")
	w.run()
	_ = w.Heard()
	<-w.requests
	<-w.requests
	if err := w.Heard(); !errors.Is(err, ErrWaiting) || !strings.Contains(err.Error(), "worn") {
		t.Error(err)
	}
	w.ledger.mu.Lock()
	w.ledger.fail = nil
	w.ledger.mu.Unlock()
	<-w.compared
}

func TestNewRefuses(t *testing.T) {
	good := func() Config {
		return Config{
			Ledger: new(ledger), URL: "https://127.0.0.1:1", TLS: new(tls.Config), Ready: func() bool { return true }, Hold: new(gate), Now: time.Now,
			Changed: func() {}, Tell: func(string) {}, Logger: slog.New(slog.DiscardHandler),
		}
	}
	if _, err := New(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"ledger": func(c *Config) { c.Ledger = nil }, "url": func(c *Config) { c.URL = "http://127.0.0.1:1" }, "tls": func(c *Config) { c.TLS = nil },
		"ready": func(c *Config) { c.Ready = nil }, "gate": func(c *Config) { c.Hold = nil }, "clock": func(c *Config) { c.Now = nil },
		"changed": func(c *Config) { c.Changed = nil }, "tell": func(c *Config) { c.Tell = nil }, "logger": func(c *Config) { c.Logger = nil },
		"back-off": func(c *Config) { c.BackoffMin, c.BackoffMax = 2, 1 }, "timeout": func(c *Config) { c.Timeout = -1 },
	} {
		c := good()
		spoil(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
