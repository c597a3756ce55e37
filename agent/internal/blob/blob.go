// Package blob keeps the files that policies name by their SHA-256, circuits and proving keys, on flash, and downloads over HTTPS what
// is missing.
//
// Invariants: bytes that are handed out have the hash that they were asked for by, whatever flash or server did; a file takes its place
// whole, synced and hashed, or not at all, so that nothing that is wrong or cut off replaces anything; one download runs at a time, so
// that two who ask for the same file wait for the same one. What remains of a download that the power cut off is removed by New.
//
// The package refuses every scheme but https, every redirect, answers that are longer than they may be, and answers that do not come in
// time. A request names the file's hash and nothing else: no cookie, no version of this program, no earlier session of TLS. When to
// fetch is the caller's question: it must not depend on how the car is driven.
package blob

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/https"
	"rawstone/pkg/wire"
)

const (
	// DefaultTimeout is what a download may take: a megabyte over a link of 30 kbit/s.
	DefaultTimeout = 5 * time.Minute
	// tempSuffix marks what is being downloaded.
	tempSuffix = ".tmp"
)

// Config says where the files are. Fields without a default are required.
type Config struct {
	// Dir is the files' directory on flash, for this package alone; it is made when missing.
	Dir string
	// URL is https://HOST:PORT; a file is at /v1/blobs/ and its hash in hexadecimal.
	URL string
	// TLS holds the roots that the server is checked under; nil means the system's. TLS 1.3 is asked for in any case.
	TLS *tls.Config
	// Timeout bounds a download from the connection to the last byte; 0 means DefaultTimeout.
	Timeout time.Duration
	Logger  *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

// A Store holds the files. It is safe for concurrent use.
type Store struct {
	dir     string
	base    string
	timeout time.Duration
	log     *slog.Logger
	client  *http.Client
	metrics *metrics
	turn    chan struct{} // held by who downloads
}

// New makes the directory and removes what cut-off downloads left in it. It does not connect.
func New(cfg Config) (*Store, error) {
	s, err := newStore(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot open store of keys: %w", err)
	}
	return s, nil
}

func newStore(cfg Config) (*Store, error) {
	if cfg.Dir == "" || cfg.Logger == nil {
		return nil, errors.New("no directory or logger given")
	}
	if cfg.Timeout < 0 {
		return nil, errors.New("a time to wait is negative")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if err := https.CheckURL(cfg.URL); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	left, err := filepath.Glob(filepath.Join(escape(cfg.Dir), "*"+tempSuffix))
	if err != nil {
		return nil, err
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	return &Store{
		dir: cfg.Dir, base: cfg.URL + "/v1/blobs/", timeout: cfg.Timeout, log: cfg.Logger, metrics: m, turn: make(chan struct{}, 1),
		client: https.Client(cfg.TLS),
	}, nil
}

// escape returns dir with the characters quoted that a pattern gives a meaning.
func escape(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func (s *Store) path(hash wire.Hash) string { return filepath.Join(s.dir, hash.String()) }

// Get returns the file of a hash, from flash where it is there and right, else downloaded. limit bounds it in bytes.
func (s *Store) Get(ctx context.Context, hash wire.Hash, limit int64) ([]byte, error) {
	if b, err := s.Load(hash, limit); err == nil {
		return b, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// Whoever had the turn may have fetched the same file.
	if b, err := s.Load(hash, limit); err == nil {
		return b, nil
	} else if errors.Is(err, errRotten) {
		s.metrics.rotten.Inc()
		s.log.Warn("file on flash is damaged and will be fetched again", "error", err)
	}
	if err := s.fetch(ctx, hash, limit); err != nil {
		return nil, fmt.Errorf("cannot fetch file %s: %w", hash, err)
	}
	return s.Load(hash, limit)
}

// Keep removes the files of all hashes but those given.
func (s *Store) Keep(hashes ...wire.Hash) error {
	keep := make(map[string]bool)
	for _, h := range hashes {
		keep[h.String()] = true
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("cannot tidy store of keys: %w", err)
	}
	for _, e := range entries {
		if keep[e.Name()] || strings.HasSuffix(e.Name(), tempSuffix) {
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil {
			return fmt.Errorf("cannot tidy store of keys: %w", err)
		}
	}
	return nil
}
