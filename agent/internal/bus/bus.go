// Package bus brings the frames of all of a car's buses to one handler, and keeps the buses open for years.
//
// A bus is a link (SocketCAN, or the multicast group that plays one) or a recorded drive; its URL says which. Frames of one bus keep
// their order; the handler is called for one frame at a time, whichever bus it comes from, so that nothing behind it needs a lock. A
// link whose interface goes down or away, or is not there yet, is opened again and again with growing pauses while the other buses
// go on. Error frames are counted and never handed out.
//
// The package does not look into frames: Bus.Filters alone say which identifiers are wanted. It refuses to send into a recorded drive.
package bus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/bus/internal/drive"
	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
)

// ErrRecorded is wrapped by the error of sending into a recorded drive.
var ErrRecorded = errors.New("a recorded drive takes no frames")

// MaxBuses bounds the buses of a car.
const MaxBuses = 16

// A Bus names one bus and says how to reach it.
type Bus struct {
	// Name is how signals refer to the bus, and how a recorded drive names it.
	Name string
	// URL is udp://GROUP:PORT, socketcan://IFACE or replay:///FILE?speed=1&loop=false. Buses with the same replay URL are read
	// together, once. Speed is how many times faster than recorded, up to 1000, or 0 for as fast as possible.
	URL string
	// Filters say which frames are wanted: those that any of them lets pass. Nil means all, an empty list none.
	Filters []can.Filter
}

// A Port is one participant of a bus: a link.Conn, or a double at the boundary to the hardware.
type Port interface {
	Receive(ctx context.Context, f *can.Frame) error
	Send(ctx context.Context, f *can.Frame) error
	Stats() link.Stats
	// Carried grows while the bus carries frames, whatever the filters (see link.Conn).
	Carried() uint64
	Close() error
}

// Config says which buses to open. Buses and Logger are required.
type Config struct {
	Buses  []Bus
	Logger *slog.Logger
	// Metrics takes the counters of every bus; nil means none.
	Metrics prometheus.Registerer
	// Now is the host's clock, which paces recorded drives; nil means time.Now.
	Now func() time.Time
	// Dial opens a link; nil means link.Open.
	Dial func(link.Config) (Port, error)
}

// A source is where the frames of one bus come from, or of several that share a recorded drive.
type source interface {
	// Receive waits for the next frame and sets its Bus. It returns io.EOF when there will be no more, without error.
	Receive(ctx context.Context, f *can.Frame) error
	send(ctx context.Context, bus uint8, f *can.Frame) error
	state(bus uint8) state
	carried(bus uint8) uint64
	Close() error
}

// A recorded source is a drive.
type recorded struct{ *drive.Drive }

func (r recorded) send(context.Context, uint8, *can.Frame) error {
	return fmt.Errorf("cannot send frame: %w", ErrRecorded)
}

func (r recorded) state(bus uint8) state {
	s := r.State(bus)
	return state{Stats: s.Stats, up: s.Up, broken: s.Broken}
}

func (r recorded) carried(bus uint8) uint64 { s := r.State(bus); return s.Received + s.Filtered }

// A Set is a car's open buses. Frame.Bus of what Run hands out is the index of the bus in Config.Buses.
type Set struct {
	buses   []Bus
	sources []source
	by      []source // by the bus's index
}

// Recorded reports whether a URL is that of a recorded drive, which takes no frames.
func Recorded(url string) bool { return strings.HasPrefix(url, "replay:") }

// CheckURL says what is wrong with the URL of a bus as far as that can be seen without opening it.
func CheckURL(url string) error {
	kind, _, _ := strings.Cut(url, "://")
	switch kind {
	case "replay":
		return drive.Check(url)
	case "udp", "socketcan":
		return link.Check(url)
	}
	return fmt.Errorf("cannot use bus %q: unknown kind %q; give socketcan://IFACE, udp://GROUP:PORT or replay:///FILE", url, kind)
}

// Open opens every bus, or none. An interface that is down or not there is no failure: Run waits for it.
func Open(cfg Config) (*Set, error) {
	switch {
	case len(cfg.Buses) < 1 || len(cfg.Buses) > MaxBuses:
		return nil, fmt.Errorf("cannot open buses: %d configured, want 1 to %d", len(cfg.Buses), MaxBuses)
	case cfg.Logger == nil:
		return nil, errors.New("cannot open buses: no logger given")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Dial == nil {
		cfg.Dial = func(c link.Config) (Port, error) { return link.Open(c) }
	}
	s := &Set{buses: cfg.Buses}
	if err := s.open(cfg); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Set) open(cfg Config) error {
	drives := make(map[string]recorded)
	for i, b := range cfg.Buses {
		if slices.ContainsFunc(cfg.Buses[:i], func(other Bus) bool { return other.Name == b.Name }) {
			return fmt.Errorf("cannot open bus %s: the name stands twice; give each bus its own", b.Name)
		}
		if err := CheckURL(b.URL); err != nil {
			return err
		}
		if d, ok := drives[b.URL]; ok {
			d.Add(b.Name, uint8(i), b.Filters)
			s.by = append(s.by, d)
			continue
		}
		var src source
		if Recorded(b.URL) {
			d, err := drive.Open(b.URL, cfg.Logger, cfg.Now)
			if err != nil {
				return err
			}
			d.Add(b.Name, uint8(i), b.Filters)
			drives[b.URL] = recorded{d}
			src = drives[b.URL]
		} else {
			l, err := openLive(cfg, b, uint8(i))
			if err != nil {
				return err
			}
			src = l
		}
		s.sources, s.by = append(s.sources, src), append(s.by, src)
	}
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(s.collector()); err != nil {
			return fmt.Errorf("cannot register metrics of buses: %w", err)
		}
	}
	return nil
}

// Received returns the number of frames handed out of all buses; those of a recorded drive are counted in blocks.
func (s *Set) Received() (n uint64) {
	for i, src := range s.by {
		n += src.state(uint8(i)).Received
	}
	return n
}

// Carried returns a number that grows while any bus carries frames, whatever is wanted of them, and stands still while all are silent.
func (s *Set) Carried() (n uint64) {
	for i, src := range s.by {
		n += src.carried(uint8(i))
	}
	return n
}

// Up reports whether the bus with the given index can be read now.
func (s *Set) Up(bus uint8) bool { return int(bus) < len(s.by) && s.by[bus].state(bus).up }

// Send puts a frame on the bus with the given index. The error wraps link.ErrDown while the bus is down, and ErrRecorded when it is a
// recorded drive.
func (s *Set) Send(ctx context.Context, bus uint8, f *can.Frame) error {
	if int(bus) >= len(s.by) {
		return fmt.Errorf("cannot send frame: there is no bus %d", bus)
	}
	return s.by[bus].send(ctx, bus, f)
}

// Run hands every frame to handle until ctx is done, which is no error, or the Set is closed, or every bus was a recorded drive and
// has ended. The frame is valid until handle returns. Run is called once.
func (s *Set) Run(ctx context.Context, handle func(*can.Frame)) error {
	if len(s.sources) == 1 {
		// Nobody to wait for: no frame pays for the lock.
		return s.read(ctx, s.sources[0], handle)
	}
	var (
		group   sync.WaitGroup
		serial  sync.Mutex
		results = make(chan error, len(s.sources))
	)
	for _, src := range s.sources {
		group.Go(func() {
			err := s.read(ctx, src, func(f *can.Frame) {
				serial.Lock()
				defer serial.Unlock()
				handle(f)
			})
			if err != nil {
				results <- err
			}
		})
	}
	group.Wait()
	close(results)
	var errs []error
	for err := range results {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// read hands out the frames of one source.
func (s *Set) read(ctx context.Context, src source, handle func(*can.Frame)) error {
	var f can.Frame
	for {
		if err := src.Receive(ctx, &f); err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		handle(&f)
	}
}

// Close closes every bus.
func (s *Set) Close() error {
	var errs []error
	for _, src := range s.sources {
		errs = append(errs, src.Close())
	}
	return errors.Join(errs...)
}
