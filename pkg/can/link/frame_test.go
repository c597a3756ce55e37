package link

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	einridecan "go.einride.tech/can"
	"go.einride.tech/can/pkg/socketcan"

	"rawstone/pkg/can"
)

func frame(id can.ID, flags can.Flags, data ...byte) can.Frame {
	f := can.Frame{ID: id, Flags: flags}
	if !f.SetPayload(data) {
		panic("payload too long")
	}
	return f
}

// The bytes are those of the structs of linux/can.h on a little-endian machine.
func TestStructLayout(t *testing.T) {
	long := make([]byte, 64)
	for i := range long {
		long[i] = byte(i)
	}
	remote := can.Frame{ID: 0x123, Flags: can.Remote, Len: 3}
	for _, c := range []struct {
		name  string
		frame can.Frame
		hex   string
	}{
		{"standard", frame(0x7E8, 0, 1, 2, 3), "e8070000 03000000 0102030000000000"},
		{"extended", frame(can.Extended|0x18DAF110, 0, 1, 2, 3, 4, 5, 6, 7, 8), "10f1da98 08000000 0102030405060708"},
		{"extended small", frame(can.Extended|0x7E8, 0), "e8070080 00000000 0000000000000000"},
		{"remote", remote, "23010040 03000000 0000000000000000"},
		{"error: no acknowledgement", frame(can.Extended|0x20, can.Error, 0, 0, 0, 0, 0, 0, 0, 0), "20000020 08000000 0000000000000000"},
		{"fd", frame(0x123, can.FD, long[:12]...), "23010000 0c040000 000102030405060708090a0b" + strings.Repeat("00", 52)},
		{"fd 64", frame(can.Extended|0x1FFFFFFF, can.FD|can.BitRateSwitch|can.ErrorState, long...), "ffffff9f 40070000" + hex.EncodeToString(long)},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, err := hex.DecodeString(strings.ReplaceAll(c.hex, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			var b [sizeFD]byte
			n, err := encode(b[:], binary.LittleEndian, &c.frame)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b[:n], want) {
				t.Errorf("encode: %x, want %x", b[:n], want)
			}
			var got can.Frame
			if !decode(want, binary.LittleEndian, true, &got) {
				t.Fatal("decode refused it")
			}
			if d := cmp.Diff(c.frame, got); d != "" {
				t.Error(d)
			}
			if n == sizeFD && decode(want, binary.LittleEndian, false, &got) {
				t.Error("an FD frame was accepted on a classic bus")
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := func() []byte {
		b := make([]byte, sizeClassic)
		f := frame(0x123, 0, 1, 2)
		if _, err := encode(b, binary.LittleEndian, &f); err != nil {
			t.Fatal(err)
		}
		return b
	}
	goodFD := func() []byte {
		b := make([]byte, sizeFD)
		f := frame(0x123, can.FD, 1, 2)
		if _, err := encode(b, binary.LittleEndian, &f); err != nil {
			t.Fatal(err)
		}
		return b
	}
	set := func(b []byte, i int, v byte) []byte { b[i] = v; return b }
	for name, b := range map[string][]byte{
		"empty":              nil,
		"short":              good()[:15],
		"long":               append(good(), 0),
		"length 9":           set(good(), 4, 9),
		"length 255":         set(good(), 4, 255),
		"standard too large": set(good(), 1, 0x08),
		"remote too large":   set(set(good(), 1, 0x08), 3, 0x40),
		"extended error":     set(good(), 3, 0xA0),
		"remote error":       set(good(), 3, 0x60),
		"fd length 9":        set(goodFD(), 4, 9),
		"fd length 65":       set(goodFD(), 4, 65),
		"fd remote":          set(goodFD(), 3, 0x40),
		"fd error":           set(goodFD(), 3, 0x20),
		"fd short":           goodFD()[:71],
	} {
		var f can.Frame
		if decode(b, binary.LittleEndian, true, &f) {
			t.Errorf("%s: accepted as %+v", name, f)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, f := range map[string]can.Frame{
		"standard id":    {ID: 0x800},
		"extended id":    {ID: can.Extended | 0x20000000},
		"classic length": {ID: 1, Len: 9},
		"remote length":  {ID: 1, Flags: can.Remote, Len: 9},
		"fd length":      {ID: 1, Flags: can.FD, Len: 9},
		"fd too long":    {ID: 1, Flags: can.FD, Len: 255},
		"fd remote":      {ID: 1, Flags: can.FD | can.Remote},
		"brs classic":    {ID: 1, Flags: can.BitRateSwitch},
	} {
		var b [sizeFD]byte
		if n, err := encode(b[:], binary.LittleEndian, &f); err == nil {
			t.Errorf("%s: encoded to %x", name, b[:n])
		}
	}
}

// The stale part of a classic frame must not reach Data: candump and einride leave what was there.
func TestDecodeClearsTail(t *testing.T) {
	b := []byte{0x23, 1, 0, 0, 2, 0xAA, 0xBB, 0xCC, 1, 2, 3, 4, 5, 6, 7, 8}
	f := can.Frame{Time: 9, Bus: 3, Flags: can.FD, Len: 64, Data: [64]byte{63: 7}}
	if !decode(b, binary.LittleEndian, false, &f) {
		t.Fatal("refused")
	}
	if d := cmp.Diff(frame(0x123, 0, 1, 2), f); d != "" {
		t.Error(d)
	}
}

func TestEinrideBytes(t *testing.T) {
	for _, f := range []can.Frame{
		frame(0, 0),
		frame(0x7FF, 0, 1, 2, 3, 4, 5, 6, 7, 8),
		frame(can.Extended|0x1FFFFFF7, 0, 8, 7, 6, 5, 4, 3, 2, 1),
		frame(can.Extended|1, 0, 0xFF),
		{ID: 0x70, Flags: can.Remote, Len: 8},
	} {
		theirs := einridecan.Frame{
			ID: f.ID.Raw(), IsExtended: f.ID.IsExtended(), IsRemote: f.Flags&can.Remote != 0,
			Length: f.Len, Data: einridecan.Data(f.Data[:8]),
		}
		var ours, want [sizeClassic]byte
		if _, err := encode(ours[:], binary.LittleEndian, &f); err != nil {
			t.Fatal(err)
		}
		var s socketcan.Frame
		s.EncodeFrame(theirs)
		s.MarshalBinary(want[:])
		if ours != want {
			t.Errorf("%s: encoded to %x, einride's is %x", f.ID, ours, want)
		}
		s = socketcan.Frame{}
		s.UnmarshalBinary(ours[:])
		if d := cmp.Diff(theirs, s.DecodeFrame()); d != "" {
			t.Errorf("einride reads another frame: %s", d)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0xe8, 7, 0, 0, 3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}, false)
	f.Add(append([]byte{0x10, 0xf1, 0xda, 0x98, 64, 7, 0, 0}, make([]byte, 64)...), true)
	f.Add([]byte{0x20, 0, 0, 0x20, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, b []byte, fd bool) {
		var x can.Frame
		if !decode(b, binary.LittleEndian, fd, &x) {
			return
		}
		if !x.ID.Valid() || x.Len > 64 || x.Flags&can.FD == 0 && x.Len > 8 || x.Flags&can.FD != 0 && !fd {
			t.Fatalf("invalid frame %+v", x)
		}
		if [can.MaxData]byte(append(bytes.Clone(x.Payload()), make([]byte, can.MaxData-int(x.Len))...)) != x.Data {
			t.Fatalf("bytes after the payload: %x", x.Data)
		}
		var out [sizeFD]byte
		n, err := encode(out[:], binary.LittleEndian, &x)
		if err != nil {
			t.Fatalf("decoded but not encodable: %v", err)
		}
		// Identical but for what has no meaning: reserved bytes and those after the payload.
		want := bytes.Clone(b)
		want[5], want[6], want[7] = 0, 0, 0
		if len(b) == sizeFD {
			want[5] = b[5]&3 | fdFormat
		}
		clear(want[8+len(x.Payload()):])
		if x.Flags&can.Remote != 0 {
			clear(want[8:])
		}
		if !bytes.Equal(out[:n], want) {
			t.Fatalf("re-encoded to %x, want %x", out[:n], want)
		}
	})
}
