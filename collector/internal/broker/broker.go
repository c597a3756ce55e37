// Package broker is the collector's MQTT broker and queue: a nats-server in this process with an MQTT 3.1.1 listener and JetStream.
//
// What vehicles publish lands in two work queues on disk, CLAIMS and REPORTS, which keep a message until the intake has acknowledged
// it, within a bound of bytes. A full queue refuses new messages and keeps old ones: vehicles send again until they hold a receipt. A
// third stream takes the intake's dead letters.
// A PUBACK to a vehicle therefore proves custody at most, never acceptance.
//
// The listener speaks TLS 1.3 and demands a certificate of the authority for vehicles. Its subject is the vehicle, and so is the client's
// id; its key is the device key that the vehicle has enrolled with. Such a client may publish that vehicle's claims and reports and
// subscribe to its receipts and to the policy. Run cuts the connections of those that have changed since. Strangers get no further than
// the handshake, which counts among a bounded number of connections and must end within seconds.
//
// The policy topic carries one retained message, which the collector publishes through Retain and every vehicle gets as soon as it
// subscribes, also after a restart. Its publisher is admitted by a key that is in this process's memory alone.
//
// What MQTT has the server keep besides (what vehicles retain, sessions that outlive their connection, halves of QoS 2 exchanges) is of
// no use here. The server cannot be told to refuse it; it is bounded apart from the queues, so that it takes nothing from them.
package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/broker/internal/serverlog"
	"rawstone/collector/internal/deadletter"
	"rawstone/pkg/wire"
)

const (
	// StreamClaims and StreamReports are the work queues.
	StreamClaims  = "CLAIMS"
	StreamReports = "REPORTS"

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
	dedupeWindow       = 2 * time.Minute
	readyTimeout       = 20 * time.Second
	handshakeSeconds   = 5. // for TLS, and as long again for the client to name itself
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
	// StreamBytes bounds each queue on disk; 256 MiB when zero.
	StreamBytes int64
	// Vehicles says who may connect. Required.
	Vehicles Vehicles
	// VehicleCA holds the authorities of vehicles' certificates: ca.Vehicles. Required.
	VehicleCA *x509.CertPool
	// Certificate returns the server's certificate for a connection: certificate.Pair.Get. Required.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
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
	if cfg.Dir == "" || cfg.Logger == nil || cfg.Vehicles == nil || cfg.VehicleCA == nil || cfg.Certificate == nil || cfg.StreamBytes < 0 {
		return nil, errors.New("cannot start broker: no directory, vehicles, authority, certificate or logger given, or a negative bound")
	}
	if cfg.StreamBytes == 0 {
		cfg.StreamBytes = defaultStreamBytes
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	own, err := newPublisher()
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
	addr, err := freeAddr(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot start broker: %w", err)
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
		JetStreamMaxStore:  2*cfg.StreamBytes + deadletter.StreamBytes + stateBytes,
		JetStreamMaxMemory: memoryBytes,

		CustomClientAuthentication: auth,
	}
	opts.MQTT.Host = addr.Addr().String()
	opts.MQTT.Port = int(addr.Port())
	opts.MQTT.ConsumerInactiveThreshold = consumerIdle
	opts.MQTT.TLSConfig = serverTLS(cfg, own.Leaf)
	opts.MQTT.TLSTimeout, opts.MQTT.AuthTimeout = handshakeSeconds, handshakeSeconds
	log := serverlog.New(serverlog.Config{
		Logger: cfg.Logger,
		Handshake: func() {
			auth.refuse(refusedHandshake, nil, "connect refused: no TLS 1.3 with a valid certificate of the authority for vehicles")
		},
		Full: func() { auth.refuse(refusedFull, nil, "connect refused: too many connections at once") },
	})
	b := &Broker{addr: addr, auth: auth, log: log, serves: cfg.Certificate, publisher: own}
	if b.server, err = server.NewServer(opts); err != nil {
		return nil, fmt.Errorf("cannot start broker: %w", err)
	}
	b.server.SetLoggerV2(log, false, false, false)
	b.server.Start()
	if !b.server.ReadyForConnections(readyTimeout) || !b.server.JetStreamEnabled() {
		err := fmt.Errorf("cannot start broker: its server did not become ready: %s", log.Last())
		return nil, errors.Join(err, b.Close())
	}
	b.conn, err = nats.Connect("", nats.InProcessServer(b.server), nats.Name("collector"), nats.MaxReconnects(-1))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start broker: %w", err), b.Close())
	}
	if err := b.createStreams(ctx, cfg.StreamBytes); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start broker: %w", err), b.Close())
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

// freeAddr checks that the address can be listened on, and fills in a port for port 0. nats-server itself says nothing that a caller
// could act on when it cannot.
func freeAddr(listen string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(listen)
	if err != nil {
		return a, fmt.Errorf("MQTT address %q is not IP:port, for example 127.0.0.1:8883", listen)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return a, fmt.Errorf("MQTT address %s cannot be listened on (%w): stop the program that uses it or configure another port", listen, err)
	}
	a = l.Addr().(*net.TCPAddr).AddrPort()
	return a, l.Close()
}

// createStreams makes the work queues, the dead letters' stream and those of the server's own streams that MQTT would make without a bound, once JetStream
// answers.
func (b *Broker) createStreams(ctx context.Context, limit int64) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	js, err := jetstream.New(b.conn)
	if err != nil {
		return err
	}
	streams := append(stateStreams(), deadletter.Config())
	for _, q := range []struct {
		name string
		kind wire.Kind
	}{{StreamClaims, wire.KindClaim}, {StreamReports, wire.KindReport}} {
		streams = append(streams, jetstream.StreamConfig{
			Name:       q.name,
			Subjects:   []string{wire.Subject("*", q.kind)},
			Retention:  jetstream.WorkQueuePolicy,
			Storage:    jetstream.FileStorage,
			MaxBytes:   limit,
			MaxMsgSize: MaxPayload,
			Discard:    jetstream.DiscardNew,
			Duplicates: dedupeWindow,
		})
	}
	for _, cfg := range streams {
		for {
			_, err := js.CreateOrUpdateStream(ctx, cfg)
			if err == nil {
				break
			}
			if !errors.Is(err, jetstream.ErrJetStreamNotEnabled) && !errors.Is(err, nats.ErrNoResponders) {
				return fmt.Errorf("cannot make queue %s: %w", cfg.Name, err)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("cannot make queue %s: %w", cfg.Name, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
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
	b.log.Closing()
	if b.conn != nil {
		b.conn.Close()
	}
	b.server.Shutdown()
	b.server.WaitForShutdown()
	return nil
}
