package hold

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// car is a car's two clocks.
type car struct {
	wall time.Time
	up   time.Duration
	draw float64
}

func (c *car) gate(t testing.TB) *Gate {
	t.Helper()
	g, err := New(Config{
		Mean: time.Hour, Now: func() time.Time { return c.wall }, Powered: func() time.Duration { return c.up }, Uniform: func() float64 { return c.draw },
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// run lets time pass in which the car is on, sleep in which it is not.
func (c *car) run(d time.Duration)   { c.wall, c.up = c.wall.Add(d), c.up+d }
func (c *car) sleep(d time.Duration) { c.wall = c.wall.Add(d) }

func newCar() *car { return &car{wall: time.Unix(1_800_000_000, 0), draw: 0.5} } // a hold of exactly the mean

func near(a, b time.Duration) bool { return (a - b).Abs() < time.Microsecond }

func TestWhatIsOverdueAtTheStartIsHeld(t *testing.T) {
	c := newCar()
	g, due := c.gate(t), c.wall.Add(-time.Minute)
	if wait := g.Until("claim", due); !near(wait, time.Hour) {
		t.Fatalf("held for %v, want 1h", wait)
	}
	c.run(20 * time.Minute)
	if wait := g.Until("claim", due); !near(wait, 40*time.Minute) {
		t.Errorf("20 minutes later for %v", wait)
	}
	// Another one has a hold of its own.
	if c.draw = 1e-12; g.Until("report", due) > time.Second {
		t.Error("a hold of nothing holds")
	}
	// The next start draws anew.
	if g = c.gate(t); g.Until("claim", due) > time.Second {
		t.Error("the hold of the start before holds")
	}
}

func TestWhatBecomesDueWhileOnLeavesThen(t *testing.T) {
	c := newCar()
	g, due := c.gate(t), c.wall.Add(10*time.Minute)
	if wait := g.Until("claim", due); wait != 10*time.Minute {
		t.Fatalf("%v until it is due", wait)
	}
	c.run(10 * time.Minute)
	if wait := g.Until("claim", due); wait > 0 {
		t.Errorf("held for %v although the car was on", wait)
	}
	// And what the car slept over does not: it is as if it had been off.
	due = c.wall.Add(time.Hour)
	g.Until("report", due)
	c.sleep(2 * time.Hour)
	if wait := g.Until("report", due); !near(wait, time.Hour) {
		t.Errorf("held for %v after a sleep", wait)
	}
	if wait := g.Until("claim", due); wait <= 0 {
		t.Error("what was free before a sleep is free after it")
	}
}

func TestClockThatIsSet(t *testing.T) {
	c := newCar()
	g, due := c.gate(t), c.wall.Add(24*time.Hour)
	g.Until("claim", due)
	c.sleep(30 * 24 * time.Hour) // the clock is set forward
	if wait := g.Until("claim", due); wait <= 0 {
		t.Error("leaves at the moment at which the clock was set")
	}
	c.sleep(-60 * 24 * time.Hour) // and back
	if wait := g.Until("claim", due); wait != 31*24*time.Hour {
		t.Errorf("leaves in %v", wait)
	}
	c.run(31 * 24 * time.Hour)
	if wait := g.Until("claim", due); wait > 0 {
		t.Errorf("held for %v: locked out", wait)
	}
}

// TestLaws: whatever happens, nothing leaves before it is due, and time in which the car is on is all that a hold needs.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCar()
		g, err := New(Config{Mean: time.Hour, Now: func() time.Time { return c.wall }, Powered: func() time.Duration { return c.up }})
		if err != nil {
			t.Fatal(err)
		}
		due := c.wall.Add(time.Duration(rapid.Int64Range(-int64(24*time.Hour), int64(24*time.Hour)).Draw(t, "due")))
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			d := time.Duration(rapid.Int64Range(0, int64(6*time.Hour)).Draw(t, "time"))
			if rapid.Bool().Draw(t, "on") {
				c.run(d)
			} else {
				c.sleep(d)
			}
			if g.Until("x", due) <= 0 && c.wall.Before(due) {
				t.Fatal("left before it was due")
			}
		}
		c.run(max(due.Sub(c.wall), 0))
		if wait := g.Until("x", due); wait > 2*time.Hour {
			t.Fatalf("a hold of %v", wait)
		} else {
			c.run(max(wait, 0))
		}
		if wait := g.Until("x", due); wait > 0 {
			t.Fatalf("still held, for %v", wait)
		}
	})
}

// TestUniform: the system's random numbers give holds of every length alike.
func TestUniform(t *testing.T) {
	const draws, parts = 20_000, 10
	g, err := New(Config{Mean: time.Hour, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	var counts [parts]int
	for range draws {
		d := g.draw()
		if d < 0 || d > 2*time.Hour {
			t.Fatalf("a hold of %v", d)
		}
		counts[min(int(d*parts/(2*time.Hour)), parts-1)]++
	}
	for i, n := range counts {
		if math.Abs(float64(n)-draws/parts) > 6*math.Sqrt(draws/parts) {
			t.Errorf("%d of %d holds are in tenth %d", n, draws, i)
		}
	}
}

func TestMonotonicClockStandsForPower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := New(Config{Mean: time.Hour, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		due := time.Now().Add(-time.Second)
		wait := g.Until("claim", due)
		if wait <= 0 {
			t.Fatal("not held")
		}
		time.Sleep(wait)
		if left := g.Until("claim", due); left > 0 {
			t.Errorf("held for %v more", left)
		}
	})
}

func TestForgets(t *testing.T) {
	c := newCar()
	g := c.gate(t)
	for i := range 5000 {
		g.Until(fmt.Sprint(i), c.wall)
		c.run(time.Second)
	}
	c.run(2 * stale)
	g.Until("last", c.wall)
	if n := len(g.things); n > most {
		t.Errorf("remembers %d things", n)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{{}, {Now: time.Now}, {Now: time.Now, Mean: -1}, {Mean: 1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v: accepted", cfg)
		}
	}
	if mean, err := Mean(6 * time.Hour); mean != time.Hour || err != nil {
		t.Errorf("a mean of %v, %v", mean, err)
	}
	if mean, err := Mean(1); mean != 1 || err != nil {
		t.Errorf("a mean of %v, %v", mean, err)
	}
	if _, err := Mean(0); err == nil {
		t.Error("no delay is accepted")
	}
}
