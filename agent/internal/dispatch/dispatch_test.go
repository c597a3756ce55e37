package dispatch

import (
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func TestScheduleLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		timing := terms.Timing{DayS: 86400, DropS: 600}
		c, err := New(Config{MaxDelay: time.Duration(rapid.Int64Range(1, int64(24*time.Hour)).Draw(t, "max")), Timing: timing})
		if err != nil {
			t.Fatal(err)
		}
		s := c.Plan([32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret")), rapid.IntRange(1, MaxEveryDays).Draw(t, "every"))
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
}

// TestMissed: what Missed returns is what walking from one boundary to the next gives.
func TestMissed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := New(Config{Timing: terms.Timing{DayS: 60}})
		if err != nil {
			t.Fatal(err)
		}
		p := c.Plan([32]byte{rapid.Byte().Draw(t, "secret")}, rapid.IntRange(1, 40).Draw(t, "every"))
		after, upTo := rapid.Uint32Max(500).Draw(t, "after"), rapid.Uint32Max(500).Draw(t, "up to")
		most := rapid.IntRange(0, 60).Draw(t, "most")
		var want []uint32
		for b := p.Next(after); b <= uint64(upTo); b = p.Next(uint32(b)) {
			want = append(want, uint32(b))
		}
		want = want[max(0, len(want)-most):]
		if got := p.Missed(after, upTo, most); !slices.Equal(got, want) {
			t.Fatalf("missed %v, want %v", got, want)
		}
	})
	// A clock that jumps by the longest way costs no memory.
	c, _ := New(Config{Timing: terms.Timing{DayS: 86400}})
	if got := c.Plan([32]byte{}, 1).Missed(0, 1<<32-1, 53); len(got) != 53 || got[52] != 1<<32-1 {
		t.Errorf("missed %v", got)
	}
}

func TestSecretsDecide(t *testing.T) {
	c, err := New(Config{MaxDelay: 24 * time.Hour, Timing: terms.Timing{DayS: 86400}})
	if err != nil {
		t.Fatal(err)
	}
	phases, same := map[uint32]int{}, 0
	for range 700 {
		var secret [32]byte
		rand.Read(secret[:])
		s := c.Plan(secret, 7)
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

// TestOrderIsRandom: claim and report of one day leave in either order.
func TestOrderIsRandom(t *testing.T) {
	c, err := New(Config{Timing: terms.Timing{DayS: 86400}})
	if err != nil {
		t.Fatal(err)
	}
	s, first := c.Plan([32]byte{7}, 7), 0
	const days = 1000
	for day := range uint32(days) {
		if s.Due(day, wire.KindClaim).Before(s.Due(day, wire.KindReport)) {
			first++
		}
	}
	if first < days*4/10 || first > days*6/10 { // more than 6 standard errors
		t.Errorf("the claim was first on %d of %d days", first, days)
	}
}

func TestNewRefuses(t *testing.T) {
	timing := terms.Timing{DayS: 86400, DropS: 600}
	for name, cfg := range map[string]Config{
		"zero":           {},
		"no day":         {Timing: terms.Timing{DropS: 600}},
		"negative delay": {MaxDelay: -1, Timing: timing},
		"delay too long": {MaxDelay: 24*time.Hour + 1, Timing: timing},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c, err := New(Config{Timing: timing})
	if want := (Calendar{24 * time.Hour, timing}); err != nil || c != want {
		t.Errorf("defaults are %+v, want %+v: %v", c, want, err)
	}
	for every, want := range map[int]uint32{0: DefaultEveryDays, -3: 1, 1: 1, MaxEveryDays + 9: MaxEveryDays} {
		if got := c.Plan([32]byte{}, every).Every(); got != want {
			t.Errorf("every %d days became %d", every, got)
		}
	}
}
