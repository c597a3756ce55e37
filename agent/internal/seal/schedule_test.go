package seal

import (
	"crypto/rand"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func TestScheduleLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := schedule{every: rapid.Uint32Range(1, 31).Draw(t, "every"), max: time.Duration(rapid.Int64Range(1, int64(31*24*time.Hour)).Draw(t, "max"))}
		copy(s.secret[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret"))
		day := rapid.Uint32Max(1<<31).Draw(t, "day")
		next := s.next(day)
		if last, ok := s.last(day); ok {
			if last > day || day-last >= s.every || uint64(last)+uint64(s.every) != next || last%s.every != s.phase() {
				t.Fatalf("day %d lies between %d and %d", day, last, next)
			}
		} else if next != uint64(s.phase()) || next <= uint64(day) {
			t.Fatalf("the first boundary after %d is %d", day, next)
		}
		timing := terms.Timing{DayS: 86400, DropS: 600}
		for _, kind := range []wire.Kind{wire.KindClaim, wire.KindReport} {
			if d := s.due(timing, day, kind).Sub(timing.DayStart(day)); d < 0 || d >= s.max {
				t.Fatalf("delay %v of at most %v", d, s.max)
			}
		}
	})
	var s schedule
	s.every, s.max = 7, 24*time.Hour
	phases, same := map[uint32]int{}, 0
	for range 700 {
		must(rand.Read(s.secret[:]))
		phases[s.phase()]++
		if s.due(terms.Timing{DayS: 1}, 1, wire.KindClaim).Equal(s.due(terms.Timing{DayS: 1}, 1, wire.KindReport)) {
			same++
		}
	}
	for p := range uint32(7) {
		if phases[p] < 40 { // the chance of that is below 1e-8
			t.Errorf("weekday %d was drawn %d times in 700", p, phases[p])
		}
	}
	if same > 1 {
		t.Errorf("claim and report left together %d times", same)
	}
}
