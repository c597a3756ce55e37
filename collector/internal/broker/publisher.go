package broker

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/netip"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"rawstone/collector/internal/broker/internal/state"
	"rawstone/pkg/wire"
)

const (
	publishWait = 10 * time.Second // for each answer of the server
	lookAgain   = 50 * time.Millisecond
)

// publisherOf is the client id of the one client of a broker that publishes the policy topic: an id is in one place of a cluster at a time.
// No vehicle's name has small letters.
func publisherOf(node string) string {
	if node == "" {
		return "publisher"
	}
	return "publisher-" + node
}

// newPublisher makes the certificate with which this process's publisher proves itself, and its key, both in memory only. It signs
// itself, and Start trusts it beside the vehicles' authority: what admits it is that the key is this one, which nobody else has, not even
// the holder of that authority; and no vehicle's certificate can have its name.
func newPublisher(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	self := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, self, self, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// publisher is what the publisher may do: write and read the policy topic.
func publisher() *server.User {
	policy := &server.SubjectPermission{Allow: []string{policySubject()}}
	return &server.User{Permissions: &server.Permissions{Publish: policy, Subscribe: policy}}
}

// Retain publishes payload on wire.PolicyTopic and has the broker keep it for every client that subscribes later, in place of the one
// before it. Only an MQTT client can, and so this connects one to the broker's own listener. That the client's library says that the
// message is delivered proves nothing: Retain returns nil when it has read payload back as the broker gives it to a new subscription.
// One call may run at a time.
func (b *Broker) Retain(ctx context.Context, payload []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot publish policies: %w", err)
		}
	}()
	if len(payload) == 0 || len(payload) > MaxPayload-headerBytes {
		return fmt.Errorf("%d bytes, want 1 to %d", len(payload), MaxPayload-headerBytes)
	}
	if err := b.makeRoom(ctx); err != nil {
		return err
	}
	c, err := b.publishes(ctx)
	if err != nil {
		return err
	}
	defer c.Disconnect(0)
	if err := wait(ctx, c.Publish(wire.PolicyTopic, 1, true, payload)); err != nil {
		return err
	}
	return givesOut(ctx, c, payload)
}

// publishes connects this process's publisher.
func (b *Broker) publishes(ctx context.Context) (mqtt.Client, error) {
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + b.local()).SetProtocolVersion(4).SetCleanSession(true).
		SetClientID(b.publisher.Leaf.Subject.CommonName).SetTLSConfig(b.client(b.publisher)).SetAutoReconnect(false).
		SetConnectTimeout(publishWait).SetWriteTimeout(publishWait))
	if err := wait(ctx, c.Connect()); err != nil {
		c.Disconnect(0)
		return nil, err
	}
	return c, nil
}

// resume waits until the server gives out what it kept when it was stopped: it reads that back a moment after it takes connections, and
// a vehicle that subscribes before gets nothing for as long as it stays.
func (b *Broker) resume(ctx context.Context) error {
	kept, err := b.Retained(ctx)
	if err != nil || kept == nil {
		return err
	}
	c, err := b.publishes(ctx)
	if err != nil {
		return err
	}
	defer c.Disconnect(0)
	return givesOut(ctx, c, kept)
}

// givesOut waits until a new subscription to the policy topic gets payload.
func givesOut(ctx context.Context, c mqtt.Client, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	for look := lookAgain; ; look = min(2*look, publishWait/4) {
		// The server takes a retained message up a moment after it has stored it, and a busy machine takes its time.
		kept, err := retained(ctx, c, look)
		if err != nil || bytes.Equal(kept, payload) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("the broker gives out another message than the one published")
		case <-time.After(look):
		}
	}
}

// local is the listener's address for this process itself.
func (b *Broker) local() string {
	to := b.addr
	switch {
	case to.Addr() == netip.IPv4Unspecified():
		to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
	case to.Addr().IsUnspecified():
		to = netip.AddrPortFrom(netip.IPv6Loopback(), to.Port())
	}
	return to.String()
}

// client is how this process connects to itself. The server's certificate is of the names that vehicles know it by, and of an authority
// that this process need not trust: what counts is that it is the one that this process serves.
func (b *Broker) client(own tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			served, err := b.serves(&tls.ClientHelloInfo{})
			if err != nil {
				return err
			}
			if len(state.PeerCertificates) == 0 || !bytes.Equal(state.PeerCertificates[0].Raw, served.Certificate[0]) {
				return errors.New("the server is not this process's own")
			}
			return nil
		},
	}
}

// Retained returns what Retain, of this broker or of another one of the cluster, has published last; nil when nothing was.
func (b *Broker) Retained(ctx context.Context) ([]byte, error) {
	s, err := b.kept(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot read published policies: %w", err)
	}
	m, err := s.GetLastMsgForSubject(ctx, state.RetainedSubjects+policySubject())
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read published policies: %w", err)
	}
	return m.Data, nil
}

// kept is the stream of retained messages.
func (b *Broker) kept(ctx context.Context) (jetstream.Stream, error) {
	js, err := jetstream.New(b.conn)
	if err != nil {
		return nil, err
	}
	return js.Stream(ctx, state.RetainedStream)
}

// makeRoom removes what vehicles have retained. Nobody may read it, and the policy must find room beside it.
func (b *Broker) makeRoom(ctx context.Context) error {
	s, err := b.kept(ctx)
	if err != nil {
		return err
	}
	return s.Purge(ctx, jetstream.WithPurgeSubject(state.RetainedSubjects+wire.Subject("*", ">")))
}

// retained returns what a new subscription to the policy topic gets, nil when it gets nothing for the moment given.
func retained(ctx context.Context, c mqtt.Client, moment time.Duration) ([]byte, error) {
	got := make(chan []byte, 1)
	sub := c.Subscribe(wire.PolicyTopic, 0, func(_ mqtt.Client, m mqtt.Message) {
		if m.Retained() {
			select {
			case got <- m.Payload():
			default:
			}
		}
	})
	if err := wait(ctx, sub); err != nil {
		return nil, err
	}
	var payload []byte
	select {
	case payload = <-got:
	case <-ctx.Done():
	case <-time.After(moment):
	}
	return payload, wait(ctx, c.Unsubscribe(wire.PolicyTopic))
}

// wait waits for an answer of the server.
func wait(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(publishWait):
		return errors.New("the broker does not answer")
	}
}
