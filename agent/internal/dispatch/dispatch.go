// Package dispatch says when the car speaks: on which days a dispatch's period ends, and at which instant of a day what is to leave leaves.
//
// Phase and delays are derived from a secret drawn once (HMAC-SHA256), so that they survive a crash, do not depend on when the car
// was switched on, and tell nothing about each other or about other cars.
//
// A dispatch that the car notices on some day, when the ECU's first snapshot on or after the boundary comes, leaves on a later day and never
// on that one: the instant at which it is noticed is the day's departure, and a delay that began there would tell of it. What leaves
// then depends on the departure's day, which a claim tells anyway, and not on its time.
//
// Invariants: boundaries lie exactly as many days apart as the cadence says; what leaves on a day leaves within MaxDelay of its beginning;
// equal secrets give equal plans. The package keeps nothing and reads no clock. It refuses a delay that reaches into the next day.
// What becomes of an instant at which the car is off is package hold's.
package dispatch

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Bounds of a cadence in program days.
const (
	DefaultEveryDays = 7
	MaxEveryDays     = 366
)

// Config says how long what leaves is delayed.
type Config struct {
	// MaxDelay bounds the random delay after the beginning of the day on which something leaves; 0 means a program day, which it may not
	// exceed.
	MaxDelay time.Duration
	// Timing is the program's. Required.
	Timing terms.Timing
}

// A Calendar is a checked Config.
type Calendar struct {
	max    time.Duration
	timing terms.Timing
}

// New checks a configuration.
func New(cfg Config) (Calendar, error) {
	day := time.Duration(cfg.Timing.DayS) * time.Second
	switch {
	case day == 0:
		return Calendar{}, errors.New("cannot plan dispatches: no length of a day given")
	case cfg.MaxDelay < 0:
		return Calendar{}, errors.New("cannot plan dispatches: the delay is negative")
	case cfg.MaxDelay > day:
		return Calendar{}, fmt.Errorf("cannot plan dispatches: a delay of up to %v is longer than a day of the program, %v; shorten dispatch.max_delay", cfg.MaxDelay, day)
	case cfg.MaxDelay == 0:
		cfg.MaxDelay = day
	}
	return Calendar{max: cfg.MaxDelay, timing: cfg.Timing}, nil
}

// Plan returns the plan that a secret gives with a dispatch every so many program days; 0 means DefaultEveryDays, and what lies outside 1 to
// MaxEveryDays is brought within. The Calendar must come from New.
func (c Calendar) Plan(secret [32]byte, every int) Plan {
	if every == 0 {
		every = DefaultEveryDays
	}
	return Plan{Calendar: c, every: uint32(min(max(every, 1), MaxEveryDays)), secret: secret}
}

// A Plan says when one car's dispatches are.
type Plan struct {
	Calendar
	every  uint32 // program days
	secret [32]byte
}

// Every returns the number of program days between two boundaries.
func (p Plan) Every() uint32 { return p.every }

func (p Plan) draw(label string, n, below uint64) uint64 {
	mac := hmac.New(sha256.New, p.secret[:])
	mac.Write([]byte("rawstone/schedule/v1/" + label + "\x00"))
	mac.Write(binary.BigEndian.AppendUint64(nil, n))
	return binary.BigEndian.Uint64(mac.Sum(nil)) % below // the bias is below 2⁻¹⁷ for a day in nanoseconds
}

func (p Plan) phase() uint32 { return uint32(p.draw("phase", uint64(p.every), uint64(p.every))) }

// Last returns the latest boundary on or before day, false before the first.
func (p Plan) Last(day uint32) (uint32, bool) {
	first := p.phase()
	if day < first {
		return 0, false
	}
	return day - (day-first)%p.every, true
}

// Next returns the first boundary after day.
func (p Plan) Next(day uint32) uint64 {
	if b, ok := p.Last(day); ok {
		return uint64(b) + uint64(p.every)
	}
	return uint64(p.phase())
}

// Missed returns the boundaries after one day up to and with another, ascending; of more than most the latest.
func (p Plan) Missed(after, upTo uint32, most int) []uint32 {
	last, ok := p.Last(upTo)
	if !ok || last <= after || most < 1 {
		return nil
	}
	first := max(p.Next(after), uint64(last)-min(uint64(last-p.phase())/uint64(p.every), uint64(most-1))*uint64(p.every))
	list := make([]uint32, 0, (uint64(last)-first)/uint64(p.every)+1)
	for b := first; b <= uint64(last); b += uint64(p.every) {
		list = append(list, uint32(b))
	}
	return list
}

// Due returns when what is to leave on a program day leaves.
func (p Plan) Due(day uint32, kind wire.Kind) time.Time {
	return p.timing.DayStart(day).Add(time.Duration(p.draw(string(kind), uint64(day), uint64(p.max))))
}
