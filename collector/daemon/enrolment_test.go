package daemon

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rawstone/collector/internal/ca"
	"rawstone/pkg/enroll"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/wire"
)

// ask posts a request of a vehicle, with the device key that its files hold, and returns the certificate or the refusal.
func (w *world) ask(t *testing.T, r *running, path, vehicle, token string) (tls.Certificate, *enroll.Problem) {
	t.Helper()
	key, err := keyfile.Load(w.path(vehicle + ".key"))
	if err != nil {
		t.Fatal(err)
	}
	request, err := enroll.NewRequest(vehicle, key, token)
	if err != nil {
		t.Fatal(err)
	}
	b, err := request.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.agent(t, tls.VersionTLS13).Post("https://"+r.HTTPS+path, enroll.ContentType, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got.StatusCode != http.StatusOK {
		p, err := enroll.DecodeProblem(body)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{}, p
	}
	a, err := enroll.DecodeAnswer(body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Leaf(vehicle, request.Key()); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: a.Chain, PrivateKey: key}, nil
}

// enrols enrols a vehicle and returns how it connects.
func (w *world) enrols(t *testing.T, r *running, vehicle, token string) *tls.Config {
	t.Helper()
	own, p := w.ask(t, r, enroll.EnrolPath, vehicle, token)
	if p != nil {
		t.Fatal(p)
	}
	roots, err := ca.Pool(w.path("ca/server-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{own}}
}

// connect connects a vehicle and returns what tells that its connection broke.
func (r *running) connect(t *testing.T, vehicle string, how *tls.Config) (mqtt.Client, <-chan error, error) {
	t.Helper()
	lost := make(chan error, 1)
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + r.MQTT).SetTLSConfig(how).SetClientID(vehicle).SetProtocolVersion(4).
		SetAutoReconnect(false).SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err }))
	tok := c.Connect()
	if !tok.WaitTimeout(hang) {
		t.Fatal("no answer")
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return c, lost, tok.Error()
}

// TestEnrolmentAndRevocation takes two vehicles from registration to their connections; one is revoked by another process than the
// collector's, as far as records go, and by nothing else.
func TestEnrolmentAndRevocation(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	var tokens []string
	for _, id := range []string{"CAR1", "CAR2"} {
		_, token, err := AddVehicle(t.Context(), cfg, w.car(t, id), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, token)
	}
	r := start(t, cfg)
	if _, p := w.ask(t, r, enroll.EnrolPath, "CAR1", tokens[1]); p == nil || p.Reason != enroll.ReasonToken {
		t.Errorf("another vehicle's token: %v", p)
	}
	if _, p := w.ask(t, r, enroll.RenewPath, "CAR1", ""); p == nil || p.Reason != enroll.ReasonKey {
		t.Errorf("a renewal before enrolment: %v", p)
	}
	one, two := w.enrols(t, r, "CAR1", tokens[0]), w.enrols(t, r, "CAR2", tokens[1])
	// Whose answer was lost asks again: the same key is no other vehicle.
	if _, p := w.ask(t, r, enroll.EnrolPath, "CAR1", tokens[0]); p == nil || p.Reason != enroll.ReasonBusy {
		t.Errorf("a used token with the key that it enrolled: %v", p)
	}
	own := readFile(t, w.path("CAR1.key"))
	if err := os.Remove(w.path("CAR1.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := keyfile.Create(w.path("CAR1.key")); err != nil {
		t.Fatal(err)
	}
	if _, p := w.ask(t, r, enroll.EnrolPath, "CAR1", tokens[0]); p == nil || p.Reason != enroll.ReasonToken {
		t.Errorf("a used token with another key: %v", p)
	}
	w.write(t, "CAR1.key", own)
	if _, _, err := r.connect(t, "CAR1", two); err == nil {
		t.Error("one vehicle connected with another's certificate")
	}
	_, lost, err := r.connect(t, "CAR1", one)
	if err != nil {
		t.Fatal(err)
	}
	other, otherLost, err := r.connect(t, "CAR2", two)
	if err != nil {
		t.Fatal(err)
	}
	if err := RevokeVehicle(t.Context(), cfg, "CAR1", time.Now); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lost:
	case <-time.After(hang):
		t.Fatal("a revoked vehicle is still connected")
	}
	if _, _, err := r.connect(t, "CAR1", one); err == nil {
		t.Error("a revoked vehicle connected")
	}
	if _, p := w.ask(t, r, enroll.RenewPath, "CAR1", ""); p == nil || p.Reason != enroll.ReasonRevoked {
		t.Errorf("a revoked vehicle's renewal: %v", p)
	}
	select {
	case err := <-otherLost:
		t.Errorf("another vehicle was cut: %v", err)
	default:
	}
	if tok := other.Publish(wire.Topic("CAR2", wire.KindClaim), 1, false, []byte("x")); !tok.WaitTimeout(hang) || tok.Error() != nil {
		t.Error(tok.Error())
	}
	_, metrics := r.get(t, "/metrics")
	contains(t, metrics, `rawstone_enrolment_requests_total{outcome="granted",path="enrol"} 2`, `rawstone_broker_refused_connects_total{reason="certificate"} 1`)
	r.end(t)
	log := r.log.String()
	for _, secret := range append(tokens, "CAR1", "CAR2", "PRIVATE") {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q\n%s", secret, log)
		}
	}
	state := readFile(t, w.path("state/records.db"))
	wal, err := os.ReadFile(w.path("state/records.db-wal"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, token := range tokens {
		if bytes.Contains(append(state, wal...), []byte(token)) {
			t.Error("the records hold a token")
		}
	}
}

// TestServersServeRenewedCertificates replaces the certificate of a running collector, for both listeners.
func TestServersServeRenewedCertificates(t *testing.T) {
	w := newWorld(t)
	cfg := w.load(t)
	_, token, err := AddVehicle(t.Context(), cfg, w.car(t, "CAR1"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	how := w.enrols(t, r, "CAR1", token)
	served := func(addr string) *x509.Certificate {
		t.Helper()
		c, err := tls.Dial("tcp", addr, how)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	before := served(r.MQTT)
	if !before.Equal(served(r.HTTPS)) {
		t.Error("the listeners serve different certificates")
	}
	if err := ca.IssueServer(w.path("ca"), []string{"127.0.0.1"}, w.path("new.pem"), w.path("new.key"), time.Now()); err != nil {
		t.Fatal(err)
	}
	for old, renewed := range map[string]string{"server.key": "new.key", "server.pem": "new.pem"} {
		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(w.path(renewed), later, later); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(w.path(renewed), w.path(old)); err != nil {
			t.Fatal(err)
		}
	}
	if after := served(r.MQTT); after.Equal(before) || !after.Equal(served(r.HTTPS)) {
		t.Error("the renewed certificate is not served")
	}
	r.end(t)
}

// TestVehicleAuthorityIsNeeded: without it, or with the key of another, nothing starts.
func TestVehicleAuthorityIsNeeded(t *testing.T) {
	w := newWorld(t)
	contains(t, refuses(t, w.load(t, "ca_key: ca/vehicle-ca.key", "ca_key: ca/ecu-ca.key")), "cannot use vehicles.ca_certificate and vehicles.ca_key", "of another key")
	contains(t, refuses(t, w.load(t, "ca/vehicle-ca.pem", "ca/none.pem")), "cannot use vehicles.ca_certificate", "none.pem")
	contains(t, refuses(t, w.load(t, `mqtt: {listen: "127.0.0.1:0"}`, `mqtt: {listen: "127.0.0.1:0", certificate: ca/none.pem, key: server.key}`)), "cannot use mqtt.certificate and mqtt.key", "none.pem")
}
