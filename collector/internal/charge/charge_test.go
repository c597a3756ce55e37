package charge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

type rig struct {
	*Desk
	t  *testing.T
	db *store.DB
}

func newRig(t *testing.T) *rig {
	t.Helper()
	path := filepath.Join(t.TempDir(), "records.db")
	open := func(role store.Role) *store.DB {
		db, err := store.Open(t.Context(), store.Config{Path: path, Role: role})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	r := &rig{t: t, db: open(store.Ingest | store.Admin)}
	var err error
	// The desk is given what it is given in a collector.
	if r.Desk, err = New(Config{DB: open(store.Ingest), Now: time.Now, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	return r
}

func newKey(t *testing.T) (*ecdsa.PrivateKey, wire.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, p
}

func (r *rig) update(fn func(*store.Tx) error) {
	r.t.Helper()
	if err := r.db.Update(r.t.Context(), fn); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) add(vehicle string) (*ecdsa.PrivateKey, wire.PublicKey) {
	r.t.Helper()
	key, public := newKey(r.t)
	r.update(func(tx *store.Tx) error {
		return errors.Join(tx.AddAccount(r.t.Context(), "of "+vehicle), tx.AddVehicle(r.t.Context(), store.Vehicle{ID: vehicle, Account: "of " + vehicle, Device: public}))
	})
	return key, public
}

func (r *rig) report(vehicle string, device wire.PublicKey, index uint64, epoch uint32) wire.Charge {
	r.t.Helper()
	c := wire.NewCharge(index, [32]byte{byte(index)})
	r.update(func(tx *store.Tx) error {
		return tx.AddReport(r.t.Context(), store.Report{Vehicle: vehicle, Epoch: epoch, Vector: []byte{1}, Charge: c, Device: device.ID()})
	})
	return c
}

// ask asks as TLS lets a client with a certificate ask, nil for none.
func (r *rig) ask(method, path, subject string, key *ecdsa.PrivateKey, verified bool) *http.Response {
	r.t.Helper()
	req := httptest.NewRequestWithContext(r.t.Context(), method, path, nil)
	req.TLS = new(tls.ConnectionState)
	if key != nil {
		leaf := &x509.Certificate{Subject: pkix.Name{CommonName: subject}, PublicKey: key.Public()}
		req.TLS.PeerCertificates = []*x509.Certificate{leaf}
		if verified {
			req.TLS.VerifiedChains = [][]*x509.Certificate{{leaf}}
		}
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w.Result()
}

func (r *rig) told(what, vehicle string, key *ecdsa.PrivateKey, want wire.ChargeRecord) {
	r.t.Helper()
	a := r.ask(http.MethodGet, wire.ChargePath, vehicle, key, true)
	b := make([]byte, wire.MaxChargeRecordLen+1)
	n, _ := a.Body.Read(b)
	var got wire.ChargeRecord
	if err := wire.Unmarshal(b[:n], &got, wire.MaxChargeRecordLen); err != nil || a.StatusCode != http.StatusOK || got != want ||
		a.Header.Get("Content-Type") != ContentType || a.Header.Get("Cache-Control") != "no-store" {
		r.t.Errorf("%s: status %d, %+v, %v; want %+v", what, a.StatusCode, got, err, want)
	}
}

// TestRecord: a vehicle hears its highest charge, whenever that report came, of its device key alone.
func TestRecord(t *testing.T) {
	r := newRig(t)
	one, onePublic := r.add("CAR1")
	two, twoPublic := r.add("CAR2")
	none := wire.ChargeRecord{Version: wire.Version}
	r.told("before any report", "CAR1", one, none)
	r.report("CAR1", onePublic, 3, 30)
	high := r.report("CAR1", onePublic, 1<<56, 1<<32-1) // bytes compare as numbers do
	r.report("CAR1", onePublic, 255, 40)
	r.report("CAR2", twoPublic, 7, 70)
	for range 2 {
		r.told("the highest", "CAR1", one, wire.ChargeRecord{Version: wire.Version, Charge: high, Epoch: 1<<32 - 1})
		r.told("the other's", "CAR2", two, wire.ChargeRecord{Version: wire.Version, Charge: wire.NewCharge(7, [32]byte{7}), Epoch: 70})
	}
	anew, anewPublic := newKey(t)
	r.update(func(tx *store.Tx) error {
		now := time.Now()
		return errors.Join(tx.SetToken(t.Context(), "CAR1", wire.Hash{1}, now.Add(time.Hour)), tx.Enrol(t.Context(), "CAR1", wire.Hash{1}, anewPublic, now.Add(time.Hour)))
	})
	r.told("enrolled anew", "CAR1", anew, none)
	r.report("CAR1", anewPublic, 1, 50)
	r.told("enrolled anew, and reported", "CAR1", anew, wire.ChargeRecord{Version: wire.Version, Charge: wire.NewCharge(1, [32]byte{1}), Epoch: 50})
	if a := r.ask(http.MethodGet, wire.ChargePath, "CAR1", one, true); a.StatusCode != http.StatusForbidden {
		t.Errorf("the old device key: status %d", a.StatusCode)
	}
	if n := testutil.ToFloat64(r.requests.WithLabelValues("told")); n != 7 {
		t.Errorf("%v answers counted, want 7", n)
	}
}

// TestRefused: nobody hears of another's reports, and nothing but the one request is served.
func TestRefused(t *testing.T) {
	r := newRig(t)
	one, onePublic := r.add("CAR1")
	two, _ := r.add("CAR2")
	r.report("CAR1", onePublic, 3, 30)
	for _, c := range []struct {
		what, method, path, subject string
		key                         *ecdsa.PrivateKey
		unverified                  bool
		want                        int
	}{
		{"no certificate", http.MethodGet, wire.ChargePath, "", nil, false, http.StatusForbidden},
		{"another device key", http.MethodGet, wire.ChargePath, "CAR1", two, false, http.StatusForbidden},
		{"another name", http.MethodGet, wire.ChargePath, "CAR2", one, false, http.StatusForbidden},
		{"an unknown vehicle", http.MethodGet, wire.ChargePath, "CAR3", one, false, http.StatusForbidden},
		{"no vehicle's name", http.MethodGet, wire.ChargePath, "car-1", one, false, http.StatusForbidden},
		{"unverified", http.MethodGet, wire.ChargePath, "CAR1", one, true, http.StatusForbidden},
		{"a post", http.MethodPost, wire.ChargePath, "CAR1", one, false, http.StatusMethodNotAllowed},
		{"a query", http.MethodGet, wire.ChargePath + "?vehicle=CAR2", "CAR1", one, false, http.StatusNotFound},
		{"below", http.MethodGet, wire.ChargePath + "/CAR2", "CAR1", one, false, http.StatusNotFound},
		{"another spelling", http.MethodGet, "/v1/%63harge", "CAR1", one, false, http.StatusNotFound},
	} {
		if a := r.ask(c.method, c.path, c.subject, c.key, !c.unverified); a.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d", c.what, a.StatusCode, c.want)
		}
	}
	r.update(func(tx *store.Tx) error { return tx.RevokeVehicle(t.Context(), "CAR1") })
	if a := r.ask(http.MethodGet, wire.ChargePath, "CAR1", one, true); a.StatusCode != http.StatusForbidden {
		t.Errorf("revoked: status %d", a.StatusCode)
	}
	if n := testutil.ToFloat64(r.requests.WithLabelValues("certificate")); n != 7 {
		t.Errorf("%v requests counted as refused for their certificates, want 7", n)
	}
}

// TestLostRecords: a vehicle is never told that there is nothing because nobody could look.
func TestLostRecords(t *testing.T) {
	r := newRig(t)
	one, _ := r.add("CAR1")
	if err := r.cfg.DB.Close(); err != nil {
		t.Fatal(err)
	}
	a := r.ask(http.MethodGet, wire.ChargePath, "CAR1", one, true)
	if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" {
		t.Errorf("status %d", a.StatusCode)
	}
	for i := range 3 {
		cfg := r.cfg
		switch i {
		case 0:
			cfg.DB = nil
		case 1:
			cfg.Now = nil
		case 2:
			cfg.Logger = nil
		}
		if _, err := New(cfg); err == nil {
			t.Errorf("configuration %d: accepted", i)
		}
	}
}
