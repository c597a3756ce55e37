package sums

import (
	"encoding/binary"
	"math/big"
	"math/bits"
)

// size is the length of an encoded number in bytes.
const size = 16

// int128 is a number from −2¹²⁷ to 2¹²⁷ − 1 in two's complement. The zero value is 0.
type int128 struct{ hi, lo uint64 }

// of returns v.
func of(v int64) int128 { return int128{hi: uint64(v >> 63), lo: uint64(v)} }

// mul returns a·b, which always fits.
func mul(a, b int64) int128 {
	// The unsigned product of two's complements is too large by 2⁶⁴·b where a is negative and by 2⁶⁴·a where b is.
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	return int128{hi: hi - uint64(a>>63)&uint64(b) - uint64(b>>63)&uint64(a), lo: lo}
}

// add returns i + o modulo 2¹²⁸: the caller bounds what it adds.
func (i int128) add(o int128) int128 {
	lo, carry := bits.Add64(i.lo, o.lo, 0)
	return int128{hi: i.hi + o.hi + carry, lo: lo}
}

// big returns i.
func (i int128) big() *big.Int {
	b := new(big.Int).Lsh(big.NewInt(int64(i.hi)), 64)
	return b.Add(b, new(big.Int).SetUint64(i.lo))
}

// append appends i in size bytes, big-endian two's complement: one encoding per number.
func (i int128) append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, i.hi), i.lo)
}

// decode returns the number that the first size bytes of b encode. Every size bytes are a number.
func decode(b []byte) int128 {
	return int128{hi: binary.BigEndian.Uint64(b), lo: binary.BigEndian.Uint64(b[8:])}
}
