// Package https is how the agent reaches its collector: over TLS 1.3, under the roots that its configuration names, and by an agent that
// tells nothing of itself.
//
// It refuses every scheme but https, every redirect, and long headers; it uses no proxy of the environment, keeps no connection and
// resumes no earlier session, so that a request cannot be linked to another one by more than where it comes from.
package https

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	// maxHeader bounds the headers of an answer in bytes.
	maxHeader = 16 << 10
	// maxRoots bounds the file of roots in bytes.
	maxRoots = 1 << 20
)

// CheckURL says whether u may name the server: https://HOST:PORT and nothing more.
func CheckURL(u string) error {
	p, err := url.Parse(u)
	if err != nil || p.Scheme != "https" || p.Hostname() == "" || p.Port() == "" || p.String() != "https://"+p.Host {
		return fmt.Errorf("%q is not https://HOST:PORT", u)
	}
	return nil
}

// Client returns a client that believes who trust believes, nil for the system's roots. Its answers are neither decompressed nor
// followed elsewhere.
func Client(trust *tls.Config) *http.Client {
	trust = trust.Clone()
	if trust == nil {
		trust = new(tls.Config)
	}
	trust.MinVersion, trust.ClientSessionCache = tls.VersionTLS13, nil
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Trust returns the configuration under which a server is believed whose certificate chains to a root in the PEM file at path, or to one
// of the system's for no file, and is valid now.
func Trust(path string, now func() time.Time) (*tls.Config, error) {
	if path == "" {
		return &tls.Config{Time: now, MinVersion: tls.VersionTLS13}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the collector's roots: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxRoots))
	if err != nil {
		return nil, fmt.Errorf("cannot read the collector's roots: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("cannot use the collector's roots %s: there is no certificate in it; name the PEM file of its authority", path)
	}
	return &tls.Config{RootCAs: roots, Time: now, MinVersion: tls.VersionTLS13}, nil
}
