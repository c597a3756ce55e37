package ecu

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rawstone/pkg/wire"
)

// noon is 12:00 UTC of some day, in nanoseconds.
const noon = int64(1_600_000_000/86400*86400+12*3600) * 1e9

func at(d time.Duration) int64 { return noon + int64(d) }

func speed(d time.Duration, mh int64) Sample {
	return Sample{Time: at(d), HasSpeed: true, SpeedMH: mh}
}

func odometer(d time.Duration, mm int64) Sample {
	return Sample{Time: at(d), HasOdometer: true, OdometerMM: mm}
}

func assist(d time.Duration, on bool) Sample {
	return Sample{Time: at(d), HasAssist: true, Assisted: on}
}

func power(d time.Duration, w int64) Sample {
	return Sample{Time: at(d), HasPower: true, PowerW: w}
}

func TestMeter(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name    string
		samples []Sample
		want    wire.Counters
	}{
		{"first reading is a base", []Sample{odometer(0, 5e9)}, wire.Counters{}},
		{"growth", []Sample{odometer(0, 5e9), odometer(s, 5e9+999), odometer(2*s, 5e9+2000)}, wire.Counters{wire.OdometerM: 2}},
		{"millimetres add up", []Sample{odometer(0, 0), odometer(s, 600), odometer(2*s, 1200), odometer(3*s, 1800), odometer(4*s, 2400)}, wire.Counters{wire.OdometerM: 2}},
		{"a fall is a base", []Sample{odometer(0, 0), odometer(s, 9e6), odometer(2*s, 0), odometer(3*s, 1000)}, wire.Counters{wire.OdometerM: 9001}},
		{"a jump is a base", []Sample{odometer(0, 0), odometer(s, 158e9), odometer(2*s, 158e9+3000)}, wire.Counters{wire.OdometerM: 3}},
		{"odometer after a silence", []Sample{odometer(0, 0), odometer(3600*s, 2e6)}, wire.Counters{wire.OdometerM: 2000}},
		{"driving", []Sample{speed(0, 0), speed(s, 0), speed(2*s, 10e3), speed(3*s, 0), speed(4*s, 0)}, wire.Counters{wire.DriveTimeS: 2}},
		{"a silence is not driving", []Sample{speed(0, 50e3), speed(6*s, 50e3), speed(7*s, 50e3)}, wire.Counters{wire.DriveTimeS: 1}},
		{"time that runs backwards", []Sample{speed(0, 50e3), speed(-3*s, 50e3), speed(-2*s, 50e3)}, wire.Counters{wire.DriveTimeS: 1}},
		{"at the limit", []Sample{speed(0, 120e3), speed(s, 120e3), speed(2*s, 120e3)}, wire.Counters{wire.DriveTimeS: 2}},
		{"over the limit", []Sample{speed(0, 110e3), speed(s, 120e3), speed(2*s, 130e3), speed(3*s, 130e3), speed(4*s, 120e3), speed(5*s, 110e3)},
			wire.Counters{wire.DriveTimeS: 5, wire.OverspeedS: 3}},
		{"a span that begins below the limit", []Sample{speed(0, 119e3), speed(s, 121e3), speed(2*s, 119e3)}, wire.Counters{wire.DriveTimeS: 2}},
		{"brake of 3.5 m/s²", []Sample{speed(0, 100e3), speed(s, 100e3-12_600)}, wire.Counters{wire.DriveTimeS: 1}},
		{"brake beyond", []Sample{speed(0, 100e3), speed(s, 100e3-12_601)}, wire.Counters{wire.DriveTimeS: 1, wire.HardBrakeN: 1}},
		{"one brake, long", []Sample{speed(0, 100e3), speed(s, 80e3), speed(2*s, 60e3), speed(3*s, 40e3)}, wire.Counters{wire.DriveTimeS: 3, wire.HardBrakeN: 1}},
		{"two brakes", []Sample{speed(0, 100e3), speed(s, 80e3), speed(2*s, 80e3), speed(3*s, 60e3)}, wire.Counters{wire.DriveTimeS: 3, wire.HardBrakeN: 2}},
		{"noise between close readings", []Sample{speed(0, 50e3), speed(10*time.Millisecond, 49.8e3), speed(20*time.Millisecond, 50e3), speed(s, 50e3)},
			wire.Counters{wire.DriveTimeS: 1}},
		{"brake seen in close readings", []Sample{speed(0, 50e3), speed(50*time.Millisecond, 49e3), speed(100*time.Millisecond, 48e3)}, wire.Counters{wire.HardBrakeN: 1}},
		{"no brake across a silence", []Sample{speed(0, 100e3), speed(6*s, 0)}, wire.Counters{}},
		{"assisted", []Sample{odometer(0, 0), assist(0, true), odometer(s, 3000), assist(s, false), odometer(2*s, 5000)},
			wire.Counters{wire.OdometerM: 5, wire.AssistedM: 3}},
		{"assistance forgotten", []Sample{odometer(0, 0), assist(0, true), odometer(6*s, 3000)}, wire.Counters{wire.OdometerM: 3}},
		{"energy", []Sample{power(0, 3600_000), power(s, -50_000), power(2*s, 1800_000), power(3*s, 0), power(4*s, 0)}, wire.Counters{wire.EnergyWh: 1500}},
		{"no energy across a silence", []Sample{power(0, 3600_000), power(6*s, 0)}, wire.Counters{}},
		{"all in one sample: the flag before it counts", []Sample{
			{Time: at(0), HasOdometer: true, HasSpeed: true, HasAssist: true, HasPower: true, Assisted: true, SpeedMH: 36e3, PowerW: 7200},
			{Time: at(s), HasOdometer: true, HasSpeed: true, HasAssist: true, HasPower: true, OdometerMM: 10e3, SpeedMH: 36e3, PowerW: -1},
			{Time: at(2 * s), HasOdometer: true, HasSpeed: true, HasAssist: true, HasPower: true, OdometerMM: 20e3, SpeedMH: 36e3},
		}, wire.Counters{wire.OdometerM: 20, wire.DriveTimeS: 2, wire.AssistedM: 10, wire.EnergyWh: 2}},
		{"values without their field", []Sample{{Time: at(0)}, {Time: at(s), OdometerMM: 5e6, SpeedMH: 50e3, PowerW: 1e6}}, wire.Counters{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := meter{overspeedMH: 120e3}
			for _, s := range tt.samples {
				m.observe(s)
			}
			if d := cmp.Diff(tt.want, m.Counters); d != "" {
				t.Errorf("counters (-want +got):\n%s", d)
			}
		})
	}
}

func TestMeterStandstill(t *testing.T) {
	m := meter{overspeedMH: 120e3, standstillMH: 1000}
	for i, v := range []int64{0, 500, 1000, 0, 1001, 0} {
		m.observe(speed(time.Duration(i)*time.Second, v))
	}
	if got := m.Counters[wire.DriveTimeS]; got != 2 {
		t.Errorf("drive time %d s, want 2", got)
	}
}

func TestMeterNight(t *testing.T) {
	const h = time.Hour
	for _, tt := range []struct {
		hour   time.Duration // after noon
		offset int64
		want   uint32
	}{
		{10*h - time.Second, 0, 0}, // ends at 22:00
		{10 * h, 0, 1},             // begins at 22:00
		{18*h - time.Second, 0, 1}, // ends at 06:00
		{18 * h, 0, 0},             // begins at 06:00
		{0, 0, 0},                  // noon
		{0, 12 * 3600, 1},          // noon in Greenwich, midnight here
		{12 * h, -12 * 3600, 0},    // the other way
		{0, -400 * 365 * 86400, 0}, // before 1970
	} {
		m := meter{overspeedMH: 120e3, utcOffsetS: tt.offset}
		m.observe(speed(tt.hour, 50e3))
		m.observe(speed(tt.hour+time.Second, 50e3))
		if got := m.Counters[wire.NightTimeS]; got != tt.want {
			t.Errorf("%v after noon, offset %d: night time %d s, want %d", tt.hour, tt.offset, got, tt.want)
		}
	}
}

func TestTotalStopsAtItsEnd(t *testing.T) {
	var m total
	m.Counters[wire.OdometerM] = math.MaxUint32 - 1
	m.add(wire.OdometerM, 1999)
	if m.Counters[wire.OdometerM] != math.MaxUint32 || m.Rest[wire.OdometerM] != 999 {
		t.Fatalf("%+v", m)
	}
	m.add(wire.OdometerM, 5000)
	if m.Counters[wire.OdometerM] != math.MaxUint32 {
		t.Errorf("counter wrapped to %d", m.Counters[wire.OdometerM])
	}
}

// TestMeterLaws feeds arbitrary samples: no counter ever falls, no remainder is a whole count, and distance is never more than the
// odometer's growth.
func TestMeterLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := meter{overspeedMH: 120e3}
		m.Counters = wire.Counters{math.MaxUint32 - 3, 0, 0, math.MaxUint32, 0, 0, math.MaxUint32 - 1}
		for range rapid.IntRange(1, 50).Draw(t, "samples") {
			before := m.total
			m.observe(Sample{
				Time:        rapid.Int64Range(0, math.MaxInt64).Draw(t, "time"),
				HasOdometer: rapid.Bool().Draw(t, "has odometer"), HasSpeed: rapid.Bool().Draw(t, "has speed"),
				HasAssist: rapid.Bool().Draw(t, "has assist"), HasPower: rapid.Bool().Draw(t, "has power"),
				OdometerMM: rapid.Int64Range(0, 1<<42).Draw(t, "odometer"),
				SpeedMH:    rapid.Int64Range(-5, 1_000_000).Draw(t, "speed"),
				Assisted:   rapid.Bool().Draw(t, "assisted"),
				PowerW:     rapid.Int64().Draw(t, "power"),
			})
			for i := range m.Counters {
				if m.Counters[i] < before.Counters[i] {
					t.Fatalf("counter %d fell from %d to %d", i, before.Counters[i], m.Counters[i])
				}
				if m.Rest[i] >= meterUnits()[i] {
					t.Fatalf("remainder %d of counter %d is a whole count", m.Rest[i], i)
				}
			}
			if m.Counters[wire.OdometerM]-before.Counters[wire.OdometerM] > maxStepMM/1000 {
				t.Fatal("one step counted more than 10 km")
			}
		}
	})
}
