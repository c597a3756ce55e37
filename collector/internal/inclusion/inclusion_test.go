package inclusion

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
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/store"
	"rawstone/pkg/inclusion"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newKey() (*ecdsa.PrivateKey, wire.PublicKey) {
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	return k, must(wire.NewPublicKey(k.Public()))
}

// A car is a registered vehicle with its device key and the key of its ECU.
type car struct {
	id     string
	device *ecdsa.PrivateKey
	ecu    wire.PublicKey
	entry  int64 // of the binding
	head   wire.Head
}

// A rig is a desk over records and a log, which one validator cosigns.
type rig struct {
	*Desk
	t         *testing.T
	db        *store.DB
	log       *tlog.Log
	program   *terms.Program
	id        wire.Hash
	validator *ledger.ValidatorKey
	entries   int64
	one, two  *car
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	secret, verifier, err := tlog.GenerateKey("example/log")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, validator: must(ledger.GenerateValidatorKey("v")), id: wire.ID([]byte("program"))}
	r.program = &terms.Program{Validators: []terms.Validator{r.validator.Public()}, Quorum: 1}
	r.log = must(tlog.Open(t.Context(), tlog.Config{Dir: filepath.Join(dir, "log"), Signer: must(note.NewSigner(secret)), Verifier: verifier, Logger: slog.New(slog.DiscardHandler)}))
	t.Cleanup(func() { r.log.Close() })
	r.db = must(store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "records.db"), Role: store.Ingest | store.Settle | store.Admin}))
	t.Cleanup(func() { r.db.Close() })
	// The desk is given what it is given in a collector.
	desk := must(store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "records.db"), Role: store.Ingest}))
	t.Cleanup(func() { desk.Close() })
	r.Desk = must(New(Config{DB: desk, LogDir: filepath.Join(dir, "log"), LogKey: verifier, Drop: 1500 * time.Millisecond, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}))
	r.one, r.two = r.car("CAR1"), r.car("CAR2")
	return r
}

func (r *rig) update(fn func(*store.Tx) error) {
	r.t.Helper()
	if err := r.db.Update(r.t.Context(), fn); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) car(id string) *car {
	r.t.Helper()
	c := &car{id: id}
	var device wire.PublicKey
	c.device, device = newKey()
	_, c.ecu = newKey()
	ctx := r.t.Context()
	r.update(func(tx *store.Tx) error {
		return errors.Join(tx.AddAccount(ctx, "account "+id), tx.AddVehicle(ctx, store.Vehicle{ID: id, Account: "account " + id, Device: device}),
			tx.AddECU(ctx, c.ecu, []byte("certificate")), tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: id, Account: "account " + id, ECU: c.ecu}))
	})
	r.entries++
	c.entry = r.entries
	return c
}

// claim has a car credited with 40 km, and for driving safely, and returns the claim's identifier.
func (r *rig) claim(c *car, to uint64) wire.Hash {
	r.t.Helper()
	claim := wire.Claim{Version: wire.Version, ECU: c.ecu.ID(), From: wire.Origin{Seq: to - 1}, To: wire.Snapshot{Seq: to, Day: uint32(to)}, Proofs: []wire.ClaimProof{{Policy: 1}, {Policy: 2}}}
	body := must(claim.Encode())
	id, ctx := wire.ID(body), r.t.Context()
	credit := store.Credit{Account: "account " + c.id, Vehicle: c.id, ECU: c.ecu.ID(), ToSeq: to, Policy: 1, Kind: terms.KindMileage, Km: 40, Effective: 11, Submission: id}
	safe := credit
	safe.Policy, safe.Kind, safe.Km = 2, terms.KindSafe, 0
	span := store.Span{ECU: c.ecu.ID(), From: c.head, To: claim.To.Head(), Vehicle: c.id, Submission: id}
	r.update(func(tx *store.Tx) error {
		return errors.Join(tx.AddSpan(ctx, span, c.entry, c.head.Seq, []store.Credit{credit, safe}), tx.AddClaim(ctx, id, c.id, body),
			tx.AddSubmission(ctx, &store.Submission{ID: id, Vehicle: c.id, Kind: wire.KindClaim, Accepted: true, Receipt: []byte("receipt")}))
	})
	c.head = span.To
	r.entries += 2
	return id
}

// publish numbers what is new and appends to the log what is below a number.
func (r *rig) publish(below uint64) {
	r.t.Helper()
	var entries []ledger.Entry
	r.update(func(tx *store.Tx) (err error) {
		if err := tx.NumberEntries(r.t.Context(), 1000); err != nil {
			return err
		}
		entries, err = tx.Entries(r.t.Context(), r.log.Size(), 1000)
		return err
	})
	var list [][]byte
	for _, e := range entries {
		if e.Number < below {
			list = append(list, must(e.Encode()))
		}
	}
	if err := r.log.Append(r.t.Context(), r.log.Size(), list...); err != nil {
		r.t.Fatal(err)
	}
}

// draw has all credits so far under a block, which is in the log only if that is asked for.
func (r *rig) draw(logged bool) {
	r.t.Helper()
	r.publish(1 << 62)
	at := must(r.log.Checkpoint())
	payload := must(ledger.EncodePayload(&ledger.Block{Drop: at.Size, Program: r.id, Proofs: []ledger.Proof{{}}, Size: at.Size, LogRoot: at.Root}))
	sealed := ledger.Sealed{Payload: payload, Cosignatures: []ledger.Cosignature{r.validator.Cosign(0, r.id, ledger.TypeBlock, payload)}}
	r.update(func(tx *store.Tx) error {
		_, err := tx.AddEntry(r.t.Context(), ledger.TypeBlock, must(sealed.Encode()))
		return err
	})
	r.entries++
	if logged {
		r.publish(1 << 62)
	} else {
		r.publish(0)
	}
}

func leaf(subject string, key *ecdsa.PrivateKey) *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: subject}, PublicKey: key.Public()}
}

// get asks as TLS lets a client with a certificate ask, nil for none.
func (r *rig) get(path string, shown *x509.Certificate) *http.Response {
	r.t.Helper()
	req := httptest.NewRequestWithContext(r.t.Context(), http.MethodGet, path, nil)
	req.TLS = &tls.ConnectionState{}
	if shown != nil {
		req.TLS.PeerCertificates, req.TLS.VerifiedChains = []*x509.Certificate{shown}, [][]*x509.Certificate{{shown}}
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w.Result()
}

func (r *rig) ask(c *car, id wire.Hash) *http.Response {
	r.t.Helper()
	return r.get(inclusion.Path+id.String(), leaf(c.id, c.device))
}

func body(t *testing.T, a *http.Response) []byte {
	t.Helper()
	b := make([]byte, inclusion.MaxLen+1)
	n := 0
	for {
		m, err := a.Body.Read(b[n:])
		if n += m; err != nil {
			return b[:n]
		}
	}
}

func (r *rig) refused(what string, a *http.Response, status int, reason inclusion.Reason) {
	r.t.Helper()
	p, err := inclusion.DecodeProblem(body(r.t, a))
	if err != nil || a.StatusCode != status || p.Status != status || p.Reason != reason || a.Header.Get("Content-Type") != inclusion.ProblemType {
		r.t.Errorf("%s: status %d, %+v, %v; want %d, %s", what, a.StatusCode, p, err, status, reason)
	}
	if waits := a.Header.Get("Retry-After"); (waits != "") != (reason == inclusion.ReasonNotYet || reason == inclusion.ReasonBusy) {
		r.t.Errorf("%s: Retry-After %q", what, waits)
	}
}

func (r *rig) proven(what string, a *http.Response, c *car, to uint64) {
	r.t.Helper()
	b := body(r.t, a)
	if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != inclusion.ContentType {
		r.t.Errorf("%s: status %d: %.300s", what, a.StatusCode, b)
		return
	}
	answer, err := inclusion.Decode(b)
	if err == nil {
		_, err = answer.Verify(r.program, r.id, inclusion.Heard{}, inclusion.Promised{
			ECU: c.ecu.ID(), ToSeq: to, Credits: []wire.Credit{{Policy: 1, Km: 40, Effective: 11}, {Policy: 2, Effective: 11}},
			Kinds: []string{terms.KindMileage, terms.KindSafe},
		})
	}
	if err != nil {
		r.t.Errorf("%s: %v", what, err)
	}
}

// TestProofs goes with two cars' claims from the records into the log and under a block, and under further ones.
func TestProofs(t *testing.T) {
	r := newRig(t)
	first := r.claim(r.one, 5)
	if p := r.ask(r.one, first); p.StatusCode == http.StatusOK {
		t.Error("a credit without a number is proven")
	}
	r.publish(1 << 62)
	r.refused("without a block", r.ask(r.one, first), http.StatusNotFound, inclusion.ReasonNotYet)
	if a := r.ask(r.one, first); a.Header.Get("Retry-After") != "2" {
		t.Errorf("come again after %q s, want the time of a drop", a.Header.Get("Retry-After"))
	}
	r.draw(true)
	r.proven("under a block", r.ask(r.one, first), r.one, 5)
	second, other := r.claim(r.one, 6), r.claim(r.two, 5)
	r.publish(1 << 62)
	r.refused("after the block", r.ask(r.one, second), http.StatusNotFound, inclusion.ReasonNotYet)
	r.draw(false) // its tree is in the log, and itself is not yet
	for range 2 {
		r.proven("first", r.ask(r.one, first), r.one, 5)
		r.proven("second", r.ask(r.one, second), r.one, 6)
		r.proven("the other car's", r.ask(r.two, other), r.two, 5)
		r.update(func(tx *store.Tx) error { // over the edge of a tile
			for range 300 {
				if _, err := tx.AddEncoded(t.Context(), ledger.TypeCredit, ledger.Credit{}); err != nil {
					return err
				}
			}
			return nil
		})
		r.draw(true)
	}
}

// TestBlockAheadOfTheLog: a block whose tree the log does not hold yet proves nothing, and the one before it goes on to.
func TestBlockAheadOfTheLog(t *testing.T) {
	r := newRig(t)
	first := r.claim(r.one, 5)
	r.draw(true)
	second := r.claim(r.one, 6)
	payload := must(ledger.EncodePayload(&ledger.Block{Drop: 9, Program: r.id, Proofs: []ledger.Proof{{}}, Size: 1 << 20}))
	r.update(func(tx *store.Tx) error {
		_, err := tx.AddEntry(t.Context(), ledger.TypeBlock, must((&ledger.Sealed{Payload: payload}).Encode()))
		return err
	})
	r.publish(0)
	r.proven("first", r.ask(r.one, first), r.one, 5)
	r.refused("second", r.ask(r.one, second), http.StatusNotFound, inclusion.ReasonNotYet)
}

// TestRepeatedClaim: a claim over a span that was credited is proven by the original's credits.
func TestRepeatedClaim(t *testing.T) {
	r := newRig(t)
	first, again := r.claim(r.one, 5), wire.ID([]byte("again"))
	r.update(func(tx *store.Tx) error {
		return tx.AddSubmission(t.Context(), &store.Submission{ID: again, Vehicle: "CAR1", Kind: wire.KindClaim, Accepted: true, Receipt: []byte("r"), Original: &first})
	})
	r.draw(true)
	r.proven("repeated", r.ask(r.one, again), r.one, 5)
	r.refused("another car's", r.ask(r.two, again), http.StatusNotFound, inclusion.ReasonUnknown)
}

// TestOnlyOnesOwn: who asks gets their own proofs and learns of no others.
func TestOnlyOnesOwn(t *testing.T) {
	r := newRig(t)
	first, refused := r.claim(r.one, 5), wire.ID([]byte("refused"))
	r.update(func(tx *store.Tx) error {
		return tx.AddSubmission(t.Context(), &store.Submission{ID: refused, Vehicle: "CAR1", Kind: wire.KindClaim, Reason: wire.ReasonGap, Receipt: []byte("r")})
	})
	r.draw(true)
	path := inclusion.Path + first.String()
	r.proven("own", r.ask(r.one, first), r.one, 5)
	theirs, none := body(t, r.ask(r.two, first)), body(t, r.ask(r.two, wire.Hash{1}))
	if string(theirs) != string(none) {
		t.Errorf("another car's submission is told from one that is not there: %s, %s", theirs, none)
	}
	r.refused("another car's", r.ask(r.two, first), http.StatusNotFound, inclusion.ReasonUnknown)
	r.refused("a refused one", r.ask(r.one, refused), http.StatusNotFound, inclusion.ReasonUnknown)
	r.refused("no certificate", r.get(path, nil), http.StatusForbidden, inclusion.ReasonCertificate)
	r.refused("another device key", r.get(path, leaf("CAR1", r.two.device)), http.StatusForbidden, inclusion.ReasonCertificate)
	r.refused("another name", r.get(path, leaf("CAR3", r.one.device)), http.StatusForbidden, inclusion.ReasonCertificate)
	r.refused("no vehicle's name", r.get(path, leaf("car-1", r.one.device)), http.StatusForbidden, inclusion.ReasonCertificate)
	unverified := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	unverified.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf("CAR1", r.one.device)}}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, unverified)
	r.refused("unverified certificate", w.Result(), http.StatusForbidden, inclusion.ReasonCertificate)
	r.update(func(tx *store.Tx) error { return tx.RevokeVehicle(t.Context(), "CAR1") })
	r.refused("revoked", r.ask(r.one, first), http.StatusForbidden, inclusion.ReasonCertificate)
	if n := testutil.ToFloat64(r.requests.WithLabelValues("certificate")); n != 6 {
		t.Errorf("%v requests counted as refused for their certificates, want 6", n)
	}
}

func TestMalformed(t *testing.T) {
	r := newRig(t)
	id := strings.Repeat("ab", 32)
	for _, path := range []string{"/v1/inclusion/", "/v1/inclusion/x", inclusion.Path + id[2:], inclusion.Path + strings.ToUpper(id), inclusion.Path + id + "/", inclusion.Path + id + "?x", inclusion.Path + "%61b" + id[3:], "/v1/inclusion/" + strings.Repeat("zz", 32)} {
		r.refused(path, r.get(path, leaf("CAR1", r.one.device)), http.StatusNotFound, inclusion.ReasonMalformed)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, inclusion.Path+id, nil))
	if a := w.Result(); a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != http.MethodGet {
		t.Errorf("POST: %d", a.StatusCode)
	}
}

// TestLostRecords: without records or log the car is asked to come again, and nothing of why is told.
func TestLostRecords(t *testing.T) {
	r := newRig(t)
	id := r.claim(r.one, 5)
	r.draw(true)
	r.cfg.LogDir = filepath.Join(t.TempDir(), "none")
	a := r.ask(r.one, id)
	if b := body(t, a); strings.Contains(string(b), "none") {
		t.Errorf("told %s", b)
	}
	r.refused("no log", r.ask(r.one, id), http.StatusServiceUnavailable, inclusion.ReasonBusy)
	if err := r.cfg.DB.Close(); err != nil {
		t.Fatal(err)
	}
	r.refused("no records", r.ask(r.one, id), http.StatusServiceUnavailable, inclusion.ReasonBusy)
	for i := range 6 {
		cfg := r.cfg
		switch i {
		case 0:
			cfg.DB = nil
		case 1:
			cfg.LogDir = ""
		case 2:
			cfg.LogKey = ""
		case 3:
			cfg.Drop = 0
		case 4:
			cfg.Now = nil
		case 5:
			cfg.Logger = nil
		}
		if _, err := New(cfg); err == nil {
			t.Errorf("configuration %d: accepted", i)
		}
	}
}
