// Package wire is what leaves a car and what comes back: claims, usage reports and receipts, with the encoding, the signatures and the
// MQTT topics that every message of Rawstone shares. Package terms builds the program's documents from them.
//
// Everything is in the deterministic CBOR of package codec, with integer keys; wire.cddl beside this file is the grammar (RFC 8610).
// Bytes are verified and hashed as received and never re-encoded for anybody else. A decoder bounds its input before it allocates and
// refuses unknown versions and values out of their bounds.
//
// Signatures are ECDSA P-256 over SHA-256 with low S, the one algorithm that ECUs, TPMs and servers all have. The package holds
// no private keys and decides nothing: whether a claim earns a credit is the collector's question.
package wire

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"rawstone/pkg/codec"
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

// A Message knows its own bounds.
type Message interface{ Validate() error }

// Unmarshal decodes b, at most limit bytes, into v and validates it.
func Unmarshal(b []byte, v Message, limit int) error {
	if err := codec.Decode(b, v, limit); err != nil {
		return err
	}
	if err := v.Validate(); err != nil {
		return fmt.Errorf("cannot accept %s: %w", codec.Name(v), err)
	}
	return nil
}

// Marshal validates v and returns its deterministic encoding.
func Marshal(v Message) ([]byte, error) {
	if err := v.Validate(); err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", codec.Name(v), err)
	}
	return codec.Encode(v)
}

// pad appends zeros to an encoded message up to n bytes, so that its size tells nothing of what it says.
func pad(b []byte, n int) ([]byte, error) {
	if len(b) > n {
		return nil, fmt.Errorf("cannot encode message: %d bytes, at most %d fit", len(b), n)
	}
	return append(b, make([]byte, n-len(b))...), nil
}

// unpad returns the message of a padded one and refuses padding that is not zeros: a message has one spelling.
func unpad(b []byte) ([]byte, error) {
	n, err := codec.First(b)
	if err != nil {
		return nil, err
	}
	for _, c := range b[n:] {
		if c != 0 {
			return nil, errors.New("cannot read message: its padding is not zeros")
		}
	}
	return b[:n], nil
}

// CheckVersion refuses a message of another version.
func CheckVersion(v uint8) error {
	if v != Version {
		return fmt.Errorf("version %d, want %d: update this program or the sender's", v, Version)
	}
	return nil
}

var errVehicleID = errors.New("vehicle id must be 1 to 32 characters of A-Z and 0-9, and not in the form of a VIN, 17 characters without I, O and Q: give the vehicle a name of its own")

// An Environment says what a deployment may do.
type Environment string

// The environments.
const (
	// Development allows short days, single-party setups and generated keys.
	Development Environment = "development"
	// Production refuses all of these.
	Production Environment = "production"
)
