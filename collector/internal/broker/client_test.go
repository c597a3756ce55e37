package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/prometheus/client_golang/prometheus"
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
	c := connect(t, b.Addr(), "V1")
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
	victim := connect(t, b.Addr(), "V1")
	for _, topic := range []string{wire.Topic("V1", wire.KindReceipt), wire.PolicyTopic} {
		tok := victim.Subscribe(topic, 0, func(_ mqtt.Client, m mqtt.Message) { got <- string(m.Payload()) })
		tok.WaitTimeout(time.Minute)
	}
	liar := connect(t, b.Addr(), "V2")
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
		c := mqtt.NewClient(options(b.Addr(), id))
		if tok := c.Connect(); tok.WaitTimeout(time.Minute) && tok.Error() == nil {
			t.Errorf("client id %q was admitted", id)
			c.Disconnect(0)
		}
	}
}

func TestOnlyRegisteredVehiclesConnect(t *testing.T) {
	var out syncBuffer
	var broken atomic.Bool
	reg := prometheus.NewRegistry()
	b := start(t, Config{
		Registerer: reg, Logger: slog.New(slog.NewTextHandler(&out, nil)),
		Known: func(_ context.Context, vehicle string) (bool, error) {
			if broken.Load() {
				return true, errors.New("no records")
			}
			return vehicle == "V1", nil
		},
	})
	connect(t, b.Addr(), "V1")
	refuse := func(id string) {
		t.Helper()
		c := mqtt.NewClient(options(b.Addr(), id))
		if tok := c.Connect(); !tok.WaitTimeout(time.Minute) || !errors.Is(tok.Error(), packets.ErrorRefusedNotAuthorised) {
			t.Errorf("connect as %q: %v, want not authorised", id, tok.Error())
		}
	}
	refuse("SECRET1")
	refuse("SECRET2")
	refuse("secret")
	broken.Store(true)
	refuse("V1")
	want := `
# HELP rawstone_broker_refused_connects_total MQTT connects refused, by reason: broker not ready yet, no vehicle's name as client id, vehicle not registered, look-up failed, the publisher's name without its secret.
# TYPE rawstone_broker_refused_connects_total counter
rawstone_broker_refused_connects_total{reason="client_id"} 1
rawstone_broker_refused_connects_total{reason="lookup_failed"} 1
rawstone_broker_refused_connects_total{reason="publisher"} 0
rawstone_broker_refused_connects_total{reason="starting"} 0
rawstone_broker_refused_connects_total{reason="unknown_vehicle"} 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	b.Close()
	log := out.String()
	if n := strings.Count(log, "its vehicle is not registered"); n != 1 {
		t.Errorf("logged %d times that a vehicle is not registered, want once:\n%s", n, log)
	}
	if strings.Count(log, "\n") != 3 || !strings.Contains(log, "no records") || strings.Contains(strings.ToLower(log), "secret") {
		t.Errorf("logged\n%s", log)
	}
}

func TestRefusalsAreLoggedOnceAMinute(t *testing.T) {
	var out bytes.Buffer
	a := newAuthenticator(everybody, newSecret(), slog.New(slog.NewTextHandler(&out, nil)))
	now := time.Unix(1000, 0)
	a.now = func() time.Time { return now }
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

func TestLogsNameNoVehicle(t *testing.T) {
	var out bytes.Buffer
	l := &logger{slog: slog.New(slog.NewTextHandler(&out, nil))}
	l.Warnf("%s", fmt.Sprintf(`127.0.0.1:1 - mid:5 - %q - publish to "x" on rawstone.v1.SECRET1.claim, rawstone/v1/SECRET1/claim`, "SECRET1"))
	l.slog.Log(context.Background(), slog.LevelInfo, "end")
	if s := out.String(); strings.Contains(s, "SECRET1") || !strings.Contains(s, "publish to") {
		t.Errorf("logged %s", s)
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
