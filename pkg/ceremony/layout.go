package ceremony

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark/backend/groth16/bn254/mpcsetup"
)

// sizes of compressed points in bytes.
const (
	g1 = bn254.SizeOfG1AffineCompressed
	g2 = bn254.SizeOfG2AffineCompressed
	// challengeLen is the length of gnark's hash of the state before.
	challengeLen = 32
)

// A part of gnark's encoding is fixed bytes, or count values of size bytes. Compressed points carry a flag in their top bits that
// tells them from uncompressed ones, which would shift all that follows.
type part struct {
	literal     []byte
	count, size int
	raw         bool // bytes without a flag
}

func points(count, size int) part { return part{count: count, size: size} }

// layout1 is gnark's encoding of phase 1: three proofs of an update, the powers, the challenge.
func (c *Ceremony) layout1(contributed bool) []part {
	return append([]part{
		points(1, g1), points(1, g2), points(1, g1), points(1, g2), points(1, g1), points(1, g2),
		{literal: binary.BigEndian.AppendUint64(nil, uint64(c.domain))},
		points(1, g2), points(2*c.domain-2, g1), points(c.domain-1, g2), points(2*c.domain, g1),
	}, challenge(contributed)...)
}

// layout2 is gnark's encoding of phase 2 without Groth16 commitments: δ, the private wires and the quotient's powers over it, one
// proof of an update, the challenge.
func (c *Ceremony) layout2(contributed bool) []part {
	return append([]part{
		{literal: []byte{0, 0}}, // no commitments
		points(1, g1),
		{literal: binary.BigEndian.AppendUint32(nil, uint32(c.private))}, points(c.private, g1),
		{literal: binary.BigEndian.AppendUint32(nil, uint32(c.domain-1))}, points(c.domain-1, g1),
		points(1, g2),
		points(1, g1), points(1, g2),
	}, challenge(contributed)...)
}

// challenge is the end of both encodings; a phase's beginning has none.
func challenge(contributed bool) []part {
	if !contributed {
		return []part{{literal: []byte{0}}}
	}
	return []part{{literal: []byte{challengeLen}}, {count: challengeLen, size: 1, raw: true}}
}

func length(layout []part) (n int) {
	for _, p := range layout {
		n += len(p.literal) + p.count*p.size
	}
	return n
}

// matches reports whether gnark would read b exactly so, with no other length than the layout's.
func matches(b []byte, layout []part) bool {
	if len(b) != length(layout) {
		return false
	}
	for _, p := range layout {
		if !bytes.HasPrefix(b, p.literal) {
			return false
		}
		b = b[len(p.literal):]
		for range p.count {
			if !p.raw && b[0]>>6 == 0 {
				return false
			}
			b = b[p.size:]
		}
	}
	return true
}

func encode(s io.WriterTo) ([]byte, error) {
	var b bytes.Buffer
	if _, err := s.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("cannot encode state: %w", err)
	}
	return b.Bytes(), nil
}

// decode reads a state of the given layout into s: points on the curve and in their subgroups, in their one spelling.
func decode(b []byte, layout []part, s interface {
	io.ReaderFrom
	io.WriterTo
}) error {
	if !matches(b, layout) {
		return errors.New("its state is not laid out as this circuit's")
	}
	if _, err := s.ReadFrom(bytes.NewReader(b)); err != nil {
		return fmt.Errorf("its state holds no points: %w", err)
	}
	if again, err := encode(s); err != nil || !bytes.Equal(again, b) {
		return errors.New("its state is not in canonical form")
	}
	return nil
}

func (c *Ceremony) decode1(b []byte, contributed bool) (*mpcsetup.Phase1, error) {
	s := new(mpcsetup.Phase1)
	return s, decode(b, c.layout1(contributed), s)
}

func (c *Ceremony) decode2(b []byte, contributed bool) (*mpcsetup.Phase2, error) {
	s := new(mpcsetup.Phase2)
	return s, decode(b, c.layout2(contributed), s)
}
