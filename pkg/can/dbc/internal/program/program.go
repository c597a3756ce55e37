// Package program decodes the frames of one message: each signal is worked out beforehand as far as it can be. It refuses nothing and
// knows no names: what is asked of it has been checked by whoever adds it.
package program

import (
	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc/internal/bitfield"
	"rawstone/pkg/can/dbc/internal/validity"
)

// A Value is what one frame says about one signal.
type Value struct {
	// Raw is the signal's bits, in the low bits.
	Raw uint64
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

	width uint8   // the number of bits of a signed integer, else 0 (as 64)
	_     [6]byte // spelt out, so that the compiler copies a Reading as two halves instead of field by field
}

// Signed returns Raw as a number: sign-extended when the signal is a signed integer.
func (v Value) Signed() int64 {
	shift := -v.width & 63
	return int64(v.Raw<<shift) >> shift
}

// A Reading is the value of a wanted signal.
type Reading struct {
	Tag int
	Value
}

// A Program decodes the frames of one message. It has each signal in signals, which decode whatever a DBC file can say and take
// their time. When nothing in the message is unusual, each signal is a lookup or a step too, and these decode it.
type Program struct {
	signals []Signal // in the order of the wants
	lookups []lookup
	values  []Reading // of the lookups
	steps   []step
	need    uint8 // bytes of a frame that has all signals, or unusual
	order   bitfield.Order
}

// unusual is a need that no frame fulfils: of a program whose lookups and steps are not enough.
const unusual = 255

// maxLookup is the longest signal, in bits, whose readings are made beforehand: most signals are not longer, and longer ones would
// take memory and cache (a reading of 32 bytes for each value).
const maxLookup = 4

// lookup decodes a signal of up to maxLookup bits: looking a reading up takes half the time of making it. The fields are as wide as
// they are so that a lookup is 16 bytes and nothing must be widened.
type lookup struct {
	mask, rotate uint32
	base         uint32 // place of the reading of 0 among the program's values
	at           uint32 // place among the readings of a frame
}

// step decodes an integer of up to 62 bits that is available in one interval of numbers. It fills a cache line.
type step struct {
	scale, offset float64
	tag           int
	mask, sign    uint64
	low, span     uint64 // available from low to low + span, in numbers with the sign bit flipped
	at            uint32 // place among the readings of a frame
	rotate, width uint8  // width as in Value
}

// A Signal decodes any signal.
type Signal struct {
	Tag           int
	Field         bitfield.Field
	Need          uint8 // bytes a frame must have
	Conditions    []Condition
	scale, offset float64
	rule          validity.Rule
	width         uint8 // as in Value
}

// A Condition is the state a multiplexor must have for a signal to be present.
type Condition struct {
	bitfield.Field
	Ranges []Range
}

// A Range is a range of raw values, both ends included.
type Range struct{ From, To uint64 }

// Add adds a signal with such values, whose readings come behind those of the signals before it.
func (p *Program) Add(s Signal, values validity.Signal) {
	s.scale, s.offset, s.rule = values.Scale, values.Offset, validity.New(values)
	if values.Signed && !values.Float {
		s.width = uint8(values.Length)
	}
	at := uint32(len(p.signals))
	p.signals = append(p.signals, s)
	p.need = max(p.need, s.Need)
	near, order, ok := s.Field.Near()
	if at == 0 {
		p.order = order
	}
	if !ok || order != p.order || len(s.Conditions) > 0 {
		p.need = unusual
		return
	}
	if values.Length <= maxLookup {
		p.lookups = append(p.lookups, lookup{uint32(near.Mask), uint32(near.Rotate), uint32(len(p.values)), at})
		for raw := range uint64(1) << values.Length {
			p.values = append(p.values, s.read(raw))
		}
		return
	}
	low, span, ok := s.rule.Interval(values)
	if !ok {
		p.need = unusual
		return
	}
	st := step{scale: s.scale, offset: s.offset, tag: s.Tag, mask: near.Mask, rotate: near.Rotate, low: uint64(low), span: span, at: at, width: s.width}
	if values.Signed {
		st.sign = 1 << (values.Length - 1)
		st.low += st.sign
	}
	p.steps = append(p.steps, st)
}

// Fast reports whether lookups and steps decode f.
func (p *Program) Fast(f *can.Frame) bool { return f.Len >= p.need }
