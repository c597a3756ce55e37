package daemon

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"rawstone/agent/internal/identity"
	"rawstone/pkg/enroll"
	"rawstone/pkg/keyfile"
)

// enrolled is a collector's HTTPS end that grants what it is asked for from one instant to another, or refuses with a reason.
type enrolled struct {
	*httptest.Server
	refuse   enroll.Reason
	from, to time.Time
	paths    chan string
}

func (w *world) enrolled() *enrolled {
	w.t.Helper()
	e := &enrolled{from: time.Now().Add(-time.Hour), to: time.Now().Add(time.Hour), paths: make(chan string, 100)}
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	e.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		request := must(enroll.DecodeRequest(must(io.ReadAll(r.Body))))
		if (r.URL.Path == enroll.EnrolPath) != (request.Token != "") {
			w.t.Errorf("%s with token %q", r.URL.Path, request.Token)
		}
		if e.refuse != "" {
			rw.Header().Set("Content-Type", enroll.ProblemType)
			rw.WriteHeader(http.StatusForbidden)
			must(rw.Write(must(json.Marshal(enroll.Problem{Detail: "because", Reason: e.refuse}))))
		} else {
			of := &x509.Certificate{
				SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: request.Vehicle}, NotBefore: e.from, NotAfter: e.to,
				KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			}
			public := request.Key()
			der := must(x509.CreateCertificate(rand.Reader, of, &x509.Certificate{}, must(public.Key()), key))
			must(rw.Write(must((&enroll.Answer{Version: enroll.Version, Chain: [][]byte{der}}).Encode())))
		}
		e.paths <- r.URL.Path
	}))
	e.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	e.StartTLS()
	w.t.Cleanup(e.Close)
	w.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Certificate().Raw})))
	return e
}

// config is the world's configuration with this collector.
func (e *enrolled) config(w *world) *Config {
	return w.load("https://127.0.0.1:1", e.URL+"\ncollector_ca: ca.pem")
}

func (w *world) plain() Deps { return Deps{Logger: slog.New(slog.NewTextHandler(&w.log, nil))} }

func TestEnroll(t *testing.T) {
	w := newWorld(t, "development")
	if err := os.Remove(w.path("device.key")); err != nil {
		t.Fatal(err)
	}
	e := w.enrolled()
	cfg := e.config(w)
	if err := Enroll(t.Context(), cfg, "no token", w.plain()); err == nil || !strings.Contains(err.Error(), "the token is not one") {
		t.Errorf("%v", err)
	}
	token := enroll.NewToken() + "\n"
	rootless := *cfg
	rootless.CollectorCA += "x"
	if err := Enroll(t.Context(), &rootless, token, w.plain()); err == nil || !strings.Contains(err.Error(), "cannot read the collector's roots") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(cfg.DeviceKey); err == nil {
		t.Error("a key was made without a token, or without roots")
	}
	e.refuse = enroll.ReasonToken
	if err := Enroll(t.Context(), cfg, token, w.plain()); err == nil || !strings.Contains(err.Error(), "cannot enrol") || !strings.Contains(err.Error(), "because") {
		t.Errorf("%v", err)
	}
	made := must(os.ReadFile(cfg.DeviceKey))
	e.refuse = ""
	if err := Enroll(t.Context(), cfg, token, w.plain()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(must(os.ReadFile(cfg.DeviceKey)), made) {
		t.Error("the second attempt made another key")
	}
	block, _ := pem.Decode(must(os.ReadFile(w.path("state/identity/chain.pem"))))
	leaf := must(x509.ParseCertificate(block.Bytes))
	if !must(keyfile.Load(cfg.DeviceKey)).PublicKey.Equal(leaf.PublicKey) || leaf.Subject.CommonName != "CAR1" {
		t.Errorf("certificate of %v", leaf.Subject)
	}
	if err := Enroll(t.Context(), cfg, token, Deps{}); err == nil {
		t.Error("enrolled without a logger")
	}
	if text := w.log.lines(strings.TrimSpace(token)); len(text) != 0 {
		t.Errorf("the token is logged: %q", text)
	}
	if text := w.log.lines("CAR1"); len(text) != 0 {
		t.Errorf("the vehicle is logged: %q", text)
	}
}

// TestRevokedIsTold holds that a driver sees what the collector says of the car: in the journal, and on the status page.
func TestRevokedIsTold(t *testing.T) {
	w := newWorld(t, "development")
	e := w.enrolled()
	e.refuse = enroll.ReasonRevoked
	e.config(w)
	a := w.opened("https://127.0.0.1:1", e.URL+"\ncollector_ca: ca.pem")
	w.setDay(w.timing.Day(time.Now())) // the server's certificate is of today
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.identity.Run(ctx) }()
	a.identity.Doubt() // the broker refused it: the keeper does not wait for a random time of driving
	<-e.paths
	for a.snapshot().CertificateProblem == "" {
		time.Sleep(time.Millisecond)
	}
	if s := a.snapshot(); !strings.Contains(s.CertificateProblem, "because") || !s.CertificateUntil.IsZero() {
		t.Errorf("%+v", s)
	}
	var journal strings.Builder
	for !strings.Contains(journal.String(), "This vehicle is revoked") {
		journal.Reset()
		if err := a.journal.Export(&journal); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestClockThatLags holds that a notice's block bounds a clock that went back, for servers and for the car's own certificate.
func TestClockThatLags(t *testing.T) {
	w := newWorld(t, "development")
	e := w.enrolled()
	e.config(w)
	day, block := time.Unix(-1, 0), time.Time{} // the server's certificate is from 1970 on
	i := must(identity.Open(identity.Config{
		DeviceKey: w.path("device.key"), Dir: w.path("identity"), Vehicle: "CAR1", URL: e.URL, CA: w.path("ca.pem"),
		Now: func() time.Time { return day }, Since: func() time.Time { return block }, Logger: slog.New(slog.DiscardHandler),
	}))
	if err := i.Enroll(t.Context(), enroll.NewToken()); err == nil || !strings.Contains(err.Error(), "is the car's clock right?") {
		t.Errorf("in 1969: %v", err)
	}
	block = time.Now()
	if err := i.Enroll(t.Context(), enroll.NewToken()); err != nil || !i.Ready() {
		t.Errorf("after a block of today: %v", err)
	}
	block = e.to
	if i.Ready() {
		t.Error("ready with a certificate that ended before the newest block")
	}
	block = e.Certificate().NotAfter.Add(time.Hour)
	if err := i.Enroll(t.Context(), enroll.NewToken()); err == nil {
		t.Error("took a server for genuine whose certificate ended before the newest block")
	}
	// The agent goes by the block of its notice, which is of 1970 too.
	w.ahead.Store(int64(time.Until(time.Unix(-1000, 0))))
	a := w.opened("https://127.0.0.1:1", e.URL+"\ncollector_ca: ca.pem")
	if err := a.identity.Enroll(t.Context(), enroll.NewToken()); err == nil {
		t.Error("enrolled in 1969")
	}
	a.hear(w.notice)
	if err := a.identity.Enroll(t.Context(), enroll.NewToken()); err != nil {
		t.Error(err)
	}
	// A clock that is right is not held back.
	day, block = time.Now(), time.Unix(0, 0)
	if err := i.Enroll(t.Context(), enroll.NewToken()); err != nil {
		t.Error(err)
	}
}

// TestResetWaitsForEnrolment: a car that was reset does not rejoin by itself, although the collector would renew its device key's
// certificate at once: the agent runs, says what it waits for, and asks for nothing at any start until `agent enroll` was run.
func TestResetWaitsForEnrolment(t *testing.T) {
	w := newWorld(t, "development")
	e := w.enrolled()
	e.to = time.Now().Add(48 * time.Hour)
	cfg := e.config(w)
	if err := Enroll(t.Context(), cfg, enroll.NewToken(), w.plain()); err != nil {
		t.Fatal(err)
	}
	if path := <-e.paths; path != enroll.EnrolPath {
		t.Fatal(path)
	}
	if err := Reset(cfg); err != nil {
		t.Fatal(err)
	}
	w.setDay(w.timing.Day(time.Now())) // the server's certificate is of today
	cfg.Dispatch.MaxDelay = 6          // nanoseconds: nothing is held
	for range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		done, ready := make(chan error, 1), make(chan struct{}, 1)
		w.log.on("agent ready", func() { ready <- struct{}{} })
		go func() { done <- Run(ctx, cfg, w.deps()) }()
		select {
		case <-ready:
		case err := <-done:
			t.Fatal(err)
		}
		select {
		case path := <-e.paths:
			t.Errorf("a car that was reset asks at %s", path)
		case <-time.After(100 * time.Millisecond): // one that asks does so at once
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	a := w.opened("https://127.0.0.1:1", e.URL+"\ncollector_ca: ca.pem")
	if s := a.snapshot(); a.identity.Ready() || !strings.Contains(s.CertificateProblem, "agent enroll") || !s.CertificateUntil.IsZero() {
		t.Errorf("%+v", s)
	}
	if err := Enroll(t.Context(), cfg, enroll.NewToken(), w.plain()); err != nil {
		t.Fatal(err)
	}
	<-e.paths
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	a.opened = nil
	b := w.opened("https://127.0.0.1:1", e.URL+"\ncollector_ca: ca.pem")
	if s := b.snapshot(); !b.identity.Ready() || s.CertificateProblem != "" {
		t.Errorf("%+v", s)
	}
}
