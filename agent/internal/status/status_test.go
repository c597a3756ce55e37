package status

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func newStatus(t *testing.T, snapshot Snapshot, health error) *Status {
	t.Helper()
	s, err := New(Config{
		Snapshot: func() Snapshot { return snapshot }, Healthy: func() error { return health },
		Journal: func(w io.Writer) error {
			if health != nil {
				return health
			}
			_, err := io.WriteString(w, "[]\n")
			return err
		},
		Receipts: func(w io.Writer) error { _, err := io.WriteString(w, "[1]\n"); return err },
		Export:   func(w io.Writer) error { _, err := io.WriteString(w, "{}\n"); return err },
		Registry: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func get(t *testing.T, s *Status, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, nil)
	r.Host = "127.0.0.1:8081"
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

func TestReceipts(t *testing.T) {
	s := newStatus(t, Snapshot{Unproven: Receipts{Count: 2, AgeS: 90_000, Overdue: 1, Remedy: "export them"}}, nil)
	for path, want := range map[string]string{"/receipts": "[1]", "/receipts/export": "{}", "/status": `"oldest_age_s": 90000`} {
		if code, body := get(t, s, http.MethodGet, path); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %s", path, code, body, want)
		}
		if code, _ := get(t, s, http.MethodPost, path); code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, code)
		}
	}
}

func TestPages(t *testing.T) {
	at := time.Unix(1_700_000_000, 0).UTC()
	want := Snapshot{State: "stopped", Reason: "unknown_vehicle", Remedy: "ask", Retry: &at, LastReceipt: &at, SpoolItems: 2, SpoolBytes: 800,
		RulesHeard: &at, Policies: []Policy{{Serial: 3, Kind: "mileage", FromDay: 1, ToDay: 2, Unused: "its days are over"}},
		Reports: "on", BudgetLeft: 900, Frames: 12345, Buses: []Bus{{Name: "can0", Up: true}},
		Odometer: []Doubt{{Source: "PID A6", Event: "rollback", Meaning: "it went back", Count: 2, Last: at}}}
	s := newStatus(t, want, nil)
	code, body := get(t, s, http.MethodGet, "/status")
	var got Snapshot
	if err := json.Unmarshal([]byte(body), &got); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	if runtime.GOOS == "linux" && got.RSSBytes < 1<<20 {
		t.Errorf("resident memory %d", got.RSSBytes)
	}
	got.RSSBytes = 0
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if code, body := get(t, s, http.MethodGet, "/metrics"); code != http.StatusOK || !strings.Contains(body, "rawstone_agent_frames_read_total 12345") ||
		!strings.Contains(body, "rawstone_agent_resident_bytes") {
		t.Errorf("metrics: %d %s", code, body)
	}
	if code, body := get(t, s, http.MethodGet, "/journal"); code != http.StatusOK || body != "[]\n" {
		t.Errorf("journal: %d %s", code, body)
	}
	if code, body := get(t, s, http.MethodGet, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("health: %d %s", code, body)
	}
	if code, _ := get(t, s, http.MethodPost, "/status"); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", code)
	}
	if code, _ := get(t, s, http.MethodGet, "/else"); code != http.StatusNotFound {
		t.Errorf("unknown path: %d", code)
	}
}

func TestUnhealthy(t *testing.T) {
	s := newStatus(t, Snapshot{}, errors.New("no frames"))
	if code, body := get(t, s, http.MethodGet, "/healthz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "no frames") {
		t.Errorf("health: %d %s", code, body)
	}
	if code, _ := get(t, s, http.MethodGet, "/journal"); code != http.StatusInternalServerError {
		t.Errorf("a journal that cannot be read: %d", code)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	s := newStatus(t, Snapshot{State: "idle"}, nil)
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	res, err := http.Get("http://" + l.Addr().String() + "/status")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || !strings.Contains(string(body), "idle") {
		t.Errorf("%s %v", body, err)
	}
	var page strings.Builder
	if err := Ask(t.Context(), l.Addr().String(), "/status", &page); err != nil || !strings.Contains(page.String(), "idle") {
		t.Errorf("asked: %s %v", page.String(), err)
	}
	if err := Ask(t.Context(), l.Addr().String(), "/else", io.Discard); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("asked for a page that there is not: %v", err)
	}
	if _, err := Listen(l.Addr().String()); err == nil || !strings.Contains(err.Error(), "another port") {
		t.Errorf("a port in use: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + l.Addr().String() + "/status"); err == nil {
		t.Error("answers after its end")
	}
	if err := Ask(t.Context(), l.Addr().String(), "/status", io.Discard); err == nil || !strings.Contains(err.Error(), "is it running?") {
		t.Errorf("nobody is there: %v", err)
	}
	if err := Ask(t.Context(), "", "/status", io.Discard); err == nil || !strings.Contains(err.Error(), "set the key status") {
		t.Errorf("no address: %v", err)
	}
}

func TestListenRefusesOtherThanLoopback(t *testing.T) {
	for _, addr := range []string{"", "127.0.0.1", ":9100", "0.0.0.0:0", "[::]:0", "example.com:80", "192.0.2.1:80"} {
		if l, err := Listen(addr); err == nil {
			l.Close()
			t.Errorf("listens on %q", addr)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("zero config was accepted")
	}
}

func TestParseRSS(t *testing.T) {
	for in, want := range map[string]int64{
		"Name:\tagent\nVmRSS:\t   34567 kB\nThreads: 1\n": 34567 << 10,
		"Name:\tagent\n": 0, "VmRSS:\n": 0, "VmRSS: x kB\n": 0, "VmRSS: 1 MB\n": 0, "VmRSS: -1 kB\n": 0, "": 0,
	} {
		if got := parseRSS([]byte(in)); got != want {
			t.Errorf("%q gives %d, want %d", in, got, want)
		}
	}
}

func TestOwnNamesOnly(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:8081": true, "localhost:8081": true, "localhost": true, "[::1]:8081": true, "[::1]": true, "127.0.0.1": true,
		"evil.example": false, "evil.example:8081": false, "127.0.0.1.evil.example:8081": false, "192.0.2.1:8081": false, "": false,
	} {
		if ownName(host) != want {
			t.Errorf("host %q is answered: %v", host, !want)
		}
	}
	s := &Status{mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /journal", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("secret")) })
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/journal", nil)
	r.Host = "evil.example"
	if s.ServeHTTP(w, r); w.Code != http.StatusForbidden || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("a rebound name gets %d %q", w.Code, w.Body)
	}
}
