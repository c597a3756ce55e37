// Package broker is the collector's MQTT broker and queue: a nats-server in this process with an MQTT 3.1.1 listener and JetStream.
//
// What vehicles publish lands in the work queues of package queue: vehicles send again until they hold a receipt.
// A PUBACK to a vehicle therefore proves custody at most, never acceptance.
//
// The listener speaks TLS 1.3 and demands a certificate of the authority for vehicles. Its subject is the vehicle, and so is the client's
// id; its key is the device key that the vehicle has enrolled with. Such a client may publish that vehicle's claims and reports and
// subscribe to its receipts and to the policy. Run cuts the connections of those that have changed since. Strangers get no further than
// the handshake, which counts among a bounded number of connections and must end within seconds.
//
// It may be one of several brokers that hold the same queues, and serve processes of the collector that have none (package cluster). Each
// starts when enough of the others are there to agree; a vehicle may connect to any of them.
//
// The policy topic carries one retained message, which the collector publishes through Retain and every vehicle gets as soon as it
// subscribes, also after a restart. Its publisher is admitted by a key that is in this process's memory alone.
//
// What MQTT has the server keep besides (what vehicles retain, sessions that outlive their connection, halves of QoS 2 exchanges) is of
// no use here. The server cannot be told to refuse it; it is bounded apart from the queues, so that it takes nothing from them.
package broker

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/broker/internal/serverlog"
	"rawstone/collector/internal/broker/internal/state"
	"rawstone/collector/internal/cluster"
	"rawstone/collector/internal/deadletter"
	"rawstone/collector/internal/peer"
	"rawstone/collector/internal/queue"
	"rawstone/pkg/wire"
)

const (
	// StreamClaims and StreamReports are the work queues.
	StreamClaims  = queue.Claims
	StreamReports = queue.Reports

	// MaxPayload bounds a message in bytes, with the headers that the server adds: the retained policies must fit. A connection that
	// sends more is cut.
	MaxPayload = 32 << 10
	// MaxMessage bounds a submission. The queues take what is larger, up to MaxPayload, so that the intake can say that it came.
	MaxMessage = 4 << 10

	headerBytes        = 512 // at most, of the server's headers in a message
	defaultStreamBytes = 256 << 20
	memoryBytes        = 16 << 20
	maxConnections     = 4096
	maxPending         = 4 << 20 // what waits for a client that does not read: more than the intake fetches at once, 1 MiB of each queue
	readyTimeout       = time.Minute
	readyLook          = 250 * time.Millisecond
	defaultHandshake   = 15 * time.Second
)

// Vehicles says who may connect. Its methods are called from several goroutines, and may be until Close returns.
type Vehicles interface {
	// Device returns the device key that a vehicle has enrolled with; ok is false for one that is not registered, has not enrolled or is
	// revoked.
	Device(ctx context.Context, vehicle string) (key wire.PublicKey, ok bool, err error)
	// Changed returns some of the vehicles for which Device's answer changed after a serial number, in the order of the changes, and the
	// serial number of the last of these; none when nothing did. The first serial number is 1.
	Changed(ctx context.Context, since int64) (vehicles []string, serial int64, err error)
}

// Config says where to listen and where to keep the queues.
type Config struct {
	// Listen is the MQTT listener's address, IP:port; port 0 takes a free one. Required.
	Listen string
	// Dir keeps the queues. Required.
	Dir string
	// Place is the broker's among others, Peer what it shows to them: only needed with a Place.
	Place cluster.Place
	Peer  *peer.Identity
	// StreamBytes bounds each queue on disk; 256 MiB when zero.
	StreamBytes int64
	// Vehicles says who may connect. Required.
	Vehicles Vehicles
	// VehicleCA holds the authorities of vehicles' certificates: ca.Vehicles. Required.
	VehicleCA *x509.CertPool
	// Certificate returns the server's certificate for a connection: certificate.Pair.Get. Required.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Handshake is how long a client may take for TLS, and as long again to name itself; 15 s when zero.
	Handshake time.Duration
	// Now is the clock by which certificates end; nil means time.Now.
	Now func() time.Time
	// Logger receives the server's warnings and errors. Required.
	Logger *slog.Logger
	// Registerer takes the package's metrics; nil means none.
	Registerer prometheus.Registerer
}

// A Broker is a running broker.
type Broker struct {
	server *server.Server
	conn   *nats.Conn
	addr   netip.AddrPort
	auth   *authenticator
	log    *serverlog.Log

	serves    func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	publisher tls.Certificate
}

// Start starts the broker and returns when it takes connections and its queues are there.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	if cfg.Dir == "" || cfg.Logger == nil || cfg.Vehicles == nil || cfg.VehicleCA == nil || cfg.Certificate == nil || cfg.StreamBytes < 0 || cfg.Handshake < 0 {
		return nil, errors.New("cannot start broker: no directory, vehicles, authority, certificate or logger given, or a negative bound")
	}
	cfg.StreamBytes, cfg.Handshake = cmp.Or(cfg.StreamBytes, defaultStreamBytes), cmp.Or(cfg.Handshake, defaultHandshake)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	listen, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot start broker: MQTT address %q is not IP:port, for example 127.0.0.1:8883", cfg.Listen)
	}
	own, err := newPublisher(publisherOf(cfg.Place.Node))
	if err != nil {
		return nil, fmt.Errorf("cannot start broker: %w", err)
	}
	ownKey, err := wire.NewPublicKey(own.Leaf.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("cannot start broker: %w", err)
	}
	auth := newAuthenticator(cfg, ownKey)
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(auth.refused); err != nil {
			return nil, fmt.Errorf("cannot start broker: %w", err)
		}
	}
	opts := &server.Options{
		ServerName:         "rawstone",
		DontListen:         true,
		NoSigs:             true,
		MaxPayload:         MaxPayload,
		MaxConn:            maxConnections,
		MaxPending:         maxPending,
		JetStream:          true,
		StoreDir:           cfg.Dir,
		JetStreamMaxStore:  2*cfg.StreamBytes + deadletter.StreamBytes + state.Bytes,
		JetStreamMaxMemory: memoryBytes,

		CustomClientAuthentication: auth,
	}
	opts.MQTT.Host, opts.MQTT.Port = listen.Addr().String(), int(listen.Port())
	if listen.Port() == 0 {
		opts.MQTT.Port = server.RANDOM_PORT
	}
	opts.MQTT.ConsumerInactiveThreshold = state.ConsumerIdle
	opts.MQTT.TLSConfig = serverTLS(cfg, own.Leaf)
	opts.MQTT.TLSTimeout, opts.MQTT.AuthTimeout = cfg.Handshake.Seconds(), cfg.Handshake.Seconds()
	if err := cfg.Place.Join(opts, cfg.Peer); err != nil {
		return nil, fmt.Errorf("cannot start broker: %w", err)
	}
	log := serverlog.New(serverlog.Config{
		Logger: cfg.Logger,
		Handshake: func() {
			auth.refuse(refusedHandshake, nil, "connect refused: no TLS 1.3 with a valid certificate of the authority for vehicles")
		},
		Full: func() { auth.refuse(refusedFull, nil, "connect refused: too many connections at once") },
	})
	b := &Broker{auth: auth, log: log, serves: cfg.Certificate, publisher: own}
	if b.server, err = server.NewServer(opts); err != nil {
		return nil, fmt.Errorf("cannot start broker: %w", err)
	}
	b.server.SetLoggerV2(log, false, false, false)
	b.server.Start()
	if err := b.listens(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start broker: %w", err), b.Close())
	}
	b.addr = netip.AddrPortFrom(listen.Addr(), uint16(opts.MQTT.Port)) // which the server has filled in
	b.conn, err = nats.Connect("", nats.InProcessServer(b.server), nats.Name("collector"), nats.MaxReconnects(-1))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start broker: %w", err), b.Close())
	}
	streams := append(queue.Streams(cfg.StreamBytes, MaxPayload), state.Streams()...)
	if err := queue.Make(ctx, b.conn, cfg.Place.Replicas(), readyTimeout, cfg.Logger, streams); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start broker: %w", err), b.Close())
	}
	auth.queues.Store(true)
	if err := b.resume(ctx); err != nil {
		// Reports and claims need no policies, and whoever publishes them does so again.
		cfg.Logger.Warn("vehicles do not get the policies of before the restart yet", "error", err)
	}
	auth.ready.Store(true)
	return b, nil
}

// serverTLS demands a certificate of the authority for vehicles, or the publisher's own.
func serverTLS(cfg Config, publisher *x509.Certificate) *tls.Config {
	trusted := cfg.VehicleCA.Clone()
	trusted.AddCert(publisher)
	return &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: cfg.Certificate, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted,
		Time: cfg.Now, SessionTicketsDisabled: true, // each connection shows its certificate anew
	}
}

// listens waits until the server listens, or says why it does not.
func (b *Broker) listens() error {
	for end := time.Now().Add(readyTimeout); !b.server.ReadyForConnections(readyLook); {
		select {
		case <-b.log.Fatal():
			return fmt.Errorf("%s: stop the program that uses it or configure another port", b.log.Last())
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("its server did not become ready: %s", b.log.Last())
		}
	}
	if !b.server.JetStreamEnabled() {
		return fmt.Errorf("its server did not become ready: %s", b.log.Last())
	}
	return nil
}

// Addr returns the address on which MQTT clients are served.
func (b *Broker) Addr() netip.AddrPort { return b.addr }

// Conn returns the collector's own connection, which has every right: to consume the queues and to publish receipts. The broker
// closes it.
func (b *Broker) Conn() *nats.Conn { return b.conn }

// Close disconnects all clients, closes the queues and waits until the server has stopped.
func (b *Broker) Close() error {
	b.auth.ready.Store(false)
	b.auth.queues.Store(false)
	b.log.Closing()
	if b.conn != nil {
		b.conn.Close()
	}
	b.server.Shutdown()
	b.server.WaitForShutdown()
	return nil
}
