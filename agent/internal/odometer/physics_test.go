package odometer

import (
	"slices"
	"testing"

	"rawstone/agent/internal/vss"
)

// A clock that swings within what buses may be out of order lets each step of a counter seem possible. The distance is bounded by the
// time that passed all the same.
func TestPhysicsBound(t *testing.T) {
	t.Parallel()
	o := newOdometer(t, Config{Signals: []vss.Signal{{Name: "fine", Role: vss.Distance, Resolution: 1000}}})
	for i := range int64(200) {
		o.Observe(vss.Sample{Time: t0 + i%2*900*ms, Value: i / 2 * 90_000, Available: true})
	}
	if got := o.Total(); got > 90_000 || got < 80_000 {
		t.Errorf("%d mm in 0.9 s", got)
	}
}

// A speed falls silent while the car brakes and speeds up again. What it may not have driven is not counted, whether the speed stands
// alone or has taken over from a counter.
func TestDipInSilence(t *testing.T) {
	t.Parallel()
	for _, sources := range [][]int{{velocity}, {fine, velocity}} {
		for _, speed := range []int64{10_000, 20_000, 40_000} {
			for brake := range int64(3) {
				for gain := range int64(3) {
					c, silent := newCar(sources...), false
					last := len(sources) - 1
					c.fault = func(c *car, s *vss.Sample) bool {
						return !silent && (s.Signal == last || c.now < 25_000)
					}
					o := newOdometer(t, Config{Signals: c.signals})
					c.drive(o, 30, speed)
					lost := c.at - o.Total()
					silent = true
					c.drive(o, 1+brake, 0)
					c.drive(o, gain, speed)
					silent = false
					if c.drive(o, 1, speed); c.at-o.Total() < lost-c.speed/10 || o.Total() > c.at {
						t.Errorf("%v, %d mm/s, braking for %d s and speeding up for %d s: %d mm of %d counted, %d missed before", sources, speed, 1+brake, gain, o.Total(), c.at, lost)
					}
				}
			}
		}
	}
}

// The clock that stamps frames is set while the car drives: a small step back costs nothing and is no event; a large one costs what
// was driven across it; a step from 1970 to today costs nothing.
func TestClockIsSet(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		name  string
		step  int64 // ms
		bound int64 // mm
		names []string
	}{
		{"50 ms back", -50, 10_000, nil},
		{"400 ms back", -400, 10_000, nil},
		{"950 ms back", -950, 10_000, nil},
		{"1.6 s back", -1600, 35_000, []string{"time_backwards"}},
		{"2 s back", -2000, 35_000, []string{"time_backwards"}},
		{"a year back", -365 * 86_400_000, 35_000, []string{"time_backwards"}},
		{"300 ms on", 300, 10_000, nil},
		{"1970 to 2026", 56 * 365 * 86_400_000, 10_000, nil},
	} {
		for _, sources := range [][]int{{fine}, {fine, velocity}} {
			for _, speed := range []int64{20_000, 45_000} {
				c := newCar(sources...)
				c.fault = func(c *car, s *vss.Sample) bool {
					if s.Time -= t0 - 1000*ms; c.now >= 60_000 {
						s.Time += f.step * ms
					}
					if f.step < -1000_000 {
						s.Time += t0
					}
					return true
				}
				o := newOdometer(t, Config{Signals: c.signals})
				c.drive(o, 120, speed)
				c.drive(o, 10, 0)
				if o.Total() > c.at || o.Total() < c.at-f.bound {
					t.Errorf("%s, %v at %d mm/s: %d mm of %d counted", f.name, sources, speed, o.Total(), c.at)
				}
				if got := named(o); !slices.Equal(got, f.names) {
					t.Errorf("%s, %v: events %v, want %v", f.name, sources, got, f.names)
				}
			}
		}
	}
}

// A sensor that flaps in a parked car makes changes worth keeping ever more seldom, and none where no level changes.
func TestFlappingWhileParked(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(c *car, s *vss.Sample) bool{
		"not available": func(c *car, s *vss.Sample) bool { s.Available = c.now/100_000%2 == 0; return true },
		"two levels": func(c *car, s *vss.Sample) bool {
			if c.now/30_000%2 == 0 {
				s.Value += 40 * km
			}
			return true
		},
		"noise of one step": func(c *car, s *vss.Sample) bool { s.Value += c.now / 1000 % 2 * 5000; return true },
		"clock":             func(c *car, s *vss.Sample) bool { s.Time -= c.now / 100_000 % 2 * 7200_000 * ms; return true },
	} {
		c := newCar(fine)
		o := newOdometer(t, Config{Signals: c.signals})
		c.drive(o, 100, 20_000)
		c.drive(o, 10, 0)
		c.fault = fault
		r := o.Revision()
		c.drive(o, 7*86_400, 0)
		if got := o.Revision() - r; got > 20 {
			t.Errorf("%s: %d changes in a week's parking", name, got)
		}
		if o.Total() > c.at {
			t.Errorf("%s: %d mm of %d counted", name, o.Total(), c.at)
		}
		c.fault = func(*car, *vss.Sample) bool { return true }
		r = o.Revision()
		if c.drive(o, 100, 20_000); o.Revision() < r+100 {
			t.Errorf("%s: %d changes in the next 100 s of driving", name, o.Revision()-r)
		}
	}
}

// A jump just before the power fails is not recovered as distance when it comes back.
func TestDoubtOutlivesPower(t *testing.T) {
	t.Parallel()
	for name, seconds := range map[string]int64{"while it is doubted": 3, "just after it was adopted": 15} {
		c := newCar(fine)
		o := newOdometer(t, Config{Signals: c.signals})
		c.drive(o, 100, 20_000)
		c.drive(o, 10, 0)
		c.offset[0] -= 40 * km
		c.drive(o, seconds, 0)
		o = restored(t, Config{Signals: c.signals}, o.State())
		c.now += 3600_000
		c.offset[0] += 40 * km
		losses := o.Losses()
		if got := c.drive(o, 30, 0); got != 0 {
			t.Errorf("%s: %d mm recovered", name, got)
		}
		if seconds == 15 && o.Losses() == losses {
			t.Errorf("%s: what was not recovered is no loss", name)
		}
	}
}
