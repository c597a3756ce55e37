// Package replay plays a recorded drive: the frames of a candump capture, plain or gzip, in their own timing or faster.
//
// Invariants: frame time is the capture's and never goes backwards, also when the capture is played again; frames keep their order;
// a frame of a bus that is not asked for is dropped and counted, and so is a line that cannot be read.
//
// Sensors read, from such frames, the few signals that an ECU counts from; a value that its frame says is not to be used is left out.
//
// The package refuses captures without a single frame and signals that cannot be decoded for certain. It opens no bus.
package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/can"
)

const (
	// minPause makes batches: no sleep is shorter.
	minPause = 5 * time.Millisecond
	// maxBatch is how many frames go out without a pause, so that listeners keep up whatever the speed: some 50,000 a second.
	maxBatch = 256
	// minLoop is the least frame time that playing a capture again advances, so that a short one does not run away.
	minLoop = int64(time.Second)
)

// Unpaced is the speed of a player whose emit sets the pace itself.
func Unpaced() float64 { return math.Inf(1) }

// Config says what to play. Path and Speed are required.
type Config struct {
	// Path is the capture's.
	Path string
	// Speed is how many times faster than recorded, above 0; Unpaced does not wait at all.
	Speed float64
	// Loop begins again at the end.
	Loop bool
	// Buses are the names of the buses to play.
	Buses []string
	// Now is the host's clock; nil means time.Now.
	Now func() time.Time
	// Logger takes the progress. Required.
	Logger *slog.Logger
	// Registerer takes the metrics; nil means none.
	Registerer prometheus.Registerer
}

// A Player plays one capture.
type Player struct {
	cfg     Config
	first   int64
	dropped prometheus.Counter
	broken  prometheus.Counter
}

// New opens the capture once to see that it holds a frame.
func New(cfg Config) (*Player, error) {
	switch {
	case !(cfg.Speed > 0):
		return nil, fmt.Errorf("cannot replay %s: speed %v is not above 0", cfg.Path, cfg.Speed)
	case len(cfg.Buses) == 0:
		return nil, fmt.Errorf("cannot replay %s: no bus is to be played", cfg.Path)
	case cfg.Logger == nil:
		return nil, errors.New("cannot replay: no logger given")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Player{
		cfg: cfg,
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "rawstone", Subsystem: "sim_replay", Name: "frames_dropped_total", Help: "Frames of buses that are not played.",
		}),
		broken: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "rawstone", Subsystem: "sim_replay", Name: "broken_lines_total", Help: "Lines of the capture that could not be read.",
		}),
	}
	if cfg.Registerer != nil {
		if err := errors.Join(cfg.Registerer.Register(p.dropped), cfg.Registerer.Register(p.broken)); err != nil {
			return nil, fmt.Errorf("cannot register metrics: %w", err)
		}
	}
	r, err := can.OpenFile(cfg.Path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var f can.Frame
	if err := r.Next(&f); errors.Is(err, io.EOF) {
		if n, first := r.Broken(); n > 0 {
			return nil, fmt.Errorf("cannot replay %s: no line is a frame of candump's log format (%s); record with `candump -L`", cfg.Path, first)
		}
		return nil, fmt.Errorf("cannot replay %s: it holds no frames", cfg.Path)
	} else if err != nil {
		return nil, fmt.Errorf("cannot read capture %s: %w", cfg.Path, err)
	}
	p.first = f.Time
	return p, nil
}

// FirstTime is the frame time of the capture's first frame.
func (p *Player) FirstTime() int64 { return p.first }

// Run plays the capture, once or until ctx is done, and calls emit for every frame of the buses asked for, Frame.Bus being the index
// into Config.Buses. The frame is valid until emit returns.
func (p *Player) Run(ctx context.Context, emit func(context.Context, *can.Frame) error) error {
	run := run{Player: p, began: p.cfg.Now(), timer: time.NewTimer(0), emit: emit, last: p.first}
	defer run.timer.Stop()
	for {
		played := run.played
		begin := p.first + run.shift
		if err := run.once(ctx); err != nil {
			if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return nil
			}
			return err
		}
		if run.played == 0 {
			return fmt.Errorf("cannot replay %s: none of its frames is on a bus to be played; it names %v, the configuration %v", p.cfg.Path, run.seen, p.cfg.Buses)
		}
		p.cfg.Logger.Info("replay finished", "frames", run.played-played)
		if !p.cfg.Loop {
			return nil
		}
		run.shift += max(run.last-begin, minLoop)
	}
}

// A run is the state of Run.
type run struct {
	*Player
	emit   func(context.Context, *can.Frame) error
	began  time.Time
	timer  *time.Timer
	burst  int
	shift  int64 // added to the capture's times
	last   int64 // the latest frame time so far
	played int
	seen   []string // the capture's buses
}

// once plays the capture from begin to end.
func (r *run) once(ctx context.Context) error {
	src, err := can.OpenFile(r.cfg.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	var buses []int // index into Config.Buses by the capture's, -1 for none
	var f can.Frame
	for {
		if err := src.Next(&f); err != nil {
			r.seen = src.Buses()
			if n, first := src.Broken(); n > 0 {
				r.broken.Add(float64(n))
				r.cfg.Logger.Warn("capture has broken lines", "lines", n, "first", first)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("cannot read capture %s to its end: %w", r.cfg.Path, err)
		}
		if int(f.Bus) >= len(buses) {
			buses = buses[:0]
			for _, name := range src.Buses() {
				buses = append(buses, slices.Index(r.cfg.Buses, name))
			}
		}
		i := buses[f.Bus]
		if i < 0 {
			r.dropped.Inc()
			continue
		}
		f.Bus = uint8(i)
		f.Time = max(f.Time+r.shift, r.last)
		r.last = f.Time
		if err := r.wait(ctx, f.Time); err != nil {
			return err
		}
		if err := r.emit(ctx, &f); err != nil {
			return err
		}
		r.played++
	}
}

// wait returns when a frame is due.
func (r *run) wait(ctx context.Context, at int64) error {
	if math.IsInf(r.cfg.Speed, 1) {
		return ctx.Err()
	}
	due := time.Duration(float64(at-r.first) / r.cfg.Speed)
	wait := due - r.cfg.Now().Sub(r.began)
	if r.burst++; wait <= 0 && r.burst <= maxBatch {
		return ctx.Err()
	}
	r.burst = 0
	r.timer.Reset(max(wait, minPause))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-r.timer.C:
		return nil
	}
}
