// Package wire is what leaves a car and what comes back: claims, usage reports and receipts, with the encoding, the signatures and the
// MQTT topics that every message of Rawstone shares. Package terms builds the program's documents from them.
//
// Everything is deterministic CBOR (RFC 8949 §4.2.1) with integer keys; wire.cddl beside this file is the grammar (RFC 8610).
// Bytes are verified and hashed as received and never re-encoded for anybody else. A decoder bounds its input before it
// allocates and refuses unknown versions, unknown or repeated keys, trailing bytes, tags, indefinite lengths and every form that
// does not re-encode to itself.
//
// Signatures are ECDSA P-256 over SHA-256 with low S, the one algorithm that ECUs, TPMs and servers all have. The package holds
// no private keys and decides nothing: whether a claim earns a credit is the collector's question.
package wire

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Version is the version of every message of this package; decoders refuse others.
const Version = 1

// A Hash is a SHA-256 digest.
type Hash [32]byte

// String is the hash in lower-case hexadecimal.
func (h Hash) String() string { return fmt.Sprintf("%x", h[:]) }

// IsZero reports whether h is all zeros, which stands for "none".
func (h Hash) IsZero() bool { return h == Hash{} }

// ID returns the identifier of a submission or document: the SHA-256 of its bytes as received.
func ID(b []byte) Hash { return sha256.Sum256(b) }

// A Codec encodes and decodes the package's form of CBOR. The zero value is not usable; NewCodec makes one.
type Codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

// NewCodec returns a codec with the package's limits: nesting 8, 256 array elements, 32 map pairs.
func NewCodec() *Codec {
	enc, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic("wire: " + err.Error()) // constant options: unreachable
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   8,
		MaxArrayElements:  256,
		MaxMapPairs:       32,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic("wire: " + err.Error())
	}
	return &Codec{enc: enc, dec: dec}
}

// Encode returns the deterministic encoding of v, one of the package's types.
func (c *Codec) Encode(v any) ([]byte, error) {
	b, err := c.enc.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cannot encode %T: %w", v, err)
	}
	return b, nil
}

// Decode reads b, at most limit bytes, into v, a pointer to one of the package's types. Input that does not re-encode to the same
// bytes is refused.
func (c *Codec) Decode(b []byte, v any, limit int) error {
	if len(b) > limit {
		return fmt.Errorf("cannot decode %T: %d bytes, at most %d allowed", v, len(b), limit)
	}
	if err := c.dec.Unmarshal(b, v); err != nil {
		return fmt.Errorf("cannot decode %T: %w", v, err)
	}
	again, err := c.enc.Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot decode %T: %w", v, err)
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("cannot decode %T: not in deterministic form (RFC 8949 §4.2.1)", v)
	}
	return nil
}

// A Message knows its own bounds.
type Message interface{ Validate() error }

// Unmarshal decodes b, at most limit bytes, into v and validates it.
func Unmarshal(b []byte, v Message, limit int) error {
	if err := NewCodec().Decode(b, v, limit); err != nil {
		return err
	}
	if err := v.Validate(); err != nil {
		return fmt.Errorf("cannot accept %T: %w", v, err)
	}
	return nil
}

// Marshal validates v and returns its deterministic encoding.
func Marshal(v Message) ([]byte, error) {
	if err := v.Validate(); err != nil {
		return nil, fmt.Errorf("cannot encode %T: %w", v, err)
	}
	return NewCodec().Encode(v)
}

// CheckVersion refuses a message of another version.
func CheckVersion(v uint8) error {
	if v != Version {
		return fmt.Errorf("version %d, want %d: update this program or the sender's", v, Version)
	}
	return nil
}

var errVehicleID = errors.New("vehicle id must be 1 to 32 characters of A-Z and 0-9")

// An Environment says what a deployment may do.
type Environment string

// The environments.
const (
	// Development allows short days, single-party setups and generated keys.
	Development Environment = "development"
	// Production refuses all of these.
	Production Environment = "production"
)
