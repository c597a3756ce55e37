package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"

	"rawstone/agent/internal/bus"
	"rawstone/agent/internal/trip"
	"rawstone/pkg/attest"
	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc"
	"rawstone/pkg/can/isotp"
)

// inbox bounds the ECU's messages that wait to be written to flash: twice the longest answer to a request.
const inbox = 2 * attest.MaxLast

// reader takes frames apart: signals go to the trip recorder, the attestation ECU's messages to the sealer.
type reader struct {
	buses    *bus.Set
	recorder *trip.Recorder
	plans    []*dbc.Plan // by bus, nil where nothing is wanted
	signals  []wanted    // by tag
	readings []dbc.Reading

	ecuBus    uint8
	transport *isotp.Conn
	messages  chan []byte // from the ECU; one that finds it full is asked for again by the sealer
}

// wanted is what a signal means.
type wanted struct {
	role trip.Role
	unit trip.Unit
}

func newReader(cfg *Config, buses *bus.Set, recorder *trip.Recorder, warn func(dbc.Warning)) (*reader, error) {
	r := &reader{buses: buses, recorder: recorder, plans: make([]*dbc.Plan, len(cfg.Buses)), messages: make(chan []byte, inbox)}
	wants := make([][]dbc.Want, len(cfg.Buses))
	for _, s := range cfg.Signals {
		role, err := trip.ParseRole(s.Path)
		if err != nil {
			return nil, err
		}
		unit, err := trip.ParseUnit(role, s.Unit)
		if err != nil {
			return nil, err
		}
		i, ok := buses.Index(s.Bus)
		if !ok {
			return nil, fmt.Errorf("cannot read signal %s: there is no bus %q", s.Signal, s.Bus)
		}
		wants[i] = append(wants[i], dbc.Want{Signal: s.Signal, Tag: len(r.signals)})
		r.signals = append(r.signals, wanted{role, unit})
	}
	for i, b := range cfg.Buses {
		if len(wants[i]) == 0 {
			continue
		}
		plan, err := compile(b.DBC, wants[i], warn)
		if err != nil {
			return nil, fmt.Errorf("cannot read bus %s: %w", b.Name, err)
		}
		r.plans[i] = plan
	}
	index, ok := buses.Index(cfg.ECU.Bus)
	if !ok {
		return nil, fmt.Errorf("cannot reach the attestation ECU: there is no bus %q", cfg.ECU.Bus)
	}
	r.ecuBus = index
	var err error
	r.transport, err = isotp.New(isotp.Config{
		Tx: attest.RxID, Rx: attest.TxID, MaxLen: attest.MaxMessageLen, Padding: true, PadByte: 0xCC,
		Send:    func(ctx context.Context, f *can.Frame) error { return buses.Send(ctx, r.ecuBus, f) },
		Deliver: r.deliver,
	})
	return r, err
}

func compile(path string, wants []dbc.Want, warn func(dbc.Warning)) (*dbc.Plan, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read DBC file: %w", err)
	}
	if info.Size() > dbc.MaxFile {
		return nil, fmt.Errorf("cannot read DBC file %s: %d bytes, at most %d allowed", path, info.Size(), dbc.MaxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read DBC file: %w", err)
	}
	file, warnings := dbc.Parse(path, text)
	for _, w := range warnings {
		warn(w)
	}
	return dbc.Compile(file, wants)
}

// handle takes one frame; the bus set calls it for one at a time.
func (r *reader) handle(ctx context.Context, f *can.Frame) error {
	var err error
	if f.Bus == r.ecuBus && f.ID == attest.TxID {
		err = r.transport.Handle(ctx, f)
	}
	if plan := r.plans[f.Bus]; plan != nil {
		r.readings = plan.Decode(f, r.readings[:0])
		for _, reading := range r.readings {
			if !reading.Available {
				continue
			}
			s := r.signals[reading.Tag]
			if v, ok := s.unit.Sample(reading.Physical); ok {
				r.recorder.Observe(s.role, f.Time, v)
			}
		}
	}
	return err
}

// deliver keeps a message of the ECU for the goroutine that writes it to flash, so that the bus is read meanwhile.
func (r *reader) deliver(msg []byte) {
	select {
	case r.messages <- append([]byte(nil), msg...):
	default:
	}
}

// request asks the ECU for its last n snapshots.
func (r *reader) request(ctx context.Context, n uint8) error {
	msg, err := attest.Request{Last: n}.Encode()
	if err != nil {
		return err
	}
	if err := r.transport.Write(ctx, msg); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("cannot ask the attestation ECU: %w", err)
	}
	return nil
}
