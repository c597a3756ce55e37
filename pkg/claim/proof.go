package claim

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/consensys/gnark-crypto/ecc/bn254"
	groth16 "github.com/consensys/gnark/backend/groth16/bn254"

	"rawstone/pkg/wire"
)

// The parts of a proof: A and C in G1, B in G2, each compressed as gnark-crypto does it (big-endian x, two flag bits on top).
const (
	endA = bn254.SizeOfG1AffineCompressed
	endB = endA + bn254.SizeOfG2AffineCompressed
)

// encodeProof returns the 128 bytes of a proof without Groth16 commitments.
func encodeProof(p *groth16.Proof) (b wire.Proof) {
	a, bs, c := p.Ar.Bytes(), p.Bs.Bytes(), p.Krs.Bytes()
	copy(b[:endA], a[:])
	copy(b[endA:endB], bs[:])
	copy(b[endB:], c[:])
	return b
}

// decodeProof reads a proof whose three points are on the curve, in their subgroups and none of them infinity, and whose bytes
// are the one spelling of it. gnark's own decoder would trust a length in its input.
func decodeProof(b wire.Proof) (*groth16.Proof, error) {
	p, err := decodeOnCurve(b)
	if err != nil {
		return nil, err
	}
	if !p.Bs.IsInSubGroup() {
		return nil, errOutside
	}
	return p, nil
}

// errOutside refuses a B of the twist that is not in G2. On G1 the curve has no other subgroup.
var errOutside = errors.New("point B is outside its subgroup")

// decodeOnCurve is decodeProof but for B's subgroup, which a batch looks at more cheaply.
func decodeOnCurve(b wire.Proof) (*groth16.Proof, error) {
	var p groth16.Proof
	for _, part := range []struct {
		name  string
		bytes []byte
		point interface{ IsInfinity() bool }
	}{
		{"A", b[:endA], &p.Ar},
		{"B", b[endA:endB], &p.Bs},
		{"C", b[endB:], &p.Krs},
	} {
		// A spelling without compression is longer than what is left for the point.
		decoder := bn254.NewDecoder(bytes.NewReader(part.bytes), bn254.NoSubgroupChecks())
		if err := decoder.Decode(part.point); err != nil {
			return nil, fmt.Errorf("point %s: %w", part.name, err)
		}
		if part.point.IsInfinity() {
			return nil, fmt.Errorf("point %s is the point at infinity", part.name)
		}
	}
	if encodeProof(&p) != b {
		return nil, errors.New("its points are not in canonical form")
	}
	return &p, nil
}
