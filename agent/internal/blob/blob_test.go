package blob

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/wire"
)

const limit = 1 << 20

// text is a file of more than one read.
var text = bytes.Repeat([]byte("circuit "), 20_000)

var hash = wire.ID(text)

// serve returns a store whose server answers with h.
func serve(t *testing.T, h http.HandlerFunc) *Store {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	server.StartTLS()
	t.Cleanup(server.Close)
	return open(t, Config{URL: server.URL, TLS: server.Client().Transport.(*http.Transport).TLSClientConfig})
}

func open(t *testing.T, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "keys[1]")
	}
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// counted returns the downloads of an outcome.
func counted(s *Store, outcome string) float64 {
	return testutil.ToFloat64(s.metrics.fetches.WithLabelValues(outcome))
}

// files returns the names in the store's directory.
func files(t *testing.T, s *Store) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func put(t *testing.T, s *Store, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGet(t *testing.T) {
	var asked atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Method != http.MethodGet || r.URL.Path != "/v1/blobs/"+hash.String() {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		r.Header.Del("Connection")
		if len(r.Header) != 0 || len(r.Cookies()) != 0 {
			t.Errorf("the request tells %v", r.Header)
		}
		w.Write(text)
	})
	for range 2 {
		b, err := s.Get(t.Context(), hash, limit)
		if err != nil || !bytes.Equal(b, text) {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
	}
	if asked.Load() != 1 || counted(s, outcomeStored) != 1 || testutil.ToFloat64(s.metrics.bytes) != float64(len(text)) {
		t.Errorf("asked %d times", asked.Load())
	}
	if names := files(t, s); len(names) != 1 || names[0] != hash.String() {
		t.Errorf("%v", names)
	}
	// Another process finds the file, whatever became of the server.
	again := open(t, Config{Dir: s.dir, URL: "https://127.0.0.1:1"})
	if b, err := again.Get(t.Context(), hash, limit); err != nil || !bytes.Equal(b, text) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// TestRottenFileIsFetchedAgain holds that flash is not believed either.
func TestRottenFileIsFetchedAgain(t *testing.T) {
	rotten := bytes.Clone(text)
	rotten[7] ^= 1
	for name, b := range map[string][]byte{"a bit": rotten, "cut": text[:9], "empty": {}, "grown": append(bytes.Clone(text), make([]byte, limit)...)} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(text) })
		put(t, s, hash.String(), b)
		if _, err := s.Load(hash, limit); !errors.Is(err, errRotten) {
			t.Errorf("%s: %v", name, err)
		}
		got, err := s.Get(t.Context(), hash, limit)
		if err != nil || !bytes.Equal(got, text) || testutil.ToFloat64(s.metrics.rotten) != 1 {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if b, err := s.Load(hash, limit); err != nil || !bytes.Equal(b, text) {
			t.Errorf("%s: still on flash: %v", name, err)
		}
	}
}

// TestTwoAtOnceMakeOneDownload has both ask before the server answers.
func TestTwoAtOnceMakeOneDownload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		var asked atomic.Int32
		s := piped(t, func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			<-answer
			w.Write(text)
		})
		var group sync.WaitGroup
		for range 2 {
			group.Go(func() {
				if b, err := s.Get(t.Context(), hash, limit); err != nil || !bytes.Equal(b, text) {
					t.Errorf("%d bytes, %v", len(b), err)
				}
			})
		}
		synctest.Wait()
		// Whoever gives up while another downloads disturbs nobody.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Get(ctx, hash, limit); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		close(answer)
		group.Wait()
		if asked.Load() != 1 {
			t.Errorf("asked %d times", asked.Load())
		}
	})
}

// piped returns a store whose server is at the other end of a pipe, for tests whose time is not the world's.
func piped(t *testing.T, h http.HandlerFunc) *Store {
	t.Helper()
	s := open(t, Config{URL: "https://collector.example:8443"})
	conns := make(chan net.Conn)
	server := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	ctx, cancel := context.WithCancel(t.Context())
	go server.Serve(listener{ctx, conns})
	t.Cleanup(func() {
		cancel()
		server.Close()
	})
	s.client.Transport = &http.Transport{DisableKeepAlives: true, DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		conns <- far
		return near, nil
	}}
	return s
}

type listener struct {
	ctx   context.Context
	conns chan net.Conn
}

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}
func (listener) Close() error   { return nil }
func (listener) Addr() net.Addr { return &net.TCPAddr{} }

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, u := range []string{"http://collector.example:8443", "https://collector.example", "https://collector.example:8443/", "https://a:b@collector.example:8443",
		"https://collector.example:8443/v1", "https://collector.example:8443?x=1", "https://:8443", "ftp://collector.example:8443", "", "collector.example:8443", "https://[::1"} {
		if _, err := New(Config{Dir: dir, URL: u, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "is not https://HOST:PORT") {
			t.Errorf("%q: %v", u, err)
		}
	}
	for _, c := range []Config{
		{URL: "https://[::1]:8443", Logger: slog.New(slog.DiscardHandler)},
		{Dir: dir, URL: "https://[::1]:8443"},
		{Dir: dir, URL: "https://[::1]:8443", Logger: slog.New(slog.DiscardHandler), Timeout: -1},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v", c)
		}
	}
	r := prometheus.NewRegistry()
	c := Config{Dir: dir, URL: "https://[::1]:8443", Logger: slog.New(slog.DiscardHandler), Registerer: r}
	if _, err := New(c); err != nil {
		t.Error(err)
	}
	if _, err := New(c); err == nil {
		t.Error("registered twice")
	}
}

// TestLeftovers holds that New removes what a crash left, and Keep what nobody asks for; both leave files alone.
func TestLeftovers(t *testing.T) {
	s := open(t, Config{URL: "https://127.0.0.1:1"})
	put(t, s, hash.String(), text)
	put(t, s, "123"+tempSuffix, text[:9])
	open(t, Config{Dir: s.dir, URL: "https://127.0.0.1:1"})
	if names := files(t, s); len(names) != 1 || names[0] != hash.String() {
		t.Errorf("%v", names)
	}
	put(t, s, "456"+tempSuffix, nil) // a download that runs
	put(t, s, wire.Hash{9}.String(), nil)
	if err := s.Keep(hash, wire.Hash{8}); err != nil {
		t.Error(err)
	}
	if names := files(t, s); len(names) != 2 {
		t.Errorf("%v", names)
	}
	if err := s.Keep(); err != nil {
		t.Error(err)
	}
	if _, err := s.Load(hash, limit); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
