// Package motion is what a car can have done between two samples: how much time passed, how far it drove at least. It knows the limits of
// tyres and of belief, keeps nothing, and works in integers: µs of time, mm of distance, mm/s of speed.
package motion

const (
	// Second is the unit of time, µs.
	Second = int64(1_000_000)
	// MaxGap is what is believed of one gap between samples, µs: driving beyond that is not.
	MaxGap = 12 * 3600 * Second
	// Grip is how hard tyres brake and drive on a dry road, mm/s².
	Grip = 12_000
	// Smooth is the time between regular samples, once a second and a little late, within which a speed is taken not to fall below the
	// smaller one, µs. A car that brakes and speeds up again in that time drives up to Grip·t²/4, 4.7 m, less.
	Smooth = Second + Second/4
)

// Between returns the µs from a to b, both ns: 0 where b is earlier, and at most MaxGap.
func Between(a, b int64) int64 {
	if b <= a {
		return 0
	}
	if d := b - a; d >= 0 && d/1000 < MaxGap {
		return d / 1000
	}
	return MaxGap // or more than 292 years, which wraps
}

// Least returns the least distance of a car between two speeds, both up to 1,000,000 mm/s, in up to 4 s. In a silence it may brake and
// gain speed again as hard as its tyres allow, or stop.
func Least(a, b, us int64) int64 {
	if us <= Smooth || max(a, b)-min(a, b) > Grip*us/Second { // beyond the grip is no car's speed
		return min(a, b) * us / Second
	}
	dip := max(0, (a+b-Grip*us/Second)/2)
	return (a*a + b*b - 2*dip*dip) / (2 * Grip)
}

// Most returns how far a car gets from a speed in up to 4 s.
func Most(speed, us int64) int64 {
	return ((speed+Grip*us/(2*Second))*us + Second - 1) / Second
}

// Miles returns what a reading in kilometres is where it is taken for miles: it divides by 1.609344, the kilometres of an
// international mile.
func Miles(mm int64) int64 { return mm/1_609_344*1_000_000 + mm%1_609_344*1_000_000/1_609_344 }
