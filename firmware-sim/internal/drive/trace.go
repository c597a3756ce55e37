package drive

import "math/rand/v2"

const (
	// quantumMS is the grid of the trace: speed is linear and power constant over each quantum, so that readings taken at any step
	// that divides it add up to the same counts.
	quantumMS = 2000
	// Accelerations in mm/s²: what a calm driver does, and the least and most of a hard brake.
	minHard, maxHard = 4000, 6000
)

// A segment is one stretch of a trip with linear speed.
type segment struct {
	start, length int64 // ms since the begin of the trip
	v0, v1        int64 // m/h at both ends
	distance      int64 // before the segment, in m/h·ms (3600 of them are a millimetre)
	energy        int64 // before the segment, in W·ms
	power         int64 // W
	assisted      bool
}

// travelled returns the distance driven within the first ms milliseconds of the segment, in m/h·ms.
func (s *segment) travelled(ms int64) int64 {
	return (2*s.length*s.v0*ms + (s.v1-s.v0)*ms*ms) / (2 * s.length)
}

func (s *segment) speed(ms int64) int64 { return s.v0 + (s.v1-s.v0)*ms/s.length }

// A tracer makes the trace of one trip.
type tracer struct {
	rng      *rand.Rand
	limit    int64 // m/h
	massKG   int64
	segments []segment
	at       int64 // ms
	v        int64 // m/h
	distance int64 // m/h·ms
	energy   int64 // W·ms
	assisted bool
}

func (t *tracer) between(low, high int64) int64 { return low + t.rng.Int64N(high-low+1) }

func (t *tracer) chance(percent int) bool { return t.rng.IntN(100) < percent }

// step appends a segment that ends at speed v.
func (t *tracer) step(v, length int64) {
	s := segment{
		start: t.at, length: length, v0: t.v, v1: v,
		distance: t.distance, energy: t.energy, assisted: t.assisted,
	}
	s.power = power(t.massKG, s.v0, s.v1, length)
	t.segments = append(t.segments, s)
	t.at += length
	t.distance += s.travelled(length)
	t.energy += s.power * length
	t.v = v
}

// power returns what a car draws from its battery, rounded to the signal's 10 W: rolling resistance 0.01, drag area 0.6 m²,
// 90 % efficiency, 60 % of the braking recovered up to 60 kW, 300 W for the rest.
func power(massKG, v0, v1, length int64) int64 {
	v := (v0 + v1) * 5 / 36                  // mm/s, the mean
	a := (v1 - v0) * 10_000 / (36 * length)  // mm/s²
	f := massKG*(a+98) + 360*(v*v/1000)/1000 // mN
	w := f / 1000 * v / 1000
	if w >= 0 {
		w = min(w*10/9, 250_000)
	} else {
		w = max(w*6/10, -60_000)
	}
	return (w + 300) / 10 * 10
}

// ramp goes to speed v at no more than accel mm/s². It stops over at the limit, so that being above it begins and ends on the grid.
func (t *tracer) ramp(v, accel int64) {
	if min(t.v, v) < t.limit && max(t.v, v) > t.limit {
		t.ramp(t.limit, accel)
	}
	perQuantum := accel * 36 * quantumMS / 10_000
	from := t.v
	n := (max(v-from, from-v) + perQuantum - 1) / perQuantum
	for i := int64(1); i <= n; i++ {
		t.step(from+(v-from)*i/n, quantumMS)
	}
}

// hold keeps the speed for a number of seconds, at least one quantum.
func (t *tracer) hold(seconds int64) { t.step(t.v, max(seconds*1000/quantumMS, 1)*quantumMS) }

// brakeHard loses much speed within one quantum.
func (t *tracer) brakeHard() {
	if loss := t.between(minHard, maxHard) * 36 * quantumMS / 10_000; t.v > loss+2000 && t.v <= t.limit {
		t.step(t.v-loss, quantumMS)
	}
}

// metres is the distance so far.
func (t *tracer) metres() int64 { return t.distance / 3_600_000 }

// city drives in streets until the trip is so many metres long: lights, queues, sometimes a child's ball.
func (t *tracer) city(until int64) {
	t.assisted = false
	for t.metres() < until {
		t.ramp(1000*t.between(30, 58), t.between(900, 1800))
		t.hold(t.between(8, 40))
		switch {
		case t.chance(7):
			t.brakeHard()
		case t.chance(50):
			t.ramp(0, t.between(1000, 2200))
			t.hold(t.between(6, 40))
		}
	}
}

// motorway drives fast until the trip is so many metres long, mostly with assistance, sometimes too fast.
func (t *tracer) motorway(until int64) {
	for t.metres() < until {
		t.ramp(t.limit*t.between(78, 98)/100/1000*1000, t.between(500, 900))
		t.assisted = t.chance(75)
		t.hold(t.between(40, 180))
		switch {
		case t.chance(12):
			t.assisted = false
			t.ramp(t.limit+1000*t.between(6, 18), 600)
			t.hold(t.between(20, 80))
		case t.chance(10):
			t.ramp(t.limit*t.between(45, 65)/100/1000*1000, t.between(800, 1500))
			t.hold(t.between(30, 120))
		case t.chance(2):
			t.assisted = false
			t.brakeHard()
		}
	}
	t.assisted = false
}

// stop ends the trip at rest.
func (t *tracer) stop() {
	t.ramp(0, 1500)
	t.hold(2)
}
