package hold

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"rawstone/agent/internal/dispatch"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// This file asks what a year of dispatch times tells of departures. The car's rooms are the real ones: the plan of package dispatch and the
// Gate; drives, clocks and chance are simulated from a fixed seed.

const (
	maxDelay = 6 * time.Hour
	tick     = 20 * time.Second
)

var timing = terms.Timing{OffsetS: 28800, DayS: 86400}

// A drive is a time for which the car is driven.
type drive struct{ from, to time.Time }

// drives returns a year of somebody who commutes on weekdays, drives at times on weekends, and is away for two weeks.
func drives(r *rand.Rand, first uint32) (list []drive) {
	for d := range uint32(365) {
		if d >= 200 && d < 214 {
			continue
		}
		at := func(hour, spread float64) {
			from := timing.DayStart(first + d).Add(time.Duration((hour + spread*r.NormFloat64()) * float64(time.Hour)))
			list = append(list, drive{from, from.Add(time.Duration(15+30*r.Float64()) * time.Minute)})
		}
		switch {
		case d%7 < 5:
			at(7.75, 0.5)
			at(17.75, 0.7)
		case r.Float64() < 0.7:
			at(11, 1.5)
			if r.Float64() < 0.5 {
				at(19, 1)
			}
		}
	}
	return list
}

// An agent is how a car decides when something leaves; the zero value is how it should not.
type agent struct {
	// gate holds what is overdue; nextDay has what is noticed on a day leave on a later one; brief makes the holds a tenth as long.
	gate, nextDay, brief bool
	// claimFirst has a report wait for the claim of the same moment.
	claimFirst bool
}

// A leaving is one message: when it left, in which drive (always on: the latest that began before), and when the car noticed what it is about.
type leaving struct {
	kind    wire.Kind
	at      time.Time
	drive   drive
	noticed time.Time
}

// year plays a year and returns what left. Where the computer is not always on it runs only while the car is driven, and is started anew for
// each drive. The ECU makes its snapshot when the first drive of a day begins.
func year(t *testing.T, a agent, seed uint64, every int, alwaysOn bool) (left []leaving) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	const first = 20_000
	calendar, err := dispatch.New(dispatch.Config{MaxDelay: maxDelay, Timing: timing})
	if err != nil {
		t.Fatal(err)
	}
	plan := calendar.Plan([32]byte{byte(seed), 1}, every)
	type item struct {
		name    string
		kind    wire.Kind
		due     time.Time
		noticed time.Time
	}
	var (
		now     time.Time
		began   time.Time
		gate    *Gate
		waiting []item
		last, _ = plan.Last(first)
	)
	mean, err := Mean(maxDelay)
	if err != nil {
		t.Fatal(err)
	}
	if a.brief {
		mean /= 10
	}
	start := func() {
		began = now
		gate, err = New(Config{
			Mean: mean, Now: func() time.Time { return now }, Powered: func() time.Duration { return now.Sub(began) },
			Uniform: func() float64 { return 1 - r.Float64() },
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var current drive
	speak := func() {
		claims := make(map[time.Time]bool) // that wait
		for _, i := range waiting {
			claims[i.noticed] = claims[i.noticed] || i.kind == wire.KindClaim
		}
		waiting = slices.DeleteFunc(waiting, func(i item) bool {
			if a.claimFirst && claims[i.noticed] && i.kind == wire.KindReport {
				return false
			}
			wait := i.due.Sub(now)
			if a.gate {
				wait = gate.Until(i.name, i.due)
			}
			if wait <= 0 {
				left = append(left, leaving{i.kind, now, current, i.noticed})
			}
			return wait <= 0
		})
	}
	list := drives(r, first)
	now = timing.DayStart(first)
	start()
	for n, d := range list {
		if alwaysOn {
			for ; now.Before(d.from); now = now.Add(tick) {
				speak()
			}
		} else {
			now = d.from
			start()
		}
		current = d
		day := timing.Day(d.from)
		if n == 0 || timing.Day(list[n-1].from) != day {
			if boundary, ok := plan.Last(day); ok && boundary > last {
				last = boundary
				leaves := day
				if a.nextDay {
					leaves++
				}
				for _, kind := range []wire.Kind{wire.KindClaim, wire.KindReport} {
					waiting = append(waiting, item{string(kind) + now.String(), kind, plan.Due(leaves, kind), now})
				}
			}
		}
		for ; now.Before(d.to); now = now.Add(tick) {
			speak()
		}
	}
	return left
}

// within returns where in their drives messages left, 0 for the departure and 1 for the end.
func within(left []leaving) (list []float64) {
	for _, l := range left {
		list = append(list, float64(l.at.Sub(l.drive.from))/float64(l.drive.to.Sub(l.drive.from)))
	}
	return list
}

// uniformity returns the chance that uniform numbers lie as far from uniform as these by the statistic of Kolmogorov and Smirnov (Stephens
// 1970, the series of his modified statistic).
func uniformity(list []float64) float64 {
	slices.Sort(list)
	n, d := float64(len(list)), 0.0
	for i, x := range list {
		d = max(d, float64(i+1)/n-x, x-float64(i)/n)
	}
	z, p := d*(math.Sqrt(n)+0.12+0.11/math.Sqrt(n)), 0.0
	for k := 1.0; k < 100; k++ {
		p += 2 * math.Pow(-1, k-1) * math.Exp(-2*k*k*z*z)
	}
	return min(max(p, 0), 1)
}

// association returns the chance that times that have nothing to do with departures are as near to what departures alone tell as these, by
// permuting which departure belongs to which message: the statistic is the correlation, in absolute value, between the time of day at which
// a message left and that at which the car noticed what it is about or began its latest drive, whichever is stronger.
func association(r *rand.Rand, left []leaving) float64 {
	clock := func(t time.Time) float64 { return float64(t.Sub(timing.DayStart(timing.Day(t)))) }
	var at, noticed, departed []float64
	for _, l := range left {
		at, noticed, departed = append(at, clock(l.at)), append(noticed, clock(l.noticed)), append(departed, clock(l.drive.from))
	}
	statistic := func() float64 { return max(math.Abs(correlation(at, noticed)), math.Abs(correlation(at, departed))) }
	found, beyond := statistic(), 1
	const permutations = 5000
	for range permutations {
		r.Shuffle(len(at), func(i, j int) { at[i], at[j] = at[j], at[i] })
		if statistic() >= found {
			beyond++
		}
	}
	return float64(beyond) / (permutations + 1)
}

func correlation(x, y []float64) float64 {
	var mx, my, xy, xx, yy float64
	for i := range x {
		mx, my = mx+x[i]/float64(len(x)), my+y[i]/float64(len(y))
	}
	for i := range x {
		xy, xx, yy = xy+(x[i]-mx)*(y[i]-my), xx+(x[i]-mx)*(x[i]-mx), yy+(y[i]-my)*(y[i]-my)
	}
	return xy / math.Sqrt(xx*yy)
}

// significant is the chance below which a year speaks for information. A mutant's must be below it.
const significant = 0.01

// TestYearOnlyWhileDriving: where the computer is on only while the car is driven, a message leaves at no particular point of a drive.
func TestYearOnlyWhileDriving(t *testing.T) {
	for seed := range uint64(4) {
		every := []int{7, 1}[seed%2]
		left := year(t, agent{gate: true, nextDay: true}, seed, every, false)
		p := uniformity(within(left))
		t.Logf("one dispatch every %d days, %d messages in a year, chance %.3f", every, len(left), p)
		if len(left) < 80 || p < significant {
			t.Errorf("%d messages; that they leave at any point of a drive alike has the chance %g", len(left), p)
		}
		for name, mutant := range map[string]agent{
			"at power-on": {}, "at power-on of a later day": {nextDay: true}, "soon after power-on": {gate: true, nextDay: true, brief: true},
		} {
			if p := uniformity(within(year(t, mutant, seed, every, false))); p > significant {
				t.Errorf("an agent that leaves %s is not noticed: %g", name, p)
			}
		}
	}
}

// TestYearAlwaysOn: where the computer is always on, the time of day at which a message leaves has nothing to do with any departure.
func TestYearAlwaysOn(t *testing.T) {
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 2))
		left := year(t, agent{gate: true, nextDay: true}, seed, 7, true)
		p := association(r, left)
		t.Logf("%d messages in a year, chance %.3f", len(left), p)
		if len(left) < 80 || p < significant {
			t.Errorf("%d messages; that they leave whenever the car does has the chance %g", len(left), p)
		}
		for name, mutant := range map[string]agent{"when noticed": {}, "a hold after it is noticed": {gate: true}} {
			if p := association(r, year(t, mutant, seed, 7, true)); p > significant {
				t.Errorf("an agent that leaves %s is not noticed: %g", name, p)
			}
		}
	}
}

// order returns how many pairs of a claim and a report that are about the same left apart, in how many of them the claim was first, and how
// many left together.
func order(left []leaving) (apart, claimFirst, together int) {
	claims := make(map[time.Time]time.Time)
	for _, l := range left {
		if l.kind == wire.KindClaim {
			claims[l.noticed] = l.at
		}
	}
	for _, l := range left {
		at, ok := claims[l.noticed]
		switch {
		case l.kind == wire.KindClaim || !ok:
		case at.Equal(l.at):
			together++
		default:
			apart++
			if at.Before(l.at) {
				claimFirst++
			}
		}
	}
	return apart, claimFirst, together
}

// TestOrder: neither claim nor report is first more often than a fair coin has it (three standard deviations), and they rarely leave
// together.
func TestOrder(t *testing.T) {
	fair := func(a agent, seed uint64, every int) bool {
		apart, first, together := order(year(t, a, seed, every, false))
		t.Logf("%d pairs apart, in %d the claim first, %d together", apart, first, together)
		return apart >= 40 && math.Abs(float64(first)-float64(apart)/2) <= 1.5*math.Sqrt(float64(apart)) && together <= (apart+together)/10
	}
	for seed, every := range []int{7, 1} {
		if !fair(agent{gate: true, nextDay: true}, uint64(seed), every) {
			t.Error("the order tells something, or both leave together")
		}
		for name, mutant := range map[string]agent{"claim first": {gate: true, nextDay: true, claimFirst: true}, "together": {nextDay: true}} {
			if fair(mutant, uint64(seed), every) {
				t.Errorf("an agent that sends them %s is not noticed", name)
			}
		}
	}
}
