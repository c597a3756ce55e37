package program

import (
	"math/bits"
	"slices"

	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc/internal/bitfield"
)

// Decode appends the readings of f to dst and returns the longer slice. A signal is left out when the frame is too short for it or a
// condition does not hold.
func (p *Program) Decode(f *can.Frame, dst []Reading) []Reading {
	n := len(dst) + len(p.steps)
	if n > cap(dst) || f.Len < p.need {
		return p.decodeRare(f, dst)
	}
	out := dst[len(dst):n]
	word := p.order.Load(&f.Data)
	steps := p.steps[:len(out)]
	for len(out) >= 4 && len(steps) >= 4 { // four at a time is about a twentieth faster than one
		steps[0].decode(word, &out[0])
		steps[1].decode(word, &out[1])
		steps[2].decode(word, &out[2])
		steps[3].decode(word, &out[3])
		out, steps = out[4:], steps[4:]
	}
	for i := range out {
		steps[i].decode(word, &out[i])
	}
	return dst[:n]
}

// decode is for a frame that has the signal's bytes.
func (st *step) decode(word uint64, r *Reading) {
	raw := bits.RotateLeft64(word, int(st.rotate)) & st.mask
	r.Raw = raw
	r.step = st
	// The conversion of the product forbids fusing, so that every processor gets the same number.
	r.Physical = float64(float64(int64((raw^st.sign)-st.sign))*st.scale) + st.offset
}

// decodeRare is Decode for what a word and a rotation are not enough for, and for a dst that is too short.
func (p *Program) decodeRare(f *can.Frame, dst []Reading) []Reading {
	words := bitfield.Load(&f.Data)
	for i := range p.steps {
		s := p.steps[i].signal
		if f.Len >= s.Need && s.present(f, &words) {
			raw := s.Field.Raw(&f.Data, &words)
			dst = append(dst, Reading{Raw: raw, Physical: float64(s.Field.Number(raw)*s.scale) + s.offset, step: &p.steps[i]})
		}
	}
	return dst
}

// present reports whether the conditions of a signal hold.
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
