package broker

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/keyfile"
	"rawstone/pkg/wire"
)

const (
	vehicleCA = "vehicle-ca"
	serverCA  = "server-ca"
	ecuCA     = "ecu-ca"
)

// refused connects a client that must be refused and returns how.
func refused(t *testing.T, o *mqtt.ClientOptions) error {
	t.Helper()
	c := mqtt.NewClient(o)
	tok := c.Connect()
	if !tok.WaitTimeout(time.Minute) {
		t.Fatal("no answer")
	}
	if tok.Error() == nil {
		c.Disconnect(0)
		t.Error("admitted")
	}
	return tok.Error()
}

func count(t *testing.T, reg *prometheus.Registry, reason string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == reason {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	t.Fatalf("no metric for %s", reason)
	return 0
}

// issued returns a client certificate that one of the authorities signs, whatever its subject.
func (f *fleet) issued(t *testing.T, authority, subject string) tls.Certificate {
	t.Helper()
	return f.edited(t, authority, subject, newKey(t), nil)
}

func (f *fleet) edited(t *testing.T, authority, subject string, key *ecdsa.PrivateKey, edit func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	text, err := os.ReadFile(f.path(authority + ".pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	parent, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := keyfile.Load(f.path(authority + ".key"))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: subject}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if edit != nil {
		edit(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestCertificatesAdmit tries what is not the registered vehicle's valid certificate: TLS refuses some, the broker the rest.
func TestCertificatesAdmit(t *testing.T) {
	var out syncBuffer
	reg := prometheus.NewRegistry()
	f := newFleet(t)
	b := start(t, Config{Registerer: reg, Vehicles: f, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	f.enrol("SECRET1")
	f.enrol("SECRET2")
	old := f.of("SECRET2")
	f.enrol("SECRET2") // with another device key
	key := f.keys["SECRET1"]
	connect(t, b, "SECRET1")
	stranger := newFleet(t)
	tls12 := options(b, "SECRET1")
	tls12.TLSConfig.MaxVersion = tls.VersionTLS12
	plain := mqtt.NewClientOptions().AddBroker("tcp://" + b.local()).SetClientID("SECRET1").SetConnectTimeout(time.Minute).SetAutoReconnect(false).SetProtocolVersion(4)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o      *mqtt.ClientOptions
		reason string
	}{
		"none":                        {with(b, "SECRET1", tls.Certificate{}), refusedHandshake},
		"TLS 1.2":                     {tls12, refusedHandshake},
		"expired":                     {with(b, "SECRET1", f.certificate("SECRET1", key, time.Now().AddDate(0, 0, -15))), refusedHandshake},
		"not valid yet":               {with(b, "SECRET1", f.certificate("SECRET1", key, time.Now().AddDate(0, 0, 1))), refusedHandshake},
		"of another fleet's CA":       {with(b, "SECRET1", stranger.certificate("SECRET1", key, time.Now())), refusedHandshake},
		"of the server CA":            {with(b, "SECRET1", f.edited(t, serverCA, "SECRET1", key, nil)), refusedHandshake},
		"of the ECU CA":               {with(b, "SECRET1", f.edited(t, ecuCA, "SECRET1", key, nil)), refusedHandshake},
		"the server's own":            {with(b, "SECRET1", f.server), refusedHandshake},
		"for servers":                 {with(b, "SECRET1", f.edited(t, vehicleCA, "SECRET1", key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })), refusedHandshake},
		"another vehicle's":           {with(b, "SECRET2", f.of("SECRET1")), refusedCertificate},
		"no vehicle's name":           {with(b, "secret1", f.of("SECRET1")), refusedID},
		"no vehicle's certificate":    {with(b, "secret1", f.issued(t, vehicleCA, "secret1")), refusedID},
		"of an old device key":        {with(b, "SECRET2", old), refusedDevice},
		"of another key":              {with(b, "SECRET1", f.certificate("SECRET1", newKey(t), time.Now())), refusedDevice},
		"of an RSA key":               {with(b, "SECRET1", f.rsa(t, "SECRET1", rsaKey)), refusedCertificate},
		"of a vehicle not registered": {with(b, "SECRET9", f.certificate("SECRET9", newKey(t), time.Now())), refusedUnknown},
		"without TLS":                 {plain, refusedHandshake},
	} {
		before := count(t, reg, c.reason)
		err := refused(t, c.o)
		if answered := c.reason != refusedHandshake; errors.Is(err, packets.ErrorRefusedNotAuthorised) != answered {
			t.Errorf("certificate %s: %v, by the broker: want %t", name, err, answered)
		}
		if name == "without TLS" { // of which the server says nothing
			continue
		}
		for range 6000 { // the server counts a handshake when it has ended it
			if count(t, reg, c.reason) > before {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if got := count(t, reg, c.reason); got != before+1 {
			t.Errorf("certificate %s: counted %v times as %s, want once", name, got-before, c.reason)
		}
	}
	f.revoke("SECRET1")
	if err := refused(t, with(b, "SECRET1", f.certificate("SECRET1", key, time.Now()))); !errors.Is(err, packets.ErrorRefusedNotAuthorised) {
		t.Errorf("revoked: %v", err)
	}
	f.mu.Lock()
	f.broken = errors.New("no records")
	f.mu.Unlock()
	if err := refused(t, with(b, "SECRET2", f.certificate("SECRET2", f.keys["SECRET2"], time.Now()))); !errors.Is(err, packets.ErrorRefusedNotAuthorised) || count(t, reg, refusedLookup) != 1 {
		t.Errorf("without records: %v", err)
	}
	b.Close()
	log := out.String()
	if strings.Contains(strings.ToLower(log), "secret") || strings.Contains(log, "127.0.0.1") || strings.Count(log, "connect refused") < 6 {
		t.Errorf("logged\n%s", log)
	}
}

// rsa issues a certificate of a key that no vehicle has.
func (f *fleet) rsa(t *testing.T, subject string, key *rsa.PrivateKey) tls.Certificate {
	t.Helper()
	c := f.edited(t, vehicleCA, subject, newKey(t), nil)
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(f.path(vehicleCA + ".pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	parent, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := keyfile.Load(f.path(vehicleCA + ".key"))
	if err != nil {
		t.Fatal(err)
	}
	leaf.SignatureAlgorithm = 0
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// lasting connects a vehicle and returns a channel that tells when its connection breaks.
func lasting(t *testing.T, b *Broker, id string, own tls.Certificate) <-chan error {
	t.Helper()
	lost := make(chan error, 1)
	c := mqtt.NewClient(with(b, id, own).SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err }))
	if tok := c.Connect(); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return lost
}

// run runs the broker's watch.
func run(t *testing.T, b *Broker) {
	t.Helper()
	done := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() { b.Run(ctx); close(done) }()
	t.Cleanup(func() { stop(); <-done })
}

func gone(t *testing.T, lost <-chan error, who string) {
	t.Helper()
	select {
	case <-lost:
	case <-time.After(time.Minute):
		t.Errorf("%s is still connected", who)
	}
}

func stays(t *testing.T, lost <-chan error, who string) {
	t.Helper()
	select {
	case err := <-lost:
		t.Errorf("%s was cut: %v", who, err)
	default:
	}
}

// TestRevocationCutsTheConnection: of the revoked vehicle and of the one with a new device key, and of nobody else, also while and after
// the records could not be read.
func TestRevocationCutsTheConnection(t *testing.T) {
	f := newFleet(t)
	b := start(t, Config{Vehicles: f})
	revoked, changed, other := lasting(t, b, "V1", f.of("V1")), lasting(t, b, "V2", f.of("V2")), lasting(t, b, "V3", f.of("V3"))
	run(t, b)
	f.mu.Lock()
	f.broken = errors.New("no records")
	f.mu.Unlock()
	f.revoke("V1")
	f.mu.Lock()
	f.broken = nil
	f.mu.Unlock()
	gone(t, revoked, "a revoked vehicle")
	f.enrol("V2")
	gone(t, changed, "a vehicle with its old device key")
	f.enrol("V4")
	again := lasting(t, b, "V4", f.of("V4"))
	f.revoke("V4")
	gone(t, again, "a vehicle that was revoked later")
	stays(t, other, "another vehicle")
	if watchEvery > 4*time.Second {
		t.Errorf("the watch looks every %s: too late", watchEvery)
	}
}

// TestRevocationWhileConnecting: a revocation between look-up and admission is found at the next look.
func TestRevocationWhileConnecting(t *testing.T) {
	f := newFleet(t)
	b := start(t, Config{Vehicles: f})
	own := f.of("V1")
	f.during = func() { // behind the look-up's back: the answer is decided
		f.revoke("V1")
		if _, err := b.watch(t.Context(), 0); err != nil {
			t.Error(err)
		}
	}
	lost := make(chan error, 1)
	c := mqtt.NewClient(with(b, "V1", own).SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err }))
	if tok := c.Connect(); tok.WaitTimeout(time.Minute) && tok.Error() == nil {
		gone(t, lost, "a vehicle that was revoked while it connected")
	}
}

// TestDisconnect cuts what it is told to.
func TestDisconnect(t *testing.T) {
	f := newFleet(t)
	b := start(t, Config{Vehicles: f})
	first, other := lasting(t, b, "V1", f.of("V1")), lasting(t, b, "V2", f.of("V2"))
	if n := b.Disconnect("V1", public(t, f.keys["V1"])); n != 0 {
		t.Errorf("%d connections cut of those to keep", n)
	}
	if n := b.Disconnect("V1", wire.PublicKey{}); n != 1 {
		t.Errorf("%d connections cut, want 1", n)
	}
	gone(t, first, "a vehicle")
	if n := b.Disconnect("V1", wire.PublicKey{}) + b.Disconnect("V9", wire.PublicKey{}); n != 0 {
		t.Errorf("%d connections cut where there were none", n)
	}
	stays(t, other, "another vehicle")
}

// TestConnectionsEndWithTheirCertificates: no connection outlives what admitted it, and none is kept in mind that is gone.
func TestConnectionsEndWithTheirCertificates(t *testing.T) {
	f := newFleet(t)
	b := start(t, Config{Vehicles: f})
	key := newKey(t)
	f.keys["V1"], f.keys["V2"] = key, key
	ended := lasting(t, b, "V1", f.certificate("V1", key, time.Now().AddDate(0, 0, -10)))
	later := lasting(t, b, "V2", f.certificate("V2", key, time.Now()))
	b.auth.now = func() time.Time { return time.Now().AddDate(0, 0, 5) }
	if _, err := b.watch(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	gone(t, ended, "a vehicle with an expired certificate")
	stays(t, later, "a vehicle with a valid certificate")
	c := connect(t, b, "V3")
	c.Disconnect(0)
	for range 6000 {
		if _, err := b.watch(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if !b.auth.live.Has("V3") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if b.auth.live.Has("V3") || b.auth.live.Has("V1") || !b.auth.live.Has("V2") {
		t.Error("the connections kept in mind are not those that there are")
	}
}

// TestHandshakesAreBounded: strangers who say nothing lose their connections, and vehicles are served meanwhile.
func TestHandshakesAreBounded(t *testing.T) {
	b := start(t, Config{Handshake: 5 * time.Second})
	var silent []net.Conn
	for range 200 {
		c, err := net.Dial("tcp", b.local())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	publish(t, connect(t, b, "V1"), wire.Topic("V1", wire.KindClaim), []byte("claim"))
	queued(t, b, StreamClaims, 1)
	for _, c := range silent {
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a silent connection is kept: %v", err)
		}
	}
	// One that ends its handshake and names nobody goes as well.
	mute, err := tls.Dial("tcp", b.local(), options(b, "V1").TLSConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	if err := mute.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := mute.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection that names nobody is kept: %v", err)
	}
}

// TestServerCertificateIsRenewed: the next connection sees the new one.
func TestServerCertificateIsRenewed(t *testing.T) {
	f := newFleet(t)
	served := f.server
	b := start(t, Config{Vehicles: f, Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &served, nil }})
	retain(t, b, []byte("one"))
	other := newFleet(t)
	served = other.server
	own := f.of("V1")
	c, err := tls.Dial("tcp", b.local(), &tls.Config{RootCAs: other.roots, Certificates: []tls.Certificate{own}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !bytes.Equal(c.ConnectionState().PeerCertificates[0].Raw, other.server.Certificate[0]) {
		t.Error("the old certificate is served")
	}
	retain(t, b, []byte("two"))
}

func TestStartRefuses(t *testing.T) {
	f := newFleet(t)
	good := Config{
		Listen: "127.0.0.1:0", Dir: t.TempDir(), Vehicles: f, VehicleCA: f.authority.Pool(), Logger: slog.New(slog.DiscardHandler),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &f.server, nil },
	}
	for i, edit := range []func(*Config){
		func(c *Config) { c.Dir = "" }, func(c *Config) { c.Vehicles = nil }, func(c *Config) { c.VehicleCA = nil },
		func(c *Config) { c.Certificate = nil }, func(c *Config) { c.Logger = nil }, func(c *Config) { c.StreamBytes = -1 },
	} {
		cfg := good
		edit(&cfg)
		if b, err := Start(t.Context(), cfg); err == nil {
			b.Close()
			t.Errorf("configuration %d was taken", i)
		}
	}
}
