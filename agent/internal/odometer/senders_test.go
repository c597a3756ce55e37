package odometer

import (
	"slices"
	"testing"

	"rawstone/agent/internal/vss"
)

// Two senders of one signal, of which one lies for ten minutes: never more is counted than was driven, the sane one wins where a
// speed tells which it is, the smaller is counted where both are plausible, and all is counted again once they agree.
func TestTwoSenders(t *testing.T) {
	t.Parallel()
	const from, to = 100_000, 700_000 // ms
	for _, f := range []struct {
		name         string
		lie          func(since, driven int64) int64 // mm
		share, alone int64                           // of the distance that is counted meanwhile, permille, with a speed and without
		event        string
	}{
		{"stuck", func(_, driven int64) int64 { return -driven }, 950, 0, "disagreement"},
		{"30 % high", func(_, driven int64) int64 { return driven * 3 / 10 }, 990, 990, "disagreement"},
		{"30 % low", func(_, driven int64) int64 { return -driven * 3 / 10 }, 700, 700, "disagreement"},
		{"a jump", func(int64, int64) int64 { return 40 * km }, 990, 990, "jump"},
		{"a jump each half minute", func(since, _ int64) int64 { return since / 30_000 * 400_000 }, 970, 970, "jump"},
	} {
		for liar := range 2 {
			for _, sources := range [][]int{{fine, fine}, {fine, fine, velocity}} {
				var begin int64
				c := newCar(sources...)
				c.fault = func(c *car, s *vss.Sample) bool {
					if c.now <= from {
						begin = c.at
					} else if s.Signal == liar && c.now <= to {
						s.Value += f.lie(c.now-from, c.at-begin) / 5000 * 5000
					}
					if s.Signal == 1 {
						s.Signal, s.Origin = 0, 1
					}
					return true
				}
				o := newOdometer(t, Config{Signals: c.signals})
				c.drive(o, from/1000, 20_000)
				share, event := f.share, f.event
				if len(sources) == 2 {
					share = f.alone
				} else if f.name == "stuck" {
					event = "frozen"
				}
				at := c.at
				if got := c.drive(o, (to-from)/1000, 20_000); got < (c.at-at)*share/1000 || o.Total() > c.at {
					t.Errorf("sender %d of %d is %s: %d mm of %d counted", liar, len(sources), f.name, got, c.at-at)
				}
				if !slices.Contains(named(o), event) {
					t.Errorf("sender %d of %d is %s: events %v, want %s", liar, len(sources), f.name, named(o), event)
				}
				c.drive(o, 600, 20_000)
				at = c.at
				if got := c.drive(o, 100, 20_000); got != c.at-at || o.disputes != 0 {
					t.Errorf("sender %d of %d was %s: %d mm of %d counted", liar, len(sources), f.name, got, c.at-at)
				}
			}
		}
	}
}

// A counter that comes back from a silence with more than the others saw is named, and its surplus is not counted beyond what a car
// drives in the second since the others' last sample.
func TestJumpInSilence(t *testing.T) {
	t.Parallel()
	c := newCar(fine, coarse)
	c.fault = func(c *car, s *vss.Sample) bool {
		if s.Signal == 0 && c.now >= 400_000 {
			s.Value += 10 * km
		}
		return s.Signal == 1 || c.now < 100_000 || c.now >= 400_000
	}
	o := newOdometer(t, Config{Signals: c.signals})
	if c.drive(o, 500, 20_000); o.Total() > c.at+100_000 {
		t.Errorf("%d mm of %d counted", o.Total(), c.at)
	}
	if got := named(o); !slices.Equal(got, []string{"disagreement"}) {
		t.Errorf("events %v", got)
	}
}

// A step that a second more would explain is waited for once: a jump is not believed for it.
func TestShortJump(t *testing.T) {
	t.Parallel()
	c := newCar(fine)
	c.every[0] = 100
	c.fault = func(c *car, s *vss.Sample) bool {
		if c.now >= 60_000 {
			s.Value += 70_000
		}
		return true
	}
	o := newOdometer(t, Config{Signals: c.signals})
	if c.drive(o, 120, 20_000); o.Total() > c.at || !slices.Equal(named(o), []string{"jump"}) {
		t.Errorf("%d mm of %d counted, events %v", o.Total(), c.at, named(o))
	}
}

// A counter that is asked for each ten seconds lies for half a minute: that is too few samples to believe, however long they last.
func TestSlowCounterLies(t *testing.T) {
	t.Parallel()
	c := newCar(fine)
	c.every[0] = 10_000
	c.fault = func(c *car, s *vss.Sample) bool {
		if c.now >= 100_000 && c.now < 130_000 {
			s.Value += 40 * km
		}
		return true
	}
	o := newOdometer(t, Config{Signals: c.signals})
	if c.drive(o, 300, 20_000); o.Total() > c.at || o.Total() < c.at-300_000 || !slices.Equal(named(o), []string{"jump"}) {
		t.Errorf("%d mm of %d counted, events %v", o.Total(), c.at, named(o))
	}
}

// The noise of a satellite receiver drives no parked car.
func TestNoiseIsNoDrive(t *testing.T) {
	t.Parallel()
	c := newCar(velocity)
	c.fault = func(c *car, s *vss.Sample) bool { s.Value = c.now / 100 % 8 * 35; return true }
	o := newOdometer(t, Config{Signals: c.signals})
	if c.drive(o, 3600, 0); o.Total() != 0 {
		t.Errorf("%d mm counted of a parked car", o.Total())
	}
}
