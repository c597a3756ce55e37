package ingest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"rawstone/collector/internal/ca"
	"rawstone/pkg/wire"
)

// A fleet lets every vehicle connect, with one device key for all. A vehicle may be removed after it has connected: what an unknown one
// sends is the judge's.
type fleet struct {
	t         *testing.T
	authority *ca.Vehicles
	roots     *x509.CertPool
	server    tls.Certificate
	key       *ecdsa.PrivateKey
	device    wire.PublicKey
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	at := func(name string) string { return filepath.Join(dir, name) }
	f := &fleet{t: t}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	must(ca.Init(dir, time.Now()))
	must(ca.IssueServer(dir, []string{"127.0.0.1"}, at("server.pem"), at("server.key"), time.Now()))
	var err error
	f.authority, err = ca.OpenVehicles(at("vehicle-ca.pem"), at("vehicle-ca.key"))
	must(err)
	f.roots, err = ca.Pool(at("server-ca.pem"))
	must(err)
	f.server, err = tls.LoadX509KeyPair(at("server.pem"), at("server.key"))
	must(err)
	f.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	f.device, err = wire.NewPublicKey(f.key.Public())
	must(err)
	return f
}

// Device implements broker.Vehicles.
func (f *fleet) Device(context.Context, string) (wire.PublicKey, bool, error) {
	return f.device, true, nil
}

// Changed implements broker.Vehicles.
func (f *fleet) Changed(context.Context, int64) ([]string, int64, error) { return nil, 0, nil }

// of returns how a vehicle connects.
func (f *fleet) of(vehicle string) *tls.Config {
	f.t.Helper()
	der, _, err := f.authority.Issue(vehicle, f.device, time.Now())
	if err != nil {
		f.t.Fatal(err)
	}
	own := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: f.key}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: f.roots, Certificates: []tls.Certificate{own}}
}
