package can

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestFilter(t *testing.T) {
	// Any priority and source address of PGN 65217 (J1939-21): the middle 18 bits.
	pgn := Filter{ID: Extended | 0xFEC100, Mask: Extended | 0x3FFFF00}
	for _, tt := range []struct {
		name   string
		filter Filter
		id     ID
		want   bool
	}{
		{"itself", Exact(0x7E8), 0x7E8, true},
		{"neighbour", Exact(0x7E8), 0x7E9, false},
		{"same bits, other format", Exact(0x7E8), Extended | 0x7E8, false},
		{"extended", Exact(Extended | 0x18DAF110), Extended | 0x18DAF110, true},
		{"top bit differs", Exact(Extended | 0x18DAF110), Extended | 0x08DAF110, false},
		{"standard, other format", Exact(Extended | 0x7E8), 0x7E8, false},
		{"any source", pgn, Extended | 0x18FEC1EE, true},
		{"any priority", pgn, Extended | 0x0CFEC100, true},
		{"other group", pgn, Extended | 0x18FEC000, false},
		{"either format", Filter{ID: Extended | 0x12, Mask: MaxExtended}, 0x12, true},
		{"bits outside the mask", Filter{ID: 0x7FF, Mask: Extended | 0x700}, 0x701, true},
		{"zero", Filter{}, Extended | 0x1FFFFFFF, true},
	} {
		if got := tt.filter.Match(tt.id); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// A Matcher is the list, only faster.
func TestMatcherEqualsList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few bits, so that identifiers and filters meet.
		id := rapid.Custom(func(t *rapid.T) ID {
			return ID(rapid.SampledFrom([]uint32{0, 0x7F0, 1 << 31, 1<<31 | 0x18FEC100, 1<<31 | 0x7F0}).Draw(t, "base") | rapid.Uint32Range(0, 15).Draw(t, "low"))
		})
		filters := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Filter {
			if rapid.Bool().Draw(t, "exact") {
				return Exact(id.Draw(t, "id"))
			}
			mask := rapid.SampledFrom([]ID{Extended, Extended | 0x7F0, MaxExtended, 0x1FFFFFF0, 0x7F3, 0x7FF, Extended | MaxExtended | 1<<30}).Draw(t, "mask")
			return Filter{ID: id.Draw(t, "id"), Mask: mask}
		}), 0, 8).Draw(t, "filters")
		m := NewMatcher(filters)
		for range 20 {
			id := id.Draw(t, "frame")
			want := slices.ContainsFunc(filters, func(f Filter) bool { return f.Match(id) })
			if got := m.Match(id); got != want {
				t.Fatalf("%s: %v, the list says %v", id, got, want)
			}
		}
	})
	if !NewMatcher(nil).Match(0x123) || !NewMatcher(nil).Match(Extended|1) {
		t.Error("nil refuses")
	}
}
