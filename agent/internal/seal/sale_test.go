package seal

import (
	"slices"
	"testing"

	"rawstone/pkg/wire"
)

// hear has the collector answer n claims at most, and reports whether there are no more.
func (w *world) hear(n int) bool {
	w.t.Helper()
	idle := 0
	for n > 0 && idle < 2 { // a turn may find that the next has more to do
		w.settle()
		_, body, ok := w.waiting(wire.KindClaim)
		if idle++; ok {
			w.receive(wire.KindClaim, body)
			idle, n = 0, n-1
		}
	}
	return n > 0
}

// A car is sold before the collector hears what it drove: what lies before the cut is claimed for the seller to the last day, what lies behind
// it for the buyer, wherever the power goes, and no claim lies across the cut.
func TestSoldCar(t *testing.T) {
	tiers := []uint32{10, 20, 30, 40, 50, 60, 80, 100, 200, 300}
	for name, c := range map[string]struct {
		every int
		days  int
		prior int   // days of which the collector has heard
		spool bool  // a claim is on its way when the car is sold
		cuts  []int // days
		lost  int   // a day whose snapshot the car has not, and the ECU repeats no more
		each  int   // km a day, 10 where it is 0
	}{
		"a dispatch a day":               {every: 1, days: 6, cuts: []int{3}},
		"a dispatch a month":             {every: 31, days: 75, cuts: []int{3}},
		"a claim is on its way":          {every: 31, days: 75, cuts: []int{3}, spool: true},
		"sold twice":                     {every: 31, days: 75, cuts: []int{3, 5}},
		"sold every day":                 {every: 31, days: 75, cuts: []int{1, 2, 3, 4, 5, 6}},
		"some was heard":                 {every: 1, days: 6, prior: 2, cuts: []int{4}},
		"all up to the cut was heard":    {every: 1, days: 6, prior: 4, cuts: []int{4}},
		"after a dispatch":               {every: 31, days: 75, cuts: []int{32}},
		"more before it than claims say": {every: 31, days: 75, cuts: []int{20}, each: 30},
		"the cut is lost":                {every: 31, days: 75, cuts: []int{5}, lost: 5},
		"too little before the cut":      {every: 31, days: 75, cuts: []int{1}, each: 9},
	} {
		for _, restarts := range []bool{false, true} {
			w := newWorld(t, every(c.every))
			w.rule(mileage(1, tiers...))
			w.start()
			w.settle()
			each := uint32(max(c.each, 10))
			if c.each == 9 {
				each = 9
			}
			heads := []wire.Head{w.ecu.kept[0].Snapshot.Head()}
			for day := 1; day <= c.days; day++ {
				if day == c.lost {
					w.ecu.snapshot(w.ecu.day+1, each*1000)
				} else {
					w.drive(each * 1000)
				}
				heads = append(heads, w.ecu.kept[len(w.ecu.kept)-1].Snapshot.Head())
				if day <= c.prior {
					w.exchange()
				}
			}
			if c.spool {
				w.settle()
			}
			heard := len(w.col.claims)
			for _, at := range c.cuts {
				w.col.sell(heads[at])
			}
			n := 1 << 10
			if restarts {
				n = 1
			}
			for !w.hear(n) {
				w.close()
				w.open()
				w.start()
			}

			at, owner := uint32(c.prior), 0
			want := make([]uint32, len(c.cuts)+1)
			for _, s := range w.spans()[heard:] {
				for owner < len(c.cuts) && s[0] >= uint32(c.cuts[owner]) {
					owner++
				}
				switch { // what the car cannot open, or is worth nothing, goes
				case c.lost > 0 && at == uint32(c.lost)-1:
					at += 2
				case each < 10 && at == 0:
					at++
				}
				if s[0] != at {
					t.Errorf("%s (restarts %v): days %d to %d are claimed by nobody", name, restarts, at, s[0])
				}
				if at = s[1]; owner < len(c.cuts) && at > uint32(c.cuts[owner]) {
					t.Errorf("%s (restarts %v): claim of days %v lies across the cut at day %d", name, restarts, s, c.cuts[owner])
				}
				worth := uint32(0)
				for _, km := range tiers {
					if (s[1]-s[0])*each >= km {
						worth = km
					}
				}
				want[owner] += worth
			}
			if !slices.Equal(w.col.owners, want) || slices.Max(want[len(c.cuts):]) == 0 && c.cuts[0] < c.days || at < uint32(c.cuts[len(c.cuts)-1]) {
				t.Errorf("%s (restarts %v): owners earned %v, want %v; claims %v", name, restarts, w.col.owners, want, w.spans())
			}
			if st := w.sealer.archive.State(); st.Reason != "" || st.Head == nil || st.Head.Seq < uint64(c.cuts[len(c.cuts)-1]) {
				t.Errorf("%s (restarts %v): claims wait (%s) at %+v", name, restarts, st.Reason, st.Head)
			}
		}
	}
}
