package drive

import (
	"time"

	"rawstone/pkg/terms"
)

// dayMS is a simulated day in milliseconds.
const dayMS = 86_400_000

// A Calendar maps program time to the simulated days of the car: each program day is one day of 24 simulated hours, however long
// it takes. Dates run on from the date of genesis, one per program day; where a program day is 86,400 s both are the same.
type Calendar struct{ terms.Timing }

// Dates before firstDate or after lastDate have no frame time in int64 nanoseconds that stays positive under any offset; they fold
// back. With days of ten seconds that takes nine days.
const (
	firstDate = 2 * 366
	lastDate  = 105_000
)

// Date returns the simulated date of a program day, in days since 1 January 1970.
func (c Calendar) Date(day uint32) int64 {
	genesis := time.Unix(c.GenesisS, 0)
	date := floorDiv(c.GenesisS+c.OffsetS, 86400) + int64(day) - int64(c.Day(genesis))
	const n = lastDate - firstDate
	return firstDate + ((date-firstDate)%n+n)%n
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// FrameTime returns the frame time of a simulated instant, in Unix nanoseconds.
func (c Calendar) FrameTime(day uint32, ms int64) int64 {
	return (c.Date(day)*86400-c.OffsetS)*1_000_000_000 + ms*1_000_000
}

// Instant returns when a simulated instant happens.
func (c Calendar) Instant(day uint32, ms int64) time.Time {
	return c.DayStart(day).Add(time.Duration(ms * int64(c.DayS) * 10_000 / 864))
}

// Position returns the simulated instant that is happening now.
func (c Calendar) Position(now time.Time) (day uint32, ms int64) {
	day = c.Day(now)
	ms = int64(now.Sub(c.DayStart(day))) / 10_000 * 864 / int64(c.DayS)
	return day, min(max(ms, 0), dayMS-1)
}
