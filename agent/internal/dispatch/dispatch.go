// Package dispatch says when the car speaks: on which days a dispatch's period ends, and how long after that it leaves.
//
// Phase and delays are derived from a secret drawn once (HMAC-SHA256), so that they survive a crash, do not depend on when the car
// was switched on, and tell nothing about each other or about other cars.
//
// Invariants: boundaries lie exactly EveryDays apart; a dispatch leaves within MaxDelay of its boundary day's beginning; equal secrets
// give equal plans. The package keeps nothing and reads no clock. It refuses a cadence of more than a month and a delay that reaches
// into the next dispatch.
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

// Bounds of Config.EveryDays.
const (
	DefaultEveryDays = 7
	MaxEveryDays     = 31
)

// Config says how often the car speaks.
type Config struct {
	// EveryDays is the time between dispatches in program days, 1 to MaxEveryDays; 0 means DefaultEveryDays.
	EveryDays int
	// MaxDelay bounds the random delay of each dispatch after its day began; 0 means a program day. It may not exceed EveryDays.
	MaxDelay time.Duration
	// Timing is the program's. Required.
	Timing terms.Timing
}

// A Cadence is a checked Config.
type Cadence struct {
	every  uint32 // program days
	max    time.Duration
	timing terms.Timing
}

// New checks a cadence.
func New(cfg Config) (Cadence, error) {
	switch {
	case cfg.Timing.DayS == 0:
		return Cadence{}, errors.New("cannot plan dispatches: no length of a day given")
	case cfg.EveryDays < 0 || cfg.EveryDays > MaxEveryDays:
		return Cadence{}, fmt.Errorf("cannot plan dispatches: one every %d days, want 1 to %d", cfg.EveryDays, MaxEveryDays)
	case cfg.MaxDelay < 0:
		return Cadence{}, errors.New("cannot plan dispatches: the delay is negative")
	}
	day := time.Duration(cfg.Timing.DayS) * time.Second
	if cfg.EveryDays == 0 {
		cfg.EveryDays = DefaultEveryDays
	}
	if cfg.MaxDelay == 0 {
		cfg.MaxDelay = day
	}
	if cfg.MaxDelay > time.Duration(cfg.EveryDays)*day {
		return Cadence{}, fmt.Errorf("cannot plan dispatches: a delay of up to %v is longer than the time between them", cfg.MaxDelay)
	}
	return Cadence{every: uint32(cfg.EveryDays), max: cfg.MaxDelay, timing: cfg.Timing}, nil
}

// Plan returns the plan that a secret gives. The Cadence must come from New.
func (c Cadence) Plan(secret [32]byte) Plan { return Plan{Cadence: c, secret: secret} }

// A Plan says when one car's dispatches are.
type Plan struct {
	Cadence
	secret [32]byte
}

func (p Plan) draw(label string, n, below uint64) uint64 {
	mac := hmac.New(sha256.New, p.secret[:])
	mac.Write([]byte("rawstone/schedule/v1/" + label + "\x00"))
	mac.Write(binary.BigEndian.AppendUint64(nil, n))
	return binary.BigEndian.Uint64(mac.Sum(nil)) % below // the bias is below 2⁻¹⁴ for a month in nanoseconds
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

// Due returns when the dispatch of a boundary may leave.
func (p Plan) Due(boundary uint32, kind wire.Kind) time.Time {
	return p.timing.DayStart(boundary).Add(time.Duration(p.draw(string(kind), uint64(boundary), uint64(p.max))))
}
