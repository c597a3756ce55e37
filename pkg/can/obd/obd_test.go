package obd

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestRequests(t *testing.T) {
	t.Parallel()
	msg, err := AppendPIDs(nil, 0x0D, 0xA6)
	if err != nil || !bytes.Equal(msg, []byte{0x01, 0x0D, 0xA6}) {
		t.Errorf("%x, %v", msg, err)
	}
	msg, err = AppendDIDs([]byte{9}, 0xF4A6, 0x404C)
	if err != nil || !bytes.Equal(msg, []byte{9, 0x22, 0xF4, 0xA6, 0x40, 0x4C}) {
		t.Errorf("%x, %v", msg, err)
	}
	many := make([]uint16, MaxDIDs+1)
	for i := range many {
		many[i] = uint16(i)
	}
	for name, f := range map[string]func() ([]byte, error){
		"1 to 6":      func() ([]byte, error) { return AppendPIDs(nil) },
		"request 7":   func() ([]byte, error) { return AppendPIDs(nil, 1, 2, 3, 4, 5, 6, 7) },
		"PID 0D":      func() ([]byte, error) { return AppendPIDs(nil, 0x0D, 1, 0x0D) },
		"1 to 32":     func() ([]byte, error) { return AppendDIDs(nil) },
		"request 33":  func() ([]byte, error) { return AppendDIDs(nil, many...) },
		"DID F4A6 tw": func() ([]byte, error) { return AppendDIDs(nil, 0xF4A6, 0xF4A6) },
	} {
		if msg, err := f(); err == nil || !strings.Contains(err.Error(), name) || msg != nil {
			t.Errorf("%s: %x, %v", name, msg, err)
		}
	}
	for _, msg := range [][]byte{nil, {1}, {0x22}, {0x22, 1}, {0x22, 1, 2, 3}, {1, 1, 1}, {1, 1, 2, 3, 4, 5, 6, 7}, {9, 2}} {
		if _, ids, err := ParseRequest(msg); err == nil {
			t.Errorf("%x was read as %x", msg, ids)
		}
	}
}

// Law: parsing an encoded request gives what was encoded.
func TestRequestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var msg []byte
		var err error
		var want []uint16
		service := ServiceReadData
		if rapid.Bool().Draw(t, "pids") {
			service = ServiceCurrentData
			pids := rapid.SliceOfNDistinct(rapid.Uint8(), 1, MaxPIDs, rapid.ID).Draw(t, "pid")
			for _, p := range pids {
				want = append(want, uint16(p))
			}
			msg, err = AppendPIDs(nil, pids...)
		} else {
			want = rapid.SliceOfNDistinct(rapid.Uint16(), 1, MaxDIDs, rapid.ID).Draw(t, "did")
			msg, err = AppendDIDs(nil, want...)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, ids, err := ParseRequest(msg)
		if err != nil || got != service || !cmp.Equal(ids, want) {
			t.Fatalf("%x is %02X %x, %v", msg, got, ids, err)
		}
	})
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	sizes := func(service uint8, id uint16) int {
		switch {
		case service == ServiceReadData && id == 0x404C:
			return 3
		case service == ServiceReadData && id == 0xF190:
			return Rest
		}
		return StandardSize(service, id)
	}
	for _, c := range []struct {
		name string
		msg  []byte
		want Answer
		says string
	}{
		{"speed", []byte{0x41, 0x0D, 50}, Answer{Kind: Positive, Service: 1, Records: []Record{{0x0D, []byte{50}}}}, ""},
		{"support", []byte{0x41, 0, 1, 2, 3, 4}, Answer{Kind: Positive, Service: 1, Records: []Record{{0, []byte{1, 2, 3, 4}}}}, ""},
		{"two DIDs", []byte{0x62, 0x40, 0x4C, 1, 2, 3, 0xF4, 0x0D, 9}, Answer{Kind: Positive, Service: 0x22, Records: []Record{{0x404C, []byte{1, 2, 3}}, {0xF40D, []byte{9}}}}, ""},
		{"rest", []byte{0x62, 0xF1, 0x90, 1, 2, 3, 4, 5}, Answer{Kind: Positive, Service: 0x22, Records: []Record{{0xF190, []byte{1, 2, 3, 4, 5}}}}, ""},
		{"negative", []byte{0x7F, 0x22, 0x31}, Answer{Kind: Negative, Service: 0x22, Code: RequestOutOfRange}, ""},
		{"pending", []byte{0x7F, 0x01, 0x78}, Answer{Kind: Negative, Service: 1, Code: ResponsePending}, ""},
		{"somebody's refusal", []byte{0x7F, 0x3E, 0x12}, Answer{Kind: Negative, Service: 0x3E, Code: 0x12}, ""},
		{"foreign", []byte{0x49, 0x02, 1}, Answer{Service: 0x49}, ""},
		{"a request", []byte{0x01, 0x0D}, Answer{Service: 1}, ""},
		{"empty", nil, Answer{}, "it is empty"},
		{"short refusal", []byte{0x7F, 0x22}, Answer{}, "negative answer of 2 bytes"},
		{"long refusal", []byte{0x7F, 0x22, 0x31, 0}, Answer{}, "negative answer of 4 bytes"},
		{"names nothing", []byte{0x41}, Answer{Service: 1}, "names nothing"},
		{"no data", []byte{0x41, 0x0D}, Answer{Service: 1}, "last 1 bytes are an identifier without data"},
		{"half a DID", []byte{0x62, 0xF4}, Answer{Service: 0x22}, "last 1 bytes"},
		{"bare DID", []byte{0x62, 0xF4, 0x0D}, Answer{Service: 0x22}, "last 2 bytes"},
		{"short", []byte{0x41, 0xA6, 0, 1, 2}, Answer{Service: 1}, "A6 has 4 bytes of data and only 3"},
		{"trailing", []byte{0x41, 0x0D, 50, 0}, Answer{Service: 1}, "last 1 bytes"},
		{"padded", []byte{0x41, 0x0D, 50, 0, 0, 0}, Answer{Service: 1}, "00 has 4 bytes of data and only 2"},
		{"unknown DID", []byte{0x62, 0x12, 0x34, 0}, Answer{Service: 0x22}, "the length of 1234 is not known"},
		{"seven PIDs", []byte{0x41, 4, 1, 5, 1, 6, 1, 7, 1, 8, 1, 9, 1, 0xA, 1}, Answer{Service: 1}, "more than 6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := Answer{Kind: Negative, Service: 9, Code: 9, Records: make([]Record, 0, 8)}
			err := a.Parse(c.msg, sizes)
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("error %v, want %q", err, c.says)
			}
			if len(a.Records) == 0 {
				a.Records = nil
			}
			if d := cmp.Diff(c.want, a); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	a := Answer{Kind: Negative, Service: 0x22, Code: 0x31}
	if got := a.String(); got != "negative answer to service 22: requestOutOfRange" {
		t.Error(got)
	}
	if got := NRC(0xE3).String(); got != "code E3" {
		t.Error(got)
	}
	names := make(map[string]int)
	for n := range 256 {
		if s := NRC(n).String(); !strings.HasPrefix(s, "code ") {
			names[s]++
			if names[s] > 1 {
				t.Errorf("two codes are called %s", s)
			}
		}
		if want := n == 0x78; NRC(n).Pending() != want {
			t.Errorf("code %02X pending: %v", n, !want)
		}
		if want := n == 0x21 || n == 0x22; NRC(n).Passing() != want {
			t.Errorf("code %02X passing: %v", n, !want)
		}
	}
	if foreign := (&Answer{Service: 0x49}).String(); foreign != "message of foreign service 49" {
		t.Error(foreign)
	}
}

// The examples are of SAE J1979 appendix B: scaling at the lowest and highest value, and one between.
func TestParameters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pid       uint8
		data      []byte
		physical  float64
		available bool
	}{
		{0x00, []byte{0xBE, 0x3E, 0xA8, 0x13}, 0xBE3EA813, true},
		{0x04, []byte{255}, 100, true}, {0x04, []byte{0}, 0, true},
		{0x05, []byte{0}, -40, true}, {0x05, []byte{255}, 215, true},
		{0x0C, []byte{0xFF, 0xFF}, 16383.75, true}, {0x0C, []byte{0x1A, 0xF8}, 1726, true},
		{0x0D, []byte{255}, 255, true},
		{0x10, []byte{0xFF, 0xFF}, 655.35, true},
		{0x1F, []byte{0x01, 0x02}, 258, true},
		{0x21, []byte{0xFF, 0xFF}, 65535, true},
		{0x2F, []byte{51}, 20, true},
		{0x31, []byte{0x27, 0x10}, 10000, true},
		{0x33, []byte{100}, 100, true},
		{0x42, []byte{0x31, 0x38}, 12.6, true},
		{0x46, []byte{60}, 20, true},
		{0x51, []byte{8}, 8, true}, {0x51, []byte{0x18}, 24, false}, {0x51, []byte{0xFF}, 255, false},
		{0x5B, []byte{255}, 100, true},
		{0x5E, []byte{0xFF, 0xFF}, 3276.75, true},
		{0xA4, []byte{3, 0x10, 0x0E, 0x10}, 3.6, true},
		{0xA6, []byte{0, 0x0A, 0, 0xF4}, 65560.4, true}, {0xA6, []byte{0xFF, 0xFF, 0xFF, 0xFE}, 429496729.4, true},
		{0xA6, []byte{0xFF, 0xFF, 0xFF, 0xFF}, 429496729.5, false},
		{0xA6, []byte{0, 0, 1}, 0, false},
	} {
		p, ok := PID(c.pid)
		v := p.Decode(c.data)
		if !ok || p.PID != c.pid || math.Abs(v.Physical-c.physical) > 1e-6 || v.Available != c.available {
			t.Errorf("PID %02X of %x is %+v, want %v %v", c.pid, c.data, v, c.physical, c.available)
		}
		if m, ok := DID(MirrorDID(c.pid)); !ok || m != p {
			t.Errorf("DID %04X does not repeat PID %02X", MirrorDID(c.pid), c.pid)
		}
	}
	if _, ok := DID(0xF3A6); ok {
		t.Error("F3A6 is no mirror")
	}
	for n := range 256 {
		p, ok := PID(uint8(n))
		if !ok {
			continue
		}
		if p.Size < p.Offset+p.Length || p.Name == "" || p.Check() != nil || p.Min >= p.Max {
			t.Errorf("PID %02X: %+v", n, p)
		}
		if StandardSize(ServiceCurrentData, uint16(n)) != p.Size || StandardSize(ServiceReadData, MirrorDID(uint8(n))) != p.Size {
			t.Errorf("PID %02X has two sizes", n)
		}
		// The whole range of every number fits between its bounds, whatever the rounding.
		lowest, highest := make([]byte, p.Size), bytes.Repeat([]byte{0xFF}, p.Size)
		if v := p.Decode(lowest); !v.Available {
			t.Errorf("PID %02X: the lowest value is out of its range: %+v", n, v)
		}
		if v := p.Decode(highest); !v.Available && n != 0xA6 && n != 0x51 {
			t.Errorf("PID %02X: the highest value is out of its range: %+v", n, v)
		}
	}
	if StandardSize(ServiceCurrentData, 0x1A6) != 0 || StandardSize(ServiceReadData, 0xA6) != 0 || StandardSize(9, 0xA6) != 0 {
		t.Error("a length of what is not in the standard")
	}
}

func TestSupported(t *testing.T) {
	t.Parallel()
	const bitmap = 0x80000001 // the first and the last
	for pid := range 256 {
		if got, want := Supported(0x20, bitmap, uint8(pid)), pid == 0x21 || pid == 0x40; got != want {
			t.Errorf("PID %02X: %v", pid, got)
		}
	}
}

func TestLayout(t *testing.T) {
	t.Parallel()
	data := []byte{0xFF, 0xFE, 0x80, 1, 2, 3, 4, 5, 6}
	for _, c := range []struct {
		l    Layout
		want Value
	}{
		{Layout{Length: 1, Scale: 1, AllOnesAbsent: true}, Value{0xFF, 255, false}},
		{Layout{Length: 1, Scale: 1}, Value{0xFF, 255, true}},
		{Layout{Length: 2, Scale: 1, Signed: true}, Value{0xFFFE, -2, true}},
		{Layout{Length: 2, Scale: 1, AllOnesAbsent: true}, Value{0xFFFE, 65534, true}},
		{Layout{Offset: 2, Length: 3, Scale: 0.5, Add: 1}, Value{0x800102, 4194434, true}},
		{Layout{Offset: 2, Length: 1, Scale: 1, Signed: true}, Value{0x80, -128, true}},
		{Layout{Offset: 1, Length: 8, Scale: 1, Signed: true}, Value{0xFE80010203040506, -0x017FFEFDFCFBFAFA, true}},
		{Layout{Offset: 2, Length: 8, Scale: 1}, Value{}},
		{Layout{Offset: 9, Length: 1, Scale: 1}, Value{}},
		{Layout{Offset: -1, Length: 1, Scale: 1}, Value{}},
		{Layout{Length: 9, Scale: 1}, Value{}},
		{Layout{}, Value{}},
	} {
		if got := c.l.Decode(data); got != c.want {
			t.Errorf("%+v is %+v, want %+v", c.l, got, c.want)
		}
	}
	for says, l := range map[string]Layout{
		"length of 0": {Scale: 1}, "length of 9": {Length: 9, Scale: 1}, "offset -1": {Offset: -1, Length: 1, Scale: 1},
		"offset 4096": {Offset: 4096, Length: 1, Scale: 1}, "scale 0": {Length: 1}, "scale NaN": {Length: 1, Scale: math.NaN()},
		"scale +Inf": {Length: 1, Scale: math.Inf(1)}, "to add": {Length: 1, Scale: 1, Add: math.Inf(-1)},
	} {
		if err := l.Check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if err := (Layout{Length: 8, Scale: -1}).Check(); err != nil {
		t.Error(err)
	}
}

func TestAllocations(t *testing.T) {
	var a Answer
	msg := []byte{0x41, 0x0D, 50, 0xA6, 0, 1, 2, 3}
	p, _ := PID(0xA6)
	layout := Layout{Length: 3, Scale: 0.1}
	var sum float64
	if n := testing.AllocsPerRun(100, func() {
		if err := a.Parse(msg, StandardSize); err != nil {
			t.Fatal(err)
		}
		sum += p.Decode(a.Records[1].Data).Physical + layout.Decode(a.Records[1].Data).Physical
	}); n != 0 || sum == 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzAnswer: no panic, records within the message, in order and without overlap, and an accepted answer is its records.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte{0x41, 0x0D, 50, 0xA6, 0, 1, 2, 3}, 2)
	f.Add([]byte{0x62, 0xF4, 0xA6, 0, 1, 2, 3, 0x12, 0x34, 9, 9}, 2)
	f.Add([]byte{0x62, 0x12, 0x34, 1, 2, 3}, Rest)
	f.Add([]byte{0x7F, 0x22, 0x78}, 0)
	f.Add([]byte{0x41}, 0)
	f.Fuzz(func(t *testing.T, msg []byte, other int) {
		size := func(service uint8, id uint16) int {
			if n := StandardSize(service, id); n != 0 {
				return n
			}
			return other
		}
		var a Answer
		err := a.Parse(msg, size)
		if err != nil && (len(a.Records) != 0 || a.Kind != Foreign) {
			t.Fatalf("%v, and yet %s", err, &a)
		}
		if cap(a.Records) > 2*MaxDIDs {
			t.Fatalf("room for %d records", cap(a.Records))
		}
		if a.Kind != Positive {
			return
		}
		again := []byte{a.Service | 0x40}
		for _, r := range a.Records {
			if len(r.Data) == 0 {
				t.Fatal("a record without data")
			}
			if a.Service == ServiceReadData {
				again = append(again, byte(r.ID>>8))
			}
			again = append(append(again, byte(r.ID)), r.Data...)
			if p, ok := PID(uint8(r.ID)); ok {
				if v := p.Decode(r.Data); v.Available && (v.Physical < p.Min || v.Physical > p.Max) {
					t.Fatalf("%+v out of range", v)
				}
			}
			(Layout{Offset: other, Length: other & 15, Scale: 1}).Decode(r.Data)
		}
		if !bytes.Equal(again, msg) {
			t.Fatalf("%x became %x", msg, again)
		}
	})
}
