package program

import (
	"math/bits"
	"slices"

	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc/internal/bitfield"
)

// Decode appends the readings of f to dst. It has its loops in place and calls nothing but in its last act, so that the processor's registers are enough for it. Rotating
// by a variable takes less time than shifting on amd64; the masks make them equal.
func (p *Program) Decode(f *can.Frame, dst []Reading) []Reading {
	n := len(dst) + len(p.signals)
	if n > cap(dst) || f.Len < p.need {
		return p.decodeRare(f, dst)
	}
	out := dst[len(dst):n]
	word := p.order.Load(&f.Data)
	lookups, values := p.lookups, p.values
	for i := range lookups {
		l := &lookups[i]
		out[l.at] = values[l.base+uint32(bits.RotateLeft64(word, int(l.rotate)))&l.mask]
	}
	steps := p.steps
	for i := range steps {
		st := &steps[i]
		r := &out[st.at]
		raw := bits.RotateLeft64(word, int(st.rotate)) & st.mask
		biased := raw ^ st.sign // in the order of the numbers
		r.Tag = st.tag
		r.Raw = raw
		r.width = st.width
		// The conversion of the product forbids fusing, so that every processor gets the same number.
		r.Physical = float64(float64(int64(biased-st.sign))*st.scale) + st.offset
		r.Available = biased-st.low <= st.span
	}
	return dst[:n]
}

// decodeRare is Decode for a program with rare signals, a frame that is too short for some, and a dst that is too short.
func (p *Program) decodeRare(f *can.Frame, dst []Reading) []Reading {
	words := bitfield.Load(&f.Data)
	for i := range p.signals {
		s := &p.signals[i]
		if f.Len >= s.Need && s.present(f, &words) {
			dst = append(dst, s.read(s.Field.Raw(&f.Data, &words)))
		}
	}
	return dst
}

// present reports whether the multiplexors say that the frame carries the signal.
func (s *Signal) present(f *can.Frame, words *bitfield.Words) bool {
	for i := range s.Conditions {
		c := &s.Conditions[i]
		raw := c.Raw(&f.Data, words)
		if !slices.ContainsFunc(c.Ranges, func(r Range) bool { return r.From <= raw && raw <= r.To }) {
			return false
		}
	}
	return true
}

// read is what the signal's bits mean.
func (s *Signal) read(raw uint64) Reading {
	physical := float64(s.Field.Number(raw)*s.scale) + s.offset
	return Reading{Tag: s.Tag, Value: Value{Raw: raw, Physical: physical, Available: s.rule.Allows(raw, physical), width: s.width}}
}
