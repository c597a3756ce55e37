package broker

import (
	"fmt"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go/jetstream"

	"rawstone/collector/internal/broker/internal/state"
	"rawstone/collector/internal/deadletter"
	"rawstone/pkg/wire"
)

// TestRetainedMessagesTakeNothingFromTheQueues fills the stream of retained messages: vehicles connect and are heard, now and after a
// restart.
func TestRetainedMessagesTakeNothingFromTheQueues(t *testing.T) {
	dir := t.TempDir()
	b := start(t, Config{Dir: dir, StreamBytes: 1 << 20})
	tok := connect(t, b, "V0").Publish(wire.Topic("V0", wire.KindClaim), 1, true, []byte("x"))
	if !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	queued(t, b, "$MQTT_rmsgs", 1) // the server keeps them where they are bounded
	queued(t, b, StreamClaims, 1)
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range 2 * state.Bytes / MaxPayload {
		if _, err := js.Publish(t.Context(), fmt.Sprintf("$MQTT.rmsgs.x%d", i), make([]byte, MaxPayload-128)); err != nil {
			if refused++; refused == 10 {
				break
			}
		}
	}
	if refused == 0 {
		t.Error("retained messages are not bounded")
	}
	honest := func(b *Broker, id string) {
		t.Helper()
		n := messages(t, b, StreamClaims)
		c := connect(t, b, id)
		for _, retain := range []bool{true, false} { // a retained message that does not fit is a claim all the same
			if tok := c.Publish(wire.Topic(id, wire.KindClaim), 1, retain, []byte("claim")); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
				t.Fatal(tok.Error())
			}
		}
		queued(t, b, StreamClaims, n+2)
	}
	honest(b, "V1")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	honest(start(t, Config{Dir: dir, StreamBytes: 1 << 20}), "V2")
}

// TestStateIsBounded: whatever nats-server keeps on disk is in a stream with a bound, and the bounds fit together.
func TestStateIsBounded(t *testing.T) {
	b := start(t, Config{StreamBytes: 1 << 20})
	c := connect(t, b, "V1")
	for _, topic := range []string{wire.Topic("V1", wire.KindReceipt), wire.PolicyTopic} {
		if tok := c.Subscribe(topic, 2, nil); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
			t.Fatal(tok.Error())
		}
	}
	if tok := c.Publish(wire.Topic("V1", wire.KindClaim), 2, true, []byte("x")); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	list, sum, n := js.ListStreams(t.Context()), int64(0), 0
	for s := range list.Info() {
		n++
		sum += s.Config.MaxBytes
		if s.Config.MaxBytes <= 0 {
			t.Errorf("stream %s has no bound", s.Config.Name)
		}
	}
	if err := list.Err(); err != nil || n != 8 || sum != 2<<20+deadletter.StreamBytes+state.Bytes {
		t.Errorf("%d streams with %d bytes (%v), want 8 with %d", n, sum, err, 2<<20+deadletter.StreamBytes+state.Bytes)
	}
}

// TestPersistentSessionsAreBounded fills the stream of sessions: the oldest go and new clients are admitted.
func TestPersistentSessionsAreBounded(t *testing.T) {
	b := start(t, Config{})
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	const n = state.SessionBytes/MaxPayload + 1000
	for i := range n {
		size := MaxPayload - 128
		if i >= n-200 {
			size = 1 // into what the large ones leave
		}
		if _, err := js.PublishAsync(fmt.Sprintf("$MQTT.sess.x%d", i), make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 999 || i == n-1 {
			<-js.PublishAsyncComplete() // the client bounds what is under way
		}
	}
	if m := messages(t, b, "$MQTT_sess"); m >= n || m == 0 {
		t.Errorf("%d sessions kept of %d, want some", m, n)
	}
	c := mqtt.NewClient(options(b, "V1").SetCleanSession(false))
	if tok := c.Connect(); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	defer c.Disconnect(0)
	publish(t, c, wire.Topic("V1", wire.KindClaim), []byte("claim"))
	queued(t, b, StreamClaims, 1)
}
