package api

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"rawstone/collector/internal/api/idempotency"
	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/api/token"
	"rawstone/collector/internal/store"
)

// TestIdempotency: one key does one thing, and answers the same to the same request, whether it was done or refused.
func TestIdempotency(t *testing.T) {
	w := newWorld(t)
	w.register(owner)
	read[struct{}](w.give("survey", owner), http.StatusCreated)
	send := func(path, subject, client, key string, body any) response {
		t.Helper()
		return w.do(request{method: http.MethodPost, path: path, token: w.tokenOf(client, subject, token.Spend), key: key, body: body})
	}
	crystals := func() uint64 { t.Helper(); return read[account1](w.get("/v1/account", owner), http.StatusOK).Crystals }
	const boxes = "/v1/boxes/quartz/openings"
	key, body := w.key(), w.openRequest(owner, "quartz")
	first := send(boxes, owner, "app", key, body)
	o := read[opening1](first, http.StatusAccepted)
	w.block(0, waiting{owner, "quartz", o.ID}) // the resource moves on, the answer does not
	had := crystals()
	for _, spelt := range []string{key, `"` + key + `"`} {
		again := send(boxes, owner, "app", spelt, body)
		if again.Code != first.Code || !bytes.Equal(again.Body.Bytes(), first.Body.Bytes()) || again.Header().Get("Location") != first.Header().Get("Location") || again.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%d %s, first it was %d %s", again.Code, again.Body, first.Code, first.Body)
		}
	}
	// Other content: another body, the same with a space, another path, another method's path.
	send(boxes, owner, "app", key, w.openRequest(owner, "quartz")).is(problem.KeyReused())
	text := fmt.Sprintf(`{"request": %q}`, body["request"])
	send(boxes, owner, "app", key, text).is(problem.KeyReused())
	send("/v1/boxes/world/openings", owner, "app", key, body).is(problem.KeyReused())
	send("/v1/redemptions", owner, "app", key, body).is(problem.KeyReused())
	if crystals() != had {
		t.Error("done again")
	}
	// The same key of another client or account is another key.
	send(boxes, owner, "web", key, body).is(problem.RequestSeen())
	send(boxes, guest, "app", key, body).is(problem.AccountKeyMissing())

	// A refusal stays what it was, although it would be done now.
	key, body = w.key(), w.redeemRequest(owner, "charge", 1000, 0)
	refused := send("/v1/redemptions", owner, "app", key, body)
	refused.is(problem.NotRedeemable())
	w.post("/v1/account/activation", owner, "{}")
	w.block(85 * 144)
	w.block(95 * 144) // the answers of the first days are dropped with the next
	again := send("/v1/redemptions", owner, "app", key, body)
	again.is(problem.NotRedeemable())
	if again.Body.String() != refused.Body.String() {
		t.Errorf("%s, first it was %s", again.Body, refused.Body)
	}
	send("/v1/redemptions", owner, "app", key, w.redeemRequest(owner, "charge", 1000, 0)).is(problem.KeyReused())
	send("/v1/redemptions", owner, "app", w.key(), body).Result()

	// What is malformed does not use up its key.
	key = w.key()
	send(boxes, owner, "app", key, `{"request":1}`).is(problem.BodyInvalid())
	read[struct{}](send(boxes, owner, "app", key, w.openRequest(owner, "quartz")), http.StatusAccepted)
}

// TestAnswersAreKept: for 90 days of the log, whatever the collector's clock says.
func TestAnswersAreKept(t *testing.T) {
	w := newWorld(t)
	w.register(guest)
	key := w.key()
	send := func() response {
		t.Helper()
		return w.do(request{method: http.MethodPost, path: "/v1/tasks/assist/claims", token: w.token(guest, token.Spend), key: key, body: "{}"})
	}
	first := send()
	first.is(problem.FeatureUnproven())
	other := func() { w.post("/v1/account/activation", guest, "{}") } // drops what is too old
	for _, jump := range []int64{86400 * 365 * 10, -86400 * 365 * 20, 86400 * 365 * 10} {
		w.now.Add(jump)
		other()
		if again := send(); again.Body.String() != first.Body.String() {
			t.Errorf("clock %d: %s", jump, again.Body)
		}
	}
	w.block(90*144 - 1) // the log's day is the 90th after
	other()
	kept := func(want bool) {
		t.Helper()
		r := w.do(request{method: http.MethodPost, path: "/v1/tasks/survey/claims", token: w.token(guest, token.Spend), key: key, body: "{}"})
		if want {
			r.is(problem.KeyReused())
		} else {
			r.is(problem.TaskOtherwise())
		}
	}
	kept(true)
	w.block(91*144 - 1)
	other()
	kept(false)
}

// TestKeyHeader: a request that changes something needs one key of the right form.
func TestKeyHeader(t *testing.T) {
	w := newWorld(t)
	for _, key := range []string{"", "short", strings.Repeat("k", 65), "0123456789abcde", "0123456789abcdef!", `"0123456789abcdef`, "0123456789 abcdef", "0123456789abcdef, 0123456789abcdeg"} {
		w.do(request{method: http.MethodPost, path: "/v1/account/activation", token: w.token(owner, token.Spend), key: key, body: "{}"}).is(problem.KeyHeader())
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/account/activation", strings.NewReader("{}"))
	req.Header = http.Header{"Authorization": {"Bearer " + w.token(owner, token.Spend)}, "Content-Type": {"application/json"}, "Idempotency-Key": {"0123456789abcdef", "0123456789abcdef"}}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, req)
	w.conform(req, rec)
	response{rec, t}.is(problem.KeyHeader())
}

// atOnce sends requests all at once and counts the answers by status.
func (w *world) atOnce(n int, send func(i int) response) map[int]int {
	w.t.Helper()
	begin := make(chan struct{})
	codes := make([]int, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-begin
			codes[i] = send(i).Code
		})
	}
	close(begin)
	wg.Wait()
	counts := make(map[int]int)
	for _, c := range codes {
		counts[c]++
	}
	return counts
}

const crowd = 1000

// TestSpendingAtOnce: of 1,000 requests at once exactly those succeed that the balance allows, and nothing is lost or made.
func TestSpendingAtOnce(t *testing.T) {
	w := newWorld(t)
	w.register(guest)
	w.register(owner)
	for range 3 { // 300 crystals: 30 boxes
		read[struct{}](w.give("survey", guest), http.StatusCreated)
	}
	boxes := make([]map[string]any, crowd)
	for i := range boxes {
		boxes[i] = w.openRequest(guest, "quartz")
	}
	got := w.atOnce(crowd, func(i int) response { return w.post("/v1/boxes/quartz/openings", guest, boxes[i]) })
	if got[http.StatusAccepted] != 30 || got[http.StatusConflict] != crowd-30 {
		t.Errorf("openings: %v, want 30 accepted", got)
	}
	if a := read[account1](w.get("/v1/account", guest), http.StatusOK); a.Crystals != 0 {
		t.Errorf("%d crystals left", a.Crystals)
	}
	if n := w.pages(guest, 100)["box"]; n != 30 {
		t.Errorf("%d boxes", n)
	}

	w.post("/v1/account/activation", owner, "{}")
	w.update(func(tx *store.Tx) error { return tx.Settle(t.Context(), 1, 2, map[string]uint64{owner: 20_000}) })
	w.block(91 * 144)
	items := make([]map[string]any, crowd)
	for i := range items {
		items[i] = w.redeemRequest(owner, "charge", 1000, 0)
	}
	got = w.atOnce(crowd, func(i int) response { return w.post("/v1/redemptions", owner, items[i]) })
	if got[http.StatusCreated] != 24 || got[http.StatusConflict] != crowd-24 {
		t.Errorf("redemptions: %v, want 24 created", got)
	}
	if a := read[account1](w.get("/v1/account", owner), http.StatusOK); a.Milli != 500 {
		t.Errorf("%d milli-stones left", a.Milli)
	}
}

// TestOneKeyAtOnce: of 1,000 times the same request with the same key one is done; the others get its answer or are told to wait.
func TestOneKeyAtOnce(t *testing.T) {
	w := newWorld(t)
	w.register(guest)
	read[struct{}](w.give("survey", guest), http.StatusCreated)
	key, body, bearer := w.key(), w.openRequest(guest, "quartz"), w.token(guest, token.Spend)
	var mu sync.Mutex
	bodies := make(map[string]bool)
	got := w.atOnce(crowd, func(int) response {
		r := w.do(request{method: http.MethodPost, path: "/v1/boxes/quartz/openings", token: bearer, key: key, body: body})
		if r.Code == http.StatusConflict {
			r.is(problem.KeyInUse())
		} else {
			mu.Lock()
			bodies[r.Body.String()] = true
			mu.Unlock()
		}
		return r
	})
	if got[http.StatusAccepted] < 1 || got[http.StatusAccepted]+got[http.StatusConflict] != crowd || len(bodies) != 1 {
		t.Errorf("%v with %d different answers", got, len(bodies))
	}
	if a := read[account1](w.get("/v1/account", guest), http.StatusOK); a.Crystals != 90 {
		t.Errorf("%d crystals", a.Crystals)
	}
}

// TestKeyInUse: a request whose first is under way is told so, and that of another account is not held up.
func TestKeyInUse(t *testing.T) {
	w := newWorld(t)
	w.register(owner)
	w.register(guest)
	a, err := newAPI(w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.handler = http.HandlerFunc(a.serve)
	key := w.key()
	send := func(subject string) response {
		t.Helper()
		return w.do(request{method: http.MethodPost, path: "/v1/tasks/assist/claims", token: w.token(subject, token.Spend), key: key, body: "{}"})
	}
	client := idempotency.Hash("rawstone/api/client/v1", "app", owner)
	first := idempotency.Flight{Client: client.String(), Key: key}
	if !a.flights.Begin(first) {
		t.Fatal("under way before it came")
	}
	second := send(owner)
	second.is(problem.KeyInUse())
	if second.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	send(guest).is(problem.FeatureUnproven())
	a.flights.End(first)
	read[struct{}](send(owner), http.StatusCreated)
	if !a.flights.Begin(first) {
		t.Error("a request that was answered stays under way")
	}
}
