package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/broker/internal/state"
	"rawstone/pkg/wire"
)

func retain(t *testing.T, b *Broker, payload []byte) {
	t.Helper()
	if err := b.Retain(t.Context(), payload); err != nil {
		t.Fatal(err)
	}
}

// policies subscribes a vehicle to the policy topic and returns what arrives on it.
func policies(t *testing.T, b *Broker, id string) <-chan mqtt.Message {
	t.Helper()
	got := make(chan mqtt.Message, 16)
	tok := connect(t, b, id).Subscribe(wire.PolicyTopic, 0, func(_ mqtt.Client, m mqtt.Message) { got <- m })
	if !tok.WaitTimeout(time.Minute) || tok.Error() != nil || tok.(*mqtt.SubscribeToken).Result()[wire.PolicyTopic] != 0 {
		t.Fatalf("subscribe: %v", tok.Error())
	}
	return got
}

func expect(t *testing.T, got <-chan mqtt.Message, want []byte, retained bool) {
	t.Helper()
	select {
	case m := <-got:
		if !bytes.Equal(m.Payload(), want) || m.Retained() != retained {
			t.Errorf("got %d bytes, retained %t; want %d bytes, retained %t", len(m.Payload()), m.Retained(), len(want), retained)
		}
	case <-time.After(time.Minute):
		t.Error("nothing came")
	}
}

// large returns the largest payload, which differs with its first byte.
func large(first byte) []byte {
	return append([]byte{first}, make([]byte, MaxPayload-headerBytes-1)...)
}

// TestVehiclesGetThePoliciesAtOnce: those that subscribe later, those that are there, and those that come after a restart.
func TestVehiclesGetThePoliciesAtOnce(t *testing.T) {
	dir := t.TempDir()
	b := start(t, Config{Dir: dir})
	if kept, err := b.Retained(t.Context()); err != nil || kept != nil {
		t.Errorf("before anything is published %d bytes are retained: %v", len(kept), err)
	}
	retain(t, b, large(1))
	first := policies(t, b, "V1")
	expect(t, first, large(1), true)
	retain(t, b, large(2)) // in place of the one before
	expect(t, first, large(2), false)
	expect(t, policies(t, b, "V2"), large(2), true)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, Config{Dir: dir})
	expect(t, policies(t, b, "V1"), large(2), true)
	retain(t, b, []byte("smaller"))
	expect(t, policies(t, b, "V3"), []byte("smaller"), true)
	retain(t, b, []byte("smaller")) // the same again
	if kept, err := b.Retained(t.Context()); err != nil || string(kept) != "smaller" {
		t.Errorf("%d bytes are retained: %v", len(kept), err)
	}
}

// TestVehiclesDoNotPublishPolicies: a vehicle's own, retained or not, reaches nobody and replaces nothing.
func TestVehiclesDoNotPublishPolicies(t *testing.T) {
	b := start(t, Config{})
	retain(t, b, []byte("true"))
	victim := policies(t, b, "V1")
	expect(t, victim, []byte("true"), true)
	liar := connect(t, b, "V2")
	for _, retained := range []bool{true, false} {
		for qos := range byte(3) {
			if tok := liar.Publish(wire.PolicyTopic, qos, retained, []byte("forged")); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
				t.Fatal(tok.Error())
			}
		}
	}
	publish(t, liar, wire.Topic("V2", wire.KindClaim), []byte("claim")) // after which all of that has been dealt with
	queued(t, b, StreamClaims, 1)
	expect(t, policies(t, b, "V3"), []byte("true"), true)
	retain(t, b, []byte("newer"))
	expect(t, victim, []byte("newer"), false)
}

// TestOutsidersAreNotThePublisher: neither its name nor a certificate admits anybody, nor the key of the process before.
func TestOutsidersAreNotThePublisher(t *testing.T) {
	reg := prometheus.NewRegistry()
	dir, f := t.TempDir(), newFleet(t)
	b := start(t, Config{Registerer: reg, Dir: dir, Vehicles: f})
	retain(t, b, []byte("true"))
	forged, err := newPublisher(publisherOf(""))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		id       string
		own      tls.Certificate
		answered bool // by the broker, not by TLS
	}{
		"its name with a vehicle's certificate":         {publisherOf(""), f.of("V1"), true},
		"its name with an authority's certificate":      {publisherOf(""), f.issued(t, vehicleCA, publisherOf("")), true},
		"its certificate with a vehicle's name":         {"V1", b.publisher, true},
		"a vehicle's name with one of the same name":    {"V1", f.issued(t, vehicleCA, publisherOf("")), true},
		"its name with a certificate that signs itself": {publisherOf(""), forged, false},
	} {
		err := refused(t, with(b, c.id, c.own))
		if errors.Is(err, packets.ErrorRefusedNotAuthorised) != c.answered {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := count(t, reg, refusedPublisher); n != 4 {
		t.Errorf("%v publishers counted, want 4", n)
	}
	expect(t, policies(t, b, "V2"), []byte("true"), true)
	before := b.publisher
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, Config{Dir: dir, Vehicles: f})
	if err := refused(t, with(b, publisherOf(""), before)); errors.Is(err, packets.ErrorRefusedNotAuthorised) {
		t.Errorf("the publisher of the process before got as far as the broker: %v", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(before.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, der[len(der)-32:]) || bytes.Contains(text, before.Certificate[0]) {
			t.Errorf("the publisher is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestThePublisherKeepsToItsTopic: whoever holds the key may do one thing.
func TestThePublisherKeepsToItsTopic(t *testing.T) {
	b := start(t, Config{})
	c := mqtt.NewClient(with(b, publisherOf(""), b.publisher))
	if tok := c.Connect(); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(0)
	publish(t, c, wire.Topic("V1", wire.KindClaim), []byte("forged"))
	for topic, want := range map[string]byte{wire.PolicyTopic: 0, wire.Topic("V1", wire.KindReceipt): 0x80, "#": 0x80} {
		tok := c.Subscribe(topic, 0, nil)
		tok.WaitTimeout(time.Minute)
		if got := tok.(*mqtt.SubscribeToken).Result()[topic]; got != want {
			t.Errorf("subscribe to %s: code %#x, want %#x", topic, got, want)
		}
	}
	publish(t, connect(t, b, "V2"), wire.Topic("V2", wire.KindClaim), []byte("true"))
	queued(t, b, StreamClaims, 1)
}

// TestThePublisherKnowsItsServer: it gives its messages to nobody who has taken the address.
func TestThePublisherKnowsItsServer(t *testing.T) {
	other := newFleet(t)
	b := start(t, Config{})
	b.serves = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &other.server, nil }
	if err := b.Retain(t.Context(), []byte("x")); err == nil || !strings.Contains(err.Error(), "not this process's own") {
		t.Errorf("got %v", err)
	}
}

// TestPublisherOnEveryAddress: a broker for all addresses reaches itself.
func TestPublisherOnEveryAddress(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", "[::]:0"} {
		b := start(t, Config{Listen: listen})
		retain(t, b, []byte("true"))
	}
}

// TestThePoliciesFindRoom fills what vehicles may retain: the policies are kept nevertheless.
func TestThePoliciesFindRoom(t *testing.T) {
	b := start(t, Config{})
	retain(t, b, []byte("small"))
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	full := false
	for i := 0; !full && i < 2*state.RetainedBytes/MaxPayload; i++ { // what the server writes for a vehicle's retained claim
		subject := state.RetainedSubjects + wire.Subject(fmt.Sprintf("V%d", i), wire.KindClaim)
		_, err := js.Publish(t.Context(), subject, make([]byte, MaxPayload-headerBytes))
		full = err != nil
	}
	if !full {
		t.Fatal("retained messages are not bounded")
	}
	retain(t, b, large(9))
	expect(t, policies(t, b, "V1"), large(9), true)
}

func TestRetainRefuses(t *testing.T) {
	b := start(t, Config{})
	for _, n := range []int{0, MaxPayload - headerBytes + 1} {
		if err := b.Retain(t.Context(), make([]byte, n)); err == nil {
			t.Errorf("%d bytes were published", n)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Retain(ctx, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Retain(t.Context(), []byte("x")); err == nil {
		t.Error("a closed broker published")
	}
}

// TestRetainSaysWhatIsNotKept: the server acknowledges what it could not store. Retain does not.
func TestRetainSaysWhatIsNotKept(t *testing.T) {
	b := start(t, Config{})
	retain(t, b, []byte("older"))
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	full := false
	for i := 0; !full && i < 2*state.RetainedBytes/MaxPayload; i++ { // what no vehicle can write, and Retain does not remove
		_, err := js.Publish(t.Context(), fmt.Sprintf("%sx%d", state.RetainedSubjects, i), make([]byte, MaxPayload-headerBytes))
		full = err != nil
	}
	if !full {
		t.Fatal("retained messages are not bounded")
	}
	if err := b.Retain(t.Context(), large(9)); err == nil || !strings.Contains(err.Error(), "gives out another message") {
		t.Errorf("what is not kept is said to be: %v", err)
	}
	expect(t, policies(t, b, "V1"), []byte("older"), true)
}

// TestLastWillsAreNoPolicies: what a vehicle leaves to be published when its connection breaks is under the same rules.
func TestLastWillsAreNoPolicies(t *testing.T) {
	b := start(t, Config{})
	retain(t, b, []byte("true"))
	victim := policies(t, b, "V1")
	expect(t, victim, []byte("true"), true)
	for qos := range byte(3) {
		o := options(b, "V2")
		conn, err := tls.Dial("tcp", b.local(), o.TLSConfig)
		if err != nil {
			t.Fatal(err)
		}
		o = o.SetBinaryWill(wire.PolicyTopic, []byte("forged"), qos, true).
			SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return conn, nil })
		c := mqtt.NewClient(o)
		if tok := c.Connect(); tok.WaitTimeout(time.Minute) && tok.Error() == nil {
			conn.NetConn().Close() // without a DISCONNECT
		}
	}
	for range 6000 { // until the server has seen all connections break
		if b.server.NumClients() <= 2 { // this process's own and the victim
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	expect(t, policies(t, b, "V3"), []byte("true"), true)
	retain(t, b, []byte("newer"))
	expect(t, victim, []byte("newer"), false)
}
