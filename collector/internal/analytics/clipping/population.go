package clipping

import (
	"fmt"
	"math"
	"math/rand/v2"

	"rawstone/pkg/wire"
)

// Population parametrises simulated vehicle-weeks. Its numbers are assumptions, not measurements: they serve to choose the clip
// and to show what clipping does to a fleet like this one. The zero value is refused.
type Population struct {
	// Weeks is the number of vehicle-weeks, 1 to 1,000,000, and Seed fixes the random numbers.
	Weeks int
	Seed  uint64
	// Parked, Commuting and Working are the shares of vehicles that do not move all week, that commute on five days, and that
	// are driven for work on six; the rest runs errands only, as the first kinds but the parked do besides.
	Parked, Commuting, Working float64
	// CommuteMinutes and ErrandMinutes are medians of a trip's length; Spread is the standard deviation of its logarithm.
	CommuteMinutes, ErrandMinutes, Spread float64
	// Errands is the mean number of errands a week, and Journeys of outings of a median two hours each way.
	Errands, Journeys float64
	// WorkTrips and WorkMinutes describe a working vehicle's day: the mean number of trips and their median length.
	WorkTrips, WorkMinutes float64
	// Electric is the share of vehicles that charge.
	Electric float64
}

const maxWeeks = 1_000_000

// DefaultPopulation is a private fleet with few working vehicles.
func DefaultPopulation() Population {
	return Population{
		Weeks: 20_000, Seed: 1,
		Parked: 0.05, Commuting: 0.55, Working: 0.03,
		CommuteMinutes: 24, ErrandMinutes: 14, Spread: 0.6,
		Errands: 7, Journeys: 0.25,
		WorkTrips: 9, WorkMinutes: 22,
		Electric: 0.3,
	}
}

func (p Population) validate() error {
	if p.Weeks < 1 || p.Weeks > maxWeeks {
		return fmt.Errorf("%d weeks is outside [1, %d]", p.Weeks, maxWeeks)
	}
	for _, share := range []float64{p.Parked, p.Commuting, p.Working, p.Electric, p.Parked + p.Commuting + p.Working} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("share %g is outside [0, 1]", share)
		}
	}
	for _, v := range []float64{p.CommuteMinutes, p.ErrandMinutes, p.WorkMinutes} {
		if !(v >= 1 && v <= 600) {
			return fmt.Errorf("a median trip of %g minutes is outside [1, 600]", v)
		}
	}
	if !(p.Spread >= 0 && p.Spread <= 2) {
		return fmt.Errorf("spread %g is outside [0, 2]", p.Spread)
	}
	for _, v := range []float64{p.Errands, p.Journeys, p.WorkTrips} {
		if !(v >= 0 && v <= 100) {
			return fmt.Errorf("a mean of %g trips is outside [0, 100]", v)
		}
	}
	return nil
}

const (
	hoursAt   = 0
	speedAt   = 24
	tripsAt   = 34
	chargeAt  = 44
	featureAt = 54
)

// week is one vehicle's week under way, in fractional natural units.
type week struct {
	rng    *rand.Rand
	spread float64
	uses   [wire.VectorLen - featureAt]float64 // share of driving time in which each feature is in use
	value  [wire.VectorLen]float64
	km     float64
}

// Simulate calls fn with each vehicle-week in natural units, whole numbers; fn does not keep it.
func (p Population) Simulate(fn func(week []int64) error) error {
	if err := p.validate(); err != nil {
		return fmt.Errorf("cannot simulate population: %w", err)
	}
	rng := rand.New(rand.NewPCG(p.Seed, 0))
	out := make([]int64, wire.VectorLen)
	for range p.Weeks {
		w := week{rng: rng, spread: p.Spread}
		p.drive(&w)
		for i, v := range w.value {
			out[i] = int64(v)
		}
		if err := fn(out); err != nil {
			return err
		}
	}
	return nil
}

func (p Population) drive(w *week) {
	for i := range w.uses {
		// The first features are common, the last rare.
		if w.rng.Float64() < 1/float64(1+i) {
			w.uses[i] = w.rng.Float64()
		}
	}
	electric := w.rng.Float64() < p.Electric
	kind := w.rng.Float64()
	if kind < p.Parked {
		return
	}
	kind -= p.Parked
	switch {
	case kind < p.Commuting:
		way := w.minutes(p.CommuteMinutes)
		for range 5 {
			w.trip(7.5+w.rng.NormFloat64(), way*w.jitter())
			w.trip(17+1.2*w.rng.NormFloat64(), way*w.jitter())
		}
	case kind < p.Commuting+p.Working:
		for range 6 {
			for range w.poisson(p.WorkTrips) {
				w.trip(7+11*w.rng.Float64(), w.minutes(p.WorkMinutes))
			}
		}
	}
	for range w.poisson(p.Errands) {
		w.trip(13+3.5*w.rng.NormFloat64(), w.minutes(p.ErrandMinutes))
	}
	for range w.poisson(p.Journeys) {
		w.trip(9+w.rng.NormFloat64(), w.minutes(120))
		w.trip(17+2*w.rng.NormFloat64(), w.minutes(120))
	}
	if electric {
		w.charge()
	}
}

func (w *week) jitter() float64 { return math.Exp(0.15 * w.rng.NormFloat64()) }

// minutes draws a trip's length around a median, at most twelve hours.
func (w *week) minutes(median float64) float64 {
	return min(median*math.Exp(w.spread*w.rng.NormFloat64()), 720)
}

func (w *week) poisson(mean float64) int {
	n, p, limit := 0, w.rng.Float64(), math.Exp(-mean)
	for p > limit {
		n++
		p *= w.rng.Float64()
	}
	return n
}

// trip drives for some minutes from an hour of the day on. Longer trips are faster. Standing on the way is in the average, so that the
// lowest speed band stays almost empty.
func (w *week) trip(hour, minutes float64) {
	average := min((20+22*math.Log2(1+minutes/12))*w.jitter(), 125)
	km := average * minutes / 60
	w.km += km
	w.value[tripsAt+band(wire.TripLimits(), km*1000)]++
	for i, share := range w.uses {
		w.value[featureAt+i] += minutes * share
	}
	clock := math.Mod(hour+24, 24) * 60
	for left := minutes; left > 0; left-- {
		step := min(left, 1)
		w.value[hoursAt+int(clock/60)%24] += step
		w.value[speedAt+band(wire.SpeedLimits(), average*(1+0.25*w.rng.NormFloat64())*1e6/3600)] += step
		clock += step
	}
}

// charge puts the week's energy back, at 2.3, 11 or 50 kW, from some band up to the ninth.
func (w *week) charge() {
	power := [...]float64{2.3, 11, 11, 11, 50}[w.rng.IntN(5)]
	minutes := w.km * 0.18 / power * 60
	from := 1 + w.rng.IntN(6)
	for i := from; i < 9; i++ {
		w.value[chargeAt+i] += minutes / float64(9-from)
	}
}

// band returns the number of limits that v has reached, as the cars do.
func band(limits [9]int64, v float64) (n int) {
	for n < len(limits) && v >= float64(limits[n]) {
		n++
	}
	return n
}
