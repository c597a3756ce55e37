package dbc

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"rawstone/pkg/can"
)

const benchmarkText = `BO_ 1 M: 8 X
 SG_ A : 7|16@0+ (0.01,-5) [0|655.35] "" X
 SG_ B : 16|8@1- (1,-40) [-40|100] "" X
 SG_ C : 24|12@1+ (0.1,0) [0|409.5] "" X
 SG_ D : 36|4@1+ (1,0) [0|15] "" X
 SG_ E : 40|24@1+ (1,0) [0|16777214] "" X
VAL_ 1 D 15 "SNA" 14 "Invalid" 1 "on" 0 "off";
BO_ 2566844926 N: 64 X
 SG_ K M : 0|4@1+ (1,0) [0|0] "" X
 SG_ F m1 : 400|64@1+ (1,0) [0|0] "" X
 SG_ G m1 : 71|63@0+ (1,0) [0|0] "" X
`

func TestDecodeDoesNotAllocate(t *testing.T) {
	plan := mustCompile(t, benchmarkText, "A", "B", "C", "D", "E", "K", "F", "G")
	frames := []*can.Frame{classic(1, 1, 2, 3, 4, 5, 6, 7, 8), classic(0x18FEF1FE|can.Extended, append([]byte{1}, make([]byte, 63)...)...), classic(2, 1)}
	readings := make([]Reading, 0, 8)
	n := 0
	if allocs := testing.AllocsPerRun(1000, func() {
		for _, f := range frames {
			readings = plan.Decode(f, readings[:0])
			n += len(readings)
		}
	}); allocs != 0 || n != 1001*8 {
		t.Errorf("%v allocations, %d readings", allocs, n)
	}
}

// TestDecodeIsOne decodes messages of random signals in both ways that a program has: the one that takes its time serves readings
// that do not fit dst.
func TestDecodeIsOne(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	fast, tables := 0, []map[int64]string{nil, {1: "SNA"}, {-1: "SNA"}, {5: "SNA", 3: "invalid"}}
	for range 3000 {
		m := &Message{ID: 1, Name: "M"}
		var wants []Want
		order := random.IntN(3)
		for i := range 1 + random.IntN(12) {
			s := &Signal{Name: strconv.Itoa(i), Start: random.IntN(60), Length: 1 + random.IntN([]int{5, 16, 62}[random.IntN(3)]), BigEndian: order == 0,
				Signed: random.IntN(3) == 0, Scale: []float64{1, 0.1, -2}[random.IntN(3)], Offset: float64(random.IntN(3)) * -20,
				Max: float64(random.IntN(2) * 900), Values: tables[max(random.IntN(20)-16, 0)]}
			if order == 2 && i == 5 {
				s.BigEndian = true
			}
			if slowNeed(s) <= 8 {
				m.Signals, wants = append(m.Signals, s), append(wants, Want{Signal: s.Name, Tag: 100 + i})
			}
		}
		plan, err := Compile(&File{[]*Message{m}}, wants)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			var data [8]byte
			binary.LittleEndian.PutUint64(data[:], random.Uint64()|random.Uint64()<<random.IntN(64))
			f := classic(1, data[:8-max(random.IntN(16)-12, 0)]...)
			slow, got := plan.Decode(f, nil), plan.Decode(f, make([]Reading, 0, len(wants)))
			if !slices.EqualFunc(got, slow, same) {
				t.Fatalf("%+v of %x: %+v, want %+v", m, f.Payload(), got, slow)
			}
			if p := plan.standard[1]; p != nil && p.Fast(f) {
				fast += len(got)
			}
		}
	}
	if fast < 100_000 {
		t.Errorf("only %d readings were made fast", fast)
	}
}

// same reports whether two readings are the same; a float may be no number.
func same(a, b Reading) bool {
	return a.Tag() == b.Tag() && a.Raw == b.Raw && math.Float64bits(a.Physical) == math.Float64bits(b.Physical) && a.Signed() == b.Signed() && a.Available() == b.Available()
}

func FuzzDecode(f *testing.F) {
	f.Add(uint16(7), uint8(16), uint8(1), []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(uint16(3), uint8(64), uint8(2), []byte("0123456789"))
	f.Add(uint16(448), uint8(64), uint8(7), []byte(strings.Repeat("\xa5", 64)))
	f.Fuzz(func(t *testing.T, start uint16, length, flags uint8, data []byte) {
		s := &Signal{Name: "S", Start: int(start), Length: int(length), BigEndian: flags&1 != 0, Signed: flags&2 != 0, Float: flags&4 != 0, Scale: 1}
		plan, err := Compile(&File{[]*Message{{ID: 1, Name: "M", Signals: []*Signal{s}}}}, []Want{{Signal: "S", Tag: 0}})
		if err != nil {
			return
		}
		frame := classic(1, data[:min(len(data), can.MaxData)]...)
		readings := plan.Decode(frame, nil)
		if (len(readings) == 1) != (slowNeed(s) <= int(frame.Len)) {
			t.Fatalf("%+v: %d readings of %d bytes", s, len(readings), frame.Len)
		}
		if len(readings) == 1 && readings[0].Raw != slowBits(s, frame) {
			t.Fatalf("%+v: %+v", s, readings[0])
		}
		if again := plan.Decode(frame, make([]Reading, 0, 1)); !slices.EqualFunc(again, readings, same) { // the short way, where there is one
			t.Fatalf("%+v: %+v with room, %+v without", s, again, readings)
		}
	})
}
