package dbc

import (
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
	})
}
