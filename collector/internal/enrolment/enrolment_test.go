package enrolment

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/store"
	"rawstone/pkg/codec"
	"rawstone/pkg/enroll"
	"rawstone/pkg/wire"
)

func newKey(t testing.TB) (*ecdsa.PrivateKey, wire.PublicKey) {
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

// A rig is a desk with its records, vehicles with tokens, and a clock.
type rig struct {
	*Desk
	t   *testing.T
	db  *store.DB
	reg *prometheus.Registry
	log bytes.Buffer

	mu     sync.Mutex
	now    time.Time
	remote string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, reg: prometheus.NewRegistry(), now: time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC), remote: "192.0.2.1:1000"}
	if err := ca.Init(filepath.Join(dir, "ca"), r.now); err != nil {
		t.Fatal(err)
	}
	authority, err := ca.OpenVehicles(filepath.Join(dir, "ca", "vehicle-ca.pem"), filepath.Join(dir, "ca", "vehicle-ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	r.db, err = store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "records.db"), Role: store.Ingest | store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.db.Close() })
	r.Desk, err = New(Config{
		DB: r.db, Authority: authority, Now: r.clock, Logger: slog.New(slog.NewTextHandler(&r.log, nil)), Registerer: r.reg,
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *rig) update(fn func(*store.Tx) error) {
	r.t.Helper()
	if err := r.db.Update(r.t.Context(), fn); err != nil {
		r.t.Fatal(err)
	}
}

// vehicle registers a vehicle and returns its token, good for 30 days.
func (r *rig) vehicle(id string) string {
	r.t.Helper()
	r.update(func(tx *store.Tx) error {
		if err := tx.AddAccount(r.t.Context(), "account of "+id); err != nil {
			return err
		}
		return tx.AddVehicle(r.t.Context(), store.Vehicle{ID: id, Account: "account of " + id})
	})
	return r.token(id)
}

func (r *rig) token(id string) string {
	r.t.Helper()
	token := enroll.NewToken()
	r.update(func(tx *store.Tx) error {
		return tx.SetToken(r.t.Context(), id, enroll.HashToken(token), r.clock().AddDate(0, 0, 30))
	})
	return token
}

func (r *rig) revoke(id string) {
	r.t.Helper()
	r.update(func(tx *store.Tx) error { return tx.RevokeVehicle(r.t.Context(), id) })
}

func (r *rig) enrolment(id string) (e store.Enrolment) {
	r.t.Helper()
	err := r.db.View(r.t.Context(), func(tx *store.Tx) (err error) {
		e, err = tx.Enrolment(r.t.Context(), id)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// request encodes a request; without a token it is for a renewal.
func request(t testing.TB, vehicle string, key crypto.Signer, token string) []byte {
	t.Helper()
	r, err := enroll.NewRequest(vehicle, key, token)
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// post sends a body and returns what came.
func (r *rig) post(path string, body []byte) *httptest.ResponseRecorder {
	q := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	q.Header.Set("Content-Type", enroll.ContentType)
	q.RemoteAddr = r.remote
	w := httptest.NewRecorder()
	r.ServeHTTP(w, q)
	return w
}

// granted sends a request that must be granted and returns the certificate.
func (r *rig) granted(path, vehicle string, key *ecdsa.PrivateKey, body []byte) *x509.Certificate {
	r.t.Helper()
	w := r.post(path, body)
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != enroll.ContentType || w.Header().Get("Cache-Control") != "no-store" {
		r.t.Fatalf("%d, %v, %s", w.Code, w.Header(), w.Body)
	}
	a, err := enroll.DecodeAnswer(w.Body.Bytes())
	if err != nil {
		r.t.Fatal(err)
	}
	pub, err := wire.NewPublicKey(key.Public())
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := a.Leaf(vehicle, pub)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: r.cfg.Authority.Pool(), CurrentTime: r.clock(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		r.t.Error(err)
	}
	if e := r.enrolment(vehicle); e.Device != pub || !e.Until.Equal(c.NotAfter) || e.Token != (wire.Hash{}) {
		r.t.Errorf("records %+v after a certificate until %s", e, c.NotAfter)
	}
	return c
}

// refused sends a request that must be refused.
func (r *rig) refused(what, path string, body []byte, status int, reason enroll.Reason) {
	r.t.Helper()
	before := r.enrolments()
	w := r.post(path, body)
	p, err := enroll.DecodeProblem(w.Body.Bytes())
	if err != nil || w.Code != status || p.Status != status || p.Reason != reason || w.Header().Get("Content-Type") != enroll.ProblemType {
		r.t.Errorf("%s: %d, %s (%v), want %d for %s", what, w.Code, w.Body, err, status, reason)
	}
	if (w.Header().Get("Retry-After") != "") != (reason == enroll.ReasonBusy) {
		r.t.Errorf("%s: Retry-After %q", what, w.Header().Get("Retry-After"))
	}
	after := r.enrolments()
	if len(before) != len(after) {
		r.t.Fatalf("%s: %d vehicles became %d", what, len(before), len(after))
	}
	for i := range before {
		if before[i] != after[i] {
			r.t.Errorf("%s changed the records from %+v to %+v", what, before[i], after[i])
		}
	}
}

func (r *rig) enrolments() (all []store.Enrolment) {
	r.t.Helper()
	err := r.db.View(r.t.Context(), func(tx *store.Tx) (err error) {
		all, err = tx.Enrolments(r.t.Context())
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

func TestEnrolAndRenew(t *testing.T) {
	r := newRig(t)
	token := r.vehicle("CAR1")
	key, _ := newKey(t)
	first := r.granted(enroll.EnrolPath, "CAR1", key, request(t, "CAR1", key, token))
	if life := first.NotAfter.Sub(r.clock()); life != ca.VehicleLife {
		t.Errorf("the certificate lasts %s", life)
	}
	// Half of its life later; then again with the very same request, and after 23 months.
	again := request(t, "CAR1", key, "")
	for _, after := range []time.Duration{7 * 24 * time.Hour, 7 * 24 * time.Hour, 23 * 30 * 24 * time.Hour} {
		r.pass(after)
		if c := r.granted(enroll.RenewPath, "CAR1", key, again); c.SerialNumber.Cmp(first.SerialNumber) == 0 {
			t.Error("the same certificate again")
		}
	}
	want := `
# HELP rawstone_enrolment_requests_total Requests for client certificates, by path and outcome.
# TYPE rawstone_enrolment_requests_total counter
rawstone_enrolment_requests_total{outcome="granted",path="enrol"} 1
rawstone_enrolment_requests_total{outcome="granted",path="renew"} 3
`
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if r.log.Len() != 0 {
		t.Errorf("logged %s", r.log.String())
	}
	if len(r.sources.all) != 0 {
		t.Error("what is granted counts as refused")
	}
}

func TestTokensEnrolOnce(t *testing.T) {
	r := newRig(t)
	one, other := r.vehicle("CAR1"), r.vehicle("CAR2")
	key, device := newKey(t)
	refused := func(what, vehicle, token string) {
		t.Helper()
		k, _ := newKey(t)
		r.refused(what, enroll.EnrolPath, request(t, vehicle, k, token), http.StatusForbidden, enroll.ReasonToken)
	}
	refused("another vehicle's token", "CAR1", other)
	refused("a guess", "CAR1", enroll.NewToken())
	refused("a vehicle that is not registered", "CAR9", one)
	r.granted(enroll.EnrolPath, "CAR1", key, request(t, "CAR1", key, one))
	refused("a used token", "CAR1", one)
	// The answer was lost: the same request gets it, but no faster than a renewal would.
	r.refused("a used token of the same key at once", enroll.EnrolPath, request(t, "CAR1", key, one), http.StatusTooManyRequests, enroll.ReasonBusy)
	r.pass(renewEvery)
	r.granted(enroll.EnrolPath, "CAR1", key, request(t, "CAR1", key, one))
	r.refused("a used token of the same key for another vehicle", enroll.EnrolPath, request(t, "CAR2", key, one), http.StatusForbidden, enroll.ReasonToken)
	refused("a guess after enrolment", "CAR1", enroll.NewToken())
	r.pass(30*24*time.Hour - renewEvery - time.Second)
	late, _ := newKey(t)
	r.granted(enroll.EnrolPath, "CAR2", late, request(t, "CAR2", late, other))
	expired := r.token("CAR2")
	r.pass(30 * 24 * time.Hour)
	refused("an expired token", "CAR2", expired)
	old := r.token("CAR1")
	next := r.token("CAR1")
	refused("a token that another replaced", "CAR1", old)
	// With a new token a vehicle gets a new device key, and the old one is nobody's.
	replaced, _ := newKey(t)
	r.granted(enroll.EnrolPath, "CAR1", replaced, request(t, "CAR1", replaced, next))
	r.refused("the old device key", enroll.RenewPath, request(t, "CAR1", key, ""), http.StatusForbidden, enroll.ReasonKey)
	if d, ok, err := r.db.Device(t.Context(), "CAR1"); err != nil || !ok || d == device {
		t.Errorf("the vehicle connects with %v, %t (%v)", d, ok, err)
	}
	gone := r.token("CAR1")
	r.revoke("CAR1")
	refused("a revoked vehicle's token", "CAR1", gone)
	r.refused("a revoked vehicle's key", enroll.EnrolPath, request(t, "CAR1", replaced, next), http.StatusForbidden, enroll.ReasonToken)
	if strings.Contains(r.log.String(), "CAR") {
		t.Errorf("logged %s", r.log.String())
	}
}

func TestDeviceKeysAreOfOneVehicle(t *testing.T) {
	r := newRig(t)
	one, two, three := r.vehicle("CAR1"), r.vehicle("CAR2"), r.vehicle("CAR3")
	key, _ := newKey(t)
	ecu, pub := newKey(t)
	r.update(func(tx *store.Tx) error { return tx.AddECU(t.Context(), pub, nil) })
	r.granted(enroll.EnrolPath, "CAR1", key, request(t, "CAR1", key, one))
	r.refused("another vehicle's key", enroll.EnrolPath, request(t, "CAR2", key, two), http.StatusConflict, enroll.ReasonTaken)
	r.refused("an ECU's key", enroll.EnrolPath, request(t, "CAR3", ecu, three), http.StatusConflict, enroll.ReasonTaken)
	// Without a good token nobody learns whose a key is.
	r.refused("another vehicle's key with a guess", enroll.EnrolPath, request(t, "CAR2", key, enroll.NewToken()), http.StatusForbidden, enroll.ReasonToken)
	r.granted(enroll.EnrolPath, "CAR1", key, request(t, "CAR1", key, r.token("CAR1"))) // its own again
}

func TestRenewalRefuses(t *testing.T) {
	r := newRig(t)
	token := r.vehicle("CAR1")
	r.vehicle("CAR2")
	key, _ := newKey(t)
	thief, _ := newKey(t)
	r.granted(enroll.EnrolPath, "CAR1", key, request(t, "CAR1", key, token))
	r.refused("at once", enroll.RenewPath, request(t, "CAR1", key, ""), http.StatusTooManyRequests, enroll.ReasonBusy)
	r.pass(renewEvery)
	for _, vehicle := range []string{"CAR1", "CAR2", "CAR9"} { // enrolled with another key, not enrolled, not registered: nobody learns which
		r.refused("another key for "+vehicle, enroll.RenewPath, request(t, vehicle, thief, ""), http.StatusForbidden, enroll.ReasonKey)
	}
	r.refused("another vehicle with its key", enroll.RenewPath, request(t, "CAR2", key, ""), http.StatusForbidden, enroll.ReasonKey)
	until := r.granted(enroll.RenewPath, "CAR1", key, request(t, "CAR1", key, "")).NotAfter
	r.pass(until.AddDate(0, 24, 0).Sub(r.clock()))
	r.granted(enroll.RenewPath, "CAR1", key, request(t, "CAR1", key, "")) // on the last second of 24 months
	r.pass(r.enrolment("CAR1").Until.AddDate(0, 24, 0).Sub(r.clock()) + time.Second)
	r.refused("after 24 months", enroll.RenewPath, request(t, "CAR1", key, ""), http.StatusForbidden, enroll.ReasonLate)
	r.granted(enroll.EnrolPath, "CAR1", key, request(t, "CAR1", key, r.token("CAR1")))
	// A clock that had been a year ahead keeps nobody waiting.
	r.pass(-365 * 24 * time.Hour)
	r.granted(enroll.RenewPath, "CAR1", key, request(t, "CAR1", key, ""))
	r.pass(time.Hour)
	r.revoke("CAR1")
	r.refused("revoked", enroll.RenewPath, request(t, "CAR1", key, ""), http.StatusForbidden, enroll.ReasonRevoked)
	r.refused("revoked, by another key", enroll.RenewPath, request(t, "CAR1", thief, ""), http.StatusForbidden, enroll.ReasonKey)
}

// TestMalformed posts what is no request. What a certification request may not hold is tested with its package.
func TestMalformed(t *testing.T) {
	r := newRig(t)
	token := r.vehicle("CAR1")
	key, _ := newKey(t)
	good := request(t, "CAR1", key, token)
	forged, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "CAR2"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := codec.Encode(&enroll.Request{Version: 1, Vehicle: "CAR1", CSR: forged, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path   string
		body   []byte
		status int
	}{
		"empty":                 {enroll.EnrolPath, nil, http.StatusBadRequest},
		"garbage":               {enroll.EnrolPath, []byte("garbage"), http.StatusBadRequest},
		"trailing byte":         {enroll.EnrolPath, append(bytes.Clone(good), 0), http.StatusBadRequest},
		"oversized":             {enroll.EnrolPath, append(bytes.Clone(good), make([]byte, enroll.MaxLen)...), http.StatusRequestEntityTooLarge},
		"token for a renewal":   {enroll.RenewPath, good, http.StatusBadRequest},
		"enrolment without":     {enroll.EnrolPath, request(t, "CAR1", key, ""), http.StatusBadRequest},
		"another vehicle's CSR": {enroll.EnrolPath, wrong, http.StatusBadRequest},
		"another path":          {"/v1/other", good, http.StatusNotFound},
	} {
		r.refused(name, c.path, c.body, c.status, enroll.ReasonMalformed)
	}
	for name, edit := range map[string]func(*http.Request){
		"GET":          func(q *http.Request) { q.Method = http.MethodGet },
		"content type": func(q *http.Request) { q.Header.Set("Content-Type", "text/plain") },
	} {
		q := httptest.NewRequest(http.MethodPost, enroll.EnrolPath, bytes.NewReader(good))
		q.Header.Set("Content-Type", enroll.ContentType)
		q.RemoteAddr = r.remote
		edit(q)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, q)
		if p, err := enroll.DecodeProblem(w.Body.Bytes()); err != nil || p.Reason != enroll.ReasonMalformed || w.Code < 400 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	r.granted(enroll.EnrolPath, "CAR1", key, good)
}

// TestRace has many devices enrol with one token at once: one gets a certificate.
func TestRace(t *testing.T) {
	r := newRig(t)
	token := r.vehicle("CAR1")
	const n = 16
	keys, codes := make([]*ecdsa.PrivateKey, n), make([]int, n)
	var all sync.WaitGroup
	for i := range n {
		keys[i], _ = newKey(t)
		body := request(t, "CAR1", keys[i], token)
		all.Go(func() { codes[i] = r.post(enroll.EnrolPath, body).Code })
	}
	all.Wait()
	won := -1
	for i, code := range codes {
		switch {
		case code == http.StatusOK && won < 0:
			won = i
		case code == http.StatusOK:
			t.Error("two devices enrolled with one token")
		case code != http.StatusForbidden:
			t.Errorf("status %d", code)
		}
	}
	if won < 0 {
		t.Fatal("nobody enrolled")
	}
	pub, err := wire.NewPublicKey(keys[won].Public())
	if err != nil {
		t.Fatal(err)
	}
	if e := r.enrolment("CAR1"); e.Device != pub {
		t.Error("the records hold another key than the winner's")
	}
}

// TestGuessesAreLimited: a source that was refused often waits, and others do not, nor those that are granted.
func TestGuessesAreLimited(t *testing.T) {
	r := newRig(t)
	token := r.vehicle("CAR1")
	key, _ := newKey(t)
	stranger, _ := newKey(t)
	guess := request(t, "CAR1", stranger, enroll.NewToken())
	for range refusals {
		r.refused("a guess", enroll.EnrolPath, guess, http.StatusForbidden, enroll.ReasonToken)
	}
	good := request(t, "CAR1", key, token)
	r.refused("a guess too many", enroll.EnrolPath, guess, http.StatusTooManyRequests, enroll.ReasonBusy)
	r.refused("even a good one", enroll.EnrolPath, good, http.StatusTooManyRequests, enroll.ReasonBusy)
	wait, err := strconv.Atoi(r.post(enroll.EnrolPath, good).Header().Get("Retry-After"))
	if err != nil || wait < 1 || time.Duration(wait)*time.Second > refusalEvery+time.Second {
		t.Errorf("wait %d s (%v)", wait, err)
	}
	r.remote = "192.0.2.2:1000"
	r.granted(enroll.EnrolPath, "CAR1", key, good)
	r.remote = "192.0.2.1:2000" // the same host
	r.refused("from another port", enroll.EnrolPath, guess, http.StatusTooManyRequests, enroll.ReasonBusy)
	r.pass(refusalEvery)
	r.refused("after a while", enroll.EnrolPath, guess, http.StatusForbidden, enroll.ReasonToken)
	r.refused("but not twice", enroll.EnrolPath, guess, http.StatusTooManyRequests, enroll.ReasonBusy)
	r.pass(time.Hour)
	for range 3 * refusals {
		r.pass(renewEvery)
		r.granted(enroll.RenewPath, "CAR1", key, request(t, "CAR1", key, ""))
	}
}

// TestFleetBehindOneAddressRenews: whatever is refused to an address, enrolments and renewals, cars behind it get their renewals; and
// refused renewals take nothing from those who enrol there.
func TestFleetBehindOneAddressRenews(t *testing.T) {
	r := newRig(t)
	token, other := r.vehicle("CAR1"), r.vehicle("CAR2")
	key, _ := newKey(t)
	stranger, _ := newKey(t)
	r.granted(enroll.EnrolPath, "CAR1", key, request(t, "CAR1", key, token))
	r.pass(time.Hour)
	for range 3 * refusals {
		r.refused("a stranger's renewal", enroll.RenewPath, request(t, "CAR1", stranger, ""), http.StatusForbidden, enroll.ReasonKey)
	}
	r.granted(enroll.EnrolPath, "CAR2", stranger, request(t, "CAR2", stranger, other))
	r.remote = "192.0.2.3:1"
	third, _ := newKey(t)
	guess := request(t, "CAR2", third, enroll.NewToken())
	for range refusals {
		r.refused("a guess", enroll.EnrolPath, guess, http.StatusForbidden, enroll.ReasonToken)
	}
	r.refused("a guess too many", enroll.EnrolPath, guess, http.StatusTooManyRequests, enroll.ReasonBusy)
	r.granted(enroll.RenewPath, "CAR1", key, request(t, "CAR1", key, ""))
}

func TestSources(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:1": "192.0.2.1/32", "[::ffff:192.0.2.1]:1": "192.0.2.1/32", "[2001:db8:1:2:3::4]:1": "2001:db8:1:2::/64", "[fe80::1%eth0]:1": "fe80::/64",
		"": "invalid Prefix", "pipe": "invalid Prefix",
	} {
		if got := source(in).String(); got != want {
			t.Errorf("source %q is %s, want %s", in, got, want)
		}
	}
	s, now := newSources(), time.Unix(1e9, 0)
	at := func(i int) string {
		return "10." + strconv.Itoa(i>>16) + "." + strconv.Itoa(i>>8&255) + "." + strconv.Itoa(i&255) + ":1"
	}
	for i := range 3 * maxSources {
		s.count(source(at(i)), now)
	}
	if len(s.all) > maxSources+1 {
		t.Errorf("%d sources kept in mind", len(s.all))
	}
	if s.wait(source(at(0)), now) != 0 || s.wait(source("198.51.100.1:1"), now) == 0 {
		t.Error("those beyond the bound do not share theirs")
	}
	now = now.Add(refusals * refusalEvery)
	if s.wait(source("198.51.100.1:1"), now) != 0 {
		t.Error("they wait for ever")
	}
	s.count(source("198.51.100.1:1"), now)
	if len(s.all) != 1 {
		t.Errorf("%d sources kept in mind that have all their refusals", len(s.all))
	}
	for range 2 * refusals {
		s.count(source(at(7)), now)
	}
	if wait := s.wait(source(at(7)), now.Add(-1000*time.Hour)); wait != 0 || s.wait(source(at(7)), now) == 0 {
		t.Errorf("a clock that was set back makes it wait %s", wait)
	}
}

// TestRecordsFail: vehicles come again, and the log says so once, without names.
func TestRecordsFail(t *testing.T) {
	r := newRig(t)
	token := r.vehicle("SECRET1")
	key, _ := newKey(t)
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w := r.post(enroll.EnrolPath, request(t, "SECRET1", key, token))
		if p, err := enroll.DecodeProblem(w.Body.Bytes()); err != nil || p.Reason != enroll.ReasonBusy || w.Code != http.StatusServiceUnavailable || strings.Contains(p.Detail, "closed") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if log := r.log.String(); strings.Count(log, "\n") != 1 || strings.Contains(log, "SECRET") || strings.Contains(log, token) {
		t.Errorf("logged %s", log)
	}
}

func TestNewRefuses(t *testing.T) {
	r := newRig(t)
	for i, edit := range []func(*Config){
		func(c *Config) { c.DB = nil }, func(c *Config) { c.Authority = nil }, func(c *Config) { c.Now = nil }, func(c *Config) { c.Logger = nil },
		func(*Config) {}, // whose metrics are there already
	} {
		cfg := r.cfg
		edit(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("configuration %d was taken", i)
		}
	}
}

// FuzzPost holds that nothing but the one good request is granted, and that every answer is one that agents read.
func FuzzPost(f *testing.F) {
	key, _ := newKey(f)
	f.Add(request(f, "CAR1", key, ""))
	f.Add(request(f, "CAR1", key, enroll.NewToken()))
	f.Add([]byte(strings.Repeat("x", enroll.MaxLen+1)))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := newRig(t)
		for _, path := range []string{enroll.EnrolPath, enroll.RenewPath} {
			w := r.post(path, body)
			if _, err := enroll.DecodeProblem(w.Body.Bytes()); err != nil || w.Code < 400 {
				t.Errorf("%d %s: %v", w.Code, w.Body, err)
			}
		}
	})
}
