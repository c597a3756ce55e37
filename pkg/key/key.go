// Package key has the one kind of key and signature of Rawstone: ECDSA on P-256 with SHA-256, which HSMs and TPMs know, in one spelling each;
// and documents signed with it, as COSE_Sign1 (RFC 9052).
//
// A signature has s in the lower half of the order; every other spelling of a signature or a signed document is refused, for identifiers are
// hashes of bytes. What a signature is over names the type of the document, so that none serves for another. The package keeps no keys and
// knows no document.
package key

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/veraison/go-cose"
)

// A PublicKey is a P-256 point in compressed SEC 1 form.
type PublicKey [33]byte

// A KeyID names a public key: the first 16 bytes of the SHA-256 of its compressed form.
type KeyID [16]byte

// A Signature is an ECDSA P-256 signature over SHA-256: r and s, big-endian, 32 bytes each, s in the lower half of the order.
type Signature [64]byte

// ID returns the key's identifier.
func (p PublicKey) ID() (id KeyID) {
	h := sha256.Sum256(p[:])
	copy(id[:], h[:])
	return id
}

// String is the identifier in lower-case hexadecimal.
func (k KeyID) String() string { return hex.EncodeToString(k[:]) }

// NewPublicKey returns the wire form of a P-256 public key; other curves are refused.
func NewPublicKey(pub crypto.PublicKey) (p PublicKey, err error) {
	k, ok := pub.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P256() {
		return p, fmt.Errorf("cannot use public key: it is %T, want ECDSA on P-256", pub)
	}
	b, err := k.Bytes()
	if err != nil {
		return p, fmt.Errorf("cannot use public key: %w", err)
	}
	p[0] = 2 | b[64]&1
	copy(p[1:], b[1:33])
	return p, nil
}

// Key returns the point, refusing bytes that are not on the curve.
func (p PublicKey) Key() (*ecdsa.PublicKey, error) {
	x, y := elliptic.UnmarshalCompressed(elliptic.P256(), p[:])
	if x == nil {
		return nil, errors.New("cannot use public key: not a point of P-256 in compressed form")
	}
	uncompressed := make([]byte, 65)
	uncompressed[0] = 4
	x.FillBytes(uncompressed[1:33])
	y.FillBytes(uncompressed[33:])
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), uncompressed)
	if err != nil {
		return nil, fmt.Errorf("cannot use public key: %w", err)
	}
	return key, nil
}

// Sign signs SHA-256(msg) with a P-256 key held by signer (a file, an HSM or a TPM) and brings s to its lower half.
func Sign(signer crypto.Signer, msg []byte) (sig Signature, err error) {
	digest := sha256.Sum256(msg)
	der, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return sig, fmt.Errorf("cannot sign: %w", err)
	}
	var v struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) != 0 {
		return sig, errors.New("cannot sign: the key returned no ECDSA signature")
	}
	n := elliptic.P256().Params().N
	if v.R.Sign() <= 0 || v.S.Sign() <= 0 || v.R.Cmp(n) >= 0 || v.S.Cmp(n) >= 0 {
		return sig, errors.New("cannot sign: the key returned no P-256 signature")
	}
	if v.S.Cmp(new(big.Int).Rsh(n, 1)) > 0 {
		v.S.Sub(n, v.S)
	}
	v.R.FillBytes(sig[:32])
	v.S.FillBytes(sig[32:])
	return sig, nil
}

// Verify checks sig over SHA-256(msg). A signature with s in the upper half is refused: it would be a second valid form of the
// same message.
func Verify(pub *ecdsa.PublicKey, msg []byte, sig Signature) error {
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	if s.Cmp(new(big.Int).Rsh(elliptic.P256().Params().N, 1)) > 0 {
		return errors.New("cannot verify signature: s is in the upper half of the order")
	}
	digest := sha256.Sum256(msg)
	if !ecdsa.Verify(pub, digest[:], r, s) {
		return errors.New("cannot verify signature: it does not match")
	}
	return nil
}

// KeySet holds the public keys that may sign one kind of document.
type KeySet []PublicKey

func (s KeySet) find(id KeyID) (*ecdsa.PublicKey, error) {
	for _, p := range s {
		if p.ID() == id {
			return p.Key()
		}
	}
	return nil, fmt.Errorf("signed by key %s, which may not sign this", id)
}

// coseSigner adapts Sign to COSE.
type coseSigner struct{ key crypto.Signer }

func (coseSigner) Algorithm() cose.Algorithm { return cose.AlgorithmES256 }

func (s coseSigner) Sign(_ io.Reader, content []byte) ([]byte, error) {
	sig, err := Sign(s.key, content)
	return sig[:], err
}

// coseVerifier adapts Verify to COSE.
type coseVerifier struct{ key *ecdsa.PublicKey }

func (coseVerifier) Algorithm() cose.Algorithm { return cose.AlgorithmES256 }

func (v coseVerifier) Verify(content, signature []byte) error {
	if len(signature) != len(Signature{}) {
		return fmt.Errorf("cannot verify signature: %d bytes, want 64", len(signature))
	}
	return Verify(v.key, content, Signature(signature))
}

// Seal wraps payload in a COSE_Sign1 (RFC 9052 §4.2) whose external additional data is context, so that a signature over one type
// of message never serves for another.
func Seal(signer crypto.Signer, context string, payload []byte) ([]byte, error) {
	pub, err := NewPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	m := newSign1(pub.ID(), payload)
	if err := m.Sign(nil, []byte(context), coseSigner{signer}); err != nil {
		return nil, fmt.Errorf("cannot sign %s: %w", context, err)
	}
	b, err := m.MarshalCBOR()
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", context, err)
	}
	return b, nil
}

func newSign1(id KeyID, payload []byte) *cose.Sign1Message {
	m := cose.NewSign1Message()
	m.Headers.Protected.SetAlgorithm(cose.AlgorithmES256)
	m.Headers.Protected[cose.HeaderLabelKeyID] = id[:]
	m.Payload = payload
	return m
}

// ErrNotSigned says that something is no signed document at all, such as one before it was signed.
var ErrNotSigned = errors.New("it is not a signed document")

// Open checks a COSE_Sign1 made by Seal under one of keys and returns its payload and the signer's key id.
func Open(keys KeySet, context string, b []byte, limit int) (payload []byte, id KeyID, err error) {
	if len(b) > limit {
		return nil, id, fmt.Errorf("cannot read %s: %d bytes, at most %d allowed", context, len(b), limit)
	}
	if len(b) == 0 || b[0] != 0xd2 { // CBOR's tag 18, with which a COSE_Sign1 begins (RFC 9052 §4.2)
		return nil, id, fmt.Errorf("cannot read %s: %w", context, ErrNotSigned)
	}
	var m cose.Sign1Message
	if err := m.UnmarshalCBOR(b); err != nil {
		return nil, id, fmt.Errorf("cannot read %s: %w", context, err)
	}
	kid, ok := m.Headers.Protected[cose.HeaderLabelKeyID].([]byte)
	if !ok || len(kid) != len(id) {
		return nil, id, fmt.Errorf("cannot read %s: the protected header names no 16-byte key id", context)
	}
	id = KeyID(kid)
	// Rebuilding from the parts that count refuses extra headers and every other spelling of the same message.
	again := newSign1(id, m.Payload)
	again.Signature = m.Signature
	if c, err := again.MarshalCBOR(); err != nil || !bytes.Equal(c, b) {
		return nil, id, fmt.Errorf("cannot read %s: not in the one accepted form", context)
	}
	key, err := keys.find(id)
	if err != nil {
		return nil, id, fmt.Errorf("cannot accept %s: %w", context, err)
	}
	if err := m.Verify([]byte(context), coseVerifier{key}); err != nil {
		return nil, id, fmt.Errorf("cannot accept %s: %w", context, err)
	}
	return m.Payload, id, nil
}
