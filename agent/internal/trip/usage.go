package trip

import (
	"time"

	"rawstone/pkg/wire"
)

// The bands. A band's index is the number of its limits (wire.SpeedLimits, wire.TripLimits) that a value has reached.
const (
	numHours = 24
	numBands = 10
)

const (
	maxGap       = 10 * int64(time.Second)   // a longer silence of the speed signal is not counted
	maxChargeGap = 15 * int64(time.Minute)   // a charging car tells its state of charge more often than that
	tripEnd      = 5 * int64(time.Minute)    // a standstill of this length ends a trip
	millisecond  = int64(time.Millisecond)   // in the unit of frame time
	minute       = int64(60_000)             // in the unit of the summary's times
	hour         = int64(3600 * time.Second) // in the unit of frame time
	day          = int64(24 * 3600 * time.Second)
)

// Usage is a summary. Times are in milliseconds.
type Usage struct {
	Hours    [numHours]int64 `cbor:"0,keyasint"` // in use, per hour of the day
	Speed    [numBands]int64 `cbor:"1,keyasint"` // in use, per speed band
	Trips    [numBands]int64 `cbor:"2,keyasint"` // number, per length band
	Charge   [numBands]int64 `cbor:"3,keyasint"` // charging, per tenth of the state of charge
	Features [numBands]int64 `cbor:"4,keyasint"` // in use with a feature engaged: 0 is driver assistance
}

// use is the summary and the trip under way, as it is kept over a restart.
type use struct {
	Usage  Usage `cbor:"0,keyasint"`
	OnTrip bool  `cbor:"1,keyasint"`
	Length int64 `cbor:"2,keyasint"` // of the trip under way, millimetres
	Moved  int64 `cbor:"3,keyasint"` // frame time of its last movement
	// Families is the consent that the summary was recorded under.
	Families wire.Family `cbor:"4,keyasint"`
}

// restrict makes f the consent and forgets what was recorded of other families.
func (u *use) restrict(f wire.Family) {
	u.Families = f
	s := &u.Usage
	for family, values := range map[wire.Family][]int64{
		wire.FamilyHours: s.Hours[:], wire.FamilySpeed: s.Speed[:], wire.FamilyTrips: s.Trips[:], wire.FamilyCharge: s.Charge[:], wire.FamilyFeature: s.Features[:],
	} {
		if f&family == 0 {
			clear(values)
		}
	}
}

// follow makes f the consent, and says what has changed.
func (u *use) follow(f wire.Family) (changed wire.Family) {
	if changed = u.Families ^ f; changed != 0 {
		u.restrict(f)
		if changed&wire.FamilyTrips != 0 || f&^wire.FamilyCharge == 0 {
			u.OnTrip, u.Length, u.Moved = false, 0, 0
		}
	}
	return changed
}

// moment is what the summary needs to know of the samples before; it is not kept.
type moment struct {
	speed    int64 // last sample
	speedAt  int64 // its frame time, 0 for none
	charging bool
	chargeAt int64
	assist   bool
}

func (r *Recorder) on(f wire.Family) bool { return r.use.Families&f != 0 }

// endTrip ends the trip under way where the car has stood for long enough. Distance that is recovered later is not of that trip.
func (r *Recorder) endTrip(t int64) {
	s := &r.use
	if s.OnTrip && (t-s.Moved > tripEnd || t < s.Moved-maxGap) {
		s.OnTrip, r.dirty = false, true
		if r.on(wire.FamilyTrips) {
			s.Usage.Trips[band(wire.TripLimits(), s.Length/1000)]++
		}
	}
}

func (r *Recorder) observeSpeed(t, v int64) {
	if r.use.Families&^wire.FamilyCharge == 0 {
		return // nobody asked when the car drives
	}
	m, s := &r.last, &r.use
	dt, before := t-m.speedAt, m.speed
	seen := m.speedAt != 0 && dt > 0 && dt <= maxGap
	m.speed, m.speedAt = v, t
	if v >= wire.SpeedLimits()[0] {
		if !s.OnTrip {
			s.OnTrip, s.Length = true, 0
		}
		s.Moved, r.dirty = t, true
	}
	if s.OnTrip && seen {
		ms := dt / millisecond
		if r.on(wire.FamilyHours) {
			s.Usage.Hours[r.hourOf(t)] += ms
		}
		if r.on(wire.FamilySpeed) {
			s.Usage.Speed[band(wire.SpeedLimits(), before)] += ms
		}
		if r.on(wire.FamilyFeature) && m.assist {
			s.Usage.Features[0] += ms
		}
		r.dirty = true
	}
}

func (r *Recorder) observeCharge(t, v int64) {
	m := &r.last
	if dt := t - m.chargeAt; m.charging && m.chargeAt != 0 && dt > 0 && dt <= maxChargeGap && r.on(wire.FamilyCharge) {
		r.use.Usage.Charge[max(0, min(v/100, numBands-1))] += dt / millisecond
		r.dirty = true
	}
	m.chargeAt = t
}

func (r *Recorder) hourOf(t int64) int64 {
	return ((t%day+int64(r.cfg.UTCOffset))%day + day) % day / hour
}

// band returns the number of limits that v has reached.
func band(limits [numBands - 1]int64, v int64) (n int) {
	for n < len(limits) && v >= limits[n] {
		n++
	}
	return n
}

// subtract takes the whole minutes and trips of v out of u.
func (u *Usage) subtract(v Usage) {
	for _, f := range []struct {
		from, told []int64
		unit       int64
	}{
		{u.Hours[:], v.Hours[:], minute}, {u.Speed[:], v.Speed[:], minute}, {u.Trips[:], v.Trips[:], 1},
		{u.Charge[:], v.Charge[:], minute}, {u.Features[:], v.Features[:], minute},
	} {
		for i, x := range f.told {
			f.from[i] = max(0, f.from[i]-x/f.unit*f.unit)
		}
	}
}

// vector returns the summary as the values of a usage report, in the order of wire.Layouts: whole minutes, and numbers of trips.
func (u Usage) vector() (v [wire.VectorLen]int64) {
	minutes := func(ms []int64) (out []int64) {
		for _, x := range ms {
			out = append(out, x/minute)
		}
		return out
	}
	for i, values := range [][]int64{minutes(u.Hours[:]), minutes(u.Speed[:]), u.Trips[:], minutes(u.Charge[:]), minutes(u.Features[:])} {
		copy(v[wire.Layouts()[i].Offset:], values)
	}
	return v
}
