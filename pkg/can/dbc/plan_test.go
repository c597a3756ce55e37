package dbc

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
)

// mustCompile parses text, which must give no warning, and compiles the signals, tagged by position.
func mustCompile(t testing.TB, text string, signals ...string) *Plan {
	t.Helper()
	file, warnings := Parse("x.dbc", []byte(text))
	if len(warnings) > 0 {
		t.Fatal(warnings)
	}
	var wants []Want
	for tag, signal := range signals {
		wants = append(wants, Want{Signal: signal, Tag: tag})
	}
	plan, err := Compile(file, wants)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func classic(id can.ID, data ...byte) *can.Frame {
	f := &can.Frame{ID: id}
	if len(data) > 8 {
		f.Flags = can.FD
	}
	if !f.SetPayload(data) {
		panic("too long")
	}
	return f
}

// slowBits reads a signal bit by bit, in the order the DBC format numbers them.
func slowBits(s *Signal, f *can.Frame) (raw uint64) {
	bit := s.Start
	for i := range s.Length {
		b := uint64(f.Data[bit/8] >> (bit % 8) & 1)
		if !s.BigEndian {
			raw |= b << i
			bit++
			continue
		}
		raw = raw<<1 | b
		if bit%8 == 0 {
			bit += 15 // the most significant bit of the next byte
		} else {
			bit--
		}
	}
	return raw
}

// slowNeed is the number of bytes a signal reaches into.
func slowNeed(s *Signal) int {
	if s.BigEndian {
		return s.Start/8 + 1 + (s.Length-(s.Start%8+1)+7)/8
	}
	return (s.Start+s.Length-1)/8 + 1
}

// TestDecodeEveryPlace decodes every possible field of a 64-byte frame.
func TestDecodeEveryPlace(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	frame := can.Frame{ID: 1, Flags: can.FD}
	for i := range frame.Data {
		frame.Data[i] = byte(random.Uint32())
	}
	var readings []Reading
	n := 0
	for start := range 512 {
		for length := 1; length <= 64; length++ {
			s := &Signal{Name: "S", Start: start, Length: length, Scale: 1, BigEndian: true, Signed: (start+length)%2 == 0}
			for range 2 {
				s.BigEndian = !s.BigEndian
				plan, err := Compile(&File{[]*Message{{ID: 1, Name: "M", Signals: []*Signal{s}}}}, []Want{{Signal: "S", Tag: 7}})
				need := slowNeed(s)
				if (err != nil) != (need > 64) {
					t.Fatalf("%+v reaches byte %d: %v", s, need, err)
				}
				if err != nil {
					continue
				}
				n++
				for _, frame.Len = range []uint8{uint8(need - 1), uint8(need)} {
					readings = plan.Decode(&frame, readings[:0])
					if int(frame.Len) < need {
						if len(readings) != 0 {
							t.Fatalf("%+v: a reading from %d bytes, which needs %d", s, frame.Len, need)
						}
						continue
					}
					raw := slowBits(s, &frame)
					signed := int64(raw)
					if s.Signed {
						signed = int64(raw<<(64-length)) >> (64 - length)
					}
					if len(readings) != 1 || readings[0].Raw != raw || readings[0].Signed() != signed || readings[0].Tag() != 7 {
						t.Fatalf("%+v: %+v, want %x %d", s, readings, raw, signed)
					}
					physical := float64(raw)
					if s.Signed {
						physical = float64(signed)
					}
					if readings[0].Physical != physical {
						t.Fatalf("%+v: %v, want %v", s, readings[0].Physical, physical)
					}
				}
			}
		}
	}
	if n < 60_000 {
		t.Errorf("only %d fields", n)
	}
}

func TestAvailable(t *testing.T) {
	t.Parallel()
	const text = `BO_ 1 M: 8 X
 SG_ Byte : 0|8@1+ (1,0) [0|0] "" X
 SG_ Seven : 0|7@1+ (1,0) [0|0] "" X
 SG_ Minus : 0|8@1- (1,0) [0|0] "" X
 SG_ Full : 0|8@1+ (1,0) [0|255] "" X
 SG_ Range : 0|8@1+ (0.2,0) [0|50.8] "" X
 SG_ Rough : 0|8@1- (2,1) [-9.4|10.6] "" X
 SG_ Backwards : 0|8@1+ (1,0) [5|3] "" X
 SG_ Table : 0|4@1+ (1,0) [0|0] "" X
 SG_ Signed : 0|4@1- (1,0) [0|0] "" X
 SG_ Flag : 0|1@1+ (1,0) [0|0] "" X
 SG_ Pair : 0|2@1+ (1,0) [0|0] "" X
 SG_ Falling : 0|8@1+ (-1,100) [0|100] "" X
VAL_ 1 Table 14 "SNA" 3 "not available" 5 "Invalid request" 300 "SNA" -1 "invalid" -300 "SNA" ;
VAL_ 1 Signed 15 "SNA" -7 "N/A" 7 "fine" ;
VAL_ 1 Flag 0 "Invalid" 1 "Valid" ;
VAL_ 1 Pair 2 "Invalid" ;
`
	tests := []struct {
		signal string
		absent func(raw byte) bool
	}{
		{"Byte", func(raw byte) bool { return raw == 255 }},
		{"Seven", func(raw byte) bool { return false }},
		{"Minus", func(raw byte) bool { return false }},
		{"Full", func(raw byte) bool { return raw == 255 }},
		{"Range", func(raw byte) bool { return raw == 255 }}, // 254 * 0.2 is above 50.8 by rounding only
		{"Rough", func(raw byte) bool { v := 2*int(int8(raw)) + 1; return v < -9 || v > 11 }},
		{"Backwards", func(raw byte) bool { return raw == 255 }},
		{"Table", func(raw byte) bool { return raw == 14 || raw == 3 || raw == 15 }},
		{"Signed", func(raw byte) bool { return raw == 15 || raw == 9 }},
		{"Flag", func(raw byte) bool { return false }},
		{"Pair", func(raw byte) bool { return raw == 2 }},
		{"Falling", func(raw byte) bool { return raw > 100 }},
	}
	for _, test := range tests {
		plan := mustCompile(t, text, test.signal)
		for raw := range 256 {
			r := plan.Decode(classic(1, byte(raw)), nil)
			if len(r) != 1 || r[0].Available() == test.absent(byte(r[0].Raw)) {
				t.Errorf("%s of %d: %+v", test.signal, raw, r)
			}
		}
	}
	// Never clamped: the raw value is always there.
	if r := mustCompile(t, text, "Range").Decode(classic(1, 255), nil); r[0].Raw != 255 || r[0].Physical != 51 {
		t.Errorf("%+v", r)
	}
	wide := mustCompile(t, "BO_ 1 M: 8 X\n SG_ W : 0|64@1+ (1,0) [0|0] \"\" X\nVAL_ 1 W 18446744073709551614 \"SNA\" -3 \"SNA\";", "W")
	for low, absent := range map[byte]bool{255: true, 254: true, 253: true, 252: false} {
		if r := wide.Decode(classic(1, low, 255, 255, 255, 255, 255, 255, 255), nil); r[0].Available() == absent {
			t.Errorf("%d: %+v", low, r)
		}
	}
}

func TestFloats(t *testing.T) {
	t.Parallel()
	plan := mustCompile(t, `BO_ 1 M: 12 X
 SG_ F : 7|32@0- (2,1) [-0.1|0.1] "" X
 SG_ D : 32|64@1- (1,0) [0|0.1] "" X
SIG_VALTYPE_ 1 F : 1;
SIG_VALTYPE_ 1 D : 2;`, "F", "D")
	decode := func(f float32, d float64) [2]Reading {
		data := binary.BigEndian.AppendUint32(nil, math.Float32bits(f))
		r := plan.Decode(classic(1, binary.LittleEndian.AppendUint64(data, math.Float64bits(d))...), nil)
		if len(r) != 2 || r[0].Raw != uint64(math.Float32bits(f)) || r[1].Raw != math.Float64bits(d) {
			t.Fatalf("%+v", r)
		}
		return [2]Reading{r[0], r[1]}
	}
	v := decode(-0.45, 0.1)
	if v[0].Physical != 2*float64(float32(-0.45))+1 || !v[0].Available() || v[1].Physical != 0.1 || !v[1].Available() {
		t.Errorf("%+v", v)
	}
	v = decode(float32(math.Inf(1)), math.NaN())
	if v[0].Available() || v[1].Available() || !math.IsInf(v[0].Physical, 1) || !math.IsNaN(v[1].Physical) {
		t.Errorf("not finite: %+v", v)
	}
	v = decode(-0.44, 0.1000001)
	if v[0].Available() || v[1].Available() {
		t.Errorf("outside the range: %+v", v)
	}
}

func TestMultiplexing(t *testing.T) {
	t.Parallel()
	const text = `BO_ 1 M: 8 X
 SG_ S0 m0 : 8|8@1+ (1,0) [0|0] "" X
 SG_ Kind M : 4|4@1+ (1,0) [0|0] "" X
 SG_ Always : 0|4@1+ (1,0) [0|0] "" X
 SG_ S1 m1M : 8|8@1+ (1,0) [0|0] "" X
 SG_ Deep m0 : 16|8@1+ (1,0) [0|0] "" X
 SG_ Far m1 : 56|8@1+ (1,0) [0|0] "" X
SG_MUL_VAL_ 1 Deep S1 3-5, 9-9;
`
	names := []string{"S0", "Kind", "Always", "S1", "Deep", "Far"}
	plan := mustCompile(t, text, names...)
	for _, test := range []struct {
		data []byte
		want string
	}{
		{[]byte{0x02, 7, 9}, "S0=7 Kind=0 Always=2"},
		{[]byte{0x12, 2, 9}, "Kind=1 Always=2 S1=2"},
		{[]byte{0x12, 3, 9}, "Kind=1 Always=2 S1=3 Deep=9"},
		{[]byte{0x12, 5, 9}, "Kind=1 Always=2 S1=5 Deep=9"},
		{[]byte{0x12, 6, 9}, "Kind=1 Always=2 S1=6"},
		{[]byte{0x12, 9, 9, 0, 0, 0, 0, 8}, "Kind=1 Always=2 S1=9 Deep=9 Far=8"},
		{[]byte{0x02, 9, 9, 0, 0, 0, 0, 8}, "S0=9 Kind=0 Always=2"}, // Deep's own switch is absent
		{[]byte{0x22, 9, 9}, "Kind=2 Always=2"},
		{[]byte{0x12}, "Kind=1 Always=2"},
		{nil, ""},
	} {
		var got []string
		for _, r := range plan.Decode(classic(1, test.data...), nil) {
			got = append(got, fmt.Sprintf("%s=%d", names[r.Tag()], r.Raw))
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%x: %q, want %q", test.data, got, test.want)
		}
	}
	// A frame that ends before the switch does not say what it carries.
	late := mustCompile(t, "BO_ 1 M: 8 X\n SG_ K M : 56|8@1+ (1,0) [0|0] \"\" X\n SG_ S m0 : 0|8@1+ (1,0) [0|0] \"\" X\n", "S")
	if short, full := late.Decode(classic(1, 1), nil), late.Decode(classic(1, make([]byte, 8)...), nil); len(short) != 0 || len(full) != 1 {
		t.Errorf("without the switch %v, with it %v", short, full)
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	file, _ := Parse("x.dbc", []byte(`BO_ 1 A: 8 X
 SG_ Speed : 0|8@1+ (1,0) [0|0] "" X
 SG_ Loop m0M : 0|8@1+ (1,0) [0|0] "" X
 SG_ Ring m0M : 0|8@1+ (1,0) [0|0] "" X
 SG_ Open m0 : 0|8@1+ (1,0) [0|0] "" X
BO_ 2 B: 8 X
 SG_ Speed : 0|8@1+ (1,0) [0|0] "" X
BO_ 3 B: 8 X
 SG_ Speed : 0|8@1+ (1,0) [0|0] "" X
SG_MUL_VAL_ 1 Loop Ring 0-0;
SG_MUL_VAL_ 1 Ring Loop 0-0;
`))
	file.Messages = append(file.Messages, &Message{ID: 0x800, Name: "C", Signals: []*Signal{
		{Name: "NoID", Length: 8}, {Name: "Zero"}, {Name: "Half", Length: 16, Float: true}}})
	plan, err := Compile(file, []Want{{Signal: "Speed", Tag: 0}, {Signal: "A.Speed", Tag: 1}, {Signal: "B.Speed", Tag: 2}, {Signal: "Velocity", Tag: 3}, {Signal: "Loop", Tag: 4}, {Signal: "Open", Tag: 5}, {Signal: "C.NoID", Tag: 6}})
	if plan != nil || err == nil {
		t.Fatal("compiled")
	}
	lines := strings.Split(err.Error(), "\n")
	want := []string{
		`cannot decode signal "Speed": the DBC file has 3 of that name: write A.Speed or B.Speed`,
		`cannot decode signal "B.Speed": the DBC file has 2 of that name`,
		`cannot decode signal "Velocity": the DBC file has none of that name`,
		`cannot decode signal "Loop": its multiplexors depend on each other in a circle`,
		`cannot decode signal "Open": it is multiplexed, and the DBC file does not say by which signal`,
		`cannot decode signal "C.NoID": its bits do not fit a CAN frame`,
	}
	if len(lines) != len(want) {
		t.Fatal(err)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("%q, want %q", lines[i], want[i])
		}
	}
	file.Messages[3].ID = 1
	for _, name := range []string{"Zero", "Half"} {
		if _, err := Compile(file, []Want{{Signal: name, Tag: 0}}); err == nil {
			t.Errorf("%s compiled", name)
		}
	}
}

func TestPlanFilters(t *testing.T) {
	t.Parallel()
	plan := mustCompile(t, `BO_ 2047 A: 8 X
 SG_ S : 0|8@1+ (1,0) [0|0] "" X
 SG_ T : 8|8@1+ (1,0) [0|0] "" X
BO_ 2147485695 B: 8 X
 SG_ U : 0|8@1+ (1,0) [0|0] "" X
BO_ 0 C: 8 X
 SG_ V : 0|8@1+ (1,0) [0|0] "" X
BO_ 5 D: 8 X
 SG_ W : 0|8@1+ (1,0) [0|0] "" X
`, "U", "T", "S", "V", "S")
	if diff := cmp.Diff([]can.Filter{can.Exact(0), can.Exact(0x7FF), can.Exact(0x7FF | can.Extended)}, plan.Filters()); diff != "" {
		t.Error(diff)
	}
	tags := func(f *can.Frame) (tags []int) {
		for _, r := range plan.Decode(f, nil) {
			tags = append(tags, r.Tag())
		}
		return tags
	}
	for id, want := range map[can.ID][]int{0x7FF: {1, 2, 4}, 0x7FF | can.Extended: {0}, 0: {3}, 5: nil, 0x800: nil, 5 | can.Extended: nil} {
		if got := tags(classic(id, 1, 2)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
		for _, flag := range []can.Flags{can.Remote, can.Error} {
			f := classic(id, 1, 2)
			if f.Flags = flag; tags(f) != nil {
				t.Errorf("%s with flags %d: readings", id, flag)
			}
		}
	}
	empty, err := Compile(&File{}, nil)
	if err != nil || len(empty.Filters()) != 0 || empty.Decode(classic(0, 1), nil) != nil {
		t.Error("empty plan", err)
	}
}
