package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/golang-jwt/jwt/v5"

	"rawstone/collector/internal/api/gate"
	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/api/token"
	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/store"
	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	issuer   = "https://id.maker.example"
	audience = "https://stones.maker.example"
	owner    = "owner-1" // has a car
	guest    = "guest-1" // has none
	feature  = "feature/assist"
)

// A world is a program's records with the API in front of them. The settler's part is played by block.
type world struct {
	t       testing.TB
	handler http.Handler
	db      *store.DB // as everybody but the API
	rules   estate.Rules
	policy  *ecdsa.PrivateKey
	issuer  ed25519.PrivateKey
	now     atomic.Int64 // Unix seconds
	offers  *cultivation.Offers
	keys    map[string]*ecdsa.PrivateKey
	drop    uint64
	given   uint64 // milli-stones that boxes gave
	nonce   atomic.Uint64
	cfg     Config
	path    string // of the records

	document *openapi3.T
	router   routers.Router
	mu       sync.Mutex
	used     map[string]bool // operations of which an answer was held against the document
}

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

func newWorld(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, keys: make(map[string]*ecdsa.PrivateKey), used: make(map[string]bool)}
	w.now.Store(1_800_000_000)
	policy, public := newKey(t)
	w.policy = policy
	w.rules = estate.Rules{ID: wire.Hash{7}, Program: &terms.Program{Timing: terms.Timing{GenesisS: 19_675 * 86400, DayS: 86400, DropS: 600}, Policy: wire.KeySet{public}}}

	path := filepath.Join(t.TempDir(), "records.db")
	w.path = path
	open := func(role store.Role) *store.DB {
		db, err := store.Open(t.Context(), store.Config{Path: path, Role: role, BusyTimeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db
	}
	w.db = open(store.Ingest | store.Settle | store.Admin)
	w.fill()

	w.cfg = Config{Rules: w.rules, Now: w.clock, Store: open(store.Account), Tokens: w.verifier(), Patience: 5 * time.Minute,
		Owners: gate.Rate{Every: time.Microsecond, Burst: 1 << 20}, Backend: gate.Rate{Every: time.Microsecond, Burst: 1 << 20}, Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	for _, c := range change {
		c(&w.cfg)
	}
	var err error
	if w.handler, err = New(w.cfg); err != nil {
		t.Fatal(err)
	}
	if w.document, err = openapi3.NewLoader().LoadFromData(document); err != nil {
		t.Fatal(err)
	}
	if w.router, err = legacy.NewRouter(w.document); err != nil {
		t.Fatal(err)
	}
	return w
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Helper()
	w.t.Logf("log: %s", bytes.TrimSpace(b))
	return len(b), nil
}

func (w *world) clock() time.Time { return time.Unix(w.now.Load(), 0) }

func (w *world) verifier() *token.Verifier {
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	w.issuer = secret
	path := filepath.Join(w.t.TempDir(), "jwks.json")
	text := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":%q}]}`, base64.RawURLEncoding.EncodeToString(public))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	v, err := token.New(token.Config{Path: path, Issuer: issuer, Audience: audience, Now: w.clock, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// token returns an access token that is good for an hour.
func (w *world) token(subject string, scopes ...string) string {
	w.t.Helper()
	c := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"iss": issuer, "aud": audience, "sub": subject, "client_id": "app",
		"scope": strings.Join(scopes, " "), "iat": w.now.Load(), "exp": w.now.Load() + 3600})
	c.Header["typ"], c.Header["kid"] = "at+jwt", "1"
	s, err := c.SignedString(w.issuer)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) update(fn func(*store.Tx) error) {
	w.t.Helper()
	if err := w.db.Update(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// fill registers an owner with a car and a guest without one, and logs offers: some in force at once, some later.
func (w *world) fill() {
	w.t.Helper()
	ctx := w.t.Context()
	ecu, head := wire.PublicKey{2, 2}, wire.Head{Seq: 3, Day: 4, Commitment: wire.Commitment{5}}
	today := w.rules.Program.Timing.Day(w.rules.Program.Timing.DropTime(0))
	w.offers = &cultivation.Offers{
		Version: wire.Version, Program: w.rules.ID, Serial: 1, FromDay: today,
		Tasks: []cultivation.Task{
			{ID: "survey", Title: "Answer a survey", Crystals: 100, Daily: 5000, Total: 100_000},
			{ID: "rare", Title: "Be first", Crystals: 10, Daily: 10, Total: 10},
			{ID: "huge", Title: "Fill the purse", Crystals: uint32(cultivation.MaxCrystals), Daily: uint64(cultivation.MaxCrystals), Total: uint64(cultivation.MaxCrystals)},
			{ID: "assist", Title: "Use assistance", Crystals: 30, Daily: 3000, Total: 30_000, Kind: feature},
		},
		Boxes: []cultivation.OfferedBox{
			{ID: "quartz", Title: "Quartz box", Cost: 10, Owners: []cultivation.Odds{{Parts: 400_000, Prize: cultivation.Prize{Milli: 1000}}, {Parts: 300_000, Prize: cultivation.Prize{Crystals: 5}}, {Parts: 200_000, Prize: cultivation.Prize{Goods: "model"}}, {Parts: 100_000}},
				Others: []cultivation.Odds{{Parts: 1_000_000, Prize: cultivation.Prize{Crystals: 1}}}},
			{ID: "world", Title: "All there is", Cost: 1, Owners: []cultivation.Odds{{Parts: 1, Prize: cultivation.Prize{Milli: 90_000_000_000}}, {Parts: 999_999}},
				Others: []cultivation.Odds{{Parts: 1_000_000}}},
		},
		Catalogue: []cultivation.Item{
			{ID: "model", Title: "Model car", Milli: 2000, Fen: 9900, Limit: 3},
			{ID: "charge", Title: "A charge", Milli: 1000, Fen: 0},
			{ID: "car", Title: "A car", Milli: 300_000_000_000, Fen: 1},
			{ID: "sticker", Title: "A sticker"},
		},
	}
	w.log(w.offers)
	later := *w.offers
	later.Serial, later.FromDay = 2, today+200
	later.Tasks = later.Tasks[:1]
	w.log(&later)
	w.update(func(tx *store.Tx) error {
		for _, err := range []error{
			tx.AddAccount(ctx, owner), tx.AddAccount(ctx, guest),
			tx.AddVehicle(ctx, store.Vehicle{ID: "V1", Account: owner, Device: wire.PublicKey{2, 1}, AddedDay: 9}),
			tx.AddECU(ctx, ecu, []byte("certificate")),
			tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: "V1", Account: owner, ECU: ecu, Head: head}),
		} {
			if err != nil {
				return err
			}
		}
		b, err := tx.KeyBindings(ctx, ecu.ID())
		if err != nil {
			return err
		}
		s := store.Span{ECU: ecu.ID(), From: head, To: wire.Head{Seq: 1 << 62, Day: 8, Commitment: wire.Commitment{9}}, Vehicle: "V1", Submission: wire.Hash{7}}
		c := store.Credit{Account: owner, Vehicle: "V1", ECU: ecu.ID(), ToSeq: 1 << 62, Policy: 1, Kind: terms.KindMileage, Km: 40, Effective: today + 1, Submission: wire.Hash{7}}
		used := c
		used.Policy, used.Kind, used.Km = 2, feature, 0
		return tx.AddSpan(ctx, s, b[0].Entry, head.Seq, []store.Credit{c, used})
	})
	w.update(func(tx *store.Tx) error { return tx.Settle(ctx, 0, 1, map[string]uint64{owner: 4500}) })
	w.number()
}

// log puts signed offers into the log.
func (w *world) log(o *cultivation.Offers) {
	w.t.Helper()
	b, err := cultivation.SealOffers(w.policy, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.update(func(tx *store.Tx) error {
		_, err := tx.AddEntry(w.t.Context(), ledger.TypeOffers, b)
		return err
	})
	w.number()
}

func (w *world) number() {
	w.t.Helper()
	w.update(func(tx *store.Tx) error { return tx.NumberEntries(w.t.Context(), 1<<20) })
}

// block numbers what waits and logs the block of the next drop, or of a later one. Where boxes wait the block after it is logged too, whose
// seed opens them.
func (w *world) block(drop uint64, open ...waiting) wire.Hash {
	w.t.Helper()
	w.number()
	if len(open) > 0 {
		w.block(drop)
		drop++
	}
	var seed wire.Hash
	rand.Read(seed[:])
	ctx, timing := w.t.Context(), w.rules.Program.Timing
	w.drop = drop
	for _, o := range open {
		box, err := w.offers.Box(o.box).Box()
		if err != nil {
			w.t.Fatal(err)
		}
		number := w.entry(o.account, o.id)
		w.given += box.Open(seed, number, o.account == owner).Milli
	}
	b := &ledger.Block{Drop: drop, Time: timing.DropTime(drop).Unix(), Program: w.rules.ID, Day: timing.Day(timing.DropTime(drop)), Proofs: []ledger.Proof{{}}, Seed: seed, Cultivated: w.given}
	payload, err := ledger.EncodePayload(b)
	if err != nil {
		w.t.Fatal(err)
	}
	sealed := ledger.Sealed{Payload: payload}
	body, err := sealed.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.update(func(tx *store.Tx) error {
		number, err := tx.NextNumber(ctx)
		if err != nil {
			return err
		}
		id, err := tx.AddEntry(ctx, ledger.TypeBlock, body)
		if err != nil {
			return err
		}
		if err := tx.NumberEntry(ctx, id); err != nil {
			return err
		}
		return tx.OpenBoxes(ctx, w.rules.Program, w.rules.ID, b, number)
	})
	return seed
}

// waiting is an opening that waits for a block.
type waiting struct {
	account, box string
	id           int64
}

// entry returns the number of an opening's entry.
func (w *world) entry(account string, id int64) (number uint64) {
	w.t.Helper()
	err := w.cfg.Store.View(w.t.Context(), func(tx *store.Tx) error {
		e, err := tx.Estate(w.rules).Box(w.t.Context(), account, id)
		number = uint64(e.Number)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return number
}

// A request is one that a test sends.
type request struct {
	method, path string
	token        string
	key          string
	body         any // JSON, or text as it is
	header       map[string]string
}

// An exchange is a request's answer.
type response struct {
	*httptest.ResponseRecorder
	t testing.TB
}

// do sends a request and holds the answer against the API's document.
func (w *world) do(r request) response {
	w.t.Helper()
	var body io.Reader
	switch b := r.body.(type) {
	case nil:
	case string:
		body = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			w.t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	req := httptest.NewRequestWithContext(w.t.Context(), r.method, r.path, body)
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
		if v == "" {
			req.Header.Del(k)
		}
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	w.conform(req, rec)
	return response{rec, w.t}
}

// conform holds an answer against the document.
func (w *world) conform(req *http.Request, rec *httptest.ResponseRecorder) {
	w.t.Helper()
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
		if got := rec.Header().Get(name); got != want {
			w.t.Errorf("%s %s: %s is %q", req.Method, req.URL, name, got)
		}
	}
	if rec.Header().Get("Access-Control-Allow-Origin") != "" {
		w.t.Errorf("%s %s: CORS", req.Method, req.URL)
	}
	if ct := rec.Header().Get("Content-Type"); rec.Code >= 400 && ct != problem.ContentType {
		w.t.Errorf("%s %s: %d of type %q", req.Method, req.URL, rec.Code, ct)
	}
	route, params, err := w.router.FindRoute(req)
	if err != nil {
		if rec.Code != http.StatusNotFound && rec.Code != http.StatusMethodNotAllowed && req.Method != http.MethodHead && req.Method != http.MethodOptions {
			w.t.Errorf("%s %s: %d, and the document has no such operation", req.Method, req.URL, rec.Code)
		}
		return
	}
	input := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: rec.Code, Header: rec.Header(),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true}}
	out.SetBodyBytes(rec.Body.Bytes())
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		w.t.Errorf("%s %s: the answer %d %s is not the document's: %v", req.Method, req.URL, rec.Code, rec.Body, err)
	}
	if rec.Code < 300 {
		w.mu.Lock()
		w.used[route.Operation.OperationID] = true
		w.mu.Unlock()
	}
}

// is checks that the answer is a problem of a kind.
func (r response) is(k problem.Kind) {
	r.t.Helper()
	var p struct{ Type, Detail string }
	if err := json.Unmarshal(r.Body.Bytes(), &p); err != nil || p.Type != k.Type() || r.Code != k.Status() || p.Detail == "" {
		r.t.Errorf("%d %s, want %s", r.Code, r.Body, k.Name())
	}
}

// read checks the status and reads the answer.
func read[T any](r response, status int) (v T) {
	r.t.Helper()
	if r.Code != status {
		r.t.Fatalf("%d %s, want %d", r.Code, r.Body, status)
	}
	if err := json.Unmarshal(r.Body.Bytes(), &v); err != nil {
		r.t.Fatal(err)
	}
	return v
}

// idempotencyKey returns a new one.
func (w *world) key() string { return fmt.Sprintf("test-key-%012d", w.nonce.Add(1)) }

func (w *world) get(path, subject string) response {
	w.t.Helper()
	return w.do(request{method: http.MethodGet, path: path, token: w.token(subject, token.Read)})
}

func (w *world) post(path, subject string, body any) response {
	w.t.Helper()
	return w.do(request{method: http.MethodPost, path: path, token: w.token(subject, token.Spend), key: w.key(), body: body})
}

// give grants crystals as the maker's backend.
func (w *world) give(task, to string) response {
	w.t.Helper()
	var reference wire.Hash
	rand.Read(reference[:])
	return w.do(request{method: http.MethodPost, path: "/v1/tasks/" + task + "/grants", token: w.token("backend", token.Grant), key: w.key(),
		body: map[string]any{"account": to, "reference": reference.String()}})
}

func signed(b []byte, err error) map[string]any {
	if err != nil {
		panic(err)
	}
	return map[string]any{"request": base64.StdEncoding.EncodeToString(b)}
}

// openRequest is an owner's signed request for a box.
func (w *world) openRequest(of, box string, change ...func(*account.BoxRequest)) map[string]any {
	r := &account.BoxRequest{Program: w.rules.ID, Account: of, Until: account.MaxUntil, Offers: 1, Box: box}
	rand.Read(r.Nonce[:])
	for _, c := range change {
		c(r)
	}
	return signed(account.SealBoxRequest(w.keys[of], r))
}

// redeemRequest is an owner's signed request for an item.
func (w *world) redeemRequest(of, item string, milli, fen uint64, change ...func(*account.RedemptionRequest)) map[string]any {
	r := &account.RedemptionRequest{Program: w.rules.ID, Account: of, Until: account.MaxUntil, Offers: 1, Item: item, Milli: milli, Fen: fen}
	rand.Read(r.Nonce[:])
	for _, c := range change {
		c(r)
	}
	return signed(account.SealRedemptionRequest(w.keys[of], r))
}
