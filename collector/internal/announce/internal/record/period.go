package record

import (
	"fmt"
	"time"

	"rawstone/pkg/terms"
)

// A Span is some program days, both included, and the drops due on them: [FromDrop, ToDrop).
type Span struct {
	FromDay, ToDay   uint32
	FromDrop, ToDrop uint64
}

// A Period is a year of a program, less what lies before its genesis.
type Period struct {
	Span
	Months []Month
}

// A Month is one of its months in which a program day begins.
type Month struct {
	Name string // 2026-01
	Span
}

// yearError says that there is nothing to announce of the year.
type yearError struct{ error }

// newPeriod refuses a year that lies before the program's genesis or beyond the days that a policy can name.
func newPeriod(t terms.Timing, year int) (p Period, err error) {
	if year < 1970 || year > 9999 {
		return p, yearError{fmt.Errorf("cannot announce year %d: give one from 1970 to 9999", year)}
	}
	genesis := t.Day(time.Unix(t.GenesisS, 0))
	end := firstDay(t, year+1, time.January)
	if end > terms.MaxDay {
		return p, yearError{fmt.Errorf("cannot announce year %d: its program days exceed %d", year, terms.MaxDay)}
	}
	if end <= int64(genesis) {
		return p, yearError{fmt.Errorf("cannot announce year %d: the program begins on %s", year, t.Date(genesis))}
	}
	for m := time.January; m <= time.December; m++ {
		from, to := max(firstDay(t, year, m), int64(genesis)), firstDay(t, year, m+1)
		if from >= to {
			continue // before genesis, or shorter than a day
		}
		s := Span{uint32(from), uint32(to - 1), firstDrop(t, from), firstDrop(t, to)}
		p.Months = append(p.Months, Month{fmt.Sprintf("%d-%02d", year, m), s})
	}
	if len(p.Months) == 0 {
		return p, yearError{fmt.Errorf("cannot announce year %d: no program day begins in it", year)}
	}
	first, last := p.Months[0], p.Months[len(p.Months)-1]
	p.Span = Span{first.FromDay, last.ToDay, first.FromDrop, last.ToDrop}
	return p, nil
}

// firstDay returns the first program day that begins in a month or after: the first multiple of a day's length, counted from the epoch
// in the program's offset.
func firstDay(t terms.Timing, year int, m time.Month) int64 {
	s, day := time.Date(year, m, 1, 0, 0, 0, 0, time.UTC).Unix(), int64(t.DayS)
	return (s + day - 1) / day
}

// firstDrop returns the first drop that is due on a day or after.
func firstDrop(t terms.Timing, day int64) uint64 {
	s := day*int64(t.DayS) - t.OffsetS - t.GenesisS
	if s <= 0 {
		return 0
	}
	return uint64((s + int64(t.DropS) - 1) / int64(t.DropS))
}

// begins reports whether a drop is the first of a month.
func (p *Period) begins(drop uint64) bool {
	for _, m := range p.Months {
		if m.FromDrop == drop {
			return true
		}
	}
	return false
}
