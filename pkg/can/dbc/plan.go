package dbc

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc/internal/bitfield"
)

// A Want asks a plan for one signal.
type Want struct {
	// Signal is "Message.Signal", or just "Signal" when only one message has one of that name.
	Signal string
	// Tag comes back with every reading.
	Tag int
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
	standard [can.MaxStandard + 1]uint32 // index into steps; 0 for no wanted signal
	extended map[can.ID]uint32
	steps    [][]step
	ids      []can.ID
}

// step decodes one signal.
type step struct {
	bitfield.Field
	tag           int
	scale, offset float64
	low, high     float64  // Physical must lie between them
	absent        []uint64 // raw values that mean not available, ascending
	lowest        uint64   // the first of them
	conditions    []condition
}

// condition is the state a multiplexor must have for a signal to be present.
type condition struct {
	bitfield.Field
	ranges []Range
}

// maxMux is how deep multiplexors may depend on each other.
const maxMux = 16

// Compile makes the plan for wants. The error joins one sentence for every signal that cannot be decoded: unknown, ambiguous,
// or present under a condition that the file leaves open.
func Compile(file *File, wants []Want) (*Plan, error) {
	names := newIndex(file)
	p := &Plan{extended: map[can.ID]uint32{}, steps: make([][]step, 1)}
	var problems []error
	for _, want := range wants {
		message, signal, err := names.find(want.Signal)
		if err == nil {
			err = p.add(message, signal, want.Tag)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("cannot decode signal %q: %w", want.Signal, err))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	slices.Sort(p.ids)
	return p, nil
}

// slot returns the index of the steps of id, which it makes when there are none.
func (p *Plan) slot(id can.ID) uint32 {
	if i := p.lookup(id); i != 0 {
		return i
	}
	i := uint32(len(p.steps))
	p.steps = append(p.steps, nil)
	p.ids = append(p.ids, id)
	if id <= can.MaxStandard {
		p.standard[id] = i
	} else {
		p.extended[id] = i
	}
	return i
}

func (p *Plan) lookup(id can.ID) uint32 {
	if id <= can.MaxStandard {
		return p.standard[id]
	}
	return p.extended[id]
}

// add works out everything about a signal that does not depend on a frame.
func (p *Plan) add(m *Message, s *Signal, tag int) error {
	f, ok := locate(s)
	if !ok || !m.ID.Valid() {
		return errors.New("its bits do not fit a CAN frame or its type")
	}
	st := step{
		Field: f, tag: tag, scale: s.Scale, offset: s.Offset,
		low: math.Inf(-1), high: math.Inf(1), lowest: math.MaxUint64,
	}
	if s.Max > s.Min {
		slack := max(math.Abs(s.Min), math.Abs(s.Max), math.Abs(s.Offset)) * 0x1p-52 // limits are decimal, and often rounded
		if s.Float && s.Length == 32 {
			slack *= 0x1p29
		} else if !s.Float {
			slack = max(slack, math.Abs(s.Scale)/2)
		}
		st.low, st.high = s.Min-slack, s.Max+slack
	}
	if st.absent = absentValues(s, f.Mask); len(st.absent) > 0 {
		st.lowest = st.absent[0]
	}
	for at := s; at.Mux != nil; {
		i := slices.IndexFunc(m.Signals, func(other *Signal) bool { return other.Name == at.Mux.Switch })
		if i < 0 {
			return fmt.Errorf("it is multiplexed, and the DBC file does not say by which signal of message %q: add SG_MUL_VAL_", m.Name)
		}
		if len(st.conditions) == maxMux {
			return fmt.Errorf("its multiplexors depend on each other in a circle or more than %d deep", maxMux)
		}
		ranges := at.Mux.Ranges
		at = m.Signals[i]
		mux, ok := locate(at)
		if !ok {
			return fmt.Errorf("its multiplexor %q does not fit a CAN frame", at.Name)
		}
		st.conditions = append(st.conditions, condition{mux, slices.Clone(ranges)})
		st.Need = max(st.Need, mux.Need)
	}
	i := p.slot(m.ID)
	p.steps[i] = append(p.steps[i], st)
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

// IDs returns the identifiers of the frames the plan has a use for, in ascending order.
func (p *Plan) IDs() []can.ID { return slices.Clone(p.ids) }

// Decode appends the readings of f to dst and returns the longer slice; it allocates only when dst is too short. Readings come in
// the order of the wants. A signal is left out when the frame is too short for it, or a multiplexor says that the frame carries
// another one in its place. Remote and error frames carry none.
func (p *Plan) Decode(f *can.Frame, dst []Reading) []Reading {
	i := p.lookup(f.ID)
	if i == 0 || f.Flags&(can.Remote|can.Error) != 0 {
		return dst
	}
	words := bitfield.Load(&f.Data)
	steps := p.steps[i]
	dst = slices.Grow(dst, len(steps))
	for j := range steps {
		st := &steps[j]
		if f.Len < st.Need || len(st.conditions) > 0 && !st.present(f, &words) {
			continue
		}
		dst = dst[:len(dst)+1]
		r := &dst[len(dst)-1]
		raw := st.Raw(&f.Data, &words)
		signed, x := st.Number(raw)
		physical := float64(x*st.scale) + st.offset // the conversion forbids fusing, so that every processor gets the same number
		r.Tag, r.Raw, r.Signed, r.Physical = st.tag, raw, signed, physical
		r.Available = physical > st.low && physical < st.high && (raw < st.lowest || !st.isAbsent(raw))
	}
	return dst
}

func (st *step) present(f *can.Frame, words *bitfield.Words) bool {
	for i := range st.conditions {
		c := &st.conditions[i]
		raw := c.Raw(&f.Data, words)
		if !slices.ContainsFunc(c.ranges, func(r Range) bool { return r.From <= raw && raw <= r.To }) {
			return false
		}
	}
	return true
}

func (st *step) isAbsent(raw uint64) bool {
	_, found := slices.BinarySearch(st.absent, raw)
	return found
}
