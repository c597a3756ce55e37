package ledger

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"rawstone/pkg/codec"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A Cosignature is a validator's Ed25519 signature (RFC 8032) over a payload's hash, its type and the program.
type Cosignature struct {
	_ struct{} `cbor:",toarray"`
	// Validator is the index into the program's validators.
	Validator uint8
	Signature [64]byte
}

// A Sealed is the body of an entry of type leaves, day or block: the payload, and the cosignatures that make it final.
type Sealed struct {
	Payload []byte `cbor:"0,keyasint"`
	// Cosignatures ascend by validator, each at most once.
	Cosignatures []Cosignature `cbor:"1,keyasint"`
}

// Encode returns the body.
func (s *Sealed) Encode() ([]byte, error) { return codec.Encode(s) }

// Sealed reads the body of an entry of type leaves, day or block.
func (e *Entry) Sealed() (*Sealed, error) {
	if e.Type < TypeLeaves || e.Type > TypeBlock {
		return nil, fmt.Errorf("cannot read entry: type %d has no cosignatures", e.Type)
	}
	var s Sealed
	return &s, e.DecodeBody(e.Type, &s)
}

// cosigned is what a cosignature is over. The program keeps a key that serves two programs from speaking for one in the other.
func cosigned(program wire.Hash, t Type, payload []byte) []byte {
	h := PayloadHash(t, payload)
	return append(append([]byte("rawstone/cosignature/v1/"+t.tag()), program[:]...), h[:]...)
}

// VerifyCosignature checks one cosignature.
func VerifyCosignature(p *terms.Program, program wire.Hash, t Type, payload []byte, c Cosignature) error {
	if int(c.Validator) >= len(p.Validators) {
		return fmt.Errorf("cosigned by validator %d of %d", c.Validator, len(p.Validators))
	}
	v := p.Validators[c.Validator]
	if !ed25519.Verify(v.Key[:], cosigned(program, t, payload), c.Signature[:]) {
		return fmt.Errorf("cosignature of validator %s does not match", v.Name)
	}
	return nil
}

// VerifyQuorum checks that at least the program's quorum of different validators cosigned, and that no cosignature is false.
func VerifyQuorum(p *terms.Program, program wire.Hash, t Type, s *Sealed) error {
	for i, c := range s.Cosignatures {
		if i > 0 && c.Validator <= s.Cosignatures[i-1].Validator {
			return fmt.Errorf("cosignatures are not in ascending order of validators")
		}
		if err := VerifyCosignature(p, program, t, s.Payload, c); err != nil {
			return err
		}
	}
	if len(s.Cosignatures) < int(p.Quorum) {
		return fmt.Errorf("cosigned by %d validators, should be at least %d", len(s.Cosignatures), p.Quorum)
	}
	return nil
}

// OpenBlock returns the block in the body of an entry of TypeBlock, once the program's quorum stands for it. A body that is none, a quorum
// that is not there and another program's block are refused.
func OpenBlock(p *terms.Program, program wire.Hash, body []byte) (*Block, error) {
	var sealed Sealed
	if err := codec.Decode(body, &sealed, MaxBodyLen); err != nil {
		return nil, err
	}
	if err := VerifyQuorum(p, program, TypeBlock, &sealed); err != nil {
		return nil, err
	}
	b, err := DecodeBlock(sealed.Payload)
	if err != nil {
		return nil, err
	}
	if b.Program != program {
		return nil, errors.New("its block belongs to another program")
	}
	return b, nil
}
