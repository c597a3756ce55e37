// Package daemon is the simulated car as a whole: configuration, wiring and Run, the one importable seam of firmware-sim.
//
// A car is a source of frames (an invented drive or a capture), the buses they go to, and the attestation ECU, which counts from the
// very frames that go there. Everything stops together: the source first, then the ECU, whose counters are written down, then the
// buses.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"rawstone/firmware-sim/internal/drive"
	"rawstone/firmware-sim/internal/ecu"
	"rawstone/firmware-sim/internal/replay"
	"rawstone/pkg/attest"
	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// powerEvery is how often the ECU of a car that stands still looks at its clock.
const powerEvery = 100 * time.Millisecond

// Deps are what Run is given besides its configuration.
type Deps struct {
	// Logger takes the journey. Required.
	Logger *slog.Logger
	// Now is the host's clock; nil means time.Now.
	Now func() time.Time
	// Registerer takes the metrics; nil means none.
	Registerer prometheus.Registerer
	// OnReplayDone is called when a capture that is not looped has been played and counted to its end; nil means nobody waits.
	OnReplayDone func()
}

// Init makes the car's ECU and returns its birth identity as the text that the end-of-line tester reads.
func Init(cfg *Config, now func() time.Time) ([]byte, error) {
	p, hash, err := terms.LoadProgram(cfg.Program.Root, cfg.Program.File)
	if err != nil {
		return nil, err
	}
	id, err := ecu.Create(ecu.Config{
		Dir: cfg.State, Program: hash, Clock: terms.Clock{Timing: p.Timing, Now: orNow(now)}, Record: record(cfg),
	})
	if err != nil {
		return nil, err
	}
	return attest.EncodeIdentity(*id)
}

// Identity returns the present identity of the car's ECU.
func Identity(cfg *Config) ([]byte, error) {
	_, hash, err := terms.LoadProgram(cfg.Program.Root, cfg.Program.File)
	if err != nil {
		return nil, err
	}
	id, err := ecu.ReadIdentity(cfg.State, hash)
	if err != nil {
		return nil, err
	}
	return attest.EncodeIdentity(*id)
}

func orNow(now func() time.Time) func() time.Time {
	if now == nil {
		return time.Now
	}
	return now
}

// A car is what Run wires.
type car struct {
	cfg   *Config
	deps  Deps
	buses []*bus
	ecu   *ecu.ECU
	due   atomic.Int64 // the instant being driven, Unix nanoseconds
}

// Run plays the car until ctx is done or something fails.
func Run(ctx context.Context, cfg *Config, deps Deps) (err error) {
	if deps.Logger == nil {
		return errors.New("cannot run car: no logger given")
	}
	deps.Now = orNow(deps.Now)
	p, hash, err := terms.LoadProgram(cfg.Program.Root, cfg.Program.File)
	if err != nil {
		return err
	}
	c := &car{cfg: cfg, deps: deps}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.openBuses(); err != nil {
		return err
	}
	refused := prometheus.NewCounter(prometheus.CounterOpts{
		Namespace: "rawstone", Subsystem: "sim", Name: "requests_refused_total", Help: "Messages to the ECU that are no request.",
	})
	if deps.Registerer != nil {
		if err := deps.Registerer.Register(refused); err != nil {
			return fmt.Errorf("cannot register metrics: %w", err)
		}
	}
	line := c.buses[cfg.busIndex(cfg.ECU.Bus)]
	tp, err := line.transport(func(r attest.Request) { c.ecu.Request(r) }, refused)
	if err != nil {
		return err
	}
	clock := terms.Clock{Timing: p.Timing, Now: deps.Now}
	if cfg.Mode == ModeDrive {
		// The ECU's clock stands at the instant being driven, so that a host that stalls at midnight does not move kilometres into
		// another day.
		c.due.Store(deps.Now().UnixNano())
		clock.Now = func() time.Time { return time.Unix(0, c.due.Load()) }
	}
	if c.ecu, err = ecu.Open(ecu.Config{
		Dir: cfg.State, Program: hash, Clock: clock, Record: record(cfg),
		OverspeedMH: cfg.ECU.OverspeedKmh * 1000, StandstillMH: cfg.standstillMH(),
		Send: tp.Write, Logger: deps.Logger, Registerer: deps.Registerer,
	}); err != nil {
		return err
	}
	play, err := c.source(p.Timing)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.ecu.Deliver(ctx) })
	group.Go(func() error { return line.receive(ctx, tp) })
	group.Go(func() error { return play(ctx) })
	return group.Wait()
}

func (c *car) openBuses() error {
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "rawstone", Subsystem: "sim", Name: "frames_sent_total", Help: "Frames put on a bus.",
	}, []string{"bus"})
	if c.deps.Registerer != nil {
		if err := c.deps.Registerer.Register(sent); err != nil {
			return fmt.Errorf("cannot register metrics: %w", err)
		}
	}
	for _, b := range c.cfg.Buses {
		conn, err := link.Open(link.Config{URL: b.URL, SendTime: true, Logger: c.deps.Logger})
		if err != nil {
			return err
		}
		c.buses = append(c.buses, &bus{conn: conn, sent: sent.WithLabelValues(b.Name)})
	}
	return nil
}

func (c *car) close() (err error) {
	if c.ecu != nil {
		err = c.ecu.Close()
	}
	for _, b := range c.buses {
		err = errors.Join(err, b.conn.Close())
	}
	return err
}

// source returns what plays the car, and sets the car's clock to its begin.
func (c *car) source(t terms.Timing) (func(context.Context) error, error) {
	if c.cfg.Mode == ModeReplay {
		return c.replay()
	}
	d, err := drive.New(drive.Config{
		Profile: c.cfg.Drive.Profile, Seed: c.cfg.Drive.Seed, StepMS: c.cfg.Drive.StepMS, LimitMH: c.cfg.ECU.OverspeedKmh * 1000,
		Timing: t, OdometerM: c.ecu.Counters()[wire.OdometerM], Now: c.deps.Now, Logger: c.deps.Logger,
	})
	if err != nil {
		return nil, err
	}
	line := c.buses[0]
	line.time = d.FrameTime()
	var frames []can.Frame
	return func(ctx context.Context) error {
		return d.Run(ctx, func(ctx context.Context, r *drive.Reading) error {
			c.due.Store(r.Due.UnixNano())
			if err := c.ecu.Observe(sample(r)); err != nil {
				return err
			}
			frames = r.AppendFrames(frames[:0])
			for i := range frames {
				if err := line.send(ctx, &frames[i]); err != nil {
					return unlessDone(ctx, err)
				}
			}
			return nil
		})
	}, nil
}

// sample is what the ECU's sensors say, which is what the frames say.
func sample(r *drive.Reading) ecu.Sample {
	return ecu.Sample{
		Time: r.Time, HasOdometer: true, HasSpeed: true, HasAssist: true, HasPower: true,
		OdometerMM: int64(r.OdometerM) * 1000, SpeedMH: r.SpeedMH(), Assisted: r.Assisted, PowerW: r.PowerW(),
	}
}

// unlessDone drops the error of a call that the end of ctx cut short.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *car) replay() (func(context.Context) error, error) {
	r := &c.cfg.Replay
	if r.Capture == "" {
		return nil, errors.New("cannot replay: no capture is named; name one in the configuration (replay.capture) or on the command line")
	}
	sensors, warnings, err := replay.LoadSensors(r.DBC, r.Sensors.sensors())
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		c.deps.Logger.Warn("part of the DBC file was left out", "reason", w.String())
	}
	var names []string
	for _, b := range c.cfg.Buses {
		names = append(names, b.Name)
	}
	player, err := replay.New(replay.Config{
		Path: r.Capture, Speed: r.Speed, Loop: r.Loop, Buses: names,
		Now: c.deps.Now, Logger: c.deps.Logger, Registerer: c.deps.Registerer,
	})
	if err != nil {
		return nil, err
	}
	for _, b := range c.buses {
		b.time = player.FirstTime()
	}
	sensed := uint8(c.cfg.busIndex(r.Sensors.Bus))
	emit := func(ctx context.Context, f *can.Frame) error {
		if f.Bus == sensed {
			if s, ok := sensors.Sample(f); ok {
				if err := c.ecu.Observe(ecu.Sample(s)); err != nil {
					return err
				}
			}
		}
		return unlessDone(ctx, c.buses[f.Bus].send(ctx, f))
	}
	return func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		group.Go(func() error { return c.keepPowered(ctx) })
		group.Go(func() error {
			if err := player.Run(ctx, emit); err != nil || ctx.Err() != nil {
				return err
			}
			if c.deps.OnReplayDone != nil {
				c.deps.OnReplayDone()
			}
			return nil
		})
		return group.Wait()
	}, nil
}

// keepPowered lets the ECU see each program day begin, also when the capture has ended: the car then stands still.
func (c *car) keepPowered(ctx context.Context) error {
	tick := time.NewTicker(powerEvery)
	defer tick.Stop()
	for {
		if err := c.ecu.Power(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
