package hold

import "time"

// A Moment is when the car was seen to be connected, by the clock that stands still while the machine sleeps and by the host's. The zero
// value is never.
type Moment struct{ running, wall time.Time }

// At returns the present Moment; now is the host's clock.
func At(now time.Time) Moment { return Moment{time.Now(), now.Round(0)} }

// Within reports whether less than d has gone by since, and the machine has not slept meanwhile: after a sleep the car is no longer in the
// drive in which it was connected. A clock that is set forward looks like a sleep.
func (m Moment) Within(d time.Duration, now time.Time) bool {
	if m.running.IsZero() {
		return false
	}
	up := time.Since(m.running)
	return up < d && now.Round(0).Sub(m.wall)-up <= asleep
}
