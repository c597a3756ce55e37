package announce

import (
	"math/big"
	"strings"
	"time"

	"rawstone/collector/internal/announce/internal/record"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
)

// date spells the day of the calendar, in the program's offset, on which a program day begins.
func date(t terms.Timing, day uint32) string {
	return time.Unix(int64(day)*int64(t.DayS), 0).UTC().Format(time.DateOnly)
}

// emission plans the year: what is scheduled by the numbers of its drops, and what may come at most.
func (r *maker) emission() Emission {
	t, p := r.Program.Timing, r.Period
	e := Emission{TotalMilli: reward.Supply, MinedMilli: reward.MinedSupply, EraDrops: reward.EraDrops, UnitMilli: reward.Unit, Amount: r.amount(p.Span)}
	for _, m := range p.Months {
		e.Months = append(e.Months, Month{Month: m.Name, Days: r.days(m.Span), Amount: r.amount(m.Span)})
	}
	for era := p.FromDrop / reward.EraDrops; era*reward.EraDrops < p.ToDrop; era++ {
		from, to := max(era*reward.EraDrops, p.FromDrop), min((era+1)*reward.EraDrops, p.ToDrop)
		next := t.DropTime((era + 1) * reward.EraDrops)
		e.Eras = append(e.Eras, Era{
			Era: era + 1, FromDrop: from, ToDrop: to, DropMilli: dropMilli(era), ScheduledMilli: reward.Emission(to) - reward.Emission(from),
			EndsEarliest: time.Unix(next.Unix()+t.OffsetS, 0).UTC().Format(time.DateOnly),
		})
	}
	return e
}

// dropMilli spells what a drop of an era, counted from 0, gives before it is rounded to units: the first era's halved each time.
func dropMilli(era uint64) string {
	n := min(era, 63)
	v := new(big.Rat).SetFrac(new(big.Int).SetUint64(reward.Emission(1)), new(big.Int).Lsh(big.NewInt(1), uint(n)))
	s := v.FloatString(int(n))
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// amount plans a span. What is issued comes in whole units, and up to a unit less one milli-stone may be carried into it.
func (r *maker) amount(s record.Span) Amount {
	low := r.HeightAt(s.FromDrop)
	most := reward.Emission(low+s.ToDrop-s.FromDrop) - reward.Emission(low) + reward.Unit - 1
	return Amount{
		FromDrop: s.FromDrop, ToDrop: s.ToDrop, ScheduledMilli: reward.Emission(s.ToDrop) - reward.Emission(s.FromDrop),
		AtMostMilli: most - most%reward.Unit, SupplyMilli: reward.Emission(s.ToDrop),
	}
}

func (r *maker) days(s record.Span) Days {
	t := r.Program.Timing
	to, toDate := s.ToDay, date(t, s.ToDay)
	return Days{FromDay: s.FromDay, FromDate: date(t, s.FromDay), ToDay: &to, ToDate: &toDate}
}
