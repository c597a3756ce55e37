package dbc

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc/internal/bitfield"
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

// A Value is what one frame says about one signal.
type Value struct {
	// Raw is the signal's bits, in the low bits.
	Raw uint64
	// Signed is Raw as a number: sign-extended when the signal is signed.
	Signed int64
	// Physical is the number times Scale plus Offset, never clamped.
	Physical float64
	// Available is false when the frame says that there is no usable value, which is when
	//   - all bits of an unsigned integer signal of 8 bits or more are ones (as ISO 11783-7 and SAE J1939-71 reserve them; a
	//     counter that legitimately passes through all ones must be read from Raw), or
	//   - the value table names the raw value as not available: its text ends in SNA, "not available", "unavailable",
	//     "not valid" or "invalid", in any case and spelling of the gaps, or is N/A; a one-bit signal is exempt, because
	//     both of its values mean something, or
	//   - the signal has a range (Max > Min) and Physical lies outside it by half a step of Scale or more, or
	//   - a float is not finite.
	Available bool
}

// A Reading is the value of a wanted signal.
type Reading struct {
	Tag int
	Value
}

// A Plan decodes the wanted signals of the frames that carry them. It is immutable and safe for concurrent use.
type Plan struct {
	standard [can.MaxStandard + 1]uint32 // index into programs; 0 for no wanted signal
	extended map[can.ID]uint32
	groups   map[can.ID]uint32 // by the ID of anySource
	programs []program
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
	p := &Plan{extended: map[can.ID]uint32{}, groups: map[can.ID]uint32{}, programs: make([]program, 1)}
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
func (p *Plan) slot(filter can.Filter) *program {
	i := uint32(len(p.programs))
	at := p.extended
	switch {
	case filter.ID <= can.MaxStandard:
		if known := p.standard[filter.ID]; known != 0 {
			return &p.programs[known]
		}
		p.standard[filter.ID] = i
		at = nil
	case filter != can.Exact(filter.ID):
		at = p.groups
	}
	if at != nil {
		if known := at[filter.ID]; known != 0 {
			return &p.programs[known]
		}
		at[filter.ID] = i
	}
	p.programs = append(p.programs, program{})
	p.filters = append(p.filters, filter)
	return &p.programs[i]
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
	r := rare{field: f, rule: validity.New(values)}
	for at := s; at.Mux != nil; {
		i := slices.IndexFunc(m.Signals, func(other *Signal) bool { return other.Name == at.Mux.Switch })
		if i < 0 {
			return fmt.Errorf("it is multiplexed, and the DBC file does not say by which signal of message %q: add SG_MUL_VAL_", m.Name)
		}
		if len(r.conditions) == maxMux {
			return fmt.Errorf("its multiplexors depend on each other in a circle or more than %d deep", maxMux)
		}
		ranges := at.Mux.Ranges
		at = m.Signals[i]
		mux, ok := locate(at)
		if !ok {
			return fmt.Errorf("its multiplexor %q does not fit a CAN frame", at.Name)
		}
		r.conditions = append(r.conditions, condition{mux, slices.Clone(ranges)})
		f.Need = max(f.Need, mux.Need)
	}
	st := step{scale: s.Scale, offset: s.Offset, tag: want.Tag}
	var near, plain bool
	st.Near, near = f.Near()
	st.low, st.span, plain = r.rule.Interval(values)
	r.need, r.needed = f.Need, !near || !plain || len(r.conditions) > 0
	program := p.slot(filter)
	program.steps = append(program.steps, st)
	program.rares = append(program.rares, r)
	program.need, program.rare = max(program.need, r.need), program.rare || r.needed
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
