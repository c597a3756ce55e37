// Package bus brings the frames of all of a car's buses to one handler.
//
// Frames of one bus keep their order; the handler is called for one frame at a time, whichever bus it comes from, so that nothing
// behind it needs a lock. A bus that fails ends Run with an error: the caller decides whether the car has a reading side without
// it.
//
// The package does not look into frames and does not filter them.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
)

// MaxBuses bounds the buses of a car.
const MaxBuses = 16

// A Bus names one bus and says how to reach it.
type Bus struct {
	// Name is how signals refer to the bus.
	Name string
	// URL is what link.Open takes: udp://GROUP:PORT or socketcan://IFACE.
	URL string
}

// Config says which buses to open. Buses and Logger are required.
type Config struct {
	Buses  []Bus
	Logger *slog.Logger
	// Metrics takes the counters of every bus; nil means none.
	Metrics prometheus.Registerer
}

// A Set is a car's open buses. Frame.Bus of what Run hands out is the index of the bus in Config.Buses.
type Set struct {
	buses []Bus
	conns []*link.Conn
}

// Open opens every bus, or none.
func Open(cfg Config) (*Set, error) {
	if len(cfg.Buses) < 1 || len(cfg.Buses) > MaxBuses {
		return nil, fmt.Errorf("cannot open buses: %d configured, want 1 to %d", len(cfg.Buses), MaxBuses)
	}
	s := &Set{buses: cfg.Buses}
	for i, b := range cfg.Buses {
		for _, other := range cfg.Buses[:i] {
			if other.Name == b.Name {
				return nil, errors.Join(fmt.Errorf("cannot open bus %s: the name stands twice; give each bus its own", b.Name), s.Close())
			}
		}
		c, err := link.Open(link.Config{URL: b.URL, Logger: cfg.Logger})
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.conns = append(s.conns, c)
	}
	if cfg.Metrics != nil {
		if err := s.register(cfg.Metrics); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func (s *Set) register(r prometheus.Registerer) error {
	for i, b := range s.buses {
		c, labels := s.conns[i], prometheus.Labels{"bus": b.Name}
		for _, m := range []struct {
			name, help string
			value      func(link.Stats) uint64
		}{
			{"rawstone_bus_frames_received_total", "Frames read from the bus.", func(s link.Stats) uint64 { return s.Received }},
			{"rawstone_bus_frames_sent_total", "Frames put on the bus.", func(s link.Stats) uint64 { return s.Sent }},
			{"rawstone_bus_malformed_total", "Datagrams skipped because they are no frame.", func(s link.Stats) uint64 { return s.Malformed }},
		} {
			counter := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m.name, Help: m.help, ConstLabels: labels},
				func() float64 { return float64(m.value(c.Stats())) })
			if err := r.Register(counter); err != nil {
				return fmt.Errorf("cannot register metrics of bus %s: %w", b.Name, err)
			}
		}
	}
	return nil
}

// Index returns the index of the bus of a name.
func (s *Set) Index(name string) (uint8, bool) {
	for i, b := range s.buses {
		if b.Name == name {
			return uint8(i), true
		}
	}
	return 0, false
}

// Received returns the number of frames read from all buses.
func (s *Set) Received() (n uint64) {
	for _, c := range s.conns {
		n += c.Stats().Received
	}
	return n
}

// Send puts a frame on the bus with the given index.
func (s *Set) Send(ctx context.Context, bus uint8, f *can.Frame) error {
	if int(bus) >= len(s.conns) {
		return fmt.Errorf("cannot send frame: there is no bus %d", bus)
	}
	return s.conns[bus].Send(ctx, f)
}

// Run hands every frame to handle until ctx is done, which is no error, or a bus fails. The frame is valid until handle returns.
func (s *Set) Run(ctx context.Context, handle func(*can.Frame)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		group   sync.WaitGroup
		serial  sync.Mutex
		results = make(chan error, len(s.conns))
	)
	for i, c := range s.conns {
		group.Go(func() {
			defer cancel()
			var f can.Frame
			for {
				if err := c.Receive(ctx, &f); err != nil {
					if ctx.Err() == nil {
						results <- fmt.Errorf("cannot read bus %s: %w", s.buses[i].Name, err)
					}
					return
				}
				f.Bus = uint8(i)
				serial.Lock()
				handle(&f)
				serial.Unlock()
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

// Close closes every bus.
func (s *Set) Close() error {
	var errs []error
	for _, c := range s.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
