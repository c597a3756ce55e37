package tally

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
)

func TestText(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]float64{
		"0": 0, "65625000": 6.5625e7, "-65625000": -6.5625e7, "4294967295": math.MaxUint32, "1234567.5": 1234567.5, "0.0000125": 1.25e-5,
		"999999999999999": 999_999_999_999_999, "-123456789.012345": -123456789.012345, "1000000000000000000": 1e18,
		// Sixteen digits and more are those of the binary number, and what is longer than a column is no help.
		"1.234567890123456e+15": 1_234_567_890_123_456, "1.8446744073709552e+19": math.MaxUint64, "0.30000000000000004": 0.30000000000000004,
		"1e+24": 1e24, "1e-300": 1e-300, "-1.7976931348623157e+308": -math.MaxFloat64,
	} {
		if got := text(&v); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := text(nil); got != "-" {
		t.Errorf("nothing is %q", got)
	}
}

func sum() *Tally {
	t := New([]Database{{File: "car.dbc", Bus: "can0", Messages: 1, Signals: 3}}, []string{"M.Odometer", "M.Speed", "M.Never"})
	for _, bus := range []string{"can0", "can1"} {
		t.Begin(bus)
	}
	for i, id := range []can.ID{0x123, 0x123, 0x124, 0x123 | can.Extended} {
		t.Frame(&can.Frame{ID: id, Bus: uint8(i / 3)})
	}
	for _, v := range []float64{65625000, 65625250, 65624750} {
		t.Value(0, 0, v, true)
	}
	t.Value(1, 0, 7, true)
	t.Value(1, 1, 999, false)
	return t
}

func TestWriteText(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := sum().WriteText(&out, 2); err != nil {
		t.Fatal(err)
	}
	const want = `car.dbc on can0: 1 messages, 3 signals, 0 warnings
capture: 4 frames, 2 broken lines

BUS   FRAMES  IDS
can0  3       2
can1  1       1

SIGNAL      BUS   COUNT  FIRST     LAST      MIN       MAX       NOT AVAILABLE
M.Odometer  can0  3      65625000  65624750  65624750  65625250  0
M.Odometer  can1  1      7         7         7         7         0
M.Speed     can1  1      -         -         -         -         1

2 signals seen, 1 not
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// TestWriteJSON: numbers are JSON's, and what is empty is a list.
func TestWriteJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := sum().WriteJSON(&out, 2); err != nil {
		t.Fatal(err)
	}
	flat := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		`"dbc": [ { "file": "car.dbc", "bus": "can0", "messages": 1, "signals": 3, "warnings": 0 } ], "frames": 4, "broken_lines": 2,`,
		`{ "signal": "M.Odometer", "bus": "can0", "count": 3, "not_available": 0, "first": 65625000, "last": 65624750, "min": 65624750, "max": 65625250 }`,
		`"count": 1, "not_available": 1, "first": null, "last": null, "min": null, "max": null } ], "signals_not_seen": 1 }`,
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("%s lacks %s", flat, want)
		}
	}
	out.Reset()
	if err := New(nil, nil).WriteJSON(&out, 0); err != nil || strings.Contains(out.String(), "null") {
		t.Errorf("%v %s", err, out.String())
	}
}

// TestManyIdentifiers: what is beyond the bound is told as a lower bound, and costs no memory.
func TestManyIdentifiers(t *testing.T) {
	t.Parallel()
	s := New(nil, nil)
	s.Begin("can0")
	for i := range maxIDs + 2 {
		s.Frame(&can.Frame{ID: can.Extended | can.ID(i)})
	}
	s.Frame(&can.Frame{ID: can.Extended}) // known
	var out bytes.Buffer
	if err := s.WriteText(&out, 0); err != nil || len(s.seen) != maxIDs || !strings.Contains(out.String(), "can0  65539   65536 and more\n") {
		t.Errorf("%v, %d, %s", err, len(s.seen), out.String())
	}
}

type full struct{}

var errFull = errors.New("disk full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestFull(t *testing.T) {
	t.Parallel()
	if err := sum().WriteText(full{}, 0); !errors.Is(err, errFull) {
		t.Error(err)
	}
	if err := sum().WriteJSON(full{}, 0); !errors.Is(err, errFull) {
		t.Error(err)
	}
}
