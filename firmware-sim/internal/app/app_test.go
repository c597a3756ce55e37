package app

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"rawstone/pkg/account"
	"rawstone/pkg/wire"
)

const anna = "anna"

// A world is an app and a server that answers for one account as the API's document says, as far as keys go.
type world struct {
	t       *testing.T
	cfg     *Config
	client  *http.Client
	program wire.Hash
	key     wire.PublicKey // in force, zero for none
	active  uint32
	sent    []string        // methods and paths
	seen    map[string]bool // idempotency keys
	fail    func(http.ResponseWriter) bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, program: wire.Hash{3}, seen: make(map[string]bool)}
	server := httptest.NewTLSServer(http.HandlerFunc(w.serve))
	t.Cleanup(server.Close)
	w.client = server.Client()
	w.cfg = &Config{API: server.URL, Issuer: "https://id.example", Audience: "https://stones.example", StateDir: filepath.Join(t.TempDir(), "state"), Accounts: []string{anna}}
	if err := Init(w.cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) serve(out http.ResponseWriter, r *http.Request) {
	path := r.Method + " " + r.URL.Path
	w.sent = append(w.sent, path)
	scope := ScopeRead
	if r.Method != http.MethodGet {
		scope = ScopeSpend
		key := r.Header.Get("Idempotency-Key")
		if len(key) < 16 || w.seen[key] || r.Header.Get("Content-Type") != "application/json" {
			w.t.Errorf("%s: idempotency key %q, type %q", path, key, r.Header.Get("Content-Type"))
		}
		w.seen[key] = true
	}
	w.checkToken(r, scope)
	if w.fail != nil && w.fail(out) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Error(err)
	}
	switch path {
	case "GET /v1/account":
	case "POST /v1/account/activation":
		w.active = 7
	case "PUT /v1/account/key":
		var b struct{ Request, Former []byte } // base64 with padding
		if err := json.Unmarshal(body, &b); err != nil {
			w.t.Error(err)
		}
		key, err := account.OpenKeyRequest(w.program, anna, w.key, b.Request, b.Former)
		if err != nil {
			w.t.Errorf("%s: %v", path, err)
			out.WriteHeader(http.StatusUnprocessableEntity)
			return
		}
		w.key = key
	default:
		w.t.Errorf("%s is asked for", path)
	}
	me := map[string]any{"account": anna, "program": w.program.String(), "today": 7, "owner": true, "milli": 0, "crystals": 0, "goods": []any{}}
	if w.key != (wire.PublicKey{}) {
		me["key"] = map[string]string{"id": w.key.ID().String(), "public": base64.StdEncoding.EncodeToString(w.key[:])}
	}
	if w.active > 0 {
		me["activated"] = w.active
	}
	if err := json.NewEncoder(out).Encode(me); err != nil {
		w.t.Error(err)
	}
}

// checkToken checks an access token under the keys that the app wrote for the collector (RFC 9068).
func (w *world) checkToken(r *http.Request, scope string) {
	text, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	is, err := openIssuer(w.cfg, false)
	if err != nil {
		w.t.Error(err)
		return
	}
	jwks, err := os.ReadFile(filepath.Join(w.cfg.StateDir, jwksFile))
	if err != nil || !strings.Contains(string(jwks), is.kid) {
		w.t.Errorf("%s, %v", jwks, err)
	}
	var claims struct {
		jwt.RegisteredClaims
		Scope string `json:"scope"`
	}
	token, err := jwt.ParseWithClaims(text, &claims, func(*jwt.Token) (any, error) { return &is.key.PublicKey, nil },
		jwt.WithIssuer(w.cfg.Issuer), jwt.WithAudience(w.cfg.Audience), jwt.WithSubject(anna), jwt.WithValidMethods([]string{"ES256"}), jwt.WithExpirationRequired())
	if err != nil || !bearer || token.Header["kid"] != is.kid || token.Header["typ"] != "at+jwt" || claims.Scope != scope {
		w.t.Errorf("%s %s: token %v, %+v, %v", r.Method, r.URL.Path, token, claims, err)
	}
}

// settle starts the app and has it register its key and activate the account.
func (w *world) settle() error {
	w.t.Helper()
	is, err := openIssuer(w.cfg, false)
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := loadKey(accountFile(w.cfg, anna), false)
	if err != nil {
		w.t.Fatal(err)
	}
	former, err := loadFormer(w.cfg, anna)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &player{client: client{w.cfg.API, w.client, is, anna, time.Now}, account: anna, key: key, former: former, program: w.program, log: slog.New(slog.DiscardHandler)}
	var me profile
	if err := p.get(w.t.Context(), "/v1/account", &me); err != nil {
		return err
	}
	return p.settleIn(w.t.Context(), &me)
}

// renew makes another key for the account; the one that it had is then in the file of that name.
func (w *world) renew(to string) {
	w.t.Helper()
	if err := errors.Join(os.Rename(accountFile(w.cfg, anna), to), Init(w.cfg)); err != nil {
		w.t.Fatal(err)
	}
}

// TestSettleIn registers the first key and activates the account, once, and replaces the key with the consent of the former alone.
func TestSettleIn(t *testing.T) {
	w := newWorld(t)
	settle := func(want ...string) {
		t.Helper()
		w.sent = nil
		if err := w.settle(); err != nil || !slices.Equal(w.sent, append([]string{"GET /v1/account"}, want...)) {
			t.Fatalf("%v, %v", w.sent, err)
		}
	}
	settle("PUT /v1/account/key", "POST /v1/account/activation")
	first := w.key
	if first == (wire.PublicKey{}) || w.active == 0 {
		t.Fatalf("%x, %d", first, w.active)
	}
	settle()

	lost := func() {
		t.Helper()
		w.sent = nil
		err := w.settle()
		if err == nil || !strings.Contains(err.Error(), "account-anna.former.key") || !strings.Contains(err.Error(), "collector account rekey") || len(w.sent) != 1 {
			t.Fatalf("%v, %v", w.sent, err)
		}
	}
	away := filepath.Join(t.TempDir(), "away.key")
	w.renew(away)
	lost()
	w.renew(formerFile(w.cfg, anna)) // which was in force never
	lost()
	if err := os.Rename(away, formerFile(w.cfg, anna)); err != nil {
		t.Fatal(err)
	}
	settle("PUT /v1/account/key")
	if w.key == first {
		t.Error("the key is the first")
	}
	settle()
}

// TestProblem: what the API refuses is an error that says why and what to do, also when it does not say it in a problem document.
func TestProblem(t *testing.T) {
	w := newWorld(t)
	for text, want := range map[string]Problem{
		`{"type":"/v1/problems/former-unproven","title":"No","status":422,"detail":"It.","remedy":"Sign."}`: {"/v1/problems/former-unproven", "No", 422, "It.", "Sign."},
		`<html>`: {Status: 422, Title: "422 Unprocessable Entity", Detail: "the answer is no problem document"},
	} {
		w.fail = func(out http.ResponseWriter) bool {
			out.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(out, text)
			return true
		}
		var p *Problem
		if err := w.settle(); !errors.As(err, &p) || *p != want {
			t.Errorf("%v, want %v", err, want)
		}
	}
	w.fail = func(out http.ResponseWriter) bool { fmt.Fprint(out, "["); return true }
	if err := w.settle(); err == nil || !strings.Contains(err.Error(), "cannot read the API's answer") {
		t.Error(err)
	}
	w.fail = func(out http.ResponseWriter) bool { panic(http.ErrAbortHandler) }
	if err := w.settle(); err == nil || errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "cannot ask the API") {
		t.Error(err)
	}
}

// TestKeys: keys stay what they were, and one that others may read, or that is missing, is refused.
func TestKeys(t *testing.T) {
	w := newWorld(t)
	before, err := loadKey(accountFile(w.cfg, anna), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := Init(w.cfg); err != nil {
		t.Fatal(err)
	}
	if after, err := loadKey(accountFile(w.cfg, anna), false); err != nil || !after.Equal(before) {
		t.Errorf("another key, %v", err)
	}
	if _, err := loadKey(accountFile(w.cfg, "ben"), false); err == nil || !strings.Contains(err.Error(), "firmware-sim app init") {
		t.Error(err)
	}
	if key, err := loadFormer(w.cfg, anna); key != nil || err != nil {
		t.Error(key, err)
	}
	if err := os.WriteFile(formerFile(w.cfg, anna), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadFormer(w.cfg, anna); err == nil {
		t.Error("no key is a key")
	}
	if err := os.Chmod(accountFile(w.cfg, anna), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := loadKey(accountFile(w.cfg, anna), true); err == nil || !strings.Contains(err.Error(), "lets others read") {
		t.Error(err)
	}
}

// TestScopes refuses a scope that the API does not know before any key is asked for.
func TestScopes(t *testing.T) {
	if _, err := Token(&Config{}, "anna", []string{ScopeRead, "stones.reed"}, time.Now()); err == nil || err.Error() != `cannot make token: "stones.reed" is no scope; give stones.read, stones.spend or stones.grant` {
		t.Error(err)
	}
}
