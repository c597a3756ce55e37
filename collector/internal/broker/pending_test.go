package broker

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/nats-io/nats-server/v2/server"

	"rawstone/pkg/wire"
)

// TestWhoDoesNotReadIsCut: a subscription of a few bytes is answered with the whole notice, each time that it is made, and what its client
// does not read lies in memory.
func TestWhoDoesNotReadIsCut(t *testing.T) {
	b := start(t, Config{})
	retain(t, b, large(1))
	raw, err := net.Dial("tcp", b.local())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := raw.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	trust := options(b, "V1").TLSConfig.Clone()
	trust.ServerName = "127.0.0.1"
	conn := tls.Client(raw, trust)
	hello := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	hello.ProtocolName, hello.ProtocolVersion, hello.CleanSession, hello.ClientIdentifier = "MQTT", 4, true, "V1"
	if err := hello.Write(conn); err != nil {
		t.Fatal(err)
	}
	if _, err := packets.ReadPacket(conn); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for id := range uint16(60_000) {
			s := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
			s.MessageID, s.Topics, s.Qoss = id+1, []string{wire.PolicyTopic}, []byte{0}
			if s.Write(conn) != nil {
				return
			}
		}
	}()
	var most int
	for open := true; open; {
		select {
		case <-ended:
			open = false
		case <-time.After(time.Millisecond):
		}
		all, err := b.server.Connz(&server.ConnzOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all.Conns {
			most = max(most, c.Pending)
		}
		if most > maxPending+MaxPayload {
			t.Fatalf("%d bytes wait for a client that does not read", most)
		}
	}
	if b.server.NumSlowConsumers() == 0 {
		t.Error("the client was not cut")
	}
}
