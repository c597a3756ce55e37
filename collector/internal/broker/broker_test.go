package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go/jetstream"

	"rawstone/pkg/wire"
)

func publish(t *testing.T, c mqtt.Client, topic string, payload []byte) {
	t.Helper()
	if tok := c.Publish(topic, 1, false, payload); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
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

// queued waits until a queue holds n messages: the server acknowledges before the queue has taken them up.
func queued(t *testing.T, b *Broker, stream string, n uint64) {
	t.Helper()
	got := messages(t, b, stream)
	for range 6000 {
		if got == n {
			return
		}
		time.Sleep(10 * time.Millisecond)
		got = messages(t, b, stream)
	}
	t.Errorf("%s holds %d messages, want %d", stream, got, n)
}

// quiet returns an address that is free now, below the ports that the kernel gives away by itself.
func quiet(t *testing.T) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(20_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

// TestVehiclesAtTheDoor: vehicles that have waited for the broker connect as soon as it listens, before its queues are there. It starts all
// the same, and the streams are its own.
func TestVehiclesAtTheDoor(t *testing.T) {
	for range 5 {
		addr := quiet(t)
		f := newFleet(t)
		ctx, stop := context.WithCancel(t.Context())
		var vehicles sync.WaitGroup
		for i := range 8 {
			id := fmt.Sprint("V", i)
			own := f.of(id)
			vehicles.Go(func() {
				for ctx.Err() == nil {
					c := mqtt.NewClient(at(addr, f, id, own))
					if tok := c.Connect(); tok.WaitTimeout(time.Minute) && tok.Error() == nil {
						c.Disconnect(0)
					}
				}
			})
		}
		b := start(t, Config{Listen: addr, Vehicles: f})
		stop()
		vehicles.Wait()
		connect(t, b, "V1")
		b.Close()
	}
}

func TestQueuesWhatVehiclesPublish(t *testing.T) {
	b := start(t, Config{})
	c := connect(t, b, "V1")
	publish(t, c, wire.Topic("V1", wire.KindClaim), []byte("claim"))
	publish(t, c, wire.Topic("V1", wire.KindReport), []byte("report"))
	queued(t, b, StreamClaims, 1)
	queued(t, b, StreamReports, 1)
}

func TestQueuesSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	b := start(t, Config{Dir: dir})
	publish(t, connect(t, b, "V1"), wire.Topic("V1", wire.KindClaim), []byte("claim"))
	queued(t, b, StreamClaims, 1)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	queued(t, start(t, Config{Dir: dir}), StreamClaims, 1)
}

func TestLargePayloadCutsTheConnection(t *testing.T) {
	b := start(t, Config{})
	lost := make(chan error, 1)
	o := options(b, "V1").SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
	c := mqtt.NewClient(o)
	if tok := c.Connect(); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	publish(t, c, wire.Topic("V1", wire.KindClaim), make([]byte, MaxMessage-128))
	publish(t, c, wire.Topic("V1", wire.KindClaim), make([]byte, MaxMessage+1)) // for the intake to set aside
	c.Publish(wire.Topic("V1", wire.KindClaim), 1, false, make([]byte, MaxPayload))
	select {
	case <-lost:
	case <-time.After(time.Minute):
		t.Error("the connection survived a payload over the bound")
	}
	queued(t, b, StreamClaims, 2)
}

func TestFullQueueKeepsWhatItHas(t *testing.T) {
	b := start(t, Config{StreamBytes: 8 << 10})
	c := connect(t, b, "V1")
	for i := range 20 {
		publish(t, c, wire.Topic("V1", wire.KindClaim), bytes.Repeat([]byte{byte(i)}, 1000))
	}
	for range 6000 { // the server acknowledges before the queue has taken them up
		if messages(t, b, StreamClaims) >= 4 {
			break
		}
		time.Sleep(10 * time.Millisecond)
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
	f := newFleet(t)
	for listen, want := range map[string]string{
		"localhost":             "is not IP:port",
		"":                      "is not IP:port",
		taken.Addr().String():   "stop the program that uses it",
		"127.0.0.1:99999999999": "is not IP:port",
	} {
		b, err := Start(t.Context(), Config{
			Listen: listen, Dir: t.TempDir(), Vehicles: f, VehicleCA: f.authority.Pool(), Logger: slog.New(slog.DiscardHandler),
			Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &f.server, nil },
		})
		if err == nil {
			b.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen on %q: %v, want %q in it", listen, err, want)
		}
	}
}
