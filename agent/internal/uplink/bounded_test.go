package uplink

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

// replayed is a connection that only reads.
type replayed struct {
	net.Conn
	io.Reader
}

func (r replayed) Read(b []byte) (int, error) { return r.Reader.Read(b) }

func packet(length int) []byte {
	return append(binary.AppendUvarint([]byte{0x30}, uint64(length)), make([]byte, length)...)
}

func TestBoundedPassesWhatFits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var stream []byte
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, maxPacket), 0, 6).Draw(rt, "lengths") {
			stream = append(stream, packet(n)...)
		}
		var from io.Reader = bytes.NewReader(stream)
		if rapid.Bool().Draw(rt, "byte by byte") {
			from = iotest.OneByteReader(from)
		}
		got, err := io.ReadAll(&bounded{Conn: replayed{Reader: from}})
		if err != nil || !bytes.Equal(got, stream) {
			rt.Fatalf("%d of %d bytes passed: %v", len(got), len(stream), err)
		}
	})
}

func TestBoundedRefusesLongPackets(t *testing.T) {
	for name, stream := range map[string][]byte{
		"one more":        packet(maxPacket + 1),
		"256 MiB":         {0x30, 0xff, 0xff, 0xff, 0x7f},
		"endless length":  {0x30, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01},
		"after a receipt": append(packet(400), 0x30, 0xff, 0xff, 0x7f),
	} {
		if _, err := io.ReadAll(&bounded{Conn: replayed{Reader: iotest.OneByteReader(bytes.NewReader(stream))}}); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}
