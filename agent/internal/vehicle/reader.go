// Package vehicle turns frames into samples by a signal map: DBC signals, OBD-II parameters, UDS data identifiers and J1939
// suspect parameters.
//
// A Reader never guesses: a value whose companion signal (a unit flag, a validity bit) has not been seen is not available. What
// peers send is bounded: a Reader keeps, whatever arrives, at most twice signalmap.MaxAnswer bytes for each pair of diagnostic
// identifiers and 77 KiB for the J1939 transport of a bus, and a bad message costs only itself and is counted. Without a Link the
// Reader listens only and never sends anything, flow control included.
package vehicle

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"rawstone/agent/internal/signalmap"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc"
	"rawstone/pkg/can/j1939"
	"rawstone/pkg/can/obd"
)

// A Reader turns frames into samples. Read is for one goroutine; Ask and Stats are safe for concurrent use with it.
type Reader struct {
	signals  []vss.Signal
	sources  []source // by signal
	states   []state  // of companions
	lines    []line   // by Frame.Bus
	requests []request
	link     Link

	// What follows is Read's own.
	emit     func(vss.Sample)
	frame    *can.Frame
	readings []dbc.Reading
	answer   obd.Answer

	answers, negative, refused atomic.Uint64
}

// A Link lets a Reader ask the vehicle.
type Link struct {
	// Send puts a frame on a bus. nil means that the Reader listens only.
	Send func(ctx context.Context, bus uint8, f *can.Frame) error
	// Answered is told, within Read, of every answer to a request by its index in Requests, whoever asked: code 0 for data, else
	// the ECU's reason. It must not block. nil means that nobody is told.
	Answered func(request int, code obd.NRC)
	// Now is the host's clock; nil means time.Now. A Reader that listens only goes by frame time.
	Now func() time.Time
}

// line is what reads one bus.
type line struct {
	plan      *dbc.Plan
	channels  []*channel
	transport *j1939.Transport
	spns      []int // sources
	filters   []can.Filter
}

// source is a signal of the map and where its companions are kept.
type source struct {
	signalmap.Source
	flagAt, validAt int // in Reader.states, -1 for none
}

// state is what a companion signal said last, by source address when it is taken from any.
type state struct {
	values           []int64
	known, available []bool
}

// Stats are the counters of a Reader.
type Stats struct {
	// Answers counts diagnostic answers with data; Negative those that refuse; Refused those that do not add up.
	Answers, Negative, Refused uint64
	// Transport counts messages of ISO-TP and J1939 that were given up, and frames that belong to none.
	Transport uint64
}

// Connect lets the Reader ask and send flow control. It is called before the first Read and Ask, or never.
func (r *Reader) Connect(l Link) { r.link = l }

// Signals returns the signals in the order of the map; Sample.Signal is an index into them.
func (r *Reader) Signals() []vss.Signal { return slices.Clone(r.signals) }

// Filters returns what has to be received on a bus, nothing for a bus that the map does not use. Requests of others are not among
// it.
func (r *Reader) Filters(bus uint8) []can.Filter {
	if int(bus) >= len(r.lines) {
		return nil
	}
	return slices.Clone(r.lines[bus].filters)
}

// Requests returns what can be asked for.
func (r *Reader) Requests() []Request {
	all := make([]Request, len(r.requests))
	for i := range r.requests {
		all[i] = r.requests[i].Request
	}
	return all
}

// Stats returns the counters.
func (r *Reader) Stats() Stats {
	s := Stats{Answers: r.answers.Load(), Negative: r.negative.Load(), Refused: r.refused.Load()}
	for i := range r.lines {
		for _, c := range r.lines[i].channels {
			t := c.conn.Stats()
			s.Transport += t.Malformed + t.Unexpected + t.Sequence + t.Interrupted + t.Timeouts + t.Overflows
		}
		if r.lines[i].transport != nil {
			t := r.lines[i].transport.Stats()
			s.Transport += t.Malformed + t.Unexpected + t.Incomplete + t.Interrupted + t.Aborted + t.Timeouts + t.Evicted
		}
	}
	return s
}

// Read takes a frame from a bus and calls emit for every sample that it completes, within Read. Frames that the map has no use for,
// and whatever a peer does wrong, are no error; an error is Link.Send's.
func (r *Reader) Read(ctx context.Context, f *can.Frame, emit func(vss.Sample)) error {
	if int(f.Bus) >= len(r.lines) {
		return nil
	}
	l := &r.lines[f.Bus]
	r.frame, r.emit = f, emit
	if l.plan != nil {
		r.readings = l.plan.Decode(f, r.readings[:0])
		for i := range r.readings {
			r.reading(f, &r.readings[i])
		}
	}
	var err error
	for _, c := range l.channels {
		if c.pair.Response == f.ID {
			err = c.conn.Handle(ctx, f)
			break
		}
	}
	if l.transport != nil && f.ID.IsExtended() {
		err = l.transport.Handle(ctx, f)
	}
	r.frame, r.emit = nil, nil
	return err
}

// reading takes a value of a DBC signal.
func (r *Reader) reading(f *can.Frame, v *dbc.Reading) {
	if v.Tag() < 0 {
		s, origin := &r.states[^v.Tag()], 0
		if len(s.values) > 1 {
			origin = int(uint8(f.ID))
		}
		s.values[origin], s.known[origin], s.available[origin] = v.Signed(), true, v.Available()
		return
	}
	var origin uint8
	if r.sources[v.Tag()].AnySource {
		origin = uint8(f.ID)
	}
	r.put(v.Tag(), origin, f.Time, v.Signed(), v.Physical, v.Available())
}

// message takes a J1939 message of a group that the map has a use for.
func (r *Reader) message(l *line, msg *j1939.Message) {
	for _, i := range l.spns {
		spn := &r.sources[i].SPN
		if spn.PGN != msg.PGN {
			continue
		}
		v := spn.Decode(msg.Data)
		r.put(i, msg.Source, msg.Time, int64(v.Raw), v.Physical, v.Available)
	}
	for i := range r.requests {
		if q := &r.requests[i]; q.channel == nil && q.group == msg.PGN && q.Bus == r.frame.Bus {
			r.answered(i, 0)
		}
	}
}

// put makes a sample of a value.
func (r *Reader) put(i int, origin uint8, at, raw int64, physical float64, available bool) {
	src := &r.sources[i]
	if src.Origin >= 0 && src.Origin != int(origin) {
		return
	}
	s := vss.Sample{Signal: i, Origin: origin, Time: at}
	if available || src.Wraps() {
		if u, ok := r.companions(src, origin); ok {
			s.Value, s.Available = src.Sample(u, raw, physical)
		}
	}
	r.emit(s)
}

// companions returns the unit that holds for a source, or false if its companions forbid its value.
func (r *Reader) companions(src *source, origin uint8) (vss.Unit, bool) {
	if !src.AnySource {
		origin = 0 // the companion of an SPN is an ordinary DBC signal
	}
	if src.validAt >= 0 {
		s := &r.states[src.validAt]
		if !s.known[origin] || !slices.Contains(src.Values, s.values[origin]) {
			return vss.Unit{}, false
		}
	}
	if src.flagAt >= 0 {
		s := &r.states[src.flagAt]
		if !s.known[origin] {
			return vss.Unit{}, false
		}
		if s.values[origin] == src.Equals {
			return src.Other, true
		}
		if !s.available[origin] {
			return vss.Unit{}, false // it says that it does not know
		}
	}
	return src.Unit, true
}

// clock is what timeouts are judged by: the host's clock when the vehicle is asked, frame time when a capture may be played.
func (r *Reader) clock() time.Time {
	switch {
	case r.link.Send != nil && r.link.Now != nil:
		return r.link.Now()
	case r.link.Send != nil || r.frame == nil:
		return time.Now()
	}
	return time.Unix(0, r.frame.Time)
}

func (r *Reader) answered(i int, code obd.NRC) {
	if r.link.Answered != nil {
		r.link.Answered(i, code)
	}
}

// Ask sends a request by its index in Requests and does not wait for the answer, which Read takes. A diagnostic identifier pair
// carries one request at a time: the next one takes the place of one that was not answered.
func (r *Reader) Ask(ctx context.Context, i int) error {
	if i < 0 || i >= len(r.requests) {
		return fmt.Errorf("cannot ask for request %d: there are %d", i, len(r.requests))
	}
	q := &r.requests[i]
	if r.link.Send == nil {
		return fmt.Errorf("cannot ask for %s: the reader listens only", q.Name)
	}
	if q.channel != nil {
		return q.channel.ask(ctx, i, q)
	}
	f, err := j1939.Request(q.group, j1939.NoAddress, j1939.Global)
	if err != nil {
		return err
	}
	f.Bus = q.Bus
	if err := r.link.Send(ctx, q.Bus, &f); err != nil {
		return fmt.Errorf("cannot ask for %s: %w", q.Name, err)
	}
	return nil
}
