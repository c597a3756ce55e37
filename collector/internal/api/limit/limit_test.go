package limit

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newLimiter(t testing.TB, askers int) (*Limiter, *clock) {
	t.Helper()
	c := &clock{time.Unix(1_800_000_000, 0)}
	l, err := New(Config{Every: time.Second, Burst: 5, Askers: askers, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return l, c
}

func take(l *Limiter, name string, n int) (got int) {
	for range n {
		if l.Take(name) == 0 {
			got++
		}
	}
	return got
}

func TestBurstThenRate(t *testing.T) {
	l, c := newLimiter(t, 10)
	if n := take(l, "a", 100); n != 5 {
		t.Errorf("%d at once, want 5", n)
	}
	if wait := l.Take("a"); wait != time.Second {
		t.Errorf("wait %v", wait)
	}
	if n := take(l, "b", 100); n != 5 {
		t.Errorf("another asker has %d", n)
	}
	c.at = c.at.Add(3 * time.Second)
	if n := take(l, "a", 100); n != 3 {
		t.Errorf("%d after three seconds", n)
	}
	c.at = c.at.Add(time.Hour)
	if n := take(l, "a", 100); n != 5 {
		t.Errorf("%d after an hour", n)
	}
}

// TestClockGoesBack: nobody waits until it has caught up, and by a little nobody gains anything.
func TestClockGoesBack(t *testing.T) {
	l, c := newLimiter(t, 10)
	take(l, "a", 3)
	c.at = c.at.Add(-time.Second)
	if n := take(l, "a", 100); n != 1 {
		t.Errorf("%d after a second back", n)
	}
	c.at = c.at.Add(-24 * time.Hour)
	if n := take(l, "a", 100); n != 5 {
		t.Errorf("%d after a day back", n)
	}
}

func TestAskersAreBounded(t *testing.T) {
	l, _ := newLimiter(t, 3)
	take(l, "kept", 5)
	for i := range 1000 {
		l.Take(fmt.Sprint(i))
		if l.Take("kept") == 0 {
			t.Fatal("forgotten although it asked a moment ago")
		}
	}
	if len(l.askers) != 3 || l.recent.Len() != 3 {
		t.Errorf("%d and %d askers, want 3", len(l.askers), l.recent.Len())
	}
}

// TestLaw: over any stretch of a clock that goes forward, an asker gets at most burst and one for each interval.
func TestLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &clock{time.Unix(1_800_000_000, 0)}
		l, err := New(Config{Every: time.Second, Burst: 5, Askers: 2, Now: c.now})
		if err != nil {
			t.Fatal(err)
		}
		begin, got := c.at, 0
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			c.at = c.at.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			got += take(l, "a", rapid.IntRange(1, 4).Draw(t, "asks"))
			if most := 5 + int(c.at.Sub(begin)/time.Second); got > most {
				t.Fatalf("%d, at most %d allowed", got, most)
			}
		}
	})
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{{}, {Every: 1, Burst: 1, Askers: 1}, {Burst: 1, Askers: 1, Now: time.Now}, {Every: 1, Askers: 1, Now: time.Now}, {Every: 1, Burst: 1, Now: time.Now}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v", cfg)
		}
	}
}
