package j1939

import (
	"math"
	"testing"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	ccvs := []byte{0b11_11_01_10, 0x80, 0x32, 0b00_01_10_01, 0, 80, 0b110_00000, 0xFF} // 65265
	for _, c := range []struct {
		spn      uint32
		data     []byte
		raw      uint64
		physical float64
		state    State
	}{
		{917, []byte{0x10, 0x27, 0, 0, 0xE8, 3, 0, 0}, 10000, 50000, Valid},
		{918, []byte{0x10, 0x27, 0, 0, 0xE8, 3, 0, 0}, 1000, 5000, Valid},
		{917, []byte{0xFF, 0xFF, 0xFF, 0xFA}, 0xFAFFFFFF, 21055406075, Valid}, // the range of J1939-71: 0 to 21,055,406 km
		{917, []byte{0, 0, 0, 0xFB}, 0xFB000000, 0, Specific},
		{917, []byte{0, 0, 0, 0xFC}, 0xFC000000, 0, Reserved},
		{917, []byte{0xFF, 0xFF, 0xFF, 0xFD}, 0xFDFFFFFF, 0, Reserved},
		{917, []byte{0, 0, 0, 0xFE}, 0xFE000000, 0, Erroneous},
		{917, []byte{0xFF, 0xFF, 0xFF, 0xFF}, 0xFFFFFFFF, 0, NotAvailable},
		{917, []byte{0, 0, 0, 0xFF}, 0xFF000000, 0, NotAvailable},
		{917, []byte{1, 2, 3}, 0, 0, Absent},
		{918, []byte{1, 2, 3, 4, 5, 6, 7}, 0, 0, Absent},
		{244, []byte{8, 0, 0, 0, 0x80, 0xF0, 0xFA, 2}, 8, 1, Valid},
		{245, []byte{8, 0, 0, 0, 0x80, 0xF0, 0xFA, 2}, 0x02FAF080, 6250000, Valid},
		{84, ccvs, 0x3280, 50.5, Valid},
		{84, []byte{0, 0xFF, 0xFA}, 0xFAFF, 250.99609375, Valid},
		{84, []byte{0, 0, 0xFB}, 0xFB00, 0, Specific},
		{84, []byte{0, 0x42, 0xFE}, 0xFE42, 0, Erroneous},
		{84, []byte{0, 0xFF, 0xFF}, 0xFFFF, 0, NotAvailable},
		{69, ccvs, 2, 0, Erroneous},
		{70, ccvs, 1, 1, Valid},
		{595, ccvs, 1, 1, Valid},
		{596, ccvs, 2, 0, Erroneous},
		{597, ccvs, 1, 1, Valid},
		{595, []byte{0, 0, 0, 0xFF}, 3, 0, NotAvailable},
		{595, []byte{0, 0, 0, 0}, 0, 0, Valid},
		{86, ccvs, 80, 80, Valid},
		{527, ccvs, 6, 6, Valid},
		{527, []byte{0, 0, 0, 0, 0, 0, 0xE0}, 7, 0, NotAvailable},
		{190, []byte{0, 0, 0, 0x68, 0x13}, 0x1368, 621, Valid},
		{91, []byte{0, 250}, 250, 100, Valid},
		{92, []byte{0, 0, 125}, 125, 125, Valid},
		{96, []byte{0, 125}, 125, 50, Valid},
		{96, []byte{0, 0xFB}, 0xFB, 0, Specific},
		{96, []byte{0, 0xFE}, 0xFE, 0, Erroneous},
		{96, []byte{0, 0xFF}, 0xFF, 0, NotAvailable},
		{110, []byte{130}, 130, 90, Valid},
		{168, []byte{0, 0, 0, 0, 0x18, 1}, 280, 14, Valid},
		{171, []byte{0, 0, 0, 0x80, 0x24}, 0x2480, 19, Valid},
		{183, []byte{200, 0}, 200, 10, Valid},
		{247, []byte{20, 0, 0, 0}, 20, 1, Valid},
		{250, []byte{0, 0, 0, 0, 9, 0, 0, 0}, 9, 4.5, Valid},
		{517, []byte{0, 0, 0, 10}, 2560, 10, Valid},
		{904, []byte{0, 10}, 2560, 10, Valid},
		{1624, []byte{0, 0, 0, 0, 0, 0, 0, 10}, 2560, 10, Valid},
	} {
		p, ok := SPN(c.spn)
		v := p.Decode(c.data)
		if !ok || v.Raw != c.raw || v.State != c.state || v.Available != (c.state == Valid) || v.Available && math.Abs(v.Physical-c.physical) > 1e-6 {
			t.Errorf("SPN %d of %x is %+v, want %d %v %s", c.spn, c.data, v, c.raw, c.physical, c.state)
		}
	}
}

// The groups are J1939-71's; a table that names the wrong one listens to nothing.
func TestTable(t *testing.T) {
	t.Parallel()
	want := map[uint32]PGN{
		69: 65265, 70: 65265, 84: 65265, 86: 65265, 91: 61443, 92: 61443, 96: 65276, 110: 65262, 168: 65271, 171: 65269, 183: 65266,
		190: 61444, 244: 65248, 245: 65248, 247: 65253, 250: 65257, 517: 65256, 527: 65265, 595: 65265, 596: 65265, 597: 65265,
		904: 65215, 917: 65217, 918: 65217, 1624: 65132,
	}
	for spn := range uint32(1 << 16) {
		p, ok := SPN(spn)
		if pgn, known := want[spn]; ok != known || p.PGN != pgn || p.SPN != spn {
			t.Errorf("SPN %d: %+v", spn, p)
		}
		if ok && (p.Name == "" || p.Scale == 0 || !p.PGN.Valid() || p.Byte-1+(p.Bits+7)/8 > 8) {
			t.Errorf("SPN %d: %+v", spn, p)
		}
	}
}

func TestStates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		raw  uint64
		bits int
		want State
	}{
		{1, 1, Valid}, {0xD, 4, Valid}, {0xE, 4, Erroneous}, {0xF, 4, NotAvailable}, {6, 3, Valid}, {7, 3, NotAvailable},
		{0xFAFFFF, 24, Valid}, {0xFB0000, 24, Specific}, {0xFE0000, 24, Erroneous}, {0xFF0000, 24, NotAvailable},
	} {
		if got := state(c.raw, c.bits); got != c.want {
			t.Errorf("%x of %d bits is %s, want %s", c.raw, c.bits, got, c.want)
		}
	}
	if s := State(99).String(); s != "unknown state" {
		t.Error(s)
	}
}

// FuzzDecode: any layout on any payload; a number never comes from beyond the payload.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 5, 1, 32)
	f.Add([]byte{1}, 1, 7, 2)
	f.Add([]byte{}, 0, -1, 64)
	f.Fuzz(func(t *testing.T, data []byte, first, bit, bits int) {
		p := Parameter{Byte: first, Bit: bit, Bits: bits, Scale: 1}
		v := p.Decode(data)
		if v.State == Absent {
			if v != (Value{}) {
				t.Fatalf("%+v", v)
			}
			return
		}
		if v.Available && v.Physical != float64(v.Raw) || v.Raw >= 1<<bits || v.Available != (v.State == Valid) {
			t.Fatalf("%+v of %+v", v, p)
		}
		// Bit by bit, it is what stands there.
		for i := range bits {
			at := 8*(first-1) + bit - 1 + i
			if v.Raw>>i&1 != uint64(data[at/8]>>(at%8)&1) {
				t.Fatalf("bit %d of %+v in %x", i, v, data)
			}
		}
	})
}
