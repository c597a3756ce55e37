package drive

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// A Profile is a way of using a car.
type Profile string

// The profiles.
const (
	// Commuter drives 25 to 30 km to work and back on working days and does errands at week-ends.
	Commuter Profile = "commuter"
	// Longhaul drives 500 to 700 km in three legs, charging in between.
	Longhaul Profile = "longhaul"
	// Parked does not move and charges what standing costs.
	Parked Profile = "parked"
)

// Profiles returns all profiles.
func Profiles() []Profile { return []Profile{Commuter, Longhaul, Parked} }

// ParseProfile returns the profile of a name.
func ParseProfile(name string) (Profile, error) {
	if p := Profile(name); slices.Contains(Profiles(), p) {
		return p, nil
	}
	var names []string
	for _, p := range Profiles() {
		names = append(names, string(p))
	}
	return "", fmt.Errorf("profile %q is none of %s", name, strings.Join(names, ", "))
}

const (
	minuteMS = 60_000
	hourMS   = 60 * minuteMS

	// heartbeatMS is how often a sleeping car wakes, chargingMS how often a charging one reports.
	heartbeatMS = 10 * minuteMS
	chargingMS  = minuteMS
	// batteryMS is how often a driving car reports its battery.
	batteryMS = 10_000

	homeChargeW = 11_000
	fastChargeW = 120_000
	standbyWh   = 1_000
	// fullShare is where charging stops, in hundredths of a per cent.
	fullShare = 8000
)

// A trip is a drive from rest to rest.
type trip struct {
	start, length int64 // ms of the day
	segments      []segment
	distance      int64 // m/h·ms
	energy        int64 // W·ms
}

// A charge is a time at the charger.
type charge struct{ start, length, power int64 }

// A day is what a car does in 24 simulated hours.
type day struct {
	trips    []trip
	charges  []charge
	capacity int64 // Wh
	initial  int64 // Wh missing from full at the begin of the day
}

// synthesise returns the day of a date. It depends on nothing but its arguments.
func synthesise(p Profile, seed uint64, limitMH, date int64) *day {
	d, _ := plan(p, seed, limitMH, date)
	_, d.initial = plan(p, seed, limitMH, date-1)
	if length := chargeTime(d.initial, homeChargeW); length > 0 {
		night := charge{hourMS / 2, length, homeChargeW}
		if len(d.trips) > 0 {
			night.length = min(night.length, d.trips[0].start-night.start-2*minuteMS)
		}
		d.charges = slices.Insert(d.charges, 0, night)
	}
	return d
}

// chargeTime returns how long it takes to charge, in whole minutes and ms.
func chargeTime(wh, w int64) int64 { return wh * 60 / w * minuteMS }

// plan returns a day without the charging of its night, and how many Wh are missing from full at its end.
func plan(p Profile, seed uint64, limitMH, date int64) (*day, int64) {
	rng := rand.New(rand.NewPCG(seed, uint64(date)))
	minute := func(from, spread int64) int64 { return from + rng.Int64N(spread)*minuteMS }
	drive := func(start, massKG, cityM, motorwayM int64) trip {
		t := tracer{rng: rng, limit: limitMH, massKG: massKG}
		t.hold(4)
		t.city(cityM / 2)
		if motorwayM > 0 {
			t.motorway(cityM/2 + motorwayM)
		}
		t.city(cityM + motorwayM)
		t.stop()
		return trip{start, t.at, t.segments, t.distance, t.energy}
	}
	d := &day{capacity: 75_000}
	missing := int64(standbyWh)
	switch p {
	case Commuter:
		if weekday := (date + 4) % 7; weekday == 0 || weekday == 6 {
			d.trips = append(d.trips, drive(minute(9*hourMS, 120), 1800, 3_000+rng.Int64N(6_000), 0))
			d.trips = append(d.trips, drive(minute(15*hourMS, 120), 1800, 3_000+rng.Int64N(6_000), 0))
			break
		}
		city, motorway := 7_000+rng.Int64N(2_000), 18_000+rng.Int64N(2_500)
		d.trips = append(d.trips, drive(minute(6*hourMS+30*minuteMS, 90), 1800, city, motorway))
		d.trips = append(d.trips, drive(minute(16*hourMS+30*minuteMS, 120), 1800, city, motorway))
	case Longhaul:
		d.capacity = 120_000
		start := minute(5*hourMS, 50)
		for range 3 {
			t := drive(start, 2600, 4_000, 165_000+rng.Int64N(60_000))
			d.trips = append(d.trips, t)
			start += t.length + 45*minuteMS
			start -= start % minuteMS
		}
	}
	for i, t := range d.trips {
		missing += t.energy / 3_600_000
		if p == Longhaul && i < len(d.trips)-1 {
			from := t.start + t.length + 2*minuteMS
			c := charge{from - from%minuteMS, chargeTime(missing, fastChargeW), fastChargeW}
			c.length = min(c.length, d.trips[i+1].start-2*minuteMS-c.start)
			missing -= c.power * (c.length / minuteMS) / 60
			d.charges = append(d.charges, c)
		}
	}
	return d, missing
}

// next returns the first instant at or after ms at which the car sends, or false when the day has none left.
func (d *day) next(ms, step int64) (int64, bool) {
	best := ceil(ms, heartbeatMS)
	on := func(start, length, every int64) {
		if at := max(start, ceil(ms, every)); at <= start+length { // all begin at whole minutes
			best = min(best, at)
		}
	}
	for i := range d.trips {
		on(d.trips[i].start, d.trips[i].length, step)
	}
	for _, c := range d.charges {
		on(c.start, c.length, chargingMS)
	}
	return best, best < dayMS
}

func ceil(a, b int64) int64 { return (a + b - 1) / b * b }

// distance returns what the day has driven until ms, in m/h·ms.
func (d *day) distance(ms int64) (sum int64) {
	for i := range d.trips {
		switch t := &d.trips[i]; {
		case ms >= t.start+t.length:
			sum += t.distance
		case ms > t.start:
			s, at := t.at(ms)
			sum += s.distance + s.travelled(at)
		}
	}
	return sum
}

// at returns the segment that holds ms, which lies within the trip, and the time since its begin.
func (t *trip) at(ms int64) (*segment, int64) {
	ms -= t.start
	i, found := slices.BinarySearchFunc(t.segments, ms, func(s segment, ms int64) int { return int(s.start - ms) })
	if !found {
		i--
	}
	return &t.segments[i], ms - t.segments[i].start
}

// reading returns what the car sends at ms, all but its odometer and its times.
func (d *day) reading(ms int64) Reading {
	r := Reading{Status: Asleep}
	missing := d.initial * 3_600_000 // W·ms
	for i := range d.trips {
		switch t := &d.trips[i]; {
		case ms >= t.start+t.length:
			missing += t.energy
			if ms == t.start+t.length {
				r.Status = Driving // at rest
			}
		case ms >= t.start:
			s, at := t.at(ms)
			missing += s.energy + s.power*at
			r.Status, r.Assisted = Driving, s.assisted
			r.speed = uint16((s.speed(at) + 5) / 10)
			r.power = int16(s.power / 10)
		}
	}
	for _, c := range d.charges {
		missing -= c.power * min(max(ms-c.start, 0), c.length)
		if ms >= c.start && ms < c.start+c.length {
			r.Status, r.power = Charging, int16(-c.power/10)
		}
	}
	share := fullShare - missing/360/d.capacity // hundredths of a per cent
	r.stateOfCharge = uint16(min(max(share, 0), 10_000))
	r.battery = r.Status != Driving || ms%batteryMS == 0
	return r
}
