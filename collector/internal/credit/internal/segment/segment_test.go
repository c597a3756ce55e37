package segment

import (
	"testing"

	"rawstone/pkg/wire"
)

// head returns a head that differs from every other.
func head(seq uint64) wire.Head {
	return wire.Head{Seq: seq, Day: uint32(seq), Commitment: wire.Commitment{byte(seq)}}
}

func closed(vehicle string, first, claimed, cut uint64) Segment {
	return Segment{vehicle, head(first), claimed, true, cut}
}

func open(vehicle string, first, claimed uint64) Segment {
	return Segment{Vehicle: vehicle, First: head(first), Head: claimed}
}

func TestOf(t *testing.T) {
	all := []Segment{closed("V1", 3, 5, 9), closed("V2", 9, 9, 9), closed("V2", 9, 12, 20), open("V1", 20, 25)}
	for _, c := range []struct {
		vehicle string
		to      uint64
		at      int
	}{{"V1", 2, 0}, {"V1", 3, 0}, {"V1", 4, 0}, {"V1", 9, 0}, {"V1", 20, 0}, {"V1", 21, 3}, {"V1", 99, 3}, {"V2", 4, 1}, {"V2", 9, 1}, {"V2", 10, 2}, {"V2", 99, 2}} {
		if at, _, ok := Find(all, c.vehicle, c.to, c.to); at != c.at || !ok {
			t.Errorf("%s to %d: segment %d (%v), want %d", c.vehicle, c.to, at, ok, c.at)
		}
	}
	if _, _, ok := Find(all, "V3", 1, 99); ok {
		t.Error("a vehicle that never had the key has a segment")
	}
	if _, _, ok := Find(nil, "V1", 1, 9); ok {
		t.Error("a key that was never bound has a segment")
	}
}

func TestCut(t *testing.T) {
	sold := []Segment{closed("V1", 3, 5, 9), closed("V1", 9, 9, 12), open("V1", 12, 12)}
	moved := []Segment{closed("V1", 3, 5, 9), closed("V2", 9, 9, 12), open("V1", 12, 14)}
	later := []Segment{closed("V1", 3, 5, 9), open("V1", 11, 11)}
	done := []Segment{closed("V1", 3, 9, 9), open("V1", 9, 9)}
	for name, c := range map[string]struct {
		all      []Segment
		vehicle  string
		from, to uint64
		at       int
		cut      uint64 // 0 for none
	}{
		"across one sale":                     {sold[:2], "V1", 5, 11, 1, 9},
		"across two":                          {sold, "V1", 5, 20, 2, 9},
		"across the second":                   {sold, "V1", 9, 20, 2, 12},
		"from within, with a forfeit":         {sold, "V1", 8, 20, 2, 9},
		"from before all":                     {sold, "V1", 1, 20, 2, 9},
		"under the last alone":                {sold, "V1", 12, 20, 2, 0},
		"up to the cut":                       {sold, "V1", 5, 9, 0, 0},
		"the car's, another car between":      {moved, "V1", 5, 20, 2, 9},
		"from the other car's time":           {moved, "V1", 9, 20, 2, 0},
		"the other car's own":                 {moved, "V2", 5, 20, 1, 0},
		"a cut that nothing begins at":        {later, "V1", 5, 20, 1, 0},
		"all up to the cut is claimed before": {done, "V1", 5, 20, 1, 0},
	} {
		at, got, ok := Find(c.all, c.vehicle, c.from, c.to)
		var want wire.Head
		if c.cut > 0 {
			want = head(c.cut)
		}
		if !ok || at != c.at || got != want {
			t.Errorf("%s: segment %d, divided at %+v, want %d, %d", name, at, got, c.at, c.cut)
		}
	}
}
