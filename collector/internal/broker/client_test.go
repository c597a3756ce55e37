package broker

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/pkg/wire"
)

// A syncBuffer is a buffer that the server's goroutines write to.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestClientsKeepToTheirTopics(t *testing.T) {
	b := start(t, Config{})
	c := connect(t, b, "V1")
	for _, topic := range []string{
		wire.Topic("V2", wire.KindClaim), wire.Topic("V1", wire.KindReceipt), wire.PolicyTopic, "rawstone/v1/V1/claim/x", "$SYS/x",
	} {
		publish(t, c, topic, []byte("x"))
	}
	if n := messages(t, b, StreamClaims); n != 0 {
		t.Errorf("%d claims queued, want none: a client published on another vehicle's topic", n)
	}
	for topic, want := range map[string]byte{
		wire.Topic("V1", wire.KindReceipt): 0,
		wire.PolicyTopic:                   0,
		wire.Topic("V2", wire.KindReceipt): 0x80,
		wire.Topic("V1", wire.KindClaim):   0x80,
		"rawstone/v1/+/receipt":            0x80,
		"#":                                0x80,
	} {
		tok := c.Subscribe(topic, 0, nil)
		tok.WaitTimeout(time.Minute)
		if got := tok.(*mqtt.SubscribeToken).Result()[topic]; got != want {
			t.Errorf("subscribe to %s: code %#x, want %#x", topic, got, want)
		}
	}
}

func TestForbiddenPublishReachesNobody(t *testing.T) {
	b := start(t, Config{})
	got := make(chan string, 8)
	victim := connect(t, b, "V1")
	for _, topic := range []string{wire.Topic("V1", wire.KindReceipt), wire.PolicyTopic} {
		tok := victim.Subscribe(topic, 0, func(_ mqtt.Client, m mqtt.Message) { got <- string(m.Payload()) })
		tok.WaitTimeout(time.Minute)
	}
	liar := connect(t, b, "V2")
	publish(t, liar, wire.Topic("V1", wire.KindReceipt), []byte("forged"))
	publish(t, liar, wire.PolicyTopic, []byte("forged"))
	if err := b.Conn().Publish(wire.Subject("V1", wire.KindReceipt), []byte("true")); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-got:
		if m != "true" {
			t.Errorf("received %q from another client", m)
		}
	case <-time.After(time.Minute):
		t.Fatal("the collector's own receipt did not arrive")
	}
}

func TestClientsAreNamedLikeVehicles(t *testing.T) {
	b := start(t, Config{})
	for _, id := range []string{"v1", "V.1", "V1 ", `V1" - mid:1 - "V2`, "", strings.Repeat("V", 33)} {
		c := mqtt.NewClient(with(b, id, fleetOf(b).of("V1")))
		if tok := c.Connect(); tok.WaitTimeout(time.Minute) && tok.Error() == nil {
			t.Errorf("client id %q was admitted", id)
			c.Disconnect(0)
		}
	}
}

func TestRefusalsAreLoggedOnceAMinute(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	a := newAuthenticator(Config{Logger: slog.New(slog.NewTextHandler(&out, nil)), Now: func() time.Time { return now }}, wire.PublicKey{})
	for range 3 {
		a.refuse(refusedUnknown, nil, "sentence")
		now = now.Add(29 * time.Second)
	}
	if n := strings.Count(out.String(), "sentence"); n != 1 {
		t.Errorf("logged %d times within a minute, want once", n)
	}
	now = now.Add(time.Minute)
	a.refuse(refusedUnknown, nil, "sentence")
	if n := strings.Count(out.String(), "sentence"); n != 2 {
		t.Errorf("logged %d times, want a second time after a minute", n)
	}
	if n := testutil.ToFloat64(a.refused.WithLabelValues(refusedUnknown)); n != 4 {
		t.Errorf("counted %v, want 4", n)
	}
}

func TestClientID(t *testing.T) {
	for _, c := range []struct {
		in, want string
		ok       bool
	}{
		{`127.0.0.1:5000 - mid:7 - "V1"`, "V1", true},
		{`127.0.0.1:5000 - mid:7 - "x - \"V1"`, `x - "V1`, true},
		{`127.0.0.1:5000 - mid:7 - "V1" - "V2"`, "", false},
		{`127.0.0.1:5000 - mid:7`, "", false},
		{`127.0.0.1:5000 - cid:7 - "V1"`, "", false},
	} {
		if got, ok := clientID(c.in); ok != c.ok || ok && got != c.want {
			t.Errorf("clientID(%s) = %q, %v, want %q, %v", c.in, got, ok, c.want, c.ok)
		}
	}
}

// FuzzClientID checks that every id comes back as it was sent, whatever it holds.
func FuzzClientID(f *testing.F) {
	for _, id := range []string{"V1", `x" - mid:1 - "V1`, "\x00\n", ""} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		got, ok := clientID(fmt.Sprintf("%s - %q", "127.0.0.1:5000 - mid:7", id))
		// %q writes bytes that are no UTF-8 as escapes, which Unquote reads back.
		if !ok || got != id {
			t.Errorf("id %q came back as %q, %v", id, got, ok)
		}
	})
}
