package broker

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"rawstone/collector/internal/ca"
	"rawstone/pkg/wire"
)

// A fleet is the authorities and the enrolled vehicles of a test. It implements Vehicles.
type fleet struct {
	t         testing.TB
	dir       string
	authority *ca.Vehicles
	roots     *x509.CertPool
	server    tls.Certificate

	mu      sync.Mutex
	keys    map[string]*ecdsa.PrivateKey
	changes []string
	broken  error
	during  func() // called in a look-up
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{t: t, dir: filepath.Join(t.TempDir(), "ca"), keys: make(map[string]*ecdsa.PrivateKey)}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	must(ca.Init(f.dir, time.Now()))
	must(ca.IssueServer(f.dir, []string{"127.0.0.1"}, f.path("server.pem"), f.path("server.key"), time.Now()))
	var err error
	f.authority, err = ca.OpenVehicles(f.path("vehicle-ca.pem"), f.path("vehicle-ca.key"))
	must(err)
	f.roots, err = ca.Pool(f.path("server-ca.pem"))
	must(err)
	f.server, err = tls.LoadX509KeyPair(f.path("server.pem"), f.path("server.key"))
	must(err)
	return f
}

func (f *fleet) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fleet) Device(_ context.Context, vehicle string) (key wire.PublicKey, ok bool, err error) {
	f.mu.Lock()
	during := f.during
	f.during = nil
	k, ok := f.keys[vehicle]
	err = f.broken
	f.mu.Unlock()
	if during != nil {
		during()
	}
	if !ok || err != nil {
		return key, false, err
	}
	return public(f.t, k), true, nil
}

func (f *fleet) Changed(_ context.Context, since int64) ([]string, int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil || since >= int64(len(f.changes)) {
		return nil, 0, f.broken
	}
	return f.changes[since : since+1], since + 1, nil
}

func public(t testing.TB, k crypto.Signer) wire.PublicKey {
	p, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Error(err)
	}
	return p
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// enrol gives a vehicle a new device key.
func (f *fleet) enrol(vehicle string) {
	f.t.Helper()
	k := newKey(f.t)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[vehicle] = k
	f.changes = append(f.changes, vehicle)
}

func (f *fleet) revoke(vehicle string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, vehicle)
	f.changes = append(f.changes, vehicle)
}

// certificate issues a certificate of the authority for vehicles.
func (f *fleet) certificate(vehicle string, key *ecdsa.PrivateKey, at time.Time) tls.Certificate {
	f.t.Helper()
	der, _, err := f.authority.Issue(vehicle, public(f.t, key), at)
	if err != nil {
		f.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// of returns the certificate of a vehicle, which enrols when it has not.
func (f *fleet) of(vehicle string) tls.Certificate {
	f.t.Helper()
	f.mu.Lock()
	k, ok := f.keys[vehicle]
	f.mu.Unlock()
	if !ok {
		f.enrol(vehicle)
		return f.of(vehicle)
	}
	return f.certificate(vehicle, k, time.Now())
}

func fleetOf(b *Broker) *fleet { return b.auth.vehicles.(*fleet) }

func start(t *testing.T, cfg Config) *Broker {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Vehicles == nil {
		cfg.Vehicles = newFleet(t)
	}
	f := cfg.Vehicles.(*fleet)
	if cfg.VehicleCA == nil {
		cfg.VehicleCA = f.authority.Pool()
	}
	if cfg.Certificate == nil {
		cfg.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &f.server, nil }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// with returns the options of a client with some certificate.
func with(b *Broker, id string, own tls.Certificate) *mqtt.ClientOptions {
	return at(b.local(), fleetOf(b), id, own)
}

func at(address string, f *fleet, id string, own tls.Certificate) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().AddBroker("ssl://" + address).SetClientID(id).SetCleanSession(true).
		SetAutoReconnect(false).SetConnectTimeout(time.Minute).SetProtocolVersion(4).
		SetTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: f.roots, Certificates: []tls.Certificate{own}})
}

// options returns those of a vehicle's client, which enrols when it has not.
func options(b *Broker, vehicle string) *mqtt.ClientOptions {
	return with(b, vehicle, fleetOf(b).of(vehicle))
}

func connect(t *testing.T, b *Broker, id string) mqtt.Client {
	t.Helper()
	c := mqtt.NewClient(options(b, id))
	if tok := c.Connect(); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatalf("connect as %q: %v", id, tok.Error())
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}
