package poll

import (
	"testing"
	"time"
)

// A sleeper is a car of which nothing is known but its answers: they come while its ignition is on, from on to off, and show motion
// from moves to off.
type sleeper struct {
	on, moves, off time.Duration
	talks          bool          // while the ignition is on, and chatter for half a minute of every so long
	chatter        time.Duration // 0 for never
	woken          time.Duration // how long its buses talk, a quarter of a minute after something was asked
	asked          time.Duration // when that was
	frames         uint64
}

// since is the time in a bubble of synctest.
func since() time.Duration { return time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) }

func (s *sleeper) heard() uint64 {
	now := since()
	if s.talks && now >= s.on && now < s.off || s.chatter != 0 && now%s.chatter < 30*time.Second || now-s.asked > 15*time.Second && now-s.asked < s.woken {
		s.frames++
	}
	return s.frames
}

// night parks a car, lets it drive off, and returns the questions asked before it did and the time from there to the full pace.
func night(t *testing.T, s sleeper, hears bool, requests ...Request) (before int, late time.Duration) {
	t.Helper()
	cfg := Config{Requests: requests}
	if len(requests) == 0 {
		cfg.Requests = speed
	}
	if hears {
		cfg.Heard = s.heard
	}
	late = -1
	s.asked = -time.Hour
	drive(t, cfg, s.off, func(v *vehicle) {
		v.answer = func(i int) {
			now := since()
			s.asked = now
			if now >= 5*time.Minute && now < s.on {
				before++ // it is parked
			}
			if cfg.Requests[i].Name == "deaf" || now < s.on {
				return
			}
			v.Answered(i, 0)
			if now >= s.moves {
				if v.Moved(); late < 0 {
					late = now - s.moves
				}
			}
		}
	})
	return before, late
}

// A car that is only known by its answers drives off after a rest: how late that is noticed, and how often its sleep was disturbed.
func TestDrivesOff(t *testing.T) {
	t.Parallel()
	const idle, minute, hour = 30 * time.Minute, time.Minute, time.Hour
	at := func(on, warm time.Duration) sleeper {
		return sleeper{on: on, moves: on + warm, off: on + warm + 2*idle}
	}
	for name, c := range map[string]struct {
		car    sleeper
		hears  bool
		before int           // questions at most
		late   time.Duration // at most
	}{
		"a short halt":                          {at(15*minute, 0), false, 9, 3 * minute},
		"an hour":                               {at(hour, 0), false, 18, 15 * minute},
		"a night":                               {at(12*hour, 0), false, 40, idle},
		"a night, and the ignition is on first": {at(12*hour, idle), false, 40, 6 * minute},
	} {
		if before, late := night(t, c.car, c.hears); before > c.before || late < 0 || late > c.late {
			t.Errorf("%s: asked %d times before, noticed %v late", name, before, late)
		}
	}
	// Frames of the car's own tell at once.
	s := at(12*hour, 0)
	s.talks = true
	if before, late := night(t, s, true); before > 40 || late < 0 || late > look {
		t.Errorf("a car that talks: asked %d times before, noticed %v late", before, late)
	}
	s = at(12*hour, 7*minute)
	s.talks = true
	if before, late := night(t, s, true); before > 40 || late < 0 || late > 3*minute {
		t.Errorf("a car that talks and waits: asked %d times before, noticed %v late", before, late)
	}
	// A car that wakes for half a minute every hour is asked once each time, and otherwise as seldom as any.
	s = at(48*hour+20*minute, 0)
	s.chatter = hour
	if before, _ := night(t, s, true); before > 20+3*48 {
		t.Errorf("a car that wakes by itself: asked %d times in two days", before)
	}
	// One with a frame every minute or two is no different from a silent one.
	for _, every := range []time.Duration{minute, 2 * minute} {
		s.chatter = every
		if before, _ := night(t, s, true); before > 20+2*48 {
			t.Errorf("a frame every %v: asked %d times in two days", every, before)
		}
	}
	// What the questions themselves cause is no sign of life.
	s = at(48*hour, 0)
	still, _ := night(t, s, true)
	s.woken = 2 * minute
	if before, _ := night(t, s, true); before > still {
		t.Errorf("asked %d times a car that questions wake, %d one that they do not", before, still)
	}
	// A control unit that never answers does not hide one that does, which an open question of the other would.
	if _, late := night(t, at(12*hour, 0), false, Request{"deaf", time.Second, true}, Request{"odometer", time.Hour, true}); late < 0 || late > 2*idle {
		t.Errorf("behind a deaf one: noticed %v late", late)
	}
}
