package settle

import "time"

// minSlack bounds from below how far the clock may run ahead of the time that has passed.
const minSlack = time.Hour

// A watch compares the clock with time that nobody can set. What is drawn is drawn for good, so a clock that jumps ahead, as with a
// wrong time server, must not draw the future: its operator confirms it by starting the process anew.
type watch struct {
	begun   bool
	at      time.Time     // the clock when it was last believed, or later
	elapsed time.Duration // what had passed by then
}

// believe reports whether now is at most slack beyond what has passed since it was last believed. A clock that goes back is believed:
// it draws nothing.
func (w *watch) believe(now time.Time, elapsed, slack time.Duration) bool {
	now = now.Round(0) // without its monotonic reading, which would be compared instead
	if !w.begun {
		*w = watch{true, now, elapsed}
		return true
	}
	expected := w.at.Add(elapsed - w.elapsed)
	if now.After(expected.Add(slack)) {
		return false
	}
	if now.Before(expected) {
		now = expected
	}
	w.at, w.elapsed = now, elapsed
	return true
}

// now returns the clock, and false while it is not believed, which is said once and counted.
func (s *Settler) now() (time.Time, bool) {
	now, slack := s.c.Now(), minSlack
	if p, _ := s.replay.Program(); p != nil {
		slack = max(slack, time.Duration(p.Timing.DayS)*time.Second)
	}
	ok := s.watch.believe(now, s.c.Elapsed(), slack)
	if !ok && !s.doubted {
		s.metrics.jumps.Inc()
		s.c.Logger.Error("clock has jumped ahead, drops wait: set it right, or start the collector anew if it is right", "drop", s.replay.Due().Drop)
	} else if ok && s.doubted {
		s.c.Logger.Info("clock is right again, drops go on")
	}
	s.doubted = !ok
	return now, ok
}
