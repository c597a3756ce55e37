// Package drive invents the days of a car: when it drives and charges, how fast, with how much power, and the frames in which it
// says so.
//
// Invariants: a day depends only on profile, seed, speed limit and date; speed is continuous and its changes are those of a car; the
// odometer is the integral of speed; what readings add up to over a day does not depend on the step between them nor on how long a
// program day takes. Parked hours are silent but for a slow heartbeat.
//
// The package opens no bus and counts nothing: it hands readings to its caller at the instants they are due. It refuses to make up
// for a day that it did not play: a car that starts late was not driven before.
package drive

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"rawstone/pkg/terms"
)

const (
	// minPause makes batches: no sleep is shorter.
	minPause = 5 * time.Millisecond
	// maxBatch is how many readings go out without a pause, so that listeners keep up when the car makes up for a stalled host.
	maxBatch = 256
	// maxDayS is the longest program day that can be simulated.
	maxDayS = 7 * 86400
	// odometerEnd is the largest value of the odometer signal; all ones would mean that there is none.
	odometerEnd = math.MaxUint32 - 1
)

// Config says how a car is driven.
type Config struct {
	Profile Profile
	// Seed tells cars of one profile apart.
	Seed uint64
	// StepMS is the simulated time between two readings of a moving car, 10 to 2000 ms; it divides 2000.
	StepMS int64
	// LimitMH is the speed limit in metres an hour that the driver sometimes exceeds, 60,000 to 200,000.
	LimitMH int64
	// Timing is the program's. Required.
	Timing terms.Timing
	// OdometerM is what the odometer shows at the begin, in metres.
	OdometerM uint32
	// Now is the host's clock; nil means time.Now.
	Now func() time.Time
	// Logger takes the days. Required.
	Logger *slog.Logger
}

// CheckStep says why a step cannot be used, or nil.
func CheckStep(ms int64) error {
	if ms < 10 || ms > quantumMS || quantumMS%ms != 0 {
		return fmt.Errorf("step of %d ms does not divide %d ms into steps of at least 10 ms; use 100 or 1000", ms, quantumMS)
	}
	return nil
}

// CheckLimit says why a speed limit in metres an hour cannot be used, or nil.
func CheckLimit(mh int64) error {
	if mh < 60_000 || mh > 200_000 || mh%1000 != 0 {
		return fmt.Errorf("speed limit of %d m/h is not a whole number of km/h from 60 to 200", mh)
	}
	return nil
}

// A Car is driven by Run.
type Car struct {
	cfg      Config
	calendar Calendar
}

// New returns a car.
func New(cfg Config) (*Car, error) {
	if _, err := ParseProfile(string(cfg.Profile)); err != nil {
		return nil, fmt.Errorf("cannot drive: %w", err)
	}
	if err := errors.Join(CheckStep(cfg.StepMS), CheckLimit(cfg.LimitMH)); err != nil {
		return nil, fmt.Errorf("cannot drive: %w", err)
	}
	if cfg.Timing.DayS == 0 || cfg.Timing.DayS > maxDayS {
		return nil, fmt.Errorf("cannot drive: a program day of %d s is not within 1 to %d", cfg.Timing.DayS, maxDayS)
	}
	if cfg.Logger == nil {
		return nil, errors.New("cannot drive: no logger given")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Car{cfg, Calendar{cfg.Timing}}, nil
}

// A position is where the car is in simulated time.
type position struct {
	day    uint32
	ms     int64 // of the last reading, or -1 at the begin of a day
	plan   *day
	before int64 // distance at the begin of the day, in m/h·ms; negative when the car joined late
}

func (c *Car) synthesise(day uint32) *day {
	return synthesise(c.cfg.Profile, c.cfg.Seed, c.cfg.LimitMH, c.calendar.Date(day))
}

// join returns the present position of a car whose odometer stands at a distance.
func (c *Car) join(distance int64) position {
	var p position
	p.day, p.ms = c.calendar.Position(c.cfg.Now())
	p.plan = c.synthesise(p.day)
	p.before = distance - p.plan.distance(p.ms)
	return p
}

// advance moves to the next reading, into the next day if need be.
func (c *Car) advance(p *position) {
	for {
		if ms, ok := p.plan.next(p.ms+1, c.cfg.StepMS); ok {
			p.ms = ms
			return
		}
		if len(p.plan.trips) > 0 {
			c.cfg.Logger.Info("day driven", "day", p.day)
		}
		*p = position{p.day + 1, -1, c.synthesise(p.day + 1), p.before + p.plan.distance(dayMS)}
	}
}

func (p *position) distance() int64 { return p.before + p.plan.distance(p.ms) }

func (c *Car) reading(p *position) Reading {
	r := p.plan.reading(p.ms)
	r.Due = c.calendar.Instant(p.day, p.ms)
	r.Time = c.calendar.FrameTime(p.day, p.ms)
	r.OdometerM = uint32(min(p.distance()/3_600_000, odometerEnd))
	return r
}

// Run drives until ctx is done or emit fails. The car wakes at once, wherever the day is. It calls emit in order of simulated time,
// never before a reading is due.
func (c *Car) Run(ctx context.Context, emit func(context.Context, *Reading) error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	p := c.join(int64(c.cfg.OdometerM) * 3_600_000)
	burst := 0
	for {
		r := c.reading(&p)
		wait := r.Due.Sub(c.cfg.Now())
		if -wait > time.Duration(c.cfg.Timing.DayS)*time.Second {
			c.cfg.Logger.Warn("car fell behind by more than a day and joins the present one", "behind", -wait)
			p = c.join(p.distance())
			continue
		}
		if burst++; wait > 0 || burst > maxBatch {
			burst = 0
			timer.Reset(max(wait, minPause))
			select {
			case <-ctx.Done():
				return nil
			case <-timer.C:
			}
		} else if ctx.Err() != nil {
			return nil
		}
		if err := emit(ctx, &r); err != nil {
			return err
		}
		c.advance(&p)
	}
}

// FrameTime returns the frame time of the present, in Unix nanoseconds.
func (c *Car) FrameTime() int64 { return c.calendar.FrameTime(c.calendar.Position(c.cfg.Now())) }
