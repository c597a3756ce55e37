package dispatch

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
		timing := terms.Timing{DayS: 86400, DropS: 600}
		s := Plan{Cadence: Cadence{every: rapid.Uint32Range(1, 31).Draw(t, "every"), max: time.Duration(rapid.Int64Range(1, int64(31*24*time.Hour)).Draw(t, "max")), timing: timing}}
		copy(s.secret[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret"))
		day := rapid.Uint32Max(1<<31).Draw(t, "day")
		next := s.Next(day)
		if last, ok := s.Last(day); ok {
			if last > day || day-last >= s.every || uint64(last)+uint64(s.every) != next || last%s.every != s.phase() {
				t.Fatalf("day %d lies between %d and %d", day, last, next)
			}
		} else if next != uint64(s.phase()) || next <= uint64(day) {
			t.Fatalf("the first boundary after %d is %d", day, next)
		}
		for _, kind := range []wire.Kind{wire.KindClaim, wire.KindReport} {
			if d := s.Due(day, kind).Sub(timing.DayStart(day)); d < 0 || d >= s.max {
				t.Fatalf("delay %v of at most %v", d, s.max)
			}
		}
	})
	s := Plan{Cadence: Cadence{every: 7, max: 24 * time.Hour, timing: terms.Timing{DayS: 1}}}
	phases, same := map[uint32]int{}, 0
	for range 700 {
		if _, err := rand.Read(s.secret[:]); err != nil {
			t.Fatal(err)
		}
		phases[s.phase()]++
		if s.Due(1, wire.KindClaim).Equal(s.Due(1, wire.KindReport)) {
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

func TestNewRefuses(t *testing.T) {
	timing := terms.Timing{DayS: 86400, DropS: 600}
	for name, cfg := range map[string]Config{
		"zero":            {},
		"no day":          {Timing: terms.Timing{DropS: 600}},
		"more than month": {EveryDays: MaxEveryDays + 1, Timing: timing},
		"negative days":   {EveryDays: -1, Timing: timing},
		"negative delay":  {MaxDelay: -1, Timing: timing},
		"delay too long":  {EveryDays: 2, MaxDelay: 48*time.Hour + 1, Timing: timing},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c, err := New(Config{Timing: timing})
	if want := (Cadence{DefaultEveryDays, 24 * time.Hour, timing}); err != nil || c != want {
		t.Errorf("defaults are %+v, want %+v: %v", c, want, err)
	}
	if _, err := New(Config{EveryDays: 2, MaxDelay: 48 * time.Hour, Timing: timing}); err != nil {
		t.Error(err)
	}
}
