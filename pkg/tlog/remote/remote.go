// Package remote reads a log over HTTP: a tlog.Source on the paths of C2SP tlog-tiles.
//
// Each file is read whole and bounded. What may pass, such as a lost connection, an answer that ends early, or a server that is busy, is tried
// again a few times, with pauses that double; what a server says for good is not. The package believes nothing that it reads: the tree's
// hashes and the checkpoint's signature say whether it is the log.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	defaultAttempts = 5
	defaultTimeout  = 30 * time.Second
	firstPause      = 100 * time.Millisecond
	maxRedirects    = 3
)

// Config says where a log is. All but URL has a default.
type Config struct {
	// URL is the log's prefix, http or https, below which checkpoint and tile/ are.
	URL string
	// Transport sends requests; http.DefaultTransport when nil.
	Transport http.RoundTripper
	// Attempts is how often a file is asked for, 5 when zero; Timeout bounds one of them, 30 s when zero.
	Attempts int
	Timeout  time.Duration
	// Pause waits between two attempts, or until the context ends; on a timer when nil.
	Pause func(context.Context, time.Duration) error
}

// A Log is a log on a server. It may be used from several goroutines.
type Log struct {
	prefix   string
	client   *http.Client
	attempts int
	pause    func(context.Context, time.Duration) error
}

// New returns the log at c.URL; it asks nothing yet.
func New(c Config) (*Log, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("cannot read log %q: want http:// or https:// with a host and a path, and nothing else", c.URL)
	}
	if c.Attempts < 0 || c.Timeout < 0 {
		return nil, errors.New("cannot read log: attempts or timeout are negative")
	}
	l := &Log{prefix: strings.TrimSuffix(u.String(), "/") + "/", attempts: c.Attempts, pause: c.Pause}
	l.client = &http.Client{Transport: c.Transport, Timeout: c.Timeout, CheckRedirect: func(r *http.Request, before []*http.Request) error {
		if len(before) > maxRedirects || u.Scheme == "https" && r.URL.Scheme != "https" {
			return errors.New("it is sent elsewhere too often, or from https to http")
		}
		return nil
	}}
	if l.attempts == 0 {
		l.attempts = defaultAttempts
	}
	if l.client.Timeout == 0 {
		l.client.Timeout = defaultTimeout
	}
	if l.pause == nil {
		l.pause = pause
	}
	return l, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// String is the log's URL.
func (l *Log) String() string { return l.prefix }

// Read implements tlog.Source.
func (l *Log) Read(ctx context.Context, path string, limit int) (b []byte, err error) {
	wait := firstPause
	for attempt := 1; ; attempt++ {
		var again bool
		if b, again, err = l.get(ctx, path, limit); err == nil {
			return b, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("cannot read log file %s: %w", path, context.Cause(ctx))
		}
		if !again {
			return nil, fmt.Errorf("cannot read log file %s from %s: %w", path, l.prefix, err)
		}
		if attempt == l.attempts {
			return nil, fmt.Errorf("cannot read log file %s from %s in %d attempts: %w", path, l.prefix, attempt, err)
		}
		if err := l.pause(ctx, wait); err != nil {
			return nil, fmt.Errorf("cannot read log file %s: %w", path, err)
		}
		wait *= 2
	}
}

// get asks once; again says whether it may go better the next time.
func (l *Log) get(ctx context.Context, path string, limit int) (b []byte, again bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, l.prefix+path, nil)
	if err != nil {
		return nil, false, err
	}
	a, err := l.client.Do(r)
	if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
		return nil, false, fmt.Errorf("%w: if it is the server's, name a file with its authority's certificate in SSL_CERT_FILE", err)
	}
	if err != nil {
		return nil, true, err
	}
	defer a.Body.Close()
	switch {
	case a.StatusCode == http.StatusOK:
	case a.StatusCode == http.StatusNotFound || a.StatusCode == http.StatusGone:
		return nil, false, fs.ErrNotExist
	default:
		busy := a.StatusCode == http.StatusTooManyRequests || a.StatusCode == http.StatusRequestTimeout || a.StatusCode >= 500
		return nil, busy, fmt.Errorf("the server answers %s", a.Status)
	}
	if b, err = io.ReadAll(io.LimitReader(a.Body, int64(limit)+1)); err != nil {
		return nil, true, err
	}
	if len(b) > limit {
		return nil, false, fmt.Errorf("more than the %d bytes allowed", limit)
	}
	return b, false, nil
}
