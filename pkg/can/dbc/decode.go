package dbc

import (
	"slices"

	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc/internal/bitfield"
	"rawstone/pkg/can/dbc/internal/validity"
)

// A program decodes the frames of one message, in the order of the wants.
type program struct {
	steps []step
	rares []rare // beside steps: what most of them do not need, kept out of their cache lines
	need  uint8  // bytes of a frame that has all signals
	rare  bool   // some step is rare
}

// step decodes one signal: one that is an integer of up to 62 bits in the first eight bytes, always present, and available
// in one interval of numbers, unless its rare says otherwise. It fills a cache line.
type step struct {
	bitfield.Near
	scale, offset float64
	low           int64 // available from low to low + span
	span          uint64
	tag           int
}

// rare is what decodes every signal.
type rare struct {
	need       uint8 // bytes a frame must have
	needed     bool  // the step is not enough
	field      bitfield.Field
	rule       validity.Rule
	conditions []condition
}

// condition is the state a multiplexor must have for a signal to be present.
type condition struct {
	bitfield.Field
	ranges []Range
}

// Decode appends the readings of f to dst and returns the longer slice; it allocates only when dst is too short. Readings come in
// the order of the wants, those with AnySource behind the others. A signal is left out when the frame is too short for it, or a
// multiplexor says that the frame carries another one in its place. Remote and error frames carry none.
func (p *Plan) Decode(f *can.Frame, dst []Reading) []Reading {
	if f.Flags&(can.Remote|can.Error) != 0 {
		return dst
	}
	if f.ID <= can.MaxStandard {
		if i := p.standard[f.ID]; i != 0 {
			dst = p.programs[i].decode(f, dst)
		}
		return dst
	}
	if i := p.extended[f.ID]; i != 0 {
		dst = p.programs[i].decode(f, dst)
	}
	if len(p.groups) > 0 && f.ID.IsExtended() {
		if i := p.groups[anySource(f.ID).ID]; i != 0 {
			dst = p.programs[i].decode(f, dst)
		}
	}
	return dst
}

func (p *program) decode(f *can.Frame, dst []Reading) []Reading {
	words := bitfield.Load(&f.Data)
	dst = slices.Grow(dst, len(p.steps))
	out := dst[len(dst) : len(dst)+len(p.steps)]
	if p.rare || f.Len < p.need {
		return dst[:len(dst)+p.decodeRare(f, &words, out)]
	}
	steps := p.steps[:len(out)]
	for i := range steps {
		steps[i].decode(&words, &out[i])
	}
	return dst[:len(dst)+len(out)]
}

// decode is for a step that is not rare, and a frame that has its bytes.
func (st *step) decode(words *bitfield.Words, r *Reading) {
	raw := st.Raw(words)
	signed := st.Number(raw)
	r.Tag, r.Raw, r.Signed = st.tag, raw, signed
	r.Physical = float64(float64(signed)*st.scale) + st.offset // the conversion forbids fusing, so that every processor gets the same number
	r.Available = uint64(signed-st.low) <= st.span
}

// decodeRare is decode for a program with rare steps or a frame that is too short for some, and returns how many readings it made.
func (p *program) decodeRare(f *can.Frame, words *bitfield.Words, out []Reading) (n int) {
	for i := range p.steps {
		switch st, a := &p.steps[i], &p.rares[i]; {
		case f.Len < a.need:
		case !a.needed:
			st.decode(words, &out[n])
			n++
		case a.decode(st, f, words, &out[n]):
			n++
		}
	}
	return n
}

// decode is the whole of a step for any signal; it reports whether the frame carries the signal.
func (a *rare) decode(st *step, f *can.Frame, words *bitfield.Words, r *Reading) bool {
	for i := range a.conditions {
		c := &a.conditions[i]
		raw := c.Raw(&f.Data, words)
		if !slices.ContainsFunc(c.ranges, func(r Range) bool { return r.From <= raw && raw <= r.To }) {
			return false
		}
	}
	raw := a.field.Raw(&f.Data, words)
	signed, x := a.field.Number(raw)
	physical := float64(x*st.scale) + st.offset
	*r = Reading{Tag: st.tag, Value: Value{Raw: raw, Signed: signed, Physical: physical, Available: a.rule.Allows(raw, physical)}}
	return true
}
