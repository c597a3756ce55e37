package broker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go/jetstream"

	"rawstone/pkg/wire"
)

func start(t *testing.T, cfg Config) *Broker {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func options(addr netip.AddrPort, id string) *mqtt.ClientOptions {
	return mqtt.NewClientOptions().AddBroker("tcp://" + addr.String()).SetClientID(id).SetCleanSession(true).
		SetAutoReconnect(false).SetConnectTimeout(5 * time.Second)
}

func connect(t *testing.T, addr netip.AddrPort, id string) mqtt.Client {
	t.Helper()
	c := mqtt.NewClient(options(addr, id))
	if tok := c.Connect(); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatalf("connect as %q: %v", id, tok.Error())
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func publish(t *testing.T, c mqtt.Client, topic string, payload []byte) {
	t.Helper()
	if tok := c.Publish(topic, 1, false, payload); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatalf("publish: %v", tok.Error())
	}
}

// messages returns how many messages a queue holds.
func messages(t *testing.T, b *Broker, stream string) uint64 {
	t.Helper()
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}

func TestQueuesWhatVehiclesPublish(t *testing.T) {
	b := start(t, Config{})
	c := connect(t, b.Addr(), "V1")
	publish(t, c, wire.Topic("V1", wire.KindClaim), []byte("claim"))
	publish(t, c, wire.Topic("V1", wire.KindReport), []byte("report"))
	if n := messages(t, b, StreamClaims); n != 1 {
		t.Errorf("%d claims queued, want 1", n)
	}
	if n := messages(t, b, StreamReports); n != 1 {
		t.Errorf("%d reports queued, want 1", n)
	}
}

func TestQueuesSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	b := start(t, Config{Dir: dir})
	publish(t, connect(t, b.Addr(), "V1"), wire.Topic("V1", wire.KindClaim), []byte("claim"))
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if n := messages(t, start(t, Config{Dir: dir}), StreamClaims); n != 1 {
		t.Errorf("%d claims queued after a restart, want 1", n)
	}
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
		tok.WaitTimeout(10 * time.Second)
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
		tok.WaitTimeout(10 * time.Second)
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
	case <-time.After(10 * time.Second):
		t.Fatal("the collector's own receipt did not arrive")
	}
}

func TestClientsAreNamedLikeVehicles(t *testing.T) {
	b := start(t, Config{})
	for _, id := range []string{"v1", "V.1", "V1 ", `V1" - mid:1 - "V2`, "", strings.Repeat("V", 33)} {
		c := mqtt.NewClient(options(b.Addr(), id))
		if tok := c.Connect(); tok.WaitTimeout(10*time.Second) && tok.Error() == nil {
			t.Errorf("client id %q was admitted", id)
			c.Disconnect(0)
		}
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

func TestLargePayloadCutsTheConnection(t *testing.T) {
	b := start(t, Config{})
	lost := make(chan error, 1)
	o := options(b.Addr(), "V1").SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
	c := mqtt.NewClient(o)
	if tok := c.Connect(); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	publish(t, c, wire.Topic("V1", wire.KindClaim), make([]byte, MaxPayload-128))
	c.Publish(wire.Topic("V1", wire.KindClaim), 1, false, make([]byte, MaxPayload))
	select {
	case <-lost:
	case <-time.After(10 * time.Second):
		t.Error("the connection survived a payload over the bound")
	}
	if n := messages(t, b, StreamClaims); n != 1 {
		t.Errorf("%d claims queued, want the one within the bound", n)
	}
}

func TestFullQueueKeepsWhatItHas(t *testing.T) {
	b := start(t, Config{StreamBytes: 8 << 10})
	c := connect(t, b.Addr(), "V1")
	for i := range 20 {
		publish(t, c, wire.Topic("V1", wire.KindClaim), bytes.Repeat([]byte{byte(i)}, 1000))
	}
	js, err := jetstream.New(b.Conn())
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), StreamClaims)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.FirstSeq != 1 || info.State.Bytes > 8<<10 || info.State.Msgs < 4 {
		t.Errorf("queue holds %d messages, %d bytes, from number %d; want the first ones within 8 KiB",
			info.State.Msgs, info.State.Bytes, info.State.FirstSeq)
	}
}

func TestRefusesAddresses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for listen, want := range map[string]string{
		"0.0.0.0:1883":          "enrolment of vehicles does not exist yet",
		"[::]:1883":             "enrolment of vehicles does not exist yet",
		"192.0.2.1:1883":        "enrolment of vehicles does not exist yet",
		"localhost":             "is not IP:port",
		"":                      "is not IP:port",
		taken.Addr().String():   "stop the program that uses it",
		"127.0.0.1:99999999999": "is not IP:port",
	} {
		b, err := Start(t.Context(), Config{Listen: listen, Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen on %q: %v, want %q in it", listen, err, want)
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
