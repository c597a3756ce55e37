// Package listener is an HTTP server on one address, within bounds: of connections, of headers, of the time that a request may take. With
// a certificate it speaks TLS 1.3 and nothing older. What many sources at once may do is bounded by the connections alone: a firewall before
// it is for that.
//
// It knows nothing of what is served, nor where the certificate comes from: it asks for it with each connection, so that one that was
// renewed is served at once. A client may show a certificate of its own, which is checked then; whether one is needed is the handler's
// question, and in (*http.Request).TLS.VerifiedChains is the answer.
package listener

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"

	"rawstone/collector/internal/listener/internal/source"
)

const (
	defaultConnections = 256
	defaultIdle        = 2 * time.Minute
	defaultPatience    = 30 * time.Second
	shutdownTimeout    = 5 * time.Second
)

// Config says what to serve where.
type Config struct {
	// Address is IP:port; port 0 takes a free one. Required.
	Address string
	// Key is what the configuration calls the address, for messages. Required.
	Key string
	// Handler answers. Required.
	Handler http.Handler
	// Certificate returns the server's certificate for a connection: certificate.Pair.Get. Without it the server speaks plain HTTP.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Clients are the authorities under which the certificate of a client that shows one must be valid, by the clock Now (time.Now when
	// nil). Without them no client is asked for one. They need Certificate.
	Clients *x509.CertPool
	Now     func() time.Time
	// Connections bounds those that are served at once, further ones wait; 256 when zero.
	Connections int
	// PerSource bounds those of one source, an IPv4 address or the first 64 bits of an IPv6 address: further ones are closed at once. No
	// bound when zero. It is for listeners that strangers reach without a proxy before them.
	PerSource int
	// Idle is how long a connection may wait for its next request; 2 minutes when zero.
	Idle time.Duration
	// Strangers says that whoever likes may come: that their handshakes fail is no warning.
	Strangers bool
	// Patience is how long an answer may take to be read; 30 s when zero.
	Patience time.Duration
	// Logger receives the server's warnings. Required.
	Logger *slog.Logger
}

// A Listener is an address that is taken. Nobody is answered until Run.
type Listener struct {
	key    string
	listen net.Listener
	server *http.Server
}

// Open takes the address.
func Open(cfg Config) (*Listener, error) {
	if cfg.Handler == nil || cfg.Logger == nil || cfg.Key == "" || cfg.Connections < 0 || cfg.PerSource < 0 || cfg.Idle < 0 || cfg.Patience < 0 || cfg.Clients != nil && cfg.Certificate == nil {
		return nil, errors.New("cannot serve: no handler, logger or name given, a negative bound, or clients' certificates without one of the server's own")
	}
	l := &Listener{key: cfg.Key, server: &http.Server{
		Handler: cfg.Handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: cmp.Or(cfg.Patience, defaultPatience), IdleTimeout: cmp.Or(cfg.Idle, defaultIdle), MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
	}}
	if cfg.Strangers {
		l.server.ErrorLog = slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug)
	}
	if cfg.Certificate != nil {
		l.server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: cfg.Certificate, Time: cfg.Now}
	}
	if cfg.Clients != nil {
		l.server.TLSConfig.ClientAuth, l.server.TLSConfig.ClientCAs = tls.VerifyClientCertIfGiven, cfg.Clients
	}
	listen, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot serve %s: %w; choose another address with the key %[1]s", cfg.Key, err)
	}
	if cfg.PerSource > 0 {
		listen = source.Limit(listen, cfg.PerSource)
	}
	l.listen = netutil.LimitListener(listen, cmp.Or(cfg.Connections, defaultConnections))
	return l, nil
}

// Addr returns the address that was taken.
func (l *Listener) Addr() string { return l.listen.Addr().String() }

// Run serves until ctx ends and waits a moment for the readers that are there: one that does not end its request holds nothing up.
func (l *Listener) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() {
		if l.server.TLSConfig != nil {
			served <- l.server.ServeTLS(l.listen, "", "")
		} else {
			served <- l.server.Serve(l.listen)
		}
	}()
	select {
	case err := <-served:
		return fmt.Errorf("cannot serve %s: %w", l.key, err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := l.server.Shutdown(stop)
	if err != nil {
		err = l.server.Close()
	}
	<-served
	return err
}

// Close gives the address back; after Run it does nothing.
func (l *Listener) Close() error {
	if err := l.listen.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
