// Package program decodes the frames of one message: what a DBC file says of its signals, worked out once, so that most of them
// take a rotation, a mask and a multiplication. It refuses nothing: its caller has checked that every signal has its bits.
package program

import (
	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc/internal/bitfield"
	"rawstone/pkg/can/dbc/internal/validity"
)

// A Reading is what one frame says about one signal. It is small, because a full bus makes a hundred thousand of them a second and most
// are thrown away: what is seldom asked for is worked out when it is.
type Reading struct {
	// Raw is the signal's bits, in the low bits.
	Raw uint64
	// Physical is the number times Scale plus Offset, never clamped.
	Physical float64

	step *step
}

// Tag is the tag of the want that the reading answers.
func (r *Reading) Tag() int { return r.step.signal.Tag }

// Signed is Raw as a number: sign-extended when the signal is signed.
func (r *Reading) Signed() int64 {
	shift := -r.step.signal.width & 63
	return int64(r.Raw<<shift) >> shift
}

// Available is false when the frame says that there is no usable value, which is when
//   - all bits of an unsigned integer signal of 8 bits or more are ones (as ISO 11783-7 and SAE J1939-71 reserve them; a
//     counter that legitimately passes through all ones must be read from Raw), or
//   - the value table names the raw value as not available: its text ends in SNA, "not available", "unavailable",
//     "not valid" or "invalid", in any case and spelling of the gaps, or is N/A; a one-bit signal is exempt, because
//     both of its values mean something, or
//   - the signal has a range (Max > Min) and Physical lies outside it by half a step of Scale or more, or
//   - a float is not finite.
func (r *Reading) Available() bool { return r.step.signal.rule.Allows(r.Raw, r.Physical) }

// A Program decodes the frames of one message, in the order in which signals were added.
type Program struct {
	steps []step
	need  uint8 // bytes of a frame that has all signals, or unusual
	order bitfield.Order
}

// unusual is the need of a program of which some signal is more than its step: no frame has so many bytes.
const unusual = 255

// step is what decodes an integer of up to 63 bits within the first eight bytes that is always there: what most signals are. It is kept
// apart from the rest, so that the steps of a whole car stay in the processor's nearest cache.
type step struct {
	scale, offset float64
	mask, sign    uint64 // sign is the sign bit of a signed number, else 0
	signal        *Signal
	rotate        uint8
}

// A Signal is everything about a signal that does not depend on a frame.
type Signal struct {
	// Tag comes back with every reading.
	Tag   int
	Field bitfield.Field
	// Need is the number of bytes that a frame must have.
	Need uint8
	// Conditions must all hold for the signal to be there.
	Conditions []Condition

	scale, offset float64
	rule          validity.Rule
	width         uint8 // the number of bits of a signed integer, else 0
}

// A Condition is the state that a multiplexor must have.
type Condition struct {
	bitfield.Field
	Ranges []Range
}

// A Range is a range of raw values, both ends included.
type Range struct{ From, To uint64 }

// Add adds a signal whose values mean what values says.
func (p *Program) Add(s Signal, values validity.Signal) {
	s.scale, s.offset, s.rule = values.Scale, values.Offset, validity.New(values)
	if values.Signed && !values.Float {
		s.width = uint8(values.Length)
	}
	st := step{scale: s.scale, offset: s.offset, signal: &s}
	near, order, ok := s.Field.Near()
	if len(p.steps) == 0 {
		p.order = order
	}
	p.need = max(p.need, s.Need)
	if !ok || order != p.order || len(s.Conditions) > 0 {
		p.need = unusual
	} else if st.mask, st.rotate = near.Mask, near.Rotate; s.width > 0 {
		st.sign = 1 << (s.width - 1)
	}
	p.steps = append(p.steps, st)
}

// Fast reports whether a frame takes the short way: a test needs to know which way it has tried.
func (p *Program) Fast(f *can.Frame) bool { return f.Len >= p.need }

// Pack puts the steps of programs side by side, which keeps those of a whole car in fewer cache lines. Nothing may be added afterwards.
func Pack(programs []*Program) {
	n := 0
	for _, p := range programs {
		n += len(p.steps)
	}
	all := make([]step, 0, n)
	for _, p := range programs {
		first := len(all)
		all = append(all, p.steps...)
		p.steps = all[first:len(all):len(all)]
	}
}
