package rawstone_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	agent "rawstone/agent/daemon"
	collector "rawstone/collector/daemon"
	sim "rawstone/firmware-sim/daemon"
	"rawstone/pkg/inclusion"
)

// A keeper stands between an agent and its collector's HTTPS and does with proofs of inclusion what a collector might. It holds the
// car's keys, so that the collector takes it for the car.
type keeper struct {
	server *httptest.Server
	mu     sync.Mutex
	mode   string // "none", "another" credit's proof, or "" for what the collector says
	asked  int    // while there was a mode
	other  []byte // the first proof that passed
}

func newKeeper(t *testing.T, w *world) *keeper {
	t.Helper()
	own, err := tls.LoadX509KeyPair(w.path("ca/server.pem"), w.path("ca/server.key"))
	if err != nil {
		t.Fatal(err)
	}
	car, err := tls.LoadX509KeyPair(w.path("agent/identity/chain.pem"), w.path("device.key"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if text, err := os.ReadFile(w.path("ca/server-ca.pem")); err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatalf("no root for the collector: %v", err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: w.https})
	transport := &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{car}, RootCAs: roots, MinVersion: tls.VersionTLS13}}
	proxy.Transport, proxy.ErrorLog = transport, slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	k := &keeper{}
	proxy.ModifyResponse = func(r *http.Response) error {
		if !strings.HasPrefix(r.Request.URL.Path, inclusion.Path) || r.StatusCode != http.StatusOK {
			return nil
		}
		b, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(b))
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.other == nil {
			k.other = b
		}
		return err
	}
	k.server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		mode, other := k.mode, k.other
		if mode != "" && strings.HasPrefix(r.URL.Path, inclusion.Path) {
			k.asked++
			k.mu.Unlock()
			if len(r.TLS.PeerCertificates) != 1 || r.TLS.PeerCertificates[0].Subject.CommonName != "CAR1" {
				t.Error("the agent asks without its certificate")
			}
			if mode == "another" {
				rw.Header().Set("Content-Type", inclusion.ContentType)
				rw.Write(other)
				return
			}
			rw.Header().Set("Content-Type", inclusion.ProblemType)
			rw.WriteHeader(http.StatusNotFound)
			fmt.Fprintf(rw, `{"status":404,"detail":"not yet","reason":%q}`, inclusion.ReasonNotYet)
			return
		}
		k.mu.Unlock()
		proxy.ServeHTTP(rw, r)
	}))
	k.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	k.server.TLS = &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13}
	k.server.StartTLS()
	t.Cleanup(func() { k.server.Close(); transport.CloseIdleConnections() })
	return k
}

func (k *keeper) set(mode string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mode, k.asked = mode, 0
}

func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.asked
}

// shown is what the agent's status page says.
type shown struct {
	Snapshots int `json:"snapshots"`
	Unproven  struct {
		Count int `json:"count"`
		False int `json:"false_proofs"`
	} `json:"receipts_without_proof"`
}

// TestReceiptsAreKeptUntilProven drives a car of two-second days whose agent asks a collector that gives no proofs, then those of another
// credit, and then the right ones: receipts and openings go with these and not before, and not with a restart.
func TestReceiptsAreKeptUntilProven(t *testing.T) {
	w := newWorld(t, 2, time.Now, drivenCar(busURL(t)), "")
	k := newKeeper(t, w)
	status := "127.0.0.1:" + strconv.Itoa(freePort(t))
	text, err := os.ReadFile(w.path("agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "agent.yaml", strings.Replace(string(text), "https://"+w.https, k.server.URL, 1)+"status: "+status+"\n")
	page := func(path string, v any) bool {
		r, err := http.Get("http://" + status + path)
		if err != nil {
			return false // not up yet
		}
		defer r.Body.Close()
		return json.NewDecoder(r.Body).Decode(v) == nil
	}
	get := func() (s shown) { page("/status", &s); return s }
	listed := func() (claims []string) {
		var list []struct {
			Submission string `json:"submission"`
		}
		if !page("/receipts", &list) {
			t.Fatal("the agent does not list its receipts")
		}
		for _, r := range list {
			claims = append(claims, r.Submission)
		}
		return claims
	}
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError + 1})) // a false proof is an error
	start(t, func(ctx context.Context) error {
		return collector.Run(ctx, w.collector(t), collector.Deps{Logger: logger})
	})
	start(t, func(ctx context.Context) error { return sim.Run(ctx, w.car(t), sim.Deps{Logger: logger}) })
	run := func() (stop func()) {
		return start(t, func(ctx context.Context) error { return agent.Run(ctx, w.agent(t), agent.Deps{Logger: logger}) })
	}
	stop := run()
	until(t, 2*time.Minute, "a proof", func() bool { k.mu.Lock(); defer k.mu.Unlock(); return k.other != nil })

	k.set("none")
	until(t, 2*time.Minute, "three receipts without a proof", func() bool { s := get(); return s.Unproven.Count >= 3 && k.count() >= 3 })
	owed := listed()
	if s := get(); s.Snapshots <= len(owed) {
		t.Errorf("%d snapshots are kept for %d claims", s.Snapshots, len(owed))
	}
	stop()
	stop = run()
	k.set("another")
	until(t, 2*time.Minute, "a false proof", func() bool { return get().Unproven.False > 0 })
	for _, claim := range owed {
		if !slices.Contains(listed(), claim) {
			t.Error("a receipt went without a proof")
		}
	}
	before := get()
	if before.Snapshots <= len(owed) {
		t.Errorf("%d snapshots are kept for %d claims", before.Snapshots, len(owed))
	}
	var notes []struct{ Contents string }
	if !page("/journal", &notes) || !slices.ContainsFunc(notes, func(n struct{ Contents string }) bool {
		return strings.Contains(n.Contents, "is false; save receipt and proof")
	}) {
		t.Errorf("the driver is not told: %v", notes)
	}

	k.set("")
	until(t, 2*time.Minute, "the proofs of all of them", func() bool {
		left := listed()
		return !slices.ContainsFunc(owed, func(c string) bool { return slices.Contains(left, c) })
	})
	until(t, 2*time.Minute, "fewer openings", func() bool { return get().Snapshots < before.Snapshots })
	if s := get(); s.Unproven.False != 0 && s.Unproven.Count == 0 {
		t.Errorf("%+v", s)
	}
	stop()
}
