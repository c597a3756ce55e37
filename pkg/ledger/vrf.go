package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519/extra/ecvrf"

	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// The verifiable random function is ECVRF-EDWARDS25519-SHA512-ELL2 (RFC 9381 §5.5).

// OrderAlpha is the VRF input of the seed that orders a day's leaves: it exists only once they are committed.
func OrderAlpha(leaves wire.Hash, day uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte("rawstone/alpha/order/v1"), leaves[:]...), day)
}

// DrawAlpha is the VRF input of a drop's seed.
func DrawAlpha(root wire.Hash, drop uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte("rawstone/alpha/draw/v1"), root[:]...), drop)
}

// Prove returns the validator's VRF proof on alpha; it is the same each time.
func (k *ValidatorKey) Prove(index uint8, alpha []byte) Proof {
	return Proof{Validator: index, Proof: [80]byte(ecvrf.Prove(ed25519.PrivateKey(k.vrf), alpha))}
}

// CheckVRFKey validates a public VRF key (RFC 9381 §5.4.5): a canonical point that is not of small order. Under such a key each input has
// one output, whoever made the key.
func CheckVRFKey(key [32]byte) error {
	var y curve.CompressedEdwardsY
	var p curve.EdwardsPoint
	if _, err := y.SetBytes(key[:]); err != nil || !y.IsCanonicalVartime() {
		return errors.New("VRF key is not a canonical point")
	}
	if _, err := p.SetCompressedY(&y); err != nil {
		return errors.New("VRF key is not a point")
	}
	if p.IsSmallOrder() {
		return errors.New("VRF key is a point of small order")
	}
	return nil
}

// VerifyProof checks a VRF proof and returns its output.
func VerifyProof(v terms.Validator, alpha []byte, p Proof) ([]byte, error) {
	if err := CheckVRFKey(v.VRF); err != nil {
		return nil, err
	}
	ok, out := ecvrf.Verify(v.VRF[:], p.Proof[:], alpha)
	if !ok {
		return nil, fmt.Errorf("VRF proof of validator %s does not match", v.Name)
	}
	return out, nil
}

// Seed checks the proofs on alpha, in ascending order of validators, and hashes their outputs into the seed.
func Seed(validators []terms.Validator, alpha []byte, proofs []Proof) (seed wire.Hash, err error) {
	h := sha256.New()
	h.Write([]byte("rawstone/seed/v1"))
	h.Write(alpha)
	for _, p := range proofs {
		if int(p.Validator) >= len(validators) {
			return seed, fmt.Errorf("VRF proof of validator %d of %d", p.Validator, len(validators))
		}
		out, err := VerifyProof(validators[p.Validator], alpha, p)
		if err != nil {
			return seed, err
		}
		h.Write([]byte{p.Validator})
		h.Write(out)
	}
	h.Sum(seed[:0])
	return seed, nil
}
