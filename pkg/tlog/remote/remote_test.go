package remote

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// answers is a server that gives one answer after the other, the last for ever.
type answers struct {
	asked []string
	give  []func(*http.Request) (*http.Response, error)
}

func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	n := min(len(a.asked), len(a.give)-1)
	a.asked = append(a.asked, r.URL.String())
	return a.give[n](r)
}

func status(code int, body string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: code, Status: http.StatusText(code), Body: io.NopCloser(strings.NewReader(body)), Request: r, Header: make(http.Header)}, nil
	}
}

func broken(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset") }

// short ends in the middle of its body.
func short(r *http.Request) (*http.Response, error) {
	a, err := status(200, "")(r)
	a.Body = io.NopCloser(io.MultiReader(strings.NewReader("hal"), failing{}))
	return a, err
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func moved(to string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		a, err := status(302, "")(r)
		a.Header.Set("Location", to)
		return a, err
	}
}

func TestRead(t *testing.T) {
	type give = []func(*http.Request) (*http.Response, error)
	for _, c := range []struct {
		name   string
		give   give
		want   string
		err    string
		asked  int
		pauses []time.Duration
	}{
		{"at once", give{status(200, "tile")}, "tile", "", 1, nil},
		{"after faults that pass", give{broken, status(503, ""), short, status(200, "tile")}, "tile", "", 4, []time.Duration{firstPause, 2 * firstPause, 4 * firstPause}},
		{"too many requests", give{status(429, ""), status(200, "tile")}, "tile", "", 2, []time.Duration{firstPause}},
		{"never", give{broken}, "", "in 5 attempts: Get \"https://log.example/a/tile/0/000\": connection reset", 5, []time.Duration{firstPause, 2 * firstPause, 4 * firstPause, 8 * firstPause}},
		{"always short", give{short}, "", "in 5 attempts: unexpected EOF", 5, []time.Duration{firstPause, 2 * firstPause, 4 * firstPause, 8 * firstPause}},
		{"forbidden", give{status(403, "")}, "", "the server answers Forbidden", 1, nil},
		{"missing", give{status(404, "")}, "", "file does not exist", 1, nil},
		{"gone", give{status(410, "")}, "", "file does not exist", 1, nil},
		{"of the longest length", give{status(200, strings.Repeat("x", 10))}, strings.Repeat("x", 10), "", 1, nil},
		{"too long", give{status(200, strings.Repeat("x", 11))}, "", "more than the 10 bytes allowed", 1, nil},
		{"elsewhere", give{moved("https://other.example/tile"), status(200, "tile")}, "tile", "", 2, nil},
		{"elsewhere for ever", give{moved("https://other.example/tile")}, "", "sent elsewhere too often", 20, []time.Duration{firstPause, 2 * firstPause, 4 * firstPause, 8 * firstPause}},
		{"elsewhere in the open", give{moved("http://log.example/tile")}, "", "from https to http", 5, []time.Duration{firstPause, 2 * firstPause, 4 * firstPause, 8 * firstPause}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := &answers{give: c.give}
			var pauses []time.Duration
			l, err := New(Config{URL: "https://log.example/a", Transport: server, Pause: func(_ context.Context, d time.Duration) error {
				pauses = append(pauses, d)
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			b, err := l.Read(t.Context(), "tile/0/000", 10)
			if string(b) != c.want || (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || !strings.Contains(err.Error(), "tile/0/000")) {
				t.Errorf("got %q, %v", b, err)
			}
			if strings.Contains(c.err, "exist") != errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v is no ErrNotExist, or is one", err)
			}
			if len(server.asked) != c.asked || server.asked[0] != "https://log.example/a/tile/0/000" {
				t.Errorf("asked %d times: %v", len(server.asked), server.asked)
			}
			if len(pauses) != len(c.pauses) {
				t.Fatalf("pauses %v, want %v", pauses, c.pauses)
			}
			for i := range pauses {
				if pauses[i] != c.pauses[i] {
					t.Errorf("pauses %v, want %v", pauses, c.pauses)
				}
			}
		})
	}
}

func TestStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := &answers{give: []func(*http.Request) (*http.Response, error){func(r *http.Request) (*http.Response, error) { cancel(); return broken(r) }}}
	l, err := New(Config{URL: "http://log.example", Transport: server})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(ctx, "checkpoint", 10); !errors.Is(err, context.Canceled) || len(server.asked) != 1 {
		t.Errorf("stopped: %v after %d questions", err, len(server.asked))
	}
	if err := pause(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("a pause goes on: %v", err)
	}
}

func TestRefusedConfigs(t *testing.T) {
	for _, u := range []string{"", "log.example", "ftp://log.example/", "https://", "https://log.example/?a=b", "https://log.example/#a", "https://me:secret@log.example/", "file:///ledger"} {
		if l, err := New(Config{URL: u}); err == nil {
			t.Errorf("%q is the log %s", u, l)
		}
	}
	if _, err := New(Config{URL: "https://log.example", Attempts: -1}); err == nil {
		t.Error("no attempts are accepted")
	}
}

// TestUntrusted holds that a certificate of nobody who is known is not asked for again.
func TestUntrusted(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			asked.Add(1)
		}
	}
	server.StartTLS()
	l, err := New(Config{URL: server.URL, Pause: func(context.Context, time.Duration) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.Read(t.Context(), "checkpoint", 100)
	server.Close()
	if err == nil || !strings.Contains(err.Error(), "certificate") || !strings.HasSuffix(err.Error(), "in SSL_CERT_FILE") || asked.Load() != 1 {
		t.Errorf("asked %d times: %v", asked.Load(), err)
	}
}
