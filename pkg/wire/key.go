package wire

import (
	"crypto"
	"crypto/ecdsa"
	"fmt"

	"rawstone/pkg/key"
)

// Keys, signatures and signed documents are package key's.
type (
	// A PublicKey is a P-256 point in compressed SEC 1 form.
	PublicKey = key.PublicKey
	// A KeyID names a public key: the first 16 bytes of the SHA-256 of its compressed form.
	KeyID = key.KeyID
	// A Signature is an ECDSA P-256 signature over SHA-256: r and s, big-endian, 32 bytes each, s in the lower half of the order.
	Signature = key.Signature
	// KeySet holds the public keys that may sign one kind of document.
	KeySet = key.KeySet
)

// ErrNotSigned says that something is no signed document at all, such as one before it was signed.
var ErrNotSigned = key.ErrNotSigned

// NewPublicKey returns the wire form of a P-256 public key; other curves are refused.
func NewPublicKey(pub crypto.PublicKey) (PublicKey, error) { return key.NewPublicKey(pub) }

// Sign signs SHA-256(msg) with a P-256 key held by signer (a file, an HSM or a TPM).
func Sign(signer crypto.Signer, msg []byte) (Signature, error) { return key.Sign(signer, msg) }

// Verify checks sig over SHA-256(msg).
func Verify(pub *ecdsa.PublicKey, msg []byte, sig Signature) error { return key.Verify(pub, msg, sig) }

// Seal wraps payload in a COSE_Sign1 (RFC 9052 §4.2) whose external additional data is context, so that a signature over one type
// of message never serves for another.
func Seal(signer crypto.Signer, context string, payload []byte) ([]byte, error) {
	return key.Seal(signer, context, payload)
}

// Open checks a COSE_Sign1 made by Seal under one of keys and returns its payload and the signer's key id.
func Open(keys KeySet, context string, b []byte, limit int) (payload []byte, id KeyID, err error) {
	return key.Open(keys, context, b, limit)
}

// openPadded is Open for a message that is padded to n bytes.
func openPadded(keys KeySet, context string, b []byte, n int) ([]byte, error) {
	if len(b) != n {
		return nil, fmt.Errorf("cannot read %s: %d bytes, want %d", context, len(b), n)
	}
	text, err := unpad(b)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", context, err)
	}
	payload, _, err := Open(keys, context, text, n)
	return payload, err
}
