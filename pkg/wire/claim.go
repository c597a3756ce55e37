package wire

import (
	"errors"
	"fmt"
)

const (
	// MaxClaimProofs is the number of proofs that one claim may carry.
	MaxClaimProofs = 8
	// MaxClaimLen bounds a claim in bytes: 420 with one proof, 140 for each further one.
	MaxClaimLen = 420 + claimStep*(MaxClaimProofs-1)
	claimStep   = 140
)

// A Proof is a Groth16 proof on BN254: A, B and C compressed, 32+64+32 bytes.
type Proof [128]byte

// A ClaimProof says that the span of its claim reaches a tier of a policy.
type ClaimProof struct {
	// Policy is the policy's serial.
	Policy uint16 `cbor:"0,keyasint"`
	// Tier is the index of the tier in the policy, from 0.
	Tier uint8 `cbor:"1,keyasint"`
	// Proof is the proof of the tier's rows.
	Proof Proof `cbor:"2,keyasint"`
}

// A Claim says that an ECU's counters grew, between two signed snapshots, by at least what each tier asks. It carries no
// signature of its own: the snapshots' authenticate it.
type Claim struct {
	Version uint8 `cbor:"0,keyasint"`
	// ECU names the key that signed both snapshots.
	ECU KeyID `cbor:"1,keyasint"`
	// From is the begin of the span: the collector's head.
	From Origin `cbor:"2,keyasint"`
	// To is the end of the span and the next head.
	To Snapshot `cbor:"3,keyasint"`
	// Proofs holds 1 to MaxClaimProofs proofs, at most one a policy, serials ascending.
	Proofs []ClaimProof `cbor:"4,keyasint"`
	// Forfeit gives up what lies between the head and From, because its opening is lost.
	Forfeit bool `cbor:"5,keyasint,omitempty"`
}

// Validate checks bounds and order.
func (c *Claim) Validate() error {
	if err := CheckVersion(c.Version); err != nil {
		return err
	}
	if err := c.From.validate(); err != nil {
		return err
	}
	if c.To.Seq <= c.From.Seq {
		return errors.New("claim ends at or before the snapshot it begins with")
	}
	if _, whole := c.From.Snapshot(); whole && c.To.Day <= c.From.Day {
		return errors.New("claim ends on or before the day it begins on")
	} else if c.Forfeit && !whole {
		return errors.New("claim forfeits but does not carry the snapshot it begins with")
	}
	if n := len(c.Proofs); n < 1 || n > MaxClaimProofs {
		return fmt.Errorf("claim has %d proofs, want 1 to %d", n, MaxClaimProofs)
	}
	for i := 1; i < len(c.Proofs); i++ {
		if c.Proofs[i].Policy <= c.Proofs[i-1].Policy {
			return errors.New("claim's policies are not in ascending order")
		}
	}
	return nil
}

// ClaimLen returns the size in bytes of the claims of a car whose driver lets them tell of n kinds, 1 to MaxClaimProofs: whether a span
// earned all of these or one does not show in it.
func ClaimLen(n int) int { return MaxClaimLen - claimStep*(MaxClaimProofs-n) }

// Encode validates the claim and returns its bytes, whose SHA-256 is its identifier: padded to the size of as many kinds as it has proofs.
func (c *Claim) Encode() ([]byte, error) { return c.EncodeFor(len(c.Proofs)) }

// EncodeFor is Encode with the size of claims of n kinds, at least as many as the claim has proofs.
func (c *Claim) EncodeFor(n int) ([]byte, error) {
	b, err := Marshal(c)
	if err != nil {
		return nil, err
	}
	if n < len(c.Proofs) || n > MaxClaimProofs {
		return nil, fmt.Errorf("cannot encode claim: the size of %d kinds for %d proofs", n, len(c.Proofs))
	}
	return pad(b, ClaimLen(n))
}

// DecodeClaim reads a claim of one of the sizes that ClaimLen gives.
func DecodeClaim(b []byte) (*Claim, error) {
	if len(b) < ClaimLen(1) || len(b) > MaxClaimLen || (MaxClaimLen-len(b))%claimStep != 0 {
		return nil, fmt.Errorf("cannot read claim: %d bytes is no claim's size", len(b))
	}
	text, err := unpad(b)
	if err != nil {
		return nil, err
	}
	var c Claim
	if err := Unmarshal(text, &c, MaxClaimLen); err != nil {
		return nil, err
	}
	if len(b) < ClaimLen(len(c.Proofs)) {
		return nil, fmt.Errorf("cannot read claim: %d proofs in the size of fewer", len(c.Proofs))
	}
	return &c, nil
}
