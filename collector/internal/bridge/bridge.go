// Package bridge connects the collector to an MQTT broker that it does not run: claims and reports come from there into the collector's
// own queues, receipts and the notice of policies go there.
//
// The broker gets its PUBACK for a message only after JetStream has acknowledged it, so that a message is always in one of the two. It may
// be in both: the broker gives out again what the bridge had not acknowledged when either died. JetStream knows such a copy by its
// Nats-Msg-Id, the SHA-256 of subject and payload, for as long as the queue's window of duplicates; after that the intake does.
// What a vehicle itself sends again it sends for want of a receipt, and so that goes into the queue again.
//
// The session is persistent, under the name in the collector's certificate: while the collector is away the broker keeps what vehicles
// send. Two bridges under one name evict each other in turn; one process runs the bridge.
//
// The broker vouches for who publishes on a vehicle's topics: it is to demand certificates of the authority for vehicles and keep each
// vehicle to its own topics, as configs/mosquitto does. The bridge refuses what comes from a vehicle that is not registered, has not
// enrolled or is revoked, so that revocation does not wait for the broker to be told. It cannot see the key of the certificate.
//
// What the bridge refuses it acknowledges, counts and drops: it would come again for ever. Retained messages are among that.
package bridge

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/wire"
)

const (
	// MaxNotice bounds the notice of policies in bytes.
	MaxNotice = 32 << 10

	defaultInFlight = 256
	waitingFactor   = 16 // messages that wait for a place, for each one in flight, before the connection is cut

	firstPause = time.Second
	maxPause   = time.Minute
	answerWait = 10 * time.Second // for each answer of the broker
	drainWait  = 10 * time.Second // for what is in flight when the bridge stops

	pendingReceipts     = 16 << 10
	pendingReceiptBytes = 8 << 20
)

// Vehicles says whose messages are taken. Device returns the device key that a vehicle has enrolled with; ok is false for one that is
// not registered, has not enrolled or is revoked. It is called from several goroutines.
type Vehicles interface {
	Device(ctx context.Context, vehicle string) (key wire.PublicKey, ok bool, err error)
}

// Config says which broker is bridged to what. All is required but what has a default.
type Config struct {
	// URL is the broker's, ssl://HOST:PORT.
	URL string
	// Roots are the authorities of the broker's certificate.
	Roots *x509.CertPool
	// Certificate returns the collector's client certificate and key for a connection: certificate.Pair.Get. The certificate's common name
	// is the MQTT client id.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Conn is the connection to the collector's queues, which stays open until Run has returned.
	Conn *nats.Conn
	// MaxMessage bounds a claim or report in bytes: what the queues take.
	MaxMessage int
	// MaxInFlight bounds the messages that are being handed over; 256 when zero.
	MaxInFlight int
	// FirstPause is the pause after a failure, which doubles up to a minute and is drawn between half of that and the whole; 1 s when zero.
	FirstPause time.Duration
	Vehicles   Vehicles
	Logger     *slog.Logger
	// Registerer takes the package's metrics; nil means none.
	Registerer prometheus.Registerer
}

// A Bridge carries messages between a broker and the queues.
type Bridge struct {
	c       Config
	js      jetstream.JetStream
	metrics *metrics
	slots   chan struct{}
	waiting atomic.Int64

	session atomic.Pointer[session] // the one that is up, for receipts

	mu     sync.Mutex
	notice []byte
	posted chan struct{} // holds one when notice is newer than what the session has seen
}

// New checks the configuration.
func New(c Config) (*Bridge, error) {
	if c.Roots == nil || c.Certificate == nil || c.Conn == nil || c.Vehicles == nil || c.Logger == nil {
		return nil, errors.New("cannot bridge to broker: no authorities, certificate, queues, vehicles or logger given")
	}
	if c.MaxMessage <= 0 || c.MaxMessage > MaxNotice || c.MaxInFlight < 0 || c.FirstPause < 0 {
		return nil, errors.New("cannot bridge to broker: the bound of a message, of those in flight, or the pause is out of range")
	}
	if err := CheckURL(c.URL); err != nil {
		return nil, err
	}
	c.MaxInFlight, c.FirstPause = cmp.Or(c.MaxInFlight, defaultInFlight), cmp.Or(c.FirstPause, firstPause)
	js, err := jetstream.New(c.Conn)
	if err != nil {
		return nil, fmt.Errorf("cannot bridge to broker: %w", err)
	}
	b := &Bridge{c: c, js: js, slots: make(chan struct{}, c.MaxInFlight), posted: make(chan struct{}, 1)}
	if b.metrics, err = newMetrics(c.Registerer); err != nil {
		return nil, fmt.Errorf("cannot bridge to broker: %w", err)
	}
	return b, nil
}

// CheckURL says whether a broker's URL is ssl://HOST:PORT. There is no way without TLS.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err == nil && u.Scheme == "ssl" && u.Hostname() != "" && u.User == nil && u.Path == "" && u.RawQuery == "" && u.Fragment == "" {
		if _, port, err := net.SplitHostPort(u.Host); err == nil && port != "" {
			return nil
		}
	}
	return errors.New("cannot use the broker's URL: it is not ssl://HOST:PORT, for example ssl://mqtt.example:8883")
}

// Keep has the broker keep a notice for every vehicle that subscribes, in place of the one before it: now, or when it is connected, and
// until it gives the notice out. An empty notice and one of more than MaxNotice bytes are refused.
func (b *Bridge) Keep(notice []byte) error {
	if len(notice) == 0 || len(notice) > MaxNotice {
		return fmt.Errorf("cannot publish policies: %d bytes, want 1 to %d", len(notice), MaxNotice)
	}
	b.mu.Lock()
	b.notice = notice
	b.mu.Unlock()
	b.post()
	return nil
}

func (b *Bridge) post() {
	select {
	case b.posted <- struct{}{}:
	default:
	}
}

func (b *Bridge) kept() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.notice
}

// Run carries messages until ctx is done; then it takes no more, waits for what is in flight, and disconnects. A broker that is away or
// refuses the bridge is said once, counted and tried again. Run is called once; a nil Bridge has nothing to do.
func (b *Bridge) Run(ctx context.Context) error {
	if b == nil {
		return nil
	}
	receipts, err := b.c.Conn.SubscribeSync(wire.Subject("*", wire.KindReceipt))
	if err == nil {
		err = receipts.SetPendingLimits(pendingReceipts, pendingReceiptBytes)
	}
	if err != nil {
		return fmt.Errorf("cannot bridge receipts: %w", err)
	}
	var pump sync.WaitGroup
	defer pump.Wait()
	pump.Go(func() { b.pump(ctx, receipts) })
	failed, said := 0, false
	for {
		began, err := b.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		b.metrics.failures.Inc()
		if began {
			failed, said = 0, false
		}
		if !said {
			b.c.Logger.Warn("bridge to the external MQTT broker is down: vehicles there wait", "error", err)
			said = true
		}
		failed++
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause(b.c.FirstPause, failed)):
		}
	}
}

// pause doubles with every failure. Jitter keeps the bridges of several programs from returning to a broker at one time.
func pause(first time.Duration, failures int) time.Duration {
	p := first
	for range failures - 1 {
		if p *= 2; p >= maxPause {
			p = maxPause
			break
		}
	}
	return p/2 + rand.N(p/2+1)
}

// pump carries receipts to vehicles. One that finds no session is dropped: its vehicle sends again and gets another.
func (b *Bridge) pump(ctx context.Context, receipts *nats.Subscription) {
	defer func() {
		// The subscription ends with the connection at the latest.
		_ = receipts.Unsubscribe()
	}()
	for {
		m, err := receipts.NextMsgWithContext(ctx)
		switch {
		case errors.Is(err, nats.ErrSlowConsumer): // said once after the oldest were dropped
			continue
		case err != nil:
			return
		}
		outcome := receiptDropped
		if vehicle, _, err := wire.ParseSubject(m.Subject); err == nil {
			if s := b.session.Load(); s != nil && s.receipt(ctx, vehicle, m.Data) == nil {
				outcome = receiptSent
			}
		}
		b.metrics.receipts.WithLabelValues(outcome).Inc()
	}
}
