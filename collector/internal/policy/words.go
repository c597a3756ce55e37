package policy

import (
	"fmt"
	"strings"

	"rawstone/pkg/wire"
)

// noun spells an amount of a counter: what is counted, and how to say it.
func noun(counter int, n int64) string {
	unit, what := "", ""
	switch counter {
	case wire.OdometerM:
		unit, what = "m", "driven"
	case wire.DriveTimeS:
		unit, what = "s", "of driving"
	case wire.OverspeedS:
		unit, what = "s", "above the set speed"
	case wire.HardBrakeN:
		what = "hard brakes"
		if n == 1 {
			what = "hard brake"
		}
	case wire.NightTimeS:
		unit, what = "s", "of driving at night"
	case wire.AssistedM:
		unit, what = "m", "driven with assistance"
	case wire.EnergyWh:
		unit, what = "Wh", "taken for driving"
	}
	if unit == "m" && n >= 1000 && n%1000 == 0 {
		n, unit = n/1000, "km"
	}
	if unit == "" {
		return fmt.Sprintf("%d %s", n, what)
	}
	return fmt.Sprintf("%d %s %s", n, unit, what)
}

// Words says what a row asks of the growth of the counters. Rows of a form that has no short sentence are spelt as sums.
func Words(r wire.Row) string {
	up, down, terms := -1, -1, 0
	for i, a := range r.A {
		switch {
		case a > 0:
			up = i
			terms++
		case a < 0:
			down = i
			terms++
		}
	}
	switch {
	case terms == 1 && up >= 0 && r.A[up] == 1 && r.B > 0:
		return "at least " + noun(up, r.B)
	case terms == 1 && down >= 0 && r.A[down] == -1 && r.B <= 0:
		return "at most " + noun(down, -r.B)
	case terms == 2 && up >= 0 && down >= 0 && (r.B == 0 || r.B == 1):
		// p·X − n·Y ≥ 0: at most p of Y for each n of X; with ≥ 1, whole numbers make it "less than".
		most := "at most "
		if r.B == 1 {
			most = "less than "
		}
		return most + noun(down, int64(r.A[up])) + " for every " + noun(up, -int64(r.A[down]))
	}
	return sum(r)
}

// sum spells a row as the inequality that it is.
func sum(r wire.Row) string {
	var b strings.Builder
	for i, name := range wire.CounterNames() {
		a := int64(r.A[i])
		if a == 0 {
			continue
		}
		switch {
		case b.Len() == 0 && a < 0:
			b.WriteString("−")
		case a < 0:
			b.WriteString(" − ")
		case b.Len() > 0:
			b.WriteString(" + ")
		}
		if a = max(a, -a); a != 1 {
			fmt.Fprintf(&b, "%d·", a)
		}
		b.WriteString(name)
	}
	if b.Len() == 0 {
		b.WriteString("0")
	}
	return fmt.Sprintf("%s ≥ %d", b.String(), r.B)
}
