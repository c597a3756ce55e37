// Package reader brings what the car says to those who listen: samples of the signals of its vehicle map, and the messages of its
// attestation ECU. It opens the buses for just the frames that these two need, and asks for what the car does not say by itself.
//
// Invariants: frames are taken apart one at a time and in the order of their bus. The ECU's messages wait in a bounded queue, so that
// a slow flash does not stop the reading; one that finds it full is dropped and counted, and asked for again by whoever misses it. Without
// polling nothing is ever sent except requests to the attestation ECU and the flow control of its answers.
//
// The package keeps nothing and judges nothing: what a sample is worth is package odometer's to say.
package reader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/bus"
	"rawstone/agent/internal/poll"
	"rawstone/agent/internal/vehicle"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/attest"
	"rawstone/pkg/can"
	"rawstone/pkg/can/isotp"
	"rawstone/pkg/can/obd"
)

const (
	// inbox bounds the ECU's messages that wait: twice the longest answer to a request.
	inbox = 2 * attest.MaxLast
	// moving is the speed in mm/s from which a car is not parked.
	moving = 1000
)

// Config describes the car. Buses, ECUBus, Observe and Logger are required.
type Config struct {
	// Buses are the car's buses; their filters are set here.
	Buses []bus.Bus
	// Vehicle reads the vehicle map, compiled for the same buses; nil for a car of which only the attestation ECU is read.
	Vehicle *vehicle.Reader
	// ECUBus is the index of the bus on which the attestation ECU answers.
	ECUBus uint8
	// Poll lets the reader ask the car for what the map lists. ParkAfter and Idle are poll.Config's.
	Poll            bool
	ParkAfter, Idle time.Duration
	// Observe takes every sample, one at a time. It must not block.
	Observe func(vss.Sample)
	Logger  *slog.Logger
	// Metrics takes the metrics of buses, answers and polling; nil means none.
	Metrics prometheus.Registerer
}

// A Reader is open buses and what takes their frames apart. Run is called once; everything else is safe for concurrent use.
type Reader struct {
	log     *slog.Logger
	buses   *bus.Set
	vehicle *vehicle.Reader // nil for a car without a map
	poller  *poll.Poller    // nil for a reader that only listens
	observe func(vss.Sample)
	// What polling goes by: the map's signals, and the last value of each that is a distance.
	roles     []vss.Signal
	distances []int64

	ecuBus    uint8
	transport *isotp.Conn
	messages  chan []byte
	dropped   atomic.Uint64
}

// Open opens the buses. The caller closes the Reader.
func Open(cfg Config) (*Reader, error) {
	if cfg.Observe == nil || cfg.Logger == nil {
		return nil, errors.New("cannot read the car: no observer or logger given")
	}
	if int(cfg.ECUBus) >= len(cfg.Buses) {
		return nil, fmt.Errorf("cannot read the car: there is no bus %d of the attestation ECU", cfg.ECUBus)
	}
	r := &Reader{log: cfg.Logger, vehicle: cfg.Vehicle, observe: cfg.Observe, ecuBus: cfg.ECUBus, messages: make(chan []byte, inbox)}
	var err error
	r.transport, err = isotp.New(isotp.Config{
		Tx: attest.RxID, Rx: attest.TxID, MaxLen: attest.MaxMessageLen, Padding: true, PadByte: 0xCC,
		Send:    func(ctx context.Context, f *can.Frame) error { return r.buses.Send(ctx, r.ecuBus, f) },
		Deliver: r.deliver,
	})
	if err != nil {
		return nil, err
	}
	if err := r.register(cfg.Metrics); err != nil {
		return nil, err
	}
	if cfg.Poll && cfg.Vehicle != nil {
		if err := r.openPoller(&cfg); err != nil {
			return nil, err
		}
	}
	var buses []bus.Bus
	for i, b := range cfg.Buses {
		b.Filters = []can.Filter{}
		if cfg.Vehicle != nil {
			b.Filters = append(b.Filters, cfg.Vehicle.Filters(uint8(i))...)
		}
		if uint8(i) == cfg.ECUBus {
			b.Filters = append(b.Filters, can.Exact(attest.TxID))
		}
		buses = append(buses, b)
	}
	r.buses, err = bus.Open(bus.Config{Buses: buses, Logger: cfg.Logger, Metrics: cfg.Metrics})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Reader) openPoller(cfg *Config) (err error) {
	var requests []poll.Request
	all := cfg.Vehicle.Requests()
	var asks []int                  // by index into requests
	polled := make([]int, len(all)) // the other way round, -1 for what cannot be asked for
	for i, q := range all {
		if polled[i] = -1; int(q.Bus) < len(cfg.Buses) && bus.Recorded(cfg.Buses[q.Bus].URL) {
			continue // nobody is there to answer
		}
		polled[i] = len(requests)
		asks = append(asks, i)
		requests = append(requests, poll.Request{Name: q.Name, Every: q.Every, Motion: q.Motion})
	}
	r.poller, err = poll.New(poll.Config{
		Requests: requests, Ask: func(ctx context.Context, i int) error { return cfg.Vehicle.Ask(ctx, asks[i]) },
		Heard:     func() uint64 { return r.buses.Carried() },
		ParkAfter: cfg.ParkAfter, Idle: cfg.Idle, Logger: cfg.Logger, Metrics: cfg.Metrics,
	})
	if err != nil {
		return err
	}
	r.roles = cfg.Vehicle.Signals()
	r.distances = make([]int64, len(r.roles))
	cfg.Vehicle.Connect(vehicle.Link{
		Send:     func(ctx context.Context, bus uint8, f *can.Frame) error { return r.buses.Send(ctx, bus, f) },
		Answered: func(i int, code obd.NRC) { r.poller.Answered(polled[i], code) },
	})
	r.observe = func(s vss.Sample) {
		cfg.Observe(s)
		if r.moves(&s) {
			r.poller.Moved()
		}
	}
	return nil
}

// moves reports whether a sample shows that the car moves: a speed, or a distance that changed, since not every car tells its speed.
func (r *Reader) moves(s *vss.Sample) bool {
	if !s.Available {
		return false
	}
	switch r.roles[s.Signal].Role {
	case vss.Speed:
		return s.Value >= moving
	case vss.Distance:
		last := r.distances[s.Signal]
		r.distances[s.Signal] = s.Value
		return last != 0 && s.Value != last
	}
	return false
}

// Run reads and asks until ctx is done, which is no error, or a bus fails for good.
func (r *Reader) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		if r.poller != nil {
			_ = r.poller.Run(ctx) // ends with ctx and for no other reason
		}
	}()
	err := r.buses.Run(ctx, func(f *can.Frame) { r.handle(ctx, f) })
	cancel()
	<-asked
	return err
}

// handle takes one frame; the bus set calls it for one at a time.
func (r *Reader) handle(ctx context.Context, f *can.Frame) {
	if f.Bus == r.ecuBus && f.ID == attest.TxID {
		if err := r.transport.Handle(ctx, f); err != nil && ctx.Err() == nil {
			r.log.Warn("cannot answer the attestation ECU", "error", err)
		}
	}
	if r.vehicle == nil {
		return
	}
	if err := r.vehicle.Read(ctx, f, r.observe); err != nil && ctx.Err() == nil {
		r.log.Warn("cannot send flow control to the car", "error", err)
	}
}

// deliver keeps a message of the ECU for the goroutine that writes it to flash.
func (r *Reader) deliver(msg []byte) {
	select {
	case r.messages <- append([]byte(nil), msg...):
	default:
		r.dropped.Add(1)
	}
}

// Messages are the attestation ECU's, as they came over the bus.
func (r *Reader) Messages() <-chan []byte { return r.messages }

// Request asks the attestation ECU for its last n snapshots, 1 to attest.MaxLast.
func (r *Reader) Request(ctx context.Context, n uint8) error {
	msg, err := attest.Request{Last: n}.Encode()
	if err != nil {
		return err
	}
	if err := r.transport.Write(ctx, msg); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("cannot ask the attestation ECU: %w", err)
	}
	return nil
}

// Received returns the number of frames read from all buses.
func (r *Reader) Received() uint64 { return r.buses.Received() }

// Up reports whether the bus with the given index can be read now.
func (r *Reader) Up(bus uint8) bool { return r.buses.Up(bus) }

// Close closes the buses.
func (r *Reader) Close() error { return r.buses.Close() }
