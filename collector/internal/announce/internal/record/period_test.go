package record

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"rawstone/pkg/terms"
)

// TestPeriod holds for days and drops of every length: each program day and each drop of the year lies in exactly one month, the one in
// which the day begins by the calendar at the program's offset.
func TestPeriod(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drop := rapid.Uint32Range(2, 10_000).Draw(t, "drop")
		timing := terms.Timing{DropS: drop, DayS: drop * rapid.Uint32Range(1, 300).Draw(t, "drops a day"), OffsetS: rapid.Int64Range(-50_000, 50_000).Draw(t, "offset"),
			GenesisS: rapid.Int64Range(1_600_000_000, 2_000_000_000).Draw(t, "genesis")}
		year := rapid.IntRange(2019, 2037).Draw(t, "year")
		genesis := timing.Day(timing.DropTime(0))
		begins := func(day uint32) time.Time {
			return timing.DayStart(day).Add(time.Duration(timing.OffsetS) * time.Second)
		}
		p, err := newPeriod(timing, year)
		if err != nil {
			if begins(genesis).Year() <= year {
				t.Fatal(err)
			}
			return
		}
		if p.FromDay < genesis || begins(p.FromDay).Year() != year || begins(p.ToDay).Year() != year || begins(p.ToDay+1).Year() == year || p.FromDay > genesis && begins(p.FromDay-1).Year() == year {
			t.Fatalf("days %d to %d", p.FromDay, p.ToDay)
		}
		day, at := p.FromDay, p.FromDrop
		for _, m := range p.Months {
			if m.FromDay != day || m.FromDrop != at || !p.begins(m.FromDrop) {
				t.Fatalf("%+v, want day %d, drop %d", m, day, at)
			}
			for _, d := range []uint32{m.FromDay, m.ToDay} {
				if got := begins(d).Format("2006-01"); got != m.Name {
					t.Fatalf("day %d begins in %s, stands in %s", d, got, m.Name)
				}
			}
			// The drops are those due on these days.
			if m.ToDrop > m.FromDrop {
				if a, b := timing.Day(timing.DropTime(m.FromDrop)), timing.Day(timing.DropTime(m.ToDrop-1)); a < m.FromDay || b > m.ToDay {
					t.Fatalf("%+v has drops of days %d to %d", m, a, b)
				}
			}
			if timing.Day(timing.DropTime(m.ToDrop)) <= m.ToDay {
				t.Fatalf("%+v lacks its last drop", m)
			}
			day, at = m.ToDay+1, m.ToDrop
		}
		if day != p.ToDay+1 || at != p.ToDrop {
			t.Fatalf("the months end with day %d and drop %d", day-1, at)
		}
	})
}
