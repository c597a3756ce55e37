package dbc

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc/internal/bitfield"
	"rawstone/pkg/can/dbc/internal/program"
	"rawstone/pkg/can/dbc/internal/validity"
)

// A Want asks a plan for one signal.
type Want struct {
	// Signal is "Message.Signal", or just "Signal" when only one message has one of that name.
	Signal string
	// Tag comes back with every reading.
	Tag int
	// AnySource takes the signal from every frame of the message's parameter group (SAE J1939-21, 5.1.2), whatever its priority
	// and source address, and in a group of PDU format below 240 its destination address: the DBC file names one sender, and
	// trucks have others. It is for messages with extended identifiers.
	AnySource bool
}

// A Reading is the value of a wanted signal.
type Reading = program.Reading

// A Plan decodes the wanted signals of the frames that carry them. It is immutable and safe for concurrent use.
type Plan struct {
	standard [can.MaxStandard + 1]*program.Program
	extended map[can.ID]*program.Program
	groups   map[can.ID]*program.Program // by the ID of anySource
	programs []*program.Program
	filters  []can.Filter
}

// maxMux is how deep multiplexors may depend on each other.
const maxMux = 16

// A SignalError says why one wanted signal cannot be decoded: it is unknown, ambiguous, or present under a condition that the file
// leaves open.
type SignalError struct {
	Want Want
	err  error
}

func (e *SignalError) Error() string {
	return fmt.Sprintf("cannot decode signal %q: %v", e.Want.Signal, e.err)
}

// Compile makes the plan for wants. Its error joins a *SignalError for each that cannot be decoded, in their order.
func Compile(file *File, wants []Want) (*Plan, error) {
	names := newIndex(file)
	p := &Plan{extended: map[can.ID]*program.Program{}, groups: map[can.ID]*program.Program{}}
	var problems []error
	for _, want := range wants {
		message, signal, err := names.find(want.Signal)
		if err == nil {
			err = p.add(message, signal, want)
		}
		if err != nil {
			problems = append(problems, &SignalError{want, err})
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	program.Pack(p.programs)
	slices.SortFunc(p.filters, func(a, b can.Filter) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(b.Mask, a.Mask)) })
	return p, nil
}

// anySource returns the filter for the parameter group of an extended identifier (SAE J1939-21, 5.2.1): extended data page, data
// page, PDU format and, where that is 240 or more and it is no destination address, PDU specific.
func anySource(id can.ID) can.Filter {
	mask := can.Extended | 0x03FFFF00
	if id>>16&0xFF < 240 {
		mask = can.Extended | 0x03FF0000
	}
	return can.Filter{ID: id & mask, Mask: mask}
}

// slot returns the program of the frames that filter matches, which it makes when there is none.
func (p *Plan) slot(filter can.Filter) *program.Program {
	made := new(program.Program)
	at := p.extended
	switch {
	case filter.ID <= can.MaxStandard:
		if known := p.standard[filter.ID]; known != nil {
			return known
		}
		p.standard[filter.ID] = made
		at = nil
	case filter != can.Exact(filter.ID):
		at = p.groups
	}
	if at != nil {
		if known := at[filter.ID]; known != nil {
			return known
		}
		at[filter.ID] = made
	}
	p.filters, p.programs = append(p.filters, filter), append(p.programs, made)
	return made
}

// add works out everything about a signal that does not depend on a frame.
func (p *Plan) add(m *Message, s *Signal, want Want) error {
	f, ok := locate(s)
	if !ok || !m.ID.Valid() {
		return errors.New("its bits do not fit a CAN frame or its type")
	}
	filter := can.Exact(m.ID)
	if want.AnySource {
		if !m.ID.IsExtended() {
			return fmt.Errorf("message %q has an identifier of 11 bits, and only one of 29 bits has a source address", m.Name)
		}
		filter = anySource(m.ID)
	}
	values := validity.Signal{Length: s.Length, Signed: s.Signed, Float: s.Float, Scale: s.Scale, Offset: s.Offset, Min: s.Min, Max: s.Max, Values: s.Values}
	r := program.Signal{Tag: want.Tag, Field: f}
	for at := s; at.Mux != nil; {
		i := slices.IndexFunc(m.Signals, func(other *Signal) bool { return other.Name == at.Mux.Switch })
		if i < 0 {
			return fmt.Errorf("it is multiplexed, and the DBC file does not say by which signal of message %q: add SG_MUL_VAL_", m.Name)
		}
		if len(r.Conditions) == maxMux {
			return fmt.Errorf("its multiplexors depend on each other in a circle or more than %d deep", maxMux)
		}
		ranges := at.Mux.Ranges
		at = m.Signals[i]
		mux, ok := locate(at)
		if !ok {
			return fmt.Errorf("its multiplexor %q does not fit a CAN frame", at.Name)
		}
		condition := program.Condition{Field: mux}
		for _, present := range ranges {
			condition.Ranges = append(condition.Ranges, program.Range(present))
		}
		r.Conditions = append(r.Conditions, condition)
		f.Need = max(f.Need, mux.Need)
	}
	r.Need = f.Need
	p.slot(filter).Add(r, values)
	return nil
}

func locate(s *Signal) (f bitfield.Field, ok bool) {
	t := bitfield.Unsigned
	switch {
	case s.Float && s.Length == 32:
		t = bitfield.Binary32
	case s.Float:
		t = bitfield.Binary64
	case s.Signed:
		t = bitfield.Signed
	}
	return bitfield.Locate(s.Start, s.Length, s.BigEndian, t)
}

// Filters returns what matches the identifiers of the frames the plan has a use for, and no others, in ascending order.
func (p *Plan) Filters() []can.Filter { return slices.Clone(p.filters) }
