package listener

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rawstone/collector/internal/ca"
	"rawstone/pkg/wire"
)

const hang = time.Minute

// certify makes a server's certificate and returns it with the pool of its authority.
func certify(t *testing.T) (served func(*tls.ClientHelloInfo) (*tls.Certificate, error), roots *x509.CertPool) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	certificate, key := dir+"-server.pem", dir+"-server.key"
	if err := ca.Init(dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := ca.IssueServer(dir, []string{"127.0.0.1"}, certificate, key, time.Now()); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	if roots, err = ca.Pool(filepath.Join(dir, "server-ca.pem")); err != nil {
		t.Fatal(err)
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }, roots
}

// run runs a listener and returns it with a function that ends it.
func run(t *testing.T, cfg Config) (*Listener, func() error) {
	t.Helper()
	cfg.Address, cfg.Key, cfg.Logger = "127.0.0.1:0", "web", slog.New(slog.DiscardHandler)
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	end := func() error {
		cancel()
		select {
		case err := <-done:
			done <- err // for the next who asks
			return err
		case <-time.After(hang):
			t.Fatal("does not end")
			return nil
		}
	}
	t.Cleanup(func() { end(); l.Close() })
	return l, end
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

func TestVersionsOfTLS(t *testing.T) {
	served, roots := certify(t)
	l, end := run(t, Config{Handler: http.HandlerFunc(hello), Certificate: served})
	for version, want := range map[uint16]bool{tls.VersionTLS13: true, tls.VersionTLS12: false, tls.VersionTLS11: false} {
		c, err := tls.Dial("tcp", l.Addr(), &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10, MaxVersion: version})
		if (err == nil) != want {
			t.Errorf("version %#x: %v", version, err)
		}
		if err == nil {
			c.Close()
		}
	}
	answer, err := http.Get("http://" + l.Addr()) // plain HTTP gets nothing but the server's refusal
	if err == nil {
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			t.Error("plain HTTP is served")
		}
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", l.Addr()); err == nil {
		c.Close()
		t.Error("served after the end")
	}
}

// TestConnectionsAreBounded: what comes beyond the bound is served once another goes.
func TestConnectionsAreBounded(t *testing.T) {
	const clients = 6
	var active, most atomic.Int32
	leave := make(chan struct{})
	l, _ := run(t, Config{Connections: 2, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		n := active.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-leave
		active.Add(-1)
	})})
	var sent sync.WaitGroup
	answers := make(chan error, clients)
	for range clients {
		sent.Add(1)
		go func() {
			c, err := net.Dial("tcp", l.Addr())
			if err == nil {
				_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			}
			sent.Done()
			if err == nil {
				_, err = io.ReadAll(c)
				c.Close()
			}
			answers <- err
		}()
	}
	sent.Wait()
	// Two are served, and the others have sent all that they will: without a bound they would be served now.
	for deadline := time.Now().Add(hang); active.Load() < 2 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond)
	if n := active.Load(); n != 2 {
		t.Errorf("%d connections are served at once, want 2", n)
	}
	for range clients {
		leave <- struct{}{}
	}
	for range clients {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if n := most.Load(); n > 2 {
		t.Errorf("%d connections were served at once", n)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	l, _ := run(t, Config{Handler: http.HandlerFunc(hello)})
	for size, want := range map[int]int{8 << 10: http.StatusOK, 64 << 10: http.StatusRequestHeaderFieldsTooLarge} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X", strings.Repeat("x", size))
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Errorf("%d bytes: %v", size, err)
			continue
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%d bytes: %s, want %d", size, answer.Status, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := Config{Address: "127.0.0.1:0", Key: "web", Handler: http.HandlerFunc(hello), Logger: slog.New(slog.DiscardHandler)}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no handler":        {func(c *Config) { c.Handler = nil }, "no handler"},
		"taken":             {func(c *Config) { c.Address = taken.Addr().String() }, "choose another address with the key web"},
		"negative patience": {func(c *Config) { c.Patience = -1 }, "negative"},
	} {
		cfg := good
		c.change(&cfg)
		l, err := Open(cfg)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
	l, err := Open(good) // and never run
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestClientCertificates: who shows a certificate must show a good one, by the clock that is given, and who shows none is served.
func TestClientCertificates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	now := time.Now()
	if err := ca.Init(dir, now); err != nil {
		t.Fatal(err)
	}
	open := func(dir string) *ca.Vehicles {
		v, err := ca.OpenVehicles(filepath.Join(dir, "vehicle-ca.pem"), filepath.Join(dir, "vehicle-ca.key"))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	own := open(dir)
	strange := filepath.Join(t.TempDir(), "strange")
	if err := ca.Init(strange, now); err != nil {
		t.Fatal(err)
	}
	show := func(by *ca.Vehicles, at time.Time) tls.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		public, err := wire.NewPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		der, _, err := by.Issue("CAR1", public, at)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	served, roots := certify(t)
	later := now.AddDate(1, 0, 0)
	l, _ := run(t, Config{Certificate: served, Clients: own.Pool(), Now: func() time.Time { return later }, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, chain := range r.TLS.VerifiedChains {
			io.WriteString(w, chain[0].Subject.CommonName)
		}
	})})
	for name, c := range map[string]struct {
		shown []tls.Certificate
		want  string
		ok    bool
	}{
		"none":    {ok: true},
		"good":    {shown: []tls.Certificate{show(own, later)}, want: "CAR1", ok: true},
		"ended":   {shown: []tls.Certificate{show(own, now)}},
		"strange": {shown: []tls.Certificate{show(open(strange), later)}},
	} {
		conf := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // whatever the server asks for
			if len(c.shown) == 0 {
				return new(tls.Certificate), nil
			}
			return &c.shown[0], nil
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
		answer, err := client.Get("https://" + l.Addr())
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		b, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || string(b) != c.want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if _, err := Open(Config{Address: "127.0.0.1:0", Key: "web", Logger: slog.New(slog.DiscardHandler), Handler: http.HandlerFunc(hello), Clients: own.Pool()}); err == nil {
		t.Error("clients' certificates without TLS")
	}
}
