package egress

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/spool"
	"rawstone/agent/internal/uplink"
	"rawstone/pkg/wire"
)

// newBroker lets everybody in and closes the connection once it has taken two submissions.
func newBroker(t *testing.T) *tap {
	return newTap(t, func(conn net.Conn, r io.Reader) {
		for submissions := 0; submissions < 2; {
			packet, err := packets.ReadPacket(r)
			if err != nil {
				return
			}
			var answer packets.ControlPacket
			switch p := packet.(type) {
			case *packets.ConnectPacket:
				answer = packets.NewControlPacket(packets.Connack)
			case *packets.SubscribePacket:
				a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
				a.MessageID, a.ReturnCodes = p.MessageID, p.Qoss
				answer = a
			case *packets.PublishPacket:
				a := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
				a.MessageID = p.MessageID
				answer = a
				submissions++
			default:
				continue
			}
			if answer.Write(conn) != nil {
				return
			}
		}
	})
}

// mqttLeaves walks what a client sent (MQTT 3.1.1 §3), whose packets must be in the one spelling that this library writes.
func mqttLeaves(t *testing.T, b []byte) (leaves []leaf) {
	t.Helper()
	flag := func(set bool) []byte {
		if set {
			return []byte{1}
		}
		return []byte{0}
	}
	for r := bytes.NewReader(b); r.Len() > 0; {
		at := len(b) - r.Len()
		packet := must(packets.ReadPacket(r))
		var again bytes.Buffer
		if err := packet.Write(&again); err != nil || !bytes.Equal(again.Bytes(), b[at:len(b)-r.Len()]) {
			t.Errorf("%s holds more than its fields: %x (%v)", packet, b[at:len(b)-r.Len()], err)
		}
		switch p := packet.(type) {
		case *packets.ConnectPacket:
			leaves = append(leaves, leaf{"connect/protocol", []byte(p.ProtocolName)}, leaf{"connect/version", []byte{p.ProtocolVersion}},
				leaf{"connect/clean", flag(p.CleanSession)}, leaf{"connect/keep alive", number(int64(p.Keepalive))}, leaf{"connect/client", []byte(p.ClientIdentifier)},
				leaf{"connect/others", flag(p.WillFlag || p.UsernameFlag || p.PasswordFlag || p.WillRetain || p.WillQos != 0 || p.ReservedBit != 0)})
		case *packets.SubscribePacket:
			for i, topic := range p.Topics {
				leaves = append(leaves, leaf{"subscribe/" + topic, []byte{p.Qoss[i]}})
			}
		case *packets.PublishPacket:
			leaves = append(leaves, leaf{"publish/" + p.TopicName, p.Payload}, leaf{"publish/" + p.TopicName + "/qos", []byte{p.Qos}}, leaf{"publish/" + p.TopicName + "/others", flag(p.Retain || p.Dup)})
		case *packets.PubackPacket, *packets.PingreqPacket, *packets.DisconnectPacket: // which hold a packet's number, and nothing
		default:
			t.Errorf("nothing says why %s leaves the car", packet)
		}
	}
	return leaves
}

// TestSession walks what package uplink sends around the submissions.
func TestSession(t *testing.T) {
	b := newBroker(t)
	db := must(flash.Open(flash.Config{Dir: t.TempDir(), Logger: quiet}))
	t.Cleanup(func() { db.Close() })
	sp := must(spool.Open(spool.Config{DB: db, Logger: quiet}))
	claim, report := []byte("a claim's bytes, walked in TestClaim"), []byte("a report's bytes, walked in TestReport")
	for kind, body := range map[wire.Kind][]byte{wire.KindClaim: claim, wire.KindReport: report} {
		if _, _, err := sp.Put(kind, body, time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	_, public := newKey()
	u := must(uplink.New(uplink.Config{
		URL: "ssl://" + b.url, TLS: b.tls, Vehicle: vehicle, ReceiptKeys: wire.KeySet{public}, Spool: sp, Hold: open{}, Now: time.Now, Logger: quiet,
		OnReceipt: func(context.Context, wire.Kind, []byte, *wire.Receipt, []byte) error { return nil }, OnNotice: func([]byte) {},
		BackoffMin: time.Hour, BackoffMax: time.Hour,
	}))
	came := b.first(t, func(ctx context.Context) { _ = u.Run(ctx) }) // until it is cancelled
	own := func(k wire.Kind) string { return wire.Topic(vehicle, k) }
	err := check(mqttLeaves(t, came), []field{
		{"connect/protocol", "protocol", []byte("MQTT"), 0},
		{"connect/version", "protocol: 3.1.1", []byte{4}, 0},
		{"connect/clean", "protocol: the broker keeps nothing of the car", []byte{1}, 0},
		{"connect/keep alive", "protocol: the same for every car", number(int64(uplink.DefaultKeepAlive / time.Second)), 0},
		{"connect/client", "protocol: the vehicle's name, no VIN", []byte(vehicle), 0},
		{"connect/others", "protocol: no will, user or password", []byte{0}, 0},
		{"subscribe/" + own(wire.KindReceipt), "protocol: the car's own receipts", []byte{0}, 0},
		{"subscribe/" + wire.PolicyTopic, "protocol: what every car hears", []byte{0}, 0},
		{"publish/" + own(wire.KindClaim), "the claim", claim, 0},
		{"publish/" + own(wire.KindClaim) + "/qos", "protocol", []byte{1}, 0},
		{"publish/" + own(wire.KindClaim) + "/others", "protocol: not retained, no duplicate", []byte{0}, 0},
		{"publish/" + own(wire.KindReport), "the report", report, 0},
		{"publish/" + own(wire.KindReport) + "/qos", "protocol", []byte{1}, 0},
		{"publish/" + own(wire.KindReport) + "/others", "protocol: not retained, no duplicate", []byte{0}, 0},
	})
	if err != nil {
		t.Error(err)
	}
}
