package daemon

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"rawstone/pkg/wire"
)

// TestKeysComeOverHTTPS runs a car that knows nothing but its program: it hears of a policy, fetches the keys and claims; after a
// restart without a collector it still can.
func TestKeysComeOverHTTPS(t *testing.T) {
	w := newWorld(t, wire.Development)
	files := make(map[string][]byte)
	for h, b := range keys() {
		files["/v1/blobs/"+h.String()] = b
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(files[r.URL.Path]) }))
	t.Cleanup(server.Close)
	w.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	config := []string{"https://127.0.0.1:1", server.URL + "\ncollector_ca: ca.pem\nnews_every: 1h"}

	w.decide("safe")
	a := w.opened(config...)
	if s := a.snapshot(); s.Reason != "waiting for policies" || s.RulesHeard != nil || a.book.NewsDue().After(time.Now()) {
		t.Errorf("%+v", s)
	}
	if r := a.book.Rules(); r.AgentVersion != Version || len(r.Kinds) != 1 || r.Kinds[0] != "safe" {
		t.Errorf("policies are judged for version %q and kinds %v", r.AgentVersion, r.Kinds)
	}
	a.hear([]byte("no notice"))
	if lines := w.log.lines("notice of policies is refused"); len(lines) != 1 {
		t.Errorf("logged %q", lines)
	}
	a.hear(w.notice)
	if s := a.snapshot(); s.Reason != "fetching keys" || s.RulesHeard == nil || len(s.Policies) != 1 || s.Policies[0].Serial != 1 {
		t.Errorf("%+v", s)
	}
	if due := a.book.NewsDue(); !due.Equal(a.book.Heard().Add(time.Hour)) {
		t.Errorf("heard %v, news due %v", a.book.Heard(), due)
	}
	a.outdate()
	if due := a.book.NewsDue(); due.After(time.Now()) {
		t.Errorf("outdated, and news due %v", due)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.book.Run(ctx) }()
	w.seal(a) // waits for the keys
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s := a.snapshot(); s.Reason != "" || s.Policies[0].Unused != "" {
		t.Errorf("%+v", s)
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	a.opened = nil

	server.Close()
	again := w.opened(config...)
	if s := again.snapshot(); s.Reason != "" || s.Policies[0].Unused != "" || s.RulesHeard == nil {
		t.Errorf("after a restart: %+v", s)
	}
}

// TestFetchingKeysIsTold holds that the driver is told why keys do not come.
func TestFetchingKeysIsTold(t *testing.T) {
	w := newWorld(t, wire.Development)
	a := w.opened()
	told := make(chan struct{}, 1)
	w.log.on("keys of policies cannot be fetched", func() { told <- struct{}{} })
	a.hear(w.notice)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.book.Run(ctx) }()
	<-told
	if s := a.snapshot(); !strings.HasPrefix(s.Reason, "fetching keys: cannot fetch file ") {
		t.Errorf("%+v", s)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
