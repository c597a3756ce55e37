// Package certificate holds a TLS server's certificate and key from two files, and reads them again when they have changed: a certificate
// that is renewed in place, as by an ACME client, needs no restart.
//
// It looks at the files when a client connects, not by the clock. Files that do not fit each other, as in the middle of a renewal, change
// nothing: the pair before them serves on. The package refuses a key that others may read.
package certificate

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
)

// Config names the files; every field is required.
type Config struct {
	// Certificate and Key are PEM files: the chain, and its secret key with mode 0600.
	Certificate, Key string
	// Logger takes that a renewed pair could not be used.
	Logger *slog.Logger
}

// A Pair is a certificate and its key. It may be used from several goroutines.
type Pair struct {
	cfg Config

	mu    sync.Mutex
	seen  stamps
	valid *tls.Certificate
}

// stamps tell one content of the two files from another.
type stamps [2]stamp

type stamp struct {
	modified time.Time
	size     int64
}

// Open reads the pair.
func Open(cfg Config) (*Pair, error) {
	if cfg.Certificate == "" || cfg.Key == "" || cfg.Logger == nil {
		return nil, errors.New("cannot use server certificate: no certificate, key or logger given")
	}
	p := &Pair{cfg: cfg}
	seen, err := p.look()
	if err != nil {
		return nil, fmt.Errorf("cannot use server certificate: %w", err)
	}
	if p.valid, err = p.load(); err != nil {
		return nil, err
	}
	p.seen = seen
	return p, nil
}

func (p *Pair) look() (s stamps, err error) {
	for i, path := range []string{p.cfg.Certificate, p.cfg.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return s, err
		}
		s[i] = stamp{info.ModTime(), info.Size()}
	}
	return s, nil
}

func (p *Pair) load() (*tls.Certificate, error) {
	chain, err := terms.ReadDocument(p.cfg.Certificate)
	if err != nil {
		return nil, err
	}
	secret, err := keyfile.Read(p.cfg.Key)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, secret)
	if err != nil {
		return nil, fmt.Errorf("cannot use certificate %s and key %s: %w; give a certificate chain in PEM and the key that belongs to it",
			p.cfg.Certificate, p.cfg.Key, err)
	}
	return &pair, nil
}

// Get returns the pair, read again first when its files have changed. It fits tls.Config.GetCertificate.
func (p *Pair) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen, err := p.look()
	if err != nil || seen == p.seen {
		return p.valid, nil // a file that is away is about to be replaced
	}
	p.seen = seen // as it was before it is read: what changes meanwhile is read again
	renewed, err := p.load()
	if err != nil {
		p.cfg.Logger.Warn("renewed server certificate cannot be used: the one before it serves on", "error", err)
		return p.valid, nil
	}
	p.valid = renewed
	p.cfg.Logger.Info("server certificate read again")
	return p.valid, nil
}
