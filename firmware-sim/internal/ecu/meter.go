package ecu

import (
	"math"
	"time"

	"rawstone/pkg/wire"
)

// A Sample is what one instant on the bus tells the ECU. A value whose Has is not set is not looked at.
type Sample struct {
	// Time is frame time in Unix nanoseconds.
	Time                                       int64
	HasOdometer, HasSpeed, HasAssist, HasPower bool
	// OdometerMM is an odometer's or trip counter's reading in millimetres; only its growth counts.
	OdometerMM int64
	// SpeedMH is speed in metres an hour, which are thousandths of km/h; not negative.
	SpeedMH int64
	// Assisted says that driver assistance is engaged.
	Assisted bool
	// PowerW is the power taken from the battery in watts, negative while it is charged.
	PowerW int64
}

const (
	// maxGap is the longest frame time between two readings of a signal over which the first is taken to have held. Real senders
	// repeat speed within a second or two; beyond this the bus was silent, and nothing is counted.
	maxGap = int64(5 * time.Second)
	// minBrakeSpan is the shortest time over which a deceleration is judged: over less, the resolution of a speed signal looks
	// like a brake.
	minBrakeSpan = int64(80 * time.Millisecond)
	// hardBrake is 3.5 m/s² in metres an hour per second.
	hardBrake = 12_600
	// maxStepMM is the largest growth between two readings that is driving: more is another odometer (10 km).
	maxStepMM = 10_000_000

	nightFromS, nightToS = 22 * 3600, 6 * 3600
)

// meterUnits are the sizes of one count of each counter in the unit of its remainder: mm, ns, ns, one, ns, mm, nJ.
func meterUnits() [wire.NumCounters]uint64 {
	return [wire.NumCounters]uint64{1000, 1e9, 1e9, 1, 1e9, 1000, 3600 * 1e9}
}

// A total is what the meter keeps for life.
type total struct {
	Counters wire.Counters `cbor:"0,keyasint"`
	// Rest is what does not make a whole count yet, in the units of meterUnits.
	Rest [wire.NumCounters]uint64 `cbor:"1,keyasint"`
}

// add grows a counter and stops at its end: a counter that wrapped would fall.
func (t *total) add(i int, amount uint64) {
	unit := meterUnits()[i]
	sum := t.Rest[i] + amount
	n := sum / unit
	if n > math.MaxUint32-uint64(t.Counters[i]) {
		t.Counters[i], t.Rest[i] = math.MaxUint32, 0
		return
	}
	t.Counters[i] += uint32(n)
	t.Rest[i] = sum % unit
}

// A reading is the last value of a signal and its frame time.
type reading struct {
	value int64
	at    int64
	known bool
}

// since returns the time since the reading, or false when it does not hold any more (or time ran backwards).
func (r reading) since(now int64) (ns int64, ok bool) {
	ns = now - r.at
	return ns, r.known && ns >= 0 && ns <= maxGap
}

// A meter counts. Everything but total is forgotten when the ECU loses power: the next reading of each signal is a new base.
type meter struct {
	total
	overspeedMH, standstillMH int64
	utcOffsetS                int64

	odometer, speed, assist, power reading
	brake                          reading // where the deceleration being judged began
	braking                        bool
	rebased                        uint64 // falls and jumps of the odometer
}

// observe counts what happened up to the sample. Values held until now are judged before the sample's own replace them.
func (m *meter) observe(s Sample) {
	if s.HasOdometer {
		m.observeOdometer(s)
	}
	if s.HasSpeed && s.SpeedMH >= 0 {
		m.observeSpeed(s.SpeedMH, s.Time)
	}
	if s.HasAssist {
		m.assist = reading{at: s.Time, known: true}
		if s.Assisted {
			m.assist.value = 1
		}
	}
	if s.HasPower {
		if dt, ok := m.power.since(s.Time); ok && m.power.value > 0 {
			m.add(wire.EnergyWh, uint64(m.power.value)*uint64(dt))
		}
		m.power = reading{value: min(s.PowerW, maxPowerW), at: s.Time, known: true}
	}
}

// maxPowerW bounds one reading (10 MW) so that its product with maxGap fits.
const maxPowerW = 10_000_000

func (m *meter) observeOdometer(s Sample) {
	last := m.odometer
	m.odometer = reading{value: s.OdometerMM, at: s.Time, known: true}
	if !last.known {
		return
	}
	grown := s.OdometerMM - last.value
	if grown < 0 || grown > maxStepMM {
		m.rebased++
		return
	}
	m.add(wire.OdometerM, uint64(grown))
	if _, ok := m.assist.since(s.Time); ok && m.assist.value != 0 {
		m.add(wire.AssistedM, uint64(grown))
	}
}

func (m *meter) observeSpeed(v, now int64) {
	last := m.speed
	m.speed = reading{value: v, at: now, known: true}
	dt, ok := last.since(now)
	if !ok {
		m.brake, m.braking = m.speed, false
		return
	}
	if max(last.value, v) > m.standstillMH {
		m.add(wire.DriveTimeS, uint64(dt))
		if m.night(last.at) {
			m.add(wire.NightTimeS, uint64(dt))
		}
	}
	// A span counts as too fast only when it began and ended at the limit or above it, so that sampling cannot add to it.
	if min(last.value, v) >= m.overspeedMH && max(last.value, v) > m.overspeedMH {
		m.add(wire.OverspeedS, uint64(dt))
	}
	if span := now - m.brake.at; span >= minBrakeSpan {
		hard := (m.brake.value-v)*1e9 > hardBrake*span
		if hard && !m.braking {
			m.add(wire.HardBrakeN, 1)
		}
		m.brake, m.braking = m.speed, hard
	}
}

// night reports whether it is 22:00 to 06:00 by the program's offset from UTC.
func (m *meter) night(at int64) bool {
	s := (at/1e9 + m.utcOffsetS) % 86400
	if s < 0 {
		s += 86400
	}
	return s >= nightFromS || s < nightToS
}
