package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
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
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/wire"
)

func retain(t *testing.T, b *Broker, payload []byte) {
	t.Helper()
	if err := b.Retain(t.Context(), payload); err != nil {
		t.Fatal(err)
	}
}

// policies subscribes a vehicle to the policy topic and returns what arrives on it.
func policies(t *testing.T, addr netip.AddrPort, id string) <-chan mqtt.Message {
	t.Helper()
	got := make(chan mqtt.Message, 16)
	tok := connect(t, addr, id).Subscribe(wire.PolicyTopic, 0, func(_ mqtt.Client, m mqtt.Message) { got <- m })
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
	retain(t, b, large(1))
	first := policies(t, b.Addr(), "V1")
	expect(t, first, large(1), true)
	retain(t, b, large(2)) // in place of the one before
	expect(t, first, large(2), false)
	expect(t, policies(t, b.Addr(), "V2"), large(2), true)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, Config{Dir: dir})
	expect(t, policies(t, b.Addr(), "V1"), large(2), true)
	retain(t, b, []byte("smaller"))
	expect(t, policies(t, b.Addr(), "V3"), []byte("smaller"), true)
	retain(t, b, []byte("smaller")) // the same again
}

// TestVehiclesDoNotPublishPolicies: a vehicle's own, retained or not, reaches nobody and replaces nothing.
func TestVehiclesDoNotPublishPolicies(t *testing.T) {
	b := start(t, Config{})
	retain(t, b, []byte("true"))
	victim := policies(t, b.Addr(), "V1")
	expect(t, victim, []byte("true"), true)
	liar := connect(t, b.Addr(), "V2")
	for _, retained := range []bool{true, false} {
		for qos := range byte(3) {
			if tok := liar.Publish(wire.PolicyTopic, qos, retained, []byte("forged")); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
				t.Fatal(tok.Error())
			}
		}
	}
	publish(t, liar, wire.Topic("V2", wire.KindClaim), []byte("claim")) // after which all of that has been dealt with
	queued(t, b, StreamClaims, 1)
	expect(t, policies(t, b.Addr(), "V3"), []byte("true"), true)
	retain(t, b, []byte("newer"))
	expect(t, victim, []byte("newer"), false)
}

// TestOutsidersAreNotThePublisher: its client id alone admits nobody, and neither does any password.
func TestOutsidersAreNotThePublisher(t *testing.T) {
	reg := prometheus.NewRegistry()
	dir := t.TempDir()
	b := start(t, Config{Registerer: reg, Dir: dir})
	retain(t, b, []byte("true"))
	before := b.secret
	for i, password := range []string{"", publisherID, string(before)[1:], string(before) + "x", strings.ToLower(string(before))} {
		c := mqtt.NewClient(options(b.Addr(), publisherID).SetUsername(publisherID).SetPassword(password))
		if tok := c.Connect(); !tok.WaitTimeout(time.Minute) || !errors.Is(tok.Error(), packets.ErrorRefusedNotAuthorised) {
			t.Errorf("password %d: %v, want not authorised", i, tok.Error())
		}
	}
	// The secret of a vehicle's connection opens nothing.
	c := mqtt.NewClient(options(b.Addr(), "V1").SetUsername(publisherID).SetPassword(string(before)))
	if tok := c.Connect(); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(0)
	if tok := c.Publish(wire.PolicyTopic, 1, true, []byte("forged")); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	expect(t, policies(t, b.Addr(), "V2"), []byte("true"), true)
	want := "\n# HELP rawstone_broker_refused_connects_total MQTT connects refused, by reason: broker not ready yet, no vehicle's name as client id, vehicle not registered, " +
		"look-up failed, the publisher's name without its secret.\n# TYPE rawstone_broker_refused_connects_total counter\n"
	for reason, n := range map[string]int{refusedID: 0, refusedLookup: 0, refusedSecret: 5, refusedStarting: 0, refusedUnknown: 0} {
		want += fmt.Sprintf("rawstone_broker_refused_connects_total{reason=%q} %d\n", reason, n)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if start(t, Config{Dir: dir}).secret == before {
		t.Error("two processes have one secret")
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(before)) {
			t.Errorf("the secret is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestThePublisherKeepsToItsTopic: whoever holds the secret may do one thing.
func TestThePublisherKeepsToItsTopic(t *testing.T) {
	b := start(t, Config{})
	c := mqtt.NewClient(options(b.Addr(), publisherID).SetUsername(publisherID).SetPassword(string(b.secret)))
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
	publish(t, connect(t, b.Addr(), "V2"), wire.Topic("V2", wire.KindClaim), []byte("true"))
	queued(t, b, StreamClaims, 1)
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
	for i := 0; !full && i < 2*retainedBytes/MaxPayload; i++ { // what the server writes for a vehicle's retained claim
		subject := retainedSubjects + wire.Subject(fmt.Sprintf("V%d", i), wire.KindClaim)
		_, err := js.Publish(t.Context(), subject, make([]byte, MaxPayload-headerBytes))
		full = err != nil
	}
	if !full {
		t.Fatal("retained messages are not bounded")
	}
	retain(t, b, large(9))
	expect(t, policies(t, b.Addr(), "V1"), large(9), true)
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
	for i := 0; !full && i < 2*retainedBytes/MaxPayload; i++ { // what no vehicle can write, and Retain does not remove
		_, err := js.Publish(t.Context(), fmt.Sprintf("%sx%d", retainedSubjects, i), make([]byte, MaxPayload-headerBytes))
		full = err != nil
	}
	if !full {
		t.Fatal("retained messages are not bounded")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := b.Retain(ctx, large(9)); err == nil {
		t.Error("what is not kept is said to be")
	}
	expect(t, policies(t, b.Addr(), "V1"), []byte("older"), true)
}

// TestLastWillsAreNoPolicies: what a vehicle leaves to be published when its connection breaks is under the same rules.
func TestLastWillsAreNoPolicies(t *testing.T) {
	b := start(t, Config{})
	retain(t, b, []byte("true"))
	victim := policies(t, b.Addr(), "V1")
	expect(t, victim, []byte("true"), true)
	for qos := range byte(3) {
		conn, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		o := options(b.Addr(), "V2").SetBinaryWill(wire.PolicyTopic, []byte("forged"), qos, true).
			SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return conn, nil })
		c := mqtt.NewClient(o)
		if tok := c.Connect(); tok.WaitTimeout(time.Minute) && tok.Error() == nil {
			conn.Close() // without a DISCONNECT
		}
	}
	for range 6000 { // until the server has seen all connections break
		if b.server.NumClients() <= 2 { // this process's own and the victim
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	expect(t, policies(t, b.Addr(), "V3"), []byte("true"), true)
	retain(t, b, []byte("newer"))
	expect(t, victim, []byte("newer"), false)
}
