package ledger

import (
	"crypto/sha256"

	"rawstone/pkg/wire"
)

// An ErasedKey is what is kept of an ECU key whose last binding's opening was destroyed, so that what it covers is not credited again: a binding
// that stands in the log at Since or after begins at or after Cut, and there is none of a revoked key.
type ErasedKey struct {
	Mark    wire.Hash `json:"mark"` // KeyMark
	Since   uint64    `json:"since"`
	Cut     uint64    `json:"cut"` // a sequence number
	Revoked bool      `json:"revoked,omitempty"`
}

// KeyMark returns what an ECU key is known by once its binding was erased. Who does not know the key cannot tell whose it is.
func KeyMark(id wire.KeyID) wire.Hash {
	return sha256.Sum256(append([]byte("rawstone/erased-key/v1"), id[:]...))
}

// Join returns what two erasures say of the same key: the later position and cut, and revoked when either says so.
func (k ErasedKey) Join(other ErasedKey) ErasedKey {
	k.Since, k.Cut, k.Revoked = max(k.Since, other.Since), max(k.Cut, other.Cut), k.Revoked || other.Revoked
	return k
}
