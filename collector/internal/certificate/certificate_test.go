package certificate

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rawstone/collector/internal/ca"
)

// A world is a directory with a server's files and an authority that renews them.
type world struct {
	t                *testing.T
	dir              string
	certificate, key string
	log              bytes.Buffer
	written          time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, dir: dir, certificate: filepath.Join(dir, "server.pem"), key: filepath.Join(dir, "server.key"), written: time.Now()}
	if err := ca.Init(filepath.Join(dir, "ca"), time.Now()); err != nil {
		t.Fatal(err)
	}
	c, k := w.issue()
	w.write(w.certificate, c)
	w.write(w.key, k)
	return w
}

// issue makes a certificate and its key, both in PEM.
func (w *world) issue() (certificate, key []byte) {
	w.t.Helper()
	dir := w.t.TempDir()
	c, k := filepath.Join(dir, "c"), filepath.Join(dir, "k")
	if err := ca.IssueServer(filepath.Join(w.dir, "ca"), []string{"127.0.0.1"}, c, k, time.Now()); err != nil {
		w.t.Fatal(err)
	}
	for path, text := range map[string]*[]byte{c: &certificate, k: &key} {
		b, err := os.ReadFile(path)
		if err != nil {
			w.t.Fatal(err)
		}
		*text = b
	}
	return certificate, key
}

// write writes a file, a second after the one before.
func (w *world) write(path string, text []byte) {
	w.t.Helper()
	w.written = w.written.Add(time.Second)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chtimes(path, w.written, w.written); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open() *Pair {
	w.t.Helper()
	p, err := Open(Config{Certificate: w.certificate, Key: w.key, Logger: slog.New(slog.NewTextHandler(&w.log, nil))})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) serves(p *Pair, certificate []byte, when string) {
	w.t.Helper()
	got, err := p.Get(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	want, _ := pem.Decode(certificate)
	if !bytes.Equal(got.Certificate[0], want.Bytes) {
		w.t.Errorf("%s: another certificate is served", when)
	}
}

func TestRenewedPairIsServed(t *testing.T) {
	w := newWorld(t)
	first, err := os.ReadFile(w.certificate)
	if err != nil {
		t.Fatal(err)
	}
	p := w.open()
	w.serves(p, first, "at first")
	before, _ := p.Get(nil)
	if again, _ := p.Get(nil); again != before {
		t.Error("read again without a change")
	}
	c, k := w.issue()
	w.write(w.certificate, c)
	w.serves(p, first, "in the middle of a renewal")
	if !strings.Contains(w.log.String(), "cannot be used") || strings.Contains(w.log.String(), "PRIVATE") {
		t.Errorf("log %q", w.log.String())
	}
	said := w.log.Len()
	w.serves(p, first, "in the middle of a renewal")
	if w.log.Len() != said {
		t.Error("said again without a change")
	}
	w.write(w.key, k)
	w.serves(p, c, "after a renewal")
	if err := os.Remove(w.key); err != nil {
		t.Fatal(err)
	}
	w.serves(p, c, "while a file is away")
	w.write(w.key, []byte("garbage"))
	w.serves(p, c, "with a broken key")
	c2, k2 := w.issue()
	w.write(w.certificate, c2)
	w.write(w.key, k2)
	if err := os.Chmod(w.key, 0o644); err != nil {
		t.Fatal(err)
	}
	w.serves(p, c, "with a key that others may read")
	if err := os.Chmod(w.key, 0o600); err != nil {
		t.Fatal(err)
	}
	w.write(w.key, k2)
	w.serves(p, c2, "after another renewal")
}

// TestClientsSeeTheRenewal connects to a TLS server that asks the pair.
func TestClientsSeeTheRenewal(t *testing.T) {
	w := newWorld(t)
	p := w.open()
	roots, err := ca.Pool(filepath.Join(w.dir, "ca", "server-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: p.Get})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	defer func() { l.Close(); <-done }()
	seen := func() []byte {
		t.Helper()
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Raw
	}
	before := seen()
	c, k := w.issue()
	w.write(w.certificate, c)
	w.write(w.key, k)
	if after := seen(); bytes.Equal(before, after) {
		t.Error("the renewed certificate is not served")
	}
}

func TestOpenRefuses(t *testing.T) {
	w := newWorld(t)
	_, other := w.issue()
	good := Config{Certificate: w.certificate, Key: w.key, Logger: slog.New(slog.DiscardHandler)}
	path := filepath.Join(w.dir, "other.key")
	w.write(path, other)
	for name, c := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"no certificate":   {func(c *Config) { c.Certificate = "" }, "no certificate, key or logger given"},
		"no key":           {func(c *Config) { c.Key = "" }, "no certificate, key or logger given"},
		"no logger":        {func(c *Config) { c.Logger = nil }, "no certificate, key or logger given"},
		"missing":          {func(c *Config) { c.Certificate = filepath.Join(w.dir, "none") }, "cannot use server certificate"},
		"another's key":    {func(c *Config) { c.Key = path }, "the key that belongs to it"},
		"key in the place": {func(c *Config) { c.Certificate = w.key }, "give a certificate chain in PEM"},
	} {
		cfg := good
		c.edit(&cfg)
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}
