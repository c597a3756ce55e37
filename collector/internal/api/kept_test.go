package api

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"rawstone/collector/internal/answer"
	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/api/token"
	"rawstone/collector/internal/store"
)

// TestBusyWriter: while another process writes, who asks is told to come again, and is served afterwards under the same key.
func TestBusyWriter(t *testing.T) {
	w := newWorld(t)
	w.register(guest)
	var err error
	if w.cfg.Store, err = store.Open(t.Context(), store.Config{Path: w.path, Role: store.Account, BusyTimeout: time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	defer w.cfg.Store.Close()
	if w.handler, err = New(w.cfg); err != nil {
		t.Fatal(err)
	}
	key := w.key()
	send := func() response {
		t.Helper()
		return w.do(request{method: http.MethodPost, path: "/v1/account/activation", token: w.token(guest, token.Spend), key: key, body: "{}"})
	}
	w.update(func(*store.Tx) error {
		r := send()
		r.is(problem.Unavailable())
		if r.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		return nil
	})
	read[account1](send(), http.StatusOK)
}

// TestUnknownAccountsKeepNothing: who has no account yet may ask again under the same key once there is one.
func TestUnknownAccountsKeepNothing(t *testing.T) {
	w := newWorld(t)
	keys := make(map[string]string)
	send := func(path string) response {
		t.Helper()
		if keys[path] == "" {
			keys[path] = w.key()
		}
		return w.do(request{method: http.MethodPost, path: path, token: w.token("late", token.Spend), key: keys[path], body: "{}"})
	}
	grant, body := w.key(), map[string]any{"account": "late", "reference": fmt.Sprintf("%064x", 1)}
	give := func() response {
		t.Helper()
		return w.do(request{method: http.MethodPost, path: "/v1/tasks/survey/grants", token: w.token("backend", token.Grant), key: grant, body: body})
	}
	paths := []string{"/v1/account/activation", "/v1/tasks/assist/claims", "/v1/tasks/none/claims", "/v1/tasks/survey/claims"}
	for _, p := range paths {
		send(p).is(problem.AccountUnknown())
	}
	give().is(problem.AccountUnknown())
	w.update(func(tx *store.Tx) error { return tx.AddAccount(t.Context(), "late") })
	for i, want := range []problem.Kind{problem.AccountKeyMissing(), problem.AccountKeyMissing(), problem.TaskUnknown(), problem.TaskOtherwise()} {
		send(paths[i]).is(want)
	}
	give().is(problem.AccountKeyMissing())
}

// TestRefusalsThatAreKept: a client who is refused without end fills the records with so many refusals a day and no more, and what is done is
// kept all the same.
func TestRefusalsThatAreKept(t *testing.T) {
	w := newWorld(t)
	w.register(guest)
	var keys []string
	for range answer.RefusalsPerDay + 3 {
		keys = append(keys, w.key())
	}
	send := func(path, key string) response {
		t.Helper()
		return w.do(request{method: http.MethodPost, path: path, token: w.token(guest, token.Spend), key: key, body: "{}"})
	}
	for _, k := range keys {
		send("/v1/tasks/assist/claims", k).is(problem.FeatureUnproven())
	}
	kept := 0
	for _, k := range keys {
		if r := send("/v1/tasks/survey/claims", k); r.Code == http.StatusUnprocessableEntity {
			r.is(problem.KeyReused())
			kept++
		} else {
			r.is(problem.TaskOtherwise())
		}
	}
	if kept != answer.RefusalsPerDay {
		t.Errorf("%d refusals are kept, want %d", kept, answer.RefusalsPerDay)
	}
	done := w.key()
	read[account1](send("/v1/account/activation", done), http.StatusOK)
	send("/v1/tasks/assist/claims", done).is(problem.KeyReused())
}

// TestNamesAreText: what no database takes as text is the sender's mistake and not the collector's fault.
func TestNamesAreText(t *testing.T) {
	w := newWorld(t)
	body := map[string]any{"account": "guest\x00", "reference": fmt.Sprintf("%064x", 1)}
	w.do(request{method: http.MethodPost, path: "/v1/tasks/survey/grants", token: w.token("backend", token.Grant), key: w.key(), body: body}).is(problem.BodyInvalid())
	w.get("/v1/account", "guest\x00").is(problem.TokenInvalid())
}
