package api

import (
	"encoding/base64"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/api/body"
	"rawstone/collector/internal/api/gate"
	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/api/token"
)

// tokenOf returns a token that was issued to another client than the app.
func (w *world) tokenOf(client, subject string, scopes ...string) string {
	w.t.Helper()
	c := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"iss": issuer, "aud": audience, "sub": subject, "client_id": client,
		"scope": strings.Join(scopes, " "), "exp": w.now.Load() + 3600})
	c.Header["typ"], c.Header["kid"] = "at+jwt", "1"
	s, err := c.SignedString(w.issuer)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// concrete puts an id into a path.
func concrete(path string) string { return strings.ReplaceAll(path, "{id}", "1") }

// TestScopes: each operation wants its own scope, and those that want none are the document and the problems.
func TestScopes(t *testing.T) {
	w := newWorld(t)
	public := 0
	for _, o := range (&api{}).operations() {
		r := request{method: o.method, path: concrete(o.path), key: w.key(), body: "{}"}
		if o.do == nil {
			r.key, r.body = "", nil
		}
		bare := w.do(r)
		if o.scopes == nil {
			public++
			continue
		}
		bare.is(problem.TokenMissing())
		if got := bare.Header().Get("WWW-Authenticate"); got != `Bearer realm="rawstone"` {
			t.Errorf("%s: %s", o.name(), got)
		}
		for _, scopes := range [][]string{{}, {"stones"}, {token.Read}, {token.Spend}, {token.Grant}} {
			r.token = w.token(owner, scopes...)
			got := w.do(r)
			if allowed := len(scopes) == 1 && scopes[0] == o.scopes[0]; allowed == (got.Code == http.StatusForbidden) {
				t.Errorf("%s with %v: %d %s", o.name(), scopes, got.Code, got.Body)
			} else if !allowed {
				got.is(problem.ScopeMissing())
				if h := got.Header().Get("WWW-Authenticate"); !strings.Contains(h, `error="insufficient_scope", scope="`+o.scopes[0]+`"`) {
					t.Errorf("%s: %s", o.name(), h)
				}
			}
		}
	}
	if public != 2 {
		t.Errorf("%d public operations", public)
	}
}

// TestTokens: tokens end by the injected clock, also when that jumps, and come in one header.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	bearer := w.token(owner, token.Read)
	get := func(header string) response {
		t.Helper()
		return w.do(request{method: http.MethodGet, path: "/v1/account", header: map[string]string{"Authorization": header}})
	}
	read[struct{}](get("bearer "+bearer), http.StatusOK)
	get("Basic " + bearer).is(problem.TokenMissing())
	get(bearer).is(problem.TokenMissing())
	for _, header := range []string{"Bearer", "Bearer x", "Bearer " + bearer + "x", "Bearer " + bearer + " " + bearer} {
		r := get(header)
		r.is(problem.TokenInvalid())
		if !strings.Contains(r.Header().Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%q: %s", header, r.Header().Get("WWW-Authenticate"))
		}
	}
	for _, step := range []struct {
		jump time.Duration
		good bool
	}{{time.Hour - time.Second, true}, {time.Second, false}, {-time.Second, true}, {-2 * time.Hour, false}, {2 * time.Hour, true}, {1e6 * time.Hour, false}, {-1e6 * time.Hour, true}} {
		w.now.Add(int64(step.jump / time.Second))
		if r := get("Bearer " + bearer); (r.Code == http.StatusOK) != step.good {
			t.Errorf("%v: %d %s", step.jump, r.Code, r.Body)
		}
	}
	w.do(request{method: http.MethodGet, path: "/v1/account?access_token=" + bearer}).is(problem.TokenMissing())
}

// TestRates: an account that asks too often is told when to come again, others are not held up, and a clock that goes back locks nobody out.
func TestRates(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Owners, c.Backend = gate.Rate{Every: 10 * time.Second, Burst: 3}, gate.Rate{} })
	for range 3 {
		read[struct{}](w.get("/v1/account", owner), http.StatusOK)
	}
	r := w.get("/v1/account", owner)
	r.is(problem.TooMany())
	if r.Header().Get("Retry-After") != "10" {
		t.Errorf("Retry-After is %q", r.Header().Get("Retry-After"))
	}
	read[struct{}](w.get("/v1/account", guest), http.StatusOK)
	w.register(guest)
	for range 20 { // the backend has a rate of its own
		read[struct{}](w.give("survey", guest), http.StatusCreated)
	}
	w.now.Add(10)
	read[struct{}](w.get("/v1/account", owner), http.StatusOK)
	w.get("/v1/account", owner).is(problem.TooMany())
	w.now.Add(-86400)
	read[struct{}](w.get("/v1/account", owner), http.StatusOK)
}

// TestMethods: HEAD is GET without a body, OPTIONS names what there is, anything else is refused; there is no CORS.
func TestMethods(t *testing.T) {
	w := newWorld(t)
	got := w.get("/v1/account", owner)
	head := w.do(request{method: http.MethodHead, path: "/v1/account", token: w.token(owner, token.Read)})
	if head.Code != got.Code || head.Header().Get("Content-Type") != got.Header().Get("Content-Type") {
		t.Errorf("HEAD: %d %v", head.Code, head.Header())
	}
	if r := w.do(request{method: http.MethodHead, path: "/v1/account"}); r.Code != http.StatusUnauthorized {
		t.Errorf("HEAD without a token: %d", r.Code)
	}
	for path, allow := range map[string]string{
		"/v1/account": "GET, HEAD, OPTIONS", "/v1/account/key": "OPTIONS, PUT", "/v1/redemptions": "OPTIONS, POST", "/v1/tasks/x/grants": "OPTIONS, POST",
	} {
		r := w.do(request{method: http.MethodOptions, path: path, header: map[string]string{"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}})
		if r.Code != http.StatusNoContent || r.Header().Get("Allow") != allow || r.Body.Len() != 0 {
			t.Errorf("OPTIONS %s: %d %q %s", path, r.Code, r.Header().Get("Allow"), r.Body)
		}
		for name := range r.Header() {
			if strings.HasPrefix(name, "Access-Control") {
				t.Errorf("OPTIONS %s has %s", path, name)
			}
		}
		for _, method := range []string{http.MethodDelete, http.MethodPatch, http.MethodTrace, "BREW"} {
			r := w.do(request{method: method, path: path})
			r.is(problem.MethodNotAllowed())
			if r.Header().Get("Allow") != allow {
				t.Errorf("%s %s: Allow is %q", method, path, r.Header().Get("Allow"))
			}
		}
	}
	for _, path := range []string{"/", "/v1", "/v1/", "/v2/account", "/v1/accounts", "/v1/account/", "/v1//account", "/v1/./account", "/v1/tasks/../account", "/v1/problems/none", "/v1/tasks/a/b/grants"} {
		r := w.do(request{method: http.MethodGet, path: path, token: w.token(owner, token.Read)})
		r.is(problem.NotFound())
	}
	server := httptest.NewTLSServer(w.handler)
	defer server.Close()
	answer, err := server.Client().Get(server.URL + "/v1/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.Header.Get("Strict-Transport-Security") == "" || answer.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("%v", answer.Header)
	}
}

// TestBodies: what is no body of the operation is refused by name, before anything is done.
func TestBodies(t *testing.T) {
	w := newWorld(t)
	w.register(owner)
	reference := strings.Repeat("ab", 32)
	grant := func(text string, header map[string]string) response {
		t.Helper()
		return w.do(request{method: http.MethodPost, path: "/v1/tasks/survey/grants", token: w.token("backend", token.Grant), key: w.key(), body: text, header: header})
	}
	for text, want := range map[string]string{
		``: "object", `[]`: "object", `{`: "not JSON", `{}`: "lacks", `{"account":"a"}`: "lacks",
		`{"account":"owner-1","reference":"` + reference + `","milli":1}`:                                    "unknown key",
		`{"account":"owner-1","account":"guest-1","reference":"` + reference + `"}`:                          "twice",
		`{"account":"owner-1","reference":"` + reference + `"}{}`:                                            "follows",
		`{"account":"owner-1","reference":"` + reference + `","crystals":-100}`:                              "-100",
		`{"account":"owner-1","reference":"` + reference + `","crystals":0}`:                                 "0, want",
		`{"account":"owner-1","reference":"` + reference + `","crystals":4294967296}`:                        "4294967296",
		`{"account":"owner-1","reference":"` + reference + `","crystals":18446744073709551716}`:              "18446744073709551716", // 2^64 + 100
		`{"account":"owner-1","reference":"` + reference + `","crystals":100.0}`:                             "want a whole number",
		`{"account":"owner-1","reference":"` + reference + `","crystals":1e2}`:                               "want a whole number",
		`{"account":"owner-1","reference":"` + reference + `","crystals":"100"}`:                             "not a number",
		`{"account":"` + strings.Repeat("a", 65) + `","reference":"` + reference + `"}`:                      "1 to 64",
		`{"account":"owner-1","reference":"` + strings.Repeat("0", 64) + `"}`:                                "zero",
		`{"account":"owner-1","reference":"` + reference + `","a":` + strings.Repeat("[", 5000) + `}`:        "unknown key",
		`{"account":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,"reference":"` + "" + `"}`: "text of",
	} {
		r := grant(text, nil)
		r.is(problem.BodyInvalid())
		if !strings.Contains(r.Body.String(), want) {
			t.Errorf("%.80s: %s, want %q", text, r.Body, want)
		}
	}
	good := `{"account":"owner-1","reference":"` + reference + `"}`
	grant(good+strings.Repeat(" ", body.MaxLen), nil).is(problem.TooLarge())
	for _, media := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json-patch+json", "application", ";"} {
		grant(good, map[string]string{"Content-Type": media}).is(problem.MediaType())
	}
	grant(good, map[string]string{"Content-Encoding": "gzip"}).is(problem.MediaType())
	if got := read[account1](w.get("/v1/account", owner), http.StatusOK); got.Crystals != 0 {
		t.Errorf("%d crystals were granted", got.Crystals)
	}
	read[struct{}](grant(good, map[string]string{"Content-Type": "application/json; charset=utf-8"}), http.StatusCreated)

	long := base64.StdEncoding.EncodeToString(make([]byte, 513))
	for _, path := range []string{"/v1/boxes/quartz/openings", "/v1/redemptions"} {
		w.post(path, owner, map[string]any{"request": long}).is(problem.BodyInvalid())
		w.post(path, owner, map[string]any{"request": "AAAA"}).is(problem.RequestInvalid())
		w.post(path, owner, map[string]any{"request": "AAAA", "milli": -1}).is(problem.BodyInvalid())
	}
	w.post("/v1/account/activation", owner, `{"day":1}`).is(problem.BodyInvalid())
	w.post("/v1/tasks/assist/claims", owner, `{"crystals":1000000}`).is(problem.BodyInvalid())
	for _, q := range []string{"?x=1", "?limit=0", "?limit=101", "?limit=-1", "?limit=1&limit=2", "?limit=1.5", "?limit=", "?before=0", "?before=-5", "?before=18446744073709551617", "?before=9007199254740992", "?limit=%zz", "?a;b"} {
		w.get("/v1/account/history"+q, owner).is(problem.QueryInvalid())
	}
	w.get("/v1/account?verbose=1", owner).is(problem.QueryInvalid())
	w.get("/v1/account/statement?since=-1", owner).is(problem.QueryInvalid())
}

// TestCounts: requests are counted by operation, never by what somebody sent.
func TestCounts(t *testing.T) {
	registry := prometheus.NewRegistry()
	w := newWorld(t, func(c *Config) { c.Registerer = registry })
	w.get("/v1/account", owner)
	w.get("/v1/openings/77", owner)
	w.do(request{method: "BREW", path: "/v1/account"})
	for range 50 {
		w.do(request{method: http.MethodGet, path: "/" + strconv.Itoa(rand.IntN(1<<30))})
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, m := range families[0].GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, l.GetValue())
		}
		got[strings.Join(labels, " ")] = m.GetCounter().GetValue()
	}
	if families[0].GetName() != "rawstone_api_requests_total" || got["GET /v1/account 200"] != 1 || got["GET /v1/openings/{id} 404"] != 1 || got["none 404"] != 50 || got["none 405"] != 1 || len(got) != 4 {
		t.Errorf("%v", got)
	}
}

// FuzzRequests: whatever comes, the answer is one of the document's, and none that blames the collector.
func FuzzRequests(f *testing.F) {
	w := newWorld(f)
	w.register(owner)
	w.give("survey", owner)
	bearer := w.token(owner, token.Read, token.Spend, token.Grant)
	operations := (&api{}).operations()
	for i := range operations {
		f.Add(byte(i), "1", "", []byte(`{}`))
		f.Add(byte(i), "quartz", "limit=5&before=9", []byte(`{"request":"0oRYHqIBJg=="}`))
		f.Add(byte(i), "survey", "since=1", []byte(`{"account":"owner-1","reference":"`+strings.Repeat("ab", 32)+`","crystals":100}`))
	}
	f.Fuzz(func(t *testing.T, which byte, id, query string, text []byte) {
		w.t = t
		o := operations[int(which)%len(operations)]
		if id == "" || len(id) > 1000 || len(query) > 1000 {
			t.Skip()
		}
		u := &url.URL{Path: strings.ReplaceAll(o.path, "{id}", id), RawPath: strings.ReplaceAll(o.path, "{id}", url.PathEscape(id)), RawQuery: query}
		req := httptest.NewRequestWithContext(t.Context(), o.method, "/", strings.NewReader(string(text)))
		req.URL = u
		req.Header = http.Header{"Authorization": {"Bearer " + bearer}, "Content-Type": {"application/json"}, "Idempotency-Key": {w.key()}}
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, req)
		if rec.Code >= 500 || rec.Code < 200 || rec.Code >= 300 && rec.Code < 400 {
			t.Errorf("%s %s %q: %d %s", o.method, u, text, rec.Code, rec.Body)
		}
		if rec.Code >= 400 && rec.Header().Get("Content-Type") != problem.ContentType {
			t.Errorf("%s %s: %s", o.method, u, rec.Header())
		}
	})
}
