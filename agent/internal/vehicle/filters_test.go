package vehicle

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/vss"
	"rawstone/pkg/can"
)

// traffic makes frames around what filters let pass: single answers and long ones, groups of every priority and source, transport of
// J1939 to everybody and to one, and frames that differ from all that in a bit of their identifier.
func traffic(t testing.TB, random *rand.Rand, filters []can.Filter, n int) (frames []can.Frame) {
	t.Helper()
	add := func(id can.ID, data ...byte) {
		f := can.Frame{ID: id, Time: int64(len(frames)) * 1_000_000}
		f.SetPayload(data)
		frames = append(frames, f)
	}
	noise := func() []byte {
		b := make([]byte, 8)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	to := func() can.ID { return []can.ID{0xFF, 0xF9, 0x00}[random.IntN(3)] << 8 }
	for range n {
		f := filters[random.IntN(len(filters))]
		id := f.ID | can.ID(random.Uint32())&can.MaxExtended&^f.Mask
		if !f.ID.IsExtended() {
			id &= can.MaxStandard
		}
		source := can.Extended | can.ID(random.IntN(256))
		switch random.IntN(8) {
		case 0:
			bit := can.ID(1) << random.IntN(29)
			if !id.IsExtended() {
				bit = 1 << random.IntN(11)
			}
			id ^= bit
			add(id, noise()...)
		case 1:
			add(id, 0x03, 0x41, 0x0D, byte(random.IntN(256)), 0xAA, 0xAA, 0xAA, 0xAA)
		case 2:
			add(id, 0x10, 0x0B, 0x41, 0x0D, byte(random.IntN(256)), 0x31, 0x12, 0x34)
			add(id, 0x21, 0xA6, 0x00, 0x01, 0xE2, byte(random.IntN(256)), 0xAA, 0xAA)
		case 3, 4: // of the group of the filter, or of 65217
			group := id >> 8 & 0x3FFFF
			if random.IntN(2) == 0 {
				group = 65217
			}
			kind, dest := byte(32), can.ID(0xFF00)
			if random.IntN(2) == 0 {
				kind, dest = 16, to()
			}
			add(source|0x1CEC0000|dest, kind, 9, 0, 2, 0xFF, byte(group), byte(group>>8), byte(group>>16))
			add(source|0x1CEB0000|dest, append([]byte{1}, noise()[1:]...)...)
			add(source|0x1CEB0000|dest, append([]byte{2}, noise()[1:]...)...)
		default:
			add(id, noise()...)
		}
	}
	return frames
}

// TestFiltersKeepWhatCounts holds that a Reader behind its own filters says exactly what one says that hears everything.
func TestFiltersKeepWhatCounts(t *testing.T) {
	t.Parallel()
	readers := map[string]func() *Reader{"every kind": func() *Reader { return everything(t) }}
	entries, err := os.ReadDir(shipped)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".yaml") {
			readers[e.Name()] = func() *Reader { return open(t, e.Name()) }
		}
	}
	for name, reader := range readers {
		all, behind := reader(), reader()
		filters := all.Filters(0)
		matcher := can.NewMatcher(filters)
		var want, got []vss.Sample
		for _, f := range traffic(t, rand.New(rand.NewPCG(3, 4)), filters, 5_000) {
			if err := all.Read(t.Context(), &f, func(s vss.Sample) { want = append(want, s) }); err != nil {
				t.Fatal(err)
			}
			if !matcher.Match(f.ID) {
				continue
			}
			if err := behind.Read(t.Context(), &f, func(s vss.Sample) { got = append(got, s) }); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(want, got); d != "" || len(want) < 500 {
			t.Errorf("%s: %d samples: %s", name, len(want), d)
		}
	}
}
