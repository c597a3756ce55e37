package drive

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rawstone/firmware-sim/internal/ecu"
	"rawstone/firmware-sim/internal/replay"
	"rawstone/pkg/can"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	limit  = 120_000
	simDBC = "../../../configs/vehicles/sim.dbc"
)

// monday is a working day: 2026-01-05.
const monday = 20458

func sensors(t testing.TB) *replay.Sensors {
	t.Helper()
	s, warnings, err := replay.LoadSensors(simDBC, replay.SensorConfig{
		Odometer: replay.SignalConfig{Signal: "Odometer", Unit: "m"}, Speed: replay.SignalConfig{Signal: "VehicleSpeed", Unit: "km/h"},
		Assist: replay.SignalConfig{Signal: "AssistEngaged"}, Power: replay.SignalConfig{Signal: "BatteryPower", Unit: "W"},
	})
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	return s
}

// readings returns every reading of days, from the begin of the first.
func readings(cfg Config, first uint32, days int) (all []Reading) {
	c := &Car{cfg, Calendar{cfg.Timing}}
	p := position{day: first, plan: c.synthesise(first), before: int64(cfg.OdometerM) * 3_600_000}
	for p.day < first+uint32(days) {
		all = append(all, c.reading(&p))
		c.advance(&p)
	}
	return all
}

func config(p Profile, seed uint64, step int64) Config {
	return Config{
		Profile: p, Seed: seed, StepMS: step, LimitMH: limit,
		Timing: terms.Timing{DayS: 86400, DropS: 600}, Logger: slog.New(slog.DiscardHandler),
	}
}

// count feeds readings to an ECU through frames and DBC file, as an agent would read them.
func count(t testing.TB, all []Reading) wire.Counters {
	t.Helper()
	now := time.Unix(0, 0)
	cfg := ecu.Config{
		Dir: t.TempDir(), Program: wire.Hash{1}, Clock: terms.Clock{Timing: terms.Timing{DayS: 86400, DropS: 600}, Now: func() time.Time { return now }},
		OverspeedMH: limit, Logger: slog.New(slog.DiscardHandler), Send: func(context.Context, []byte) error { return nil },
	}
	if _, err := ecu.Create(cfg); err != nil {
		t.Fatal(err)
	}
	e, err := ecu.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s := sensors(t)
	var frames []can.Frame
	for i := range all {
		frames = all[i].AppendFrames(frames[:0])
		for j := range frames {
			if sample, ok := s.Sample(&frames[j]); ok {
				if err := e.Observe(ecu.Sample(sample)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return e.Counters()
}

func TestSumsDependOnNeitherStepNorDayLength(t *testing.T) {
	for _, p := range Profiles() {
		want := count(t, readings(config(p, 7, 250), monday, 2))
		if (want[wire.OdometerM] > 0) != (p != Parked) {
			t.Errorf("%s: %v", p, want)
		}
		for _, step := range []int64{100, 500, 1000, 2000} {
			if step == 100 && p == Longhaul {
				continue // as long as the others together
			}
			if d := cmp.Diff(want, count(t, readings(config(p, 7, step), monday, 2))); d != "" {
				t.Errorf("%s with steps of %d ms (-250 ms +this):\n%s", p, step, d)
			}
		}
		// Two days of 30 s from genesis, which lies on the same Monday.
		short := config(p, 7, 1000)
		short.Timing = terms.Timing{GenesisS: monday * 86400, OffsetS: 0, DayS: 30, DropS: 10}
		if d := cmp.Diff(want, count(t, readings(short, monday*86400/30, 2))); d != "" {
			t.Errorf("%s with days of 30 s (-86,400 s +this):\n%s", p, d)
		}
	}
}

func TestOdometerOnTheBusIsTheECUs(t *testing.T) {
	for _, p := range Profiles() {
		cfg := config(p, 3, 1000)
		cfg.OdometerM = 12_345
		all := readings(cfg, monday, 3)
		driven := all[len(all)-1].OdometerM - all[0].OdometerM
		if all[0].OdometerM != 12_345 {
			t.Errorf("%s: begins at %d m", p, all[0].OdometerM)
		}
		if got := count(t, all)[wire.OdometerM]; got != driven {
			t.Errorf("%s: the ECU counted %d m, the bus shows %d", p, got, driven)
		}
	}
}

func TestProfiles(t *testing.T) {
	for _, tt := range []struct {
		profile   Profile
		low, high int64 // metres a day
	}{{Commuter, 50_000, 62_000}, {Longhaul, 500_000, 720_000}, {Parked, 0, 0}} {
		for date := int64(monday); date < monday+5; date++ {
			for seed := range uint64(20) {
				d := synthesise(tt.profile, seed, limit, date)
				if m := d.distance(dayMS) / 3_600_000; m < tt.low || m > tt.high {
					t.Errorf("%s, seed %d, date %d: %d m, want %d to %d", tt.profile, seed, date, m, tt.low, tt.high)
				}
			}
		}
	}
	for date := int64(monday + 5); date < monday+7; date++ {
		if m := synthesise(Commuter, 1, limit, date).distance(dayMS) / 3_600_000; m < 6_000 || m > 25_000 {
			t.Errorf("week-end: %d m", m)
		}
	}
	// Over a week every counter of a car that drives moves.
	if c := count(t, readings(config(Longhaul, 1, 2000), monday, 7)); c[wire.OverspeedS] == 0 || c[wire.HardBrakeN] == 0 ||
		c[wire.NightTimeS] == 0 || c[wire.AssistedM] == 0 || c[wire.EnergyWh] == 0 {
		t.Errorf("a week of long hauls counts %v", c)
	}
}

// TestPlausible holds any day of any car to what a car can do.
func TestPlausible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(Profiles()).Draw(t, "profile")
		seed := rapid.Uint64().Draw(t, "seed")
		date := rapid.Int64Range(firstDate, lastDate-1).Draw(t, "date")
		speedLimit := 1000 * rapid.Int64Range(60, 200).Draw(t, "limit")
		d := synthesise(p, seed, speedLimit, date)
		if d2 := synthesise(p, seed, speedLimit, date); !cmp.Equal(d, d2, cmp.AllowUnexported(day{}, trip{}, segment{}, charge{})) {
			t.Fatal("the same day differs from itself")
		}
		end := int64(0)
		for _, trip := range d.trips {
			if trip.start < end || trip.start%minuteMS != 0 || trip.length%quantumMS != 0 || trip.start+trip.length >= dayMS-hourMS {
				t.Fatalf("trip of %d ms at %d ms overlaps, is off the grid or ends too late", trip.length, trip.start)
			}
			end = trip.start + trip.length
			v, at, driven := int64(0), int64(0), int64(0)
			for _, s := range trip.segments {
				if s.v0 != v || s.start != at || s.distance != driven || s.length%quantumMS != 0 {
					t.Fatalf("segment %+v does not continue from %d m/h at %d ms", s, v, at)
				}
				a := float64(s.v1-s.v0) / 3.6 / float64(s.length) // m/s²
				if a < -6.001 || a > 1.801 || s.v1 < 0 || s.v1 > speedLimit+20_000 || s.power < -60_000 || s.power > 251_000 {
					t.Fatalf("segment %+v accelerates with %v m/s²", s, a)
				}
				if a < -2.21 && a > -3.99 {
					t.Fatalf("segment %+v brakes with %v m/s²: neither calm nor hard", s, a)
				}
				v, at, driven = s.v1, s.start+s.length, s.distance+s.travelled(s.length)
			}
			if v != 0 || at != trip.length || driven != trip.distance {
				t.Fatalf("trip ends at %d m/h after %d of %d ms", v, at, trip.length)
			}
		}
		for _, c := range d.charges {
			for _, trip := range d.trips {
				if c.length < 0 || c.start%minuteMS != 0 || c.start < trip.start+trip.length && trip.start < c.start+c.length {
					t.Fatalf("charges %+v while driving %d+%d", c, trip.start, trip.length)
				}
			}
		}
	})
}

// TestReadings checks one day of frames against each other: time rises, the odometer is the integral of speed, and the battery
// neither overflows nor runs dry.
func TestReadings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := config(rapid.SampledFrom(Profiles()).Draw(t, "profile"), rapid.Uint64().Draw(t, "seed"), 1000)
		all := readings(cfg, rapid.Uint32Range(firstDate, lastDate-1).Draw(t, "day"), 1)
		integral := 0.0 // metres
		for i, r := range all[1:] {
			last := all[i]
			dt := float64(r.Time-last.Time) / 1e9
			if dt <= 0 || dt > 600 || !r.Due.After(last.Due) {
				t.Fatalf("%v s between two readings", dt)
			}
			integral += float64(r.SpeedMH()+last.SpeedMH()) / 2 / 3600 * dt
			// Half a metre for the odometer's whole metres, the share for speed's hundredths of km/h.
			if got := float64(r.OdometerM-all[0].OdometerM) + 0.5; math.Abs(got-integral) > 0.6+integral*1e-5 {
				t.Fatalf("odometer grew by %v m, speed says %v", got, integral)
			}
			if r.stateOfCharge < 1000 || r.stateOfCharge > 8100 {
				t.Fatalf("state of charge %v %%", float64(r.stateOfCharge)/100)
			}
			if dt > 60 && (r.Status == Driving && last.Status == Driving || last.Status == Charging) {
				t.Fatalf("silent for %v s while awake", dt)
			}
		}
		if first := all[0]; first.Status != Asleep || first.Due.Unix()%86400 != 0 {
			t.Fatalf("the day's first reading is %+v", first)
		}
	})
}

// TestFramesMatchDBC holds the encoder to the DBC file for any reading.
func TestFramesMatchDBC(t *testing.T) {
	s := sensors(t)
	rapid.Check(t, func(t *rapid.T) {
		r := Reading{
			Time: 5, OdometerM: rapid.Uint32Range(0, odometerEnd).Draw(t, "odometer"), Assisted: rapid.Bool().Draw(t, "assisted"),
			speed: rapid.Uint16Range(0, 40_000).Draw(t, "speed"), power: rapid.Int16Range(-32767, 32767).Draw(t, "power"),
		}
		var got replay.Sample
		for _, f := range r.AppendFrames(nil) {
			one, ok := s.Sample(&f)
			if !ok {
				t.Fatalf("frame %v says nothing", f.ID)
			}
			got.HasOdometer = got.HasOdometer || one.HasOdometer
			got.HasSpeed = got.HasSpeed || one.HasSpeed
			got.HasAssist = got.HasAssist || one.HasAssist
			got.HasPower = got.HasPower || one.HasPower
			got.Time = one.Time
			got.OdometerMM += one.OdometerMM
			got.SpeedMH += one.SpeedMH
			got.PowerW += one.PowerW
			got.Assisted = got.Assisted || one.Assisted
		}
		want := replay.Sample{
			Time: 5, HasOdometer: true, HasSpeed: true, HasAssist: true, HasPower: true,
			OdometerMM: int64(r.OdometerM) * 1000, SpeedMH: r.SpeedMH(), Assisted: r.Assisted, PowerW: r.PowerW(),
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("decoded (-want +got):\n%s", d)
		}
	})
}

func TestCalendar(t *testing.T) {
	civil := Calendar{terms.Timing{GenesisS: 1_767_640_000, OffsetS: 8 * 3600, DayS: 86400, DropS: 600}}
	now := time.Unix(1_767_657_600+13*3600+25, 0) // 2026-01-06 00:00 UTC and some
	day, ms := civil.Position(now)
	if got := civil.FrameTime(day, ms); got != now.UnixNano() {
		t.Errorf("real days: frame time %v, want %v", time.Unix(0, got), now)
	}
	if civil.Date(day) != int64(day) {
		t.Errorf("real days: date %d of day %d", civil.Date(day), day)
	}
	rapid.Check(t, func(t *rapid.T) {
		c := Calendar{terms.Timing{
			GenesisS: rapid.Int64Range(0, 1<<33).Draw(t, "genesis"), OffsetS: rapid.Int64Range(-86400*366, 86400*366).Draw(t, "offset"),
			DayS: rapid.Uint32Range(1, maxDayS).Draw(t, "day_s"), DropS: 1,
		}}
		day := c.Day(time.Unix(rapid.Int64Range(86400*367, 1<<33).Draw(t, "now"), 0))
		ms := rapid.Int64Range(0, dayMS-1).Draw(t, "ms")
		if c.FrameTime(day, ms) < 0 {
			t.Fatal("frame time before 1970")
		}
		if hour := (c.FrameTime(day, ms)/1_000_000_000 + c.OffsetS) % 86400; hour != ms/1000 {
			t.Fatalf("second of the day %d, want %d", hour, ms/1000)
		}
		at := c.Instant(day, ms)
		if got := c.Day(at); got != day {
			t.Fatalf("instant of day %d lies in day %d", day, got)
		}
		d, back := c.Position(at)
		// Instants are cut to nanoseconds and positions to steps of 10 µs of program time.
		if slack := 2 + 864/int64(c.DayS); d != day || back > ms || back < ms-slack {
			t.Fatalf("position %d ms, want %d", back, ms)
		}
	})
}

// TestRun drives in real time with a fake clock: whole days, in order, never early, hardly late.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(Commuter, 1, 1000)
		now := time.Now()
		cfg.Timing = terms.Timing{GenesisS: now.Unix(), DayS: 60, DropS: 60}
		// The synctest clock begins at a midnight, so a day begins here; join in the middle of the next.
		time.Sleep(90 * time.Second)
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var all []Reading
		stop := errors.New("enough")
		start := time.Now()
		err = c.Run(t.Context(), func(_ context.Context, r *Reading) error {
			if late := time.Since(r.Due); late < 0 || late > 2*minPause {
				t.Errorf("reading of %v came %v late", r.Due, late)
			}
			all = append(all, *r)
			if time.Since(start) > 100*time.Second {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) {
			t.Fatal(err)
		}
		if all[0].OdometerM != 0 || all[0].Due.Sub(start).Abs() > time.Second {
			t.Errorf("joined with %+v", all[0])
		}
		for i, r := range all[1:] {
			if r.Time <= all[i].Time || r.OdometerM < all[i].OdometerM {
				t.Fatal("time or distance ran backwards")
			}
		}
		day := cfg.Timing.Day(start)
		morning := (c.synthesise(day).distance(dayMS) - c.synthesise(day).distance(dayMS/2) + c.synthesise(day+1).distance(dayMS)) / 3_600_000
		if got := int64(all[len(all)-1].OdometerM); got < morning-1 || got > morning+30_000 {
			t.Errorf("drove %d m, want the afternoon and a day, %d", got, morning)
		}
	})
}

// TestRunJoinsAgain stalls the host for three days: the car does not make up for them.
func TestRunJoinsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config(Longhaul, 1, 2000)
		cfg.Timing = terms.Timing{GenesisS: time.Now().Unix(), DayS: 60, DropS: 60}
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last Reading
		n, stalled := 0, uint32(0)
		err = c.Run(ctx, func(_ context.Context, r *Reading) error {
			if n++; n == 8000 {
				stalled = r.OdometerM
				time.Sleep(200 * time.Second)
			}
			if last = *r; n == 8002 {
				cancel()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(last.Due) > time.Second || last.OdometerM-stalled > 200 || stalled < 100_000 {
			t.Errorf("stalled at %d m, went on at %d m, %v late", stalled, last.OdometerM, time.Since(last.Due))
		}
	})
}

func TestNewRefuses(t *testing.T) {
	for name, alter := range map[string]func(*Config){
		"profile": func(c *Config) { c.Profile = "racer" },
		"step":    func(c *Config) { c.StepMS = 300 },
		"no step": func(c *Config) { c.StepMS = 0 },
		"limit":   func(c *Config) { c.LimitMH = 50_000 },
		"no day":  func(c *Config) { c.Timing.DayS = 0 },
		"eon":     func(c *Config) { c.Timing.DayS = maxDayS + 1 },
		"logger":  func(c *Config) { c.Logger = nil },
	} {
		c := config(Commuter, 1, 100)
		alter(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := os.Stat(simDBC); err != nil {
		t.Error(err)
	}
}
