// Package watch tells a clock that goes from one that was set.
//
// It reads no clock itself and remembers nothing but the last reading that it believed.
package watch

import "time"

// A Watch compares the clock with time that nobody can set. What is drawn is drawn for good, so a clock that jumps ahead, as with a
// wrong time server, must not draw the future: its operator confirms it by starting the process anew.
type Watch struct {
	begun   bool
	at      time.Time     // the clock when it was last believed, or later
	elapsed time.Duration // what had passed by then
}

// Believe reports whether now is at most slack beyond what has passed since it was last believed. A clock that goes back is believed:
// it draws nothing.
func (w *Watch) Believe(now time.Time, elapsed, slack time.Duration) bool {
	now = now.Round(0) // without its monotonic reading, which would be compared instead
	if !w.begun {
		*w = Watch{true, now, elapsed}
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
