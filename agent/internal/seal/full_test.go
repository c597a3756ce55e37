package seal

import (
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"rawstone/agent/internal/journal"
	"rawstone/agent/internal/spool"
	"rawstone/pkg/wire"
)

// TestMonthsOfflineWithAFullSpool: the buffer is full of reports and the car is away for two hundred days. Reports give way; of claims one
// waits, and what further ones would say stays in the archive, so that no claim is dropped: once the car connects they tile the whole
// time, and where days are claimed together, no span exceeds the top tier.
func TestMonthsOfflineWithAFullSpool(t *testing.T) {
	w := newWorld(t, every(31))
	w.rule(mileage(1, 10, 20, 50, 100))
	w.start()
	full := false
	for n := uint16(0); !full; n++ {
		before, _ := w.spool.Depth()
		var items []spool.Item
		for i := range byte(32) {
			items = append(items, spool.Item{Kind: wire.KindReport, Created: w.now, Due: w.now, Bytes: append(make([]byte, spool.MaxItemLen-3), byte(n), byte(n>>8), i)})
		}
		must2(w.spool.PutAll(items...))
		after, _ := w.spool.Depth()
		full = after < before+len(items)
	}
	const days = 200
	for range days {
		w.drive(10_000)
		w.settle()
		if n := len(w.spool.IDs(wire.KindClaim)); n > 1 {
			t.Fatalf("%d claims wait", n)
		}
	}
	waits := w.spool.IDs(wire.KindClaim)
	if len(waits) != 1 {
		t.Fatalf("%d claims wait, want one", len(waits))
	}
	for _, id := range w.spool.IDs(wire.KindReport) { // reports that nobody made are none that the collector could answer
		if err := w.spool.Free(id); err != nil {
			t.Fatal(err)
		}
	}
	w.exchange()
	if w.col.receipts[waits[0]] == nil || !w.col.receipts[waits[0]].Accepted {
		t.Error("the claim that waited was dropped")
	}
	var end uint32
	for _, c := range w.spans() {
		if c[0] != end || c[1]-c[0] > 10 {
			t.Errorf("a claim from day %d to %d after one that ended on %d; want no gap and at most the top tier's 100 km", c[0], c[1], end)
		}
		end = c[1]
	}
	if end < days-31 || w.col.km < 10*end*9/10 {
		t.Errorf("claimed until day %d: %d km of %d", end, w.col.km, 10*end)
	}
}

func must2[A, B any](_ A, _ B, err error) {
	if err != nil {
		panic(err)
	}
}

// TestNoRoom: what leaves is noted in the journal before the spool takes it. What the spool has no room for is made anew, a claim with
// another identifier, so that its entry must say that it never left, without the agent being started again. A report keeps its bytes.
func TestNoRoom(t *testing.T) {
	room := &noRoom{}
	w := newWorld(t, func(cfg *Config) {
		every(1)(cfg)
		cfg.Families = allow(wire.FamilyHours)
		room.Spool, cfg.Spool = cfg.Spool, room
	})
	w.start()
	w.settle()
	room.full = true
	for range 2 { // a day, and the next
		w.drive(50_000)
		for failed := 0; failed < 2; { // what fails is tried again
			wait, err := w.sealer.turn(w.t.Context())
			if w.now = w.now.Add(wait); err != nil {
				failed++
			}
		}
	}
	room.full = false
	for range 2 { // one report a day
		w.setDay(w.timing().Day(w.now) + 1)
		w.exchange()
	}
	never, accepted := make(map[string]int), make(map[string]int)
	for _, e := range must(w.journal.List(0)) {
		switch {
		case e.Kind == journal.KindNote:
		case strings.HasPrefix(e.Outcome, "never left the car"):
			never[e.Kind]++
		case strings.HasPrefix(e.Outcome, "accepted"):
			accepted[e.Kind]++
		default:
			t.Errorf("an entry of a %s ended with %q", e.Kind, e.Outcome)
		}
	}
	if want := map[string]int{"claim": 4}; !maps.Equal(never, want) {
		t.Errorf("never left: %v, want %v", never, want)
	}
	if want := map[string]int{"claim": 2, "report": 2}; !maps.Equal(accepted, want) {
		t.Errorf("accepted: %v, want %v", accepted, want)
	}
}

// noRoom is a spool on a disk that is full at times.
type noRoom struct {
	Spool
	full bool
}

func (s *noRoom) Put(kind wire.Kind, b []byte, created, due time.Time) (wire.Hash, []wire.Hash, error) {
	if s.full {
		return wire.Hash{}, nil, syscall.ENOSPC
	}
	return s.Spool.Put(kind, b, created, due)
}
