package odometer

import (
	"slices"
	"testing"

	"rawstone/agent/internal/odometer/motion"
	"rawstone/agent/internal/vss"
)

// A car has a position and sources that tell of it.
type car struct {
	signals []vss.Signal
	every   []int64 // ms between samples
	offset  []int64 // mm on the counter when the drive begins
	now     int64   // ms
	at      int64   // mm driven
	speed   int64   // mm/s
	// fault changes a sample, or drops it.
	fault func(c *car, s *vss.Sample) bool
}

// The sources of a car.
const (
	short = iota // 8 bit of 0.2 m
	fine         // 5 m
	coarse
	velocity
)

func newCar(sources ...int) *car {
	all := newFullCar()
	c := &car{fault: func(*car, *vss.Sample) bool { return true }}
	for _, i := range sources {
		c.signals, c.every, c.offset = append(c.signals, all.signals[i]), append(c.every, all.every[i]), append(c.offset, all.offset[i])
	}
	return c
}

func newFullCar() *car {
	return &car{
		signals: []vss.Signal{
			short:    {Name: "short", Role: vss.Distance, Resolution: 200, Modulus: 51_200},
			fine:     {Name: "fine", Role: vss.Distance, Resolution: 5000},
			coarse:   {Name: "coarse", Role: vss.Distance, Resolution: km},
			velocity: {Name: "velocity", Role: vss.Speed},
		},
		every:  []int64{200, 500, 1000, 100},
		offset: []int64{7_000, 158_910_600_000, 158_910_600_000, 0},
		fault:  func(*car, *vss.Sample) bool { return true },
	}
}

// drive goes on for some time, reaches a speed as fast as tyres allow, and feeds what the sources say. It returns what was counted.
func (c *car) drive(o *Odometer, seconds, speed int64) (grown int64) {
	for end := c.now + 1000*seconds; c.now < end; {
		c.now += 100
		before := c.speed
		c.speed += min(max(speed-c.speed, -motion.Grip/10), motion.Grip/10)
		c.at += (before + c.speed) / 20
		for i, sig := range c.signals {
			if c.now%c.every[i] != 0 {
				continue
			}
			s := vss.Sample{Signal: i, Time: t0 + c.now*ms, Available: true, Value: c.speed}
			if sig.Role == vss.Distance {
				s.Value = (c.at + c.offset[i]) / sig.Resolution * sig.Resolution
				if sig.Modulus > 0 {
					s.Value %= sig.Modulus
				}
			}
			if c.fault(c, &s) {
				grown += o.Observe(s)
			}
		}
	}
	return grown
}

func named(o *Odometer) (names []string) {
	for _, r := range o.Reports() {
		names = append(names, r.Kind.String())
	}
	return names
}

// Each kind of fault, on a car with one or more sources: what is counted is never more than what was driven, nor less by more than
// the stated bound, and the fault has its name.
func TestFaults(t *testing.T) {
	t.Parallel()
	within := func(c *car, from, to int64) bool { return c.now >= 1000*from && c.now < 1000*to }
	for _, f := range []struct {
		name    string
		sources []int
		bound   int64 // mm
		events  []string
		fault   func(c *car, s *vss.Sample) bool
	}{
		{"none, one counter", []int{fine}, 10_000, nil, nil},
		{"none, all sources", []int{short, fine, coarse, velocity}, 6_000, nil, nil},
		{"none, coarse", []int{coarse}, 2 * km, nil, nil},
		{"jump and return", []int{fine}, 10_000, []string{"jump"}, func(c *car, s *vss.Sample) bool {
			if within(c, 100, 105) {
				s.Value += 40 * km
			}
			return true
		}},
		{"jump and stay", []int{fine}, 500_000, []string{"jump"}, func(c *car, s *vss.Sample) bool {
			if within(c, 100, 1e9) {
				s.Value += 40 * km
			}
			return true
		}},
		{"jump and stay, speed", []int{fine, velocity}, 15_000, []string{"jump"}, func(c *car, s *vss.Sample) bool {
			if s.Signal == 0 && within(c, 100, 1e9) {
				s.Value += 40 * km
			}
			return true
		}},
		{"small jumps that do not stay put", []int{fine, velocity}, 25_000, []string{"jump"}, func(c *car, s *vss.Sample) bool {
			if s.Signal == 0 && within(c, 100, 300) {
				s.Value += c.now % 7 * 300_000 // 0 to 1.8 km, another one each time
			}
			return true
		}},
		{"a jump held for long in doubt", []int{fine}, 50_000, []string{"jump"}, func(c *car, s *vss.Sample) bool {
			if within(c, 100, 190) { // a new level each time, one that the old level could reach after a minute's wait
				s.Value += 6*km + c.now%1000*1000 - (c.now/1000-100)*50_000
			}
			return true
		}},
		{"a short jump and stay", []int{fine}, 500_000, []string{"jump"}, func(c *car, s *vss.Sample) bool {
			if within(c, 100, 1e9) {
				s.Value += 700_000
			}
			return true
		}},
		{"rollback and stay", []int{fine, velocity}, 15_000, []string{"rollback"}, func(c *car, s *vss.Sample) bool {
			if s.Signal == 0 && within(c, 100, 1e9) {
				s.Value -= 40 * km
			}
			return true
		}},
		{"37.5 km, 0, then true", []int{fine, velocity}, 30_000, []string{"jump", "rollback", "frozen"}, func(c *car, s *vss.Sample) bool {
			if s.Signal == 0 && within(c, 0, 360) {
				s.Value = 37_500_000
			} else if s.Signal == 0 && within(c, 360, 365) {
				s.Value = 0
			}
			return true
		}},
		{"not available", []int{fine}, 10_000, []string{"not_available"}, func(c *car, s *vss.Sample) bool {
			s.Available = !within(c, 100, 200)
			return true
		}},
		{"0xFFFFFFFF metres", []int{fine}, 10_000, []string{"not_available"}, func(c *car, s *vss.Sample) bool {
			if within(c, 100, 200) {
				s.Value = 0xFFFFFFFF * 1000
			}
			return true
		}},
		{"miles for some frames", []int{fine}, 10_000, []string{"unit_flip"}, func(c *car, s *vss.Sample) bool {
			if within(c, 100, 102) {
				s.Value = motion.Miles(s.Value)
			}
			return true
		}},
		{"kilometres read as miles for good", []int{fine}, 600_000, []string{"unit_flip"}, func(c *car, s *vss.Sample) bool {
			if within(c, 100, 1e9) {
				s.Value = s.Value/1000*1_609_344/1000 + s.Value%1000
			}
			return true
		}},
		{"silence", []int{fine}, 10_000, nil, func(c *car, s *vss.Sample) bool { return !within(c, 100, 400) }},
		{"silence, speed goes on", []int{fine, velocity}, 10_000, nil, func(c *car, s *vss.Sample) bool { return s.Signal == 1 || !within(c, 100, 400) }},
		{"silence of the short counter", []int{short, fine}, 12_000, []string{"unseen_wrap"}, func(c *car, s *vss.Sample) bool { return s.Signal == 1 || !within(c, 100, 400) }},
		{"silence of all but the coarse", []int{short, coarse, velocity}, km, []string{"unseen_wrap"}, func(c *car, s *vss.Sample) bool { return s.Signal == 1 || !within(c, 100, 400) }},
		{"frozen for good", []int{fine, velocity}, 15_000, []string{"frozen"}, func(c *car, s *vss.Sample) bool {
			if s.Signal == 0 && within(c, 100, 1e9) {
				s.Value = 158_912_100_000
			}
			return true
		}},
		{"implausible speed", []int{velocity}, 100_000, []string{"implausible_speed"}, func(c *car, s *vss.Sample) bool {
			if c.now%5000 == 0 {
				s.Value = 182_000
			}
			return true
		}},
		{"clock set back", []int{fine}, 100_000, []string{"time_backwards"}, func(c *car, s *vss.Sample) bool {
			if within(c, 100, 1e9) {
				s.Time -= 3600 * 1000 * ms
			}
			return true
		}},
		{"counter lies by +40 %", []int{fine, coarse}, 2 * km, []string{"disagreement"}, func(c *car, s *vss.Sample) bool {
			if s.Signal == 1 {
				s.Value = (158_910_600_000 + c.at*14/10) / km * km
			}
			return true
		}},
		{"counter lies by +60 % against speed", []int{fine, velocity}, 100_000, []string{"disagreement"}, func(c *car, s *vss.Sample) bool {
			if s.Signal == 0 {
				s.Value = (158_910_600_000 + c.at*16/10) / 5000 * 5000
			}
			return true
		}},
	} {
		if f.fault == nil {
			f.fault = func(*car, *vss.Sample) bool { return true }
		}
		c := newCar(f.sources...)
		c.fault = f.fault
		o := newOdometer(t, Config{Signals: c.signals})
		var grown int64
		for _, leg := range [][2]int64{{50, 10_000}, {150, 20_000}, {40, 0}, {300, 15_000}, {600, 33_000}, {10, 0}} {
			grown += c.drive(o, leg[0], leg[1])
		}
		if grown > c.at || grown < c.at-f.bound || grown != o.Total() {
			t.Errorf("%s: %d mm of %d counted, may miss %d", f.name, grown, c.at, f.bound)
		}
		if got := named(o); !slices.Equal(got, f.events) {
			t.Errorf("%s: events %v, want %v", f.name, got, f.events)
		}
	}
}
