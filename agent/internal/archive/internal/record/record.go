// Package record is the form of the archive's records on flash: their keys, their checksums, and what is in those of receipts and
// salts. It refuses a record that does not match its checksum, is not in the one form that it writes, or lies under another key.
package record

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

const (
	receiptVersion = 1
	// maxFalse bounds what is kept of a proof that did not hold, in bytes: pkg/inclusion.MaxLen.
	maxFalse         = 16 << 10
	maxReceiptRecord = wire.ReceiptLen + maxFalse + 2048
	// signedTag begins a signed receipt, CBOR's tag of a COSE_Sign1 (RFC 9052 §4.2): a record of the first agents is nothing else.
	signedTag = 0xd2
)

// Prefix returns the prefix of one kind of record of an ECU key.
func Prefix(kind string, ecu wire.KeyID) []byte { return append([]byte(kind), ecu[:]...) }

// Key returns the key of the record of a snapshot number.
func Key(kind string, ecu wire.KeyID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(Prefix(kind, ecu), seq)
}

// WithSum puts a CRC-32C before a record.
func WithSum(body []byte) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return append(b, body...)
}

// CheckSum returns the record that WithSum was given.
func CheckSum(b []byte) ([]byte, error) {
	if len(b) < 4 || crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b) {
		return nil, errors.New("record does not match its checksum")
	}
	return b[4:], nil
}

// A Salt stands for the salt of a snapshot that is kept no more: the salt itself would give the counters back, with the commitment that
// the collector has.
type Salt [16]byte

// HashSalt returns what stands for a salt.
func HashSalt(salt wire.Salt) Salt {
	h := sha256.Sum256(append([]byte("rawstone/salt/v1"), salt[:]...))
	return Salt(h[:])
}

// Decode reads a record into s.
func (s *Salt) Decode(b []byte) error {
	body, err := CheckSum(b)
	if err == nil && len(body) != len(s) {
		err = errors.New("hash of a salt has another length")
	}
	copy(s[:], body)
	return err
}

// A Receipt is the collector's signed word that it accepted a claim. It is kept until a proof holds that the log has its credits.
type Receipt struct {
	// ECU is the key of the claim's snapshots, Seq the number of the one that it ends with, Claim its identifier.
	ECU   wire.KeyID
	Seq   uint64
	Claim wire.Hash
	// Signed is the receipt's bytes.
	Signed []byte
	// Came is when it came, in whole seconds; the beginning of Unix time where that is not known.
	Came time.Time
	// Kinds are those of the policies of its credits, in their order; empty for one that was not known.
	Kinds []string
	// False is the first proof of inclusion that came for it and did not hold, at most 16 KiB of it; evidence.
	False []byte
}

type receiptRecord struct {
	Version uint8    `cbor:"0,keyasint"`
	Signed  []byte   `cbor:"1,keyasint"`
	Came    int64    `cbor:"2,keyasint"`
	Kinds   []string `cbor:"3,keyasint,omitempty"`
	False   []byte   `cbor:"4,keyasint,omitempty"`
}

// Key returns the receipt's key among those of a kind.
func (r *Receipt) Key(kind string) []byte { return append(Key(kind, r.ECU, r.Seq), r.Claim[:]...) }

// ReadKey reads what is behind the kind in a key, and reports whether it is a receipt's.
func (r *Receipt) ReadKey(k []byte) bool {
	n := len(r.ECU)
	if len(k) != n+8+len(r.Claim) {
		return false
	}
	r.ECU, r.Seq, r.Claim = wire.KeyID(k[:n]), binary.BigEndian.Uint64(k[n:]), wire.Hash(k[n+8:])
	return true
}

// Encode returns the record.
func (r *Receipt) Encode() ([]byte, error) {
	b, err := codec.Encode(receiptRecord{receiptVersion, r.Signed, r.Came.Unix(), r.Kinds, r.False[:min(len(r.False), maxFalse)]})
	return WithSum(b), err
}

// Decode reads a record into r, which keeps its key and has no part of b.
func (r *Receipt) Decode(b []byte) error {
	body, err := CheckSum(append([]byte(nil), b...))
	if err != nil {
		return err
	}
	if len(body) > 0 && body[0] == signedTag {
		r.Signed, r.Came = body, time.Unix(0, 0).UTC()
		return nil
	}
	var v receiptRecord
	if err := codec.Decode(body, &v, maxReceiptRecord); err != nil {
		return err
	}
	if v.Version != receiptVersion {
		return fmt.Errorf("version %d, want %d", v.Version, receiptVersion)
	}
	r.Signed, r.Came, r.Kinds, r.False = v.Signed, time.Unix(v.Came, 0).UTC(), v.Kinds, v.False
	return nil
}
