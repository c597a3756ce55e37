package claim

import (
	"encoding/binary"
	"fmt"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr/poseidon2"

	"rawstone/pkg/wire"
)

// tagText, read as a big-endian integer, is the first element under the hash. Poseidon2 separates neither uses nor lengths by
// itself: the tag does the one, and every commitment hashing three elements the other.
const tagText = "rawstone/claim/v1"

// Commit returns the commitment that hides o: Poseidon2(tag, packed counters, salt) over BN254's scalar field, gnark-crypto's
// default parameters (width 2, 6 full and 50 partial rounds, x⁵) in Merkle–Damgård mode from a state of zero.
//
// The packed counters are the integer whose base-2³² digits they are, odometer first; at 224 bits it stays below the modulus, so
// that packing is injective as long as every counter fits 32 bits, which the circuit proves. The salt is its 31 bytes read as a
// big-endian integer. The circuit does not bound it: two openings of one commitment are a collision of the hash whatever their
// salts, and one with a salt above 2²⁴⁸ proves nothing about other counters.
func Commit(o wire.Opening) wire.Commitment {
	h := poseidon2.NewMerkleDamgardHasher()
	for _, e := range []fr.Element{tag(), pack(o.Counters), element(o.Salt[:])} {
		b := e.Bytes()
		if _, err := h.Write(b[:]); err != nil {
			panic(fmt.Sprintf("claim: hash refuses a canonical element: %v", err)) // unreachable
		}
	}
	return wire.Commitment(h.Sum(nil))
}

func tag() fr.Element { return element([]byte(tagText)) }

func pack(c wire.Counters) fr.Element {
	var b [4 * wire.NumCounters]byte
	for j, v := range c {
		binary.BigEndian.PutUint32(b[4*j:], v)
	}
	return element(b[:])
}

// element reads at most 31 bytes as a big-endian integer.
func element(b []byte) (e fr.Element) {
	e.SetBytes(b)
	return e
}
