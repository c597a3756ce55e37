package socket

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// However many filters there are, the kernel gets no more than it takes, and lets pass whatever any of them does.
func TestNarrowIsWider(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOfN(rapid.Uint64(), 0, 64).Draw(t, "filters")
		var filters []Filter
		for i := range rapid.SampledFrom([]int{1, 8, 9, 40}).Draw(t, "times") {
			for _, r := range raw {
				f := Filter{ID: uint32(r) + uint32(i), Mask: uint32(r>>32) | 1<<31}
				filters = append(filters, f)
			}
		}
		got := narrow(filters)
		if len(got) > maxFilters {
			t.Fatalf("%d filters", len(got))
		}
		for _, f := range got {
			if f.Mask&(3<<29) != 0 || f.ID&^f.Mask != 0 {
				t.Fatalf("%x/%x", f.ID, f.Mask)
			}
		}
		for _, f := range filters {
			// What passes f is f.ID with any bits outside the mask; a frame's identifier has no bits 29 and 30.
			id := (f.ID&f.Mask | rapid.Uint32().Draw(t, "rest")&^f.Mask) &^ (3 << 29)
			if !slices.ContainsFunc(got, func(g Filter) bool { return (id^g.ID)&g.Mask == 0 }) {
				t.Fatalf("%x passes %x/%x and none of the kernel's", id, f.ID, f.Mask)
			}
		}
	})
}

func TestNarrowKeepsFew(t *testing.T) {
	all := []Filter{{0x7E8, 1<<31 | 1<<29 - 1}, {1<<31 | 0xFEC100, 1<<31 | 0x3FFFF00}, {0x7E8, 1<<31 | 1<<29 - 1}}
	if got := narrow(all); !slices.Equal(got, all[:2]) {
		t.Errorf("%x", got)
	}
	if got := narrow([]Filter{}); len(got) != 0 {
		t.Errorf("%x", got)
	}
	// 513 neighbours become pairs.
	var many []Filter
	for i := range uint32(maxFilters + 1) {
		many = append(many, Filter{i, 1<<31 | 0x7FF})
	}
	if got := narrow(many); len(got) != maxFilters/2+1 || got[0] != (Filter{0, 1<<31 | 0x7FE}) {
		t.Errorf("%d filters, the first %x", len(got), got[0])
	}
}
