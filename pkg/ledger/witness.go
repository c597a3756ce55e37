package ledger

import (
	"crypto"
	"errors"
	"fmt"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	contextWitness = "rawstone/witness/v1"
	maxWitnessLen  = 4 << 10
)

// A Witness says who the program's validators are from a day on, in place of those before. The program root signs it. It is logged at least a
// program day ahead, so that nobody brings a key to a draw whose other outputs they know; the quorum stays the program's.
type Witness struct {
	Version uint8     `cbor:"0,keyasint"`
	Program wire.Hash `cbor:"1,keyasint"`
	// Serial rises with each change, from 1.
	Serial uint16 `cbor:"2,keyasint"`
	// FromDay is the first program day on which the validators give proofs and cosign.
	FromDay    uint32            `cbor:"3,keyasint"`
	Validators []terms.Validator `cbor:"4,keyasint"`
}

// Validate checks bounds.
func (w *Witness) Validate() error {
	if err := wire.CheckVersion(w.Version); err != nil {
		return err
	}
	if w.Serial == 0 || w.Program.IsZero() || w.FromDay == 0 || w.FromDay > terms.MaxDay {
		return errors.New("witness change lacks its program, a serial or a day within bounds")
	}
	return nil
}

// SealWitness signs a change with the program root's key.
func SealWitness(root crypto.Signer, w *Witness) ([]byte, error) {
	b, err := wire.Marshal(w)
	if err != nil {
		return nil, err
	}
	return wire.Seal(root, contextWitness, b)
}

// OpenWitness checks a signed change under the pinned root: that it belongs to the program, that its validators can meet the program's
// quorum and no two groups of them can, that no two of them are one party, and their keys (RFC 9381 §5.4.5).
func OpenWitness(root wire.PublicKey, p *terms.Program, program wire.Hash, b []byte) (*Witness, error) {
	payload, _, err := wire.Open(wire.KeySet{root}, contextWitness, b, maxWitnessLen)
	if err != nil {
		return nil, err
	}
	w := new(Witness)
	if err := wire.Unmarshal(payload, w, maxWitnessLen); err != nil {
		return nil, err
	}
	if w.Program != program {
		return nil, errors.New("cannot accept witness change: it belongs to another program")
	}
	after := *p
	after.Validators = w.Validators
	if err := after.Validate(); err != nil {
		return nil, fmt.Errorf("cannot accept witness change: %w", err)
	}
	if n := len(w.Validators); 2*int(p.Quorum) <= n {
		return nil, fmt.Errorf("cannot accept witness change: of %d validators two groups of %d could each make a block final; name at most %d", n, p.Quorum, 2*int(p.Quorum)-1)
	}
	for _, v := range w.Validators {
		if err := CheckVRFKey(v.VRF); err != nil {
			return nil, fmt.Errorf("cannot accept witness change: validator %s: %w", v.Name, err)
		}
	}
	return w, nil
}

// On returns the program with the validators of a program day: those of the last change that has begun by then, or its own. Changes are in
// the order of their serials.
func On(p *terms.Program, changes []*Witness, day uint32) *terms.Program {
	for i := len(changes) - 1; i >= 0; i-- {
		if changes[i].FromDay <= day {
			then := *p
			then.Validators = changes[i].Validators
			return &then
		}
	}
	return p
}
