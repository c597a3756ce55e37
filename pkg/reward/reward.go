// Package reward holds the rules by which stones come to be and are shared: emission, the window of weights, the Merkle-sum tree of a
// day's leaves, the systematic draw, and the equity statement. Section 7 of the design is its specification.
//
// Everything is a pure function of integers and bytes, so that a collector, a validator, an auditor and an owner compute the same.
// Amounts are milli-stones, weights whole kilometres. The invariants, held by tests: what all drops issue plus the carry is S(h); the
// shares of a drop add up to exactly its units; each share is within one unit of K·w/W; the portions of an equity statement add up to the
// cent; the order of the input changes nothing; a drop without weight issues nothing. A sum beyond 64 bits is refused, never wrapped.
//
// The package reads no clock, no key and no file, and decides nothing about who may be credited.
package reward

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"rawstone/pkg/wire"
)

// WindowDays is the number of program days whose credits make an account's weight.
const WindowDays = 30

const (
	tagPseudonym = "rawstone/pseudonym/v1"
	tagOrder     = "rawstone/order/v1"
	tagSet       = "rawstone/leaves/v1"
)

// Window returns the effective days, both included, whose credits count on a program day: D−30 to D−1, from day 0. No day counts on
// day 0: then ok is false.
func Window(day uint32) (from, to uint32, ok bool) {
	if day == 0 {
		return 0, 0, false
	}
	return day - min(day, WindowDays), day - 1, true
}

// Counts reports whether a credit that takes effect on effective counts on day.
func Counts(day, effective uint32) bool {
	from, to, ok := Window(day)
	return ok && from <= effective && effective <= to
}

// Expired reports whether a credit that takes effect on effective counts neither on day nor on any later one.
func Expired(day, effective uint32) bool { return uint64(effective)+WindowDays < uint64(day) }

// Pseudonym returns the name under which an account stands among a day's leaves: HMAC-SHA-256 under the account's secret over a tag and
// the day (4 bytes, big-endian). Whoever lacks the secret cannot link two days.
func Pseudonym(secret [32]byte, day uint32) wire.Hash {
	m := hmac.New(sha256.New, secret[:])
	m.Write(binary.BigEndian.AppendUint32([]byte(tagPseudonym), day))
	return wire.Hash(m.Sum(nil))
}

func number(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
