package packet

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

const most = 33 << 10

// replayed is a connection that only reads.
type replayed struct {
	net.Conn
	io.Reader
}

func (r replayed) Read(b []byte) (int, error) { return r.Reader.Read(b) }

func packet(first byte, length int) []byte {
	p := binary.AppendUvarint([]byte{first}, uint64(length))
	for i := range length {
		p = append(p, byte(i))
	}
	return p
}

// TestBounded holds that what fits passes unchanged, and a PUBLISH that does not is cut to what fits.
func TestBounded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var stream, want []byte
		for _, n := range rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(most-2, most+70_000)), 0, 6).Draw(rt, "lengths") {
			kind := rapid.SampledFrom([]byte{0x20, 0x32, 0x3a, 0x90}).Draw(rt, "kind")
			if n > most {
				kind = 0x32
			}
			whole := packet(kind, n)
			stream = append(stream, whole...)
			if n > most {
				cut := packet(kind, most)
				want = append(want, cut...)
			} else {
				want = append(want, whole...)
			}
		}
		var from io.Reader = bytes.NewReader(stream)
		if rapid.Bool().Draw(rt, "byte by byte") {
			from = iotest.OneByteReader(from)
		}
		got, err := io.ReadAll(Bound(replayed{Reader: from}, most))
		if err != nil || !bytes.Equal(got, want) {
			rt.Fatalf("%d of %d bytes passed: %v", len(got), len(want), err)
		}
	})
}

func TestBoundedRefuses(t *testing.T) {
	for name, stream := range map[string][]byte{
		"a long SUBACK":  packet(0x90, most+1),
		"endless length": {0x30, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01},
	} {
		if _, err := io.ReadAll(Bound(replayed{Reader: bytes.NewReader(stream)}, most)); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}

func FuzzBounded(f *testing.F) {
	f.Add([]byte{0x20, 2, 0, 0, 0x32, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3})
	f.Fuzz(func(t *testing.T, stream []byte) {
		got, _ := io.ReadAll(Bound(replayed{Reader: bytes.NewReader(stream)}, most))
		if len(got) > len(stream)+4 { // a shortened length may take as many bytes as the one announced, or be denser
			t.Errorf("%d bytes made of %d", len(got), len(stream))
		}
	})
}
