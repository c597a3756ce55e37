package bridge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rawstone/collector/internal/bridge/internal/packet"
	"rawstone/pkg/wire"
)

const (
	maxPacket   = MaxNotice + 1024 // with room for the topic
	keepAlive   = 30 * time.Second
	quiesce     = 250 // milliseconds for the DISCONNECT
	refused     = 0x80
	firstRetry  = 50 * time.Millisecond
	maxRetry    = 5 * time.Second
	publishWait = 5 * time.Second // for JetStream's acknowledgement
)

// A session is one connection to the broker. Each has a client of its own, because the MQTT library would send an acknowledgement that
// comes late on the next connection, where the packet's identifier is another message's.
type session struct {
	b      *Bridge
	client mqtt.Client
	end    context.CancelCauseFunc
	kept   chan []byte // the retained notice as the broker gives it out

	closing chan struct{} // closed when no more is taken

	mu       sync.Mutex
	closed   bool
	handlers sync.WaitGroup
}

// serve keeps a session until it breaks or ctx is done, and returns why, and whether it had begun.
func (b *Bridge) serve(ctx context.Context) (began bool, err error) {
	own, err := b.c.Certificate(&tls.ClientHelloInfo{})
	if err != nil {
		return false, err
	}
	name, err := commonName(own)
	if err != nil {
		return false, err
	}
	// What is in flight outlives ctx, for as long as close waits.
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	running, stop := context.WithCancel(life)
	defer context.AfterFunc(ctx, stop)()
	defer stop()
	s := &session{b: b, end: end, kept: make(chan []byte, 1), closing: make(chan struct{})}
	s.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker(b.c.URL).SetProtocolVersion(4).SetClientID(name).SetCleanSession(false).
		SetCustomOpenConnectionFn(dial(running, &tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: b.c.Roots, ServerName: host(b.c.URL),
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil },
		})).
		SetAutoAckDisabled(true).SetOrderMatters(false).SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { s.handle(life, m) }).SetStore(mqtt.NewMemoryStore()).
		SetAutoReconnect(false).SetConnectRetry(false).SetKeepAlive(keepAlive).SetPingTimeout(answerWait).
		SetConnectTimeout(answerWait).SetWriteTimeout(answerWait).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { end(fmt.Errorf("connection lost: %w", err)) }))
	defer s.close()
	if err := s.begin(running); err != nil {
		return false, err
	}
	b.session.Store(s)
	b.metrics.connected.Set(1)
	b.c.Logger.Info("bridge to the external MQTT broker is up")
	defer b.metrics.connected.Set(0)
	defer b.session.Store(nil)
	b.post() // each broker and each restart of it may have lost the notice
	return true, s.tend(running)
}

func commonName(c *tls.Certificate) (string, error) {
	if len(c.Certificate) == 0 {
		return "", errors.New("cannot use the bridge's certificate: it is empty")
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return "", fmt.Errorf("cannot use the bridge's certificate: %w", err)
	}
	if leaf.Subject.CommonName == "" || wire.CheckVehicle(leaf.Subject.CommonName) == nil {
		return "", errors.New("cannot use the bridge's certificate: its name is empty or a vehicle's; `collector ca bridge` makes one")
	}
	return leaf.Subject.CommonName, nil
}

func host(broker string) string {
	u, err := url.Parse(broker)
	if err != nil {
		return "" // CheckURL has seen it
	}
	return u.Hostname()
}

// begin connects and subscribes. A forbidden subscription shows in the SUBACK's return codes only (MQTT 3.1.1 §3.9.3).
func (s *session) begin(ctx context.Context) error {
	if err := wait(ctx, s.client.Connect()); err != nil {
		return fmt.Errorf("cannot connect to the external MQTT broker: %w", err)
	}
	topics := map[string]byte{wire.Topic("+", wire.KindClaim): 1, wire.Topic("+", wire.KindReport): 1}
	t := s.client.SubscribeMultiple(topics, nil).(*mqtt.SubscribeToken)
	if err := wait(ctx, t); err != nil {
		return fmt.Errorf("cannot subscribe at the external MQTT broker: %w", err)
	}
	for topic := range topics {
		if code, ok := t.Result()[topic]; !ok || code != 1 {
			return fmt.Errorf("cannot subscribe at the external MQTT broker: it does not grant %s at QoS 1: "+
				"allow that to the name in the bridge's certificate", topic)
		}
	}
	return nil
}

// tend publishes notices until ctx ends, with the session, and returns why.
func (s *session) tend(ctx context.Context) error {
	failed := 0
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.b.posted:
		case <-again:
		}
		again = nil
		notice := s.b.kept()
		if notice == nil {
			continue
		}
		if err := s.retain(ctx, notice); err != nil {
			if ctx.Err() == nil {
				s.b.metrics.unnoticed.Inc()
				if failed++; failed == 1 {
					s.b.c.Logger.Error("policies are not published at the external MQTT broker", "error", err)
				}
				again = time.After(pause(s.b.c.FirstPause, failed))
			}
			continue
		}
		failed = 0
		s.b.metrics.notices.Inc()
	}
}

// retain publishes a notice and returns nil when it has read it back. A completed publish proves nothing: brokers acknowledge what their
// access rules drop.
func (s *session) retain(ctx context.Context, notice []byte) error {
	if err := wait(ctx, s.client.Publish(wire.PolicyTopic, 1, true, notice)); err != nil {
		return err
	}
	select {
	case <-s.kept: // of an earlier attempt
	default:
	}
	t := s.client.Subscribe(wire.PolicyTopic, 0, nil).(*mqtt.SubscribeToken)
	if err := wait(ctx, t); err != nil {
		return err
	}
	if t.Result()[wire.PolicyTopic] == refused {
		return errors.New("the broker refuses the subscription to the topic of policies: allow the bridge to read and write it")
	}
	var got []byte
	timer := time.NewTimer(answerWait)
	defer timer.Stop()
	for !bytes.Equal(got, notice) {
		select {
		case got = <-s.kept:
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return errors.New("the broker does not give out the notice that was published: allow the bridge to write the topic of policies")
		}
	}
	return wait(ctx, s.client.Unsubscribe(wire.PolicyTopic))
}

// receipt publishes a receipt at QoS 0. Whether it arrives is not known; a vehicle that misses it sends again.
func (s *session) receipt(ctx context.Context, vehicle string, body []byte) error {
	if !s.client.IsConnectionOpen() {
		return errors.New("not connected")
	}
	return wait(ctx, s.client.Publish(wire.Topic(vehicle, wire.KindReceipt), 0, false, body))
}

// handle is called by the library in a goroutine for each message; ctx is the session's.
func (s *session) handle(ctx context.Context, m mqtt.Message) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return // unacknowledged: it comes again
	}
	s.handlers.Add(1)
	s.mu.Unlock()
	defer s.handlers.Done()

	if m.Topic() == wire.PolicyTopic {
		if m.Retained() {
			select {
			case s.kept <- m.Payload():
			default:
			}
		}
		m.Ack()
		return
	}
	// A broker that lets the bridge's window grow without end would fill its memory.
	if s.b.waiting.Add(1) > int64(s.b.c.MaxInFlight)*waitingFactor {
		s.end(errors.New("the broker sends more messages at once than the bridge takes: bound what it has in flight for a client"))
	}
	select {
	case s.b.slots <- struct{}{}:
		s.b.waiting.Add(-1)
	case <-s.closing:
		s.b.waiting.Add(-1)
		return
	case <-ctx.Done():
		s.b.waiting.Add(-1)
		return
	}
	s.b.metrics.inFlight.Inc()
	defer func() { s.b.metrics.inFlight.Dec(); <-s.b.slots }()
	if outcome, ok := s.take(ctx, m); ok {
		s.b.metrics.messages.WithLabelValues(outcome).Inc()
		m.Ack()
	}
}

// take hands a message over, and tries again until the session ends or closes. It reports whether the message may be acknowledged.
func (s *session) take(ctx context.Context, m mqtt.Message) (outcome string, ok bool) {
	vehicle, kind, err := wire.ParseSubject(strings.ReplaceAll(m.Topic(), "/", "."))
	switch {
	case err != nil || kind == wire.KindReceipt || m.Topic() != wire.Topic(vehicle, kind):
		return outcomeTopic, true
	case m.Retained():
		return outcomeRetained, true // it came when it was published, and comes with every subscription
	case len(m.Payload()) > s.b.c.MaxMessage:
		return outcomeLarge, true
	}
	for retry := firstRetry; ; retry = min(2*retry, maxRetry) {
		switch outcome, err = s.hand(ctx, vehicle, kind, m); {
		case err == nil:
			return outcome, true
		case ctx.Err() != nil:
			return "", false
		}
		s.b.metrics.retries.Inc()
		select {
		case <-ctx.Done():
			return "", false
		case <-s.closing:
			return "", false
		case <-time.After(pause(retry, 1)):
		}
	}
}

// hand asks whether the vehicle may speak, and gives its message to JetStream.
func (s *session) hand(ctx context.Context, vehicle string, kind wire.Kind, m mqtt.Message) (outcome string, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	if _, ok, err := s.b.c.Vehicles.Device(ctx, vehicle); err != nil {
		return "", err
	} else if !ok {
		return outcomeVehicle, nil
	}
	msg := &nats.Msg{Subject: wire.Subject(vehicle, kind), Data: m.Payload()}
	ack, err := s.b.js.PublishMsg(ctx, msg, jetstream.WithMsgID(messageID(msg.Subject, msg.Data)), jetstream.WithRetryAttempts(0))
	switch {
	case err != nil:
		return "", err
	case !ack.Duplicate:
		return outcomeQueued, nil
	case m.Duplicate():
		return outcomeTwice, nil
	}
	// The vehicle itself sent it again, because it has no receipt, and would get none from a message that is not queued.
	_, err = s.b.js.PublishMsg(ctx, &nats.Msg{Subject: msg.Subject, Data: msg.Data}, jetstream.WithRetryAttempts(0))
	return outcomeQueued, err
}

// messageID is the Nats-Msg-Id of a message. A subject has no NUL.
func messageID(subject string, payload []byte) string {
	h := sha256.New()
	h.Write([]byte(subject + "\x00"))
	h.Write(payload)
	return hex.EncodeToString(h.Sum(nil))
}

// close takes no more messages, waits for those in flight while their acknowledgements can still be sent, and disconnects.
func (s *session) close() {
	s.mu.Lock()
	s.closed = true
	close(s.closing)
	s.mu.Unlock()
	stop := time.AfterFunc(drainWait, func() { s.end(errors.New("bridge stopped")) })
	defer stop.Stop()
	s.handlers.Wait()
	s.end(nil)
	s.client.Disconnect(quiesce)
}

// wait waits for an answer of the broker.
func wait(ctx context.Context, t mqtt.Token) error {
	timer := time.NewTimer(answerWait)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errors.New("the broker does not answer")
	}
}

// dial connects to a broker over TLS, handshake included, and bounds what it sends.
func dial(ctx context.Context, config *tls.Config) mqtt.OpenConnectionFunc {
	return func(broker *url.URL, _ mqtt.ClientOptions) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, answerWait)
		defer cancel()
		conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", broker.Host)
		if err != nil {
			return nil, err
		}
		return packet.Bound(conn, maxPacket), nil
	}
}
