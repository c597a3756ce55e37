// Package charge holds what one release cost as a record of 105 bytes, each bound to the one before by a hash.
//
// Invariants: a record decodes only where its own hash holds, and encodes to the same bytes; the hash stands for the whole chain up to
// the charge. The zero Charge is the chain's beginning, before the first; it is not a record. The package refuses records of other
// versions and sizes. Whether charges follow each other is the reader's to check.
package charge

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrCorrupt: records or files were damaged, truncated or exchanged.
var ErrCorrupt = errors.New("privacy budget ledger is corrupt")

// Corrupt wraps ErrCorrupt with what was found and what follows from it.
func Corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s; what was spent is unknown, so no report may be drawn until the vehicle is enrolled anew",
		ErrCorrupt, fmt.Sprintf(format, args...))
}

const domain = "rawstone/budget/charge/v1\x00"

// Version is the first byte of every record of the ledger.
const Version = 1

const (
	// bodySize is version, index, epoch, ε, δ, nano-μ² and the previous hash.
	bodySize = 1 + 5*8 + sha256.Size
	// Size of a record in bytes: a body and its hash.
	Size = bodySize + sha256.Size
)

// Charge is one link of the chain.
type Charge struct {
	// Index counts from 1.
	Index, Epoch uint64
	// MicroEpsilon is ε in millionths, PicoDelta δ in 10⁻¹², and Nano what both cost in 10⁻⁹ μ².
	MicroEpsilon, PicoDelta, Nano int64
	Prev, Hash                    [sha256.Size]byte
}

// Follow returns c as the charge after last, with its index and hashes.
func (c Charge) Follow(last Charge) Charge {
	c.Index, c.Prev = last.Index+1, last.Hash
	c.Hash = c.digest()
	return c
}

func (c Charge) body() []byte {
	b := make([]byte, 0, Size)
	b = append(b, Version)
	b = binary.BigEndian.AppendUint64(b, c.Index)
	b = binary.BigEndian.AppendUint64(b, c.Epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(c.MicroEpsilon))
	b = binary.BigEndian.AppendUint64(b, uint64(c.PicoDelta))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Nano))
	return append(b, c.Prev[:]...)
}

func (c Charge) digest() [sha256.Size]byte { return Digest(domain, c.body()) }

// Encode returns the record.
func (c Charge) Encode() []byte { return append(c.body(), c.Hash[:]...) }

// Decode reads a record and checks its own hash.
func Decode(b []byte) (Charge, error) {
	if len(b) != Size {
		return Charge{}, fmt.Errorf("a record of %d bytes, want %d", len(b), Size)
	}
	if b[0] != Version {
		return Charge{}, fmt.Errorf("a record of version %d, want %d", b[0], Version)
	}
	c := Charge{
		Index:        binary.BigEndian.Uint64(b[1:]),
		Epoch:        binary.BigEndian.Uint64(b[9:]),
		MicroEpsilon: int64(binary.BigEndian.Uint64(b[17:])),
		PicoDelta:    int64(binary.BigEndian.Uint64(b[25:])),
		Nano:         int64(binary.BigEndian.Uint64(b[33:])),
		Prev:         [sha256.Size]byte(b[41:bodySize]),
		Hash:         [sha256.Size]byte(b[bodySize:]),
	}
	if c.digest() != c.Hash {
		return Charge{}, errors.New("a record that does not match its hash")
	}
	return c, nil
}

// Digest returns the SHA-256 of a domain and what is hashed in it.
func Digest(domain string, b []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(domain))
	h.Write(b)
	return [sha256.Size]byte(h.Sum(nil))
}
