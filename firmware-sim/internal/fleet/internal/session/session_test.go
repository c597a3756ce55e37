package session

import (
	"bufio"
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"rawstone/pkg/wire"
)

// encoded returns the bytes of packets.
func encoded(t testing.TB, all ...packets.ControlPacket) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, p := range all {
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func message(topic string, payload []byte) *packets.PublishPacket {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload = topic, payload
	return p
}

// hears returns a session whose broker sends b and then nothing.
func hears(t *testing.T, b []byte) *Session {
	t.Helper()
	ours, theirs := net.Pipe()
	go func() { _, _ = theirs.Write(b); theirs.Close() }()
	s := &Session{cfg: Config{Vehicle: "CAR1", Timeout: time.Minute}, conn: ours, in: bufio.NewReaderSize(ours, bufLen), stop: func() bool { return true }}
	t.Cleanup(func() { ours.Close() })
	return s
}

// TestReceipt: only what comes on the vehicle's own topic for receipts is a receipt, whatever comes before it.
func TestReceipt(t *testing.T) {
	own := wire.Topic("CAR1", wire.KindReceipt)
	largest := bytes.Repeat([]byte("r"), wire.ReceiptLen)
	s := hears(t, encoded(t, packets.NewControlPacket(packets.Puback), message(wire.Topic("CAR2", wire.KindReceipt), []byte("foreign")),
		message(wire.Topic("CAR1", wire.KindClaim), []byte("claim")), packets.NewControlPacket(packets.Pingresp),
		message(own, []byte("one")), message(own, largest)))
	for _, want := range []string{"one", string(largest)} {
		if got, err := s.Receipt(time.Now().Add(time.Minute)); err != nil || string(got) != want {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if _, err := s.Receipt(time.Now().Add(time.Minute)); err == nil || !strings.Contains(err.Error(), "no receipt: ") {
		t.Errorf("at the end: %v", err)
	}
}

// TestLongPacketIsRefused: a packet that is too long is refused by its length alone.
func TestLongPacketIsRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"publication of 64 KiB":   {0x30, 0x80, 0x80, 0x04},
		"publication of 256 MiB":  {0x30, 0xff, 0xff, 0xff, 0x7f},
		"length that never ends":  {0x30, 0x80, 0x80, 0x80, 0x80, 0x80},
		"receipt above the bound": encoded(t, message(wire.Topic("CAR1", wire.KindReceipt), make([]byte, maxPacket))),
	} {
		if _, err := hears(t, b).Receipt(time.Now().Add(time.Minute)); err == nil || !strings.Contains(err.Error(), "a packet that nobody asked for") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReceipt: whatever a broker sends, a session returns and keeps to its bound.
func FuzzReceipt(f *testing.F) {
	f.Add(encoded(f, message(wire.Topic("CAR1", wire.KindReceipt), []byte("receipt"))))
	f.Add([]byte{0x30, 0x80, 0x01, 0x00})
	f.Add([]byte{0x40, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &Session{cfg: Config{Vehicle: "CAR1"}, in: bufio.NewReaderSize(bytes.NewReader(b), bufLen)}
		for {
			p, err := s.read()
			if err != nil {
				return
			}
			if m, ok := p.(*packets.PublishPacket); ok && len(m.Payload) > maxPacket {
				t.Fatalf("a payload of %d bytes", len(m.Payload))
			}
		}
	})
}
