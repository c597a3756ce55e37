// Package bitfield takes signals out of the data of a CAN frame. Where a signal's bits are and how they make a number is worked
// out once, so that taking them out is a shift, a mask and a sign. It refuses fields that do not lie within 64 bytes.
package bitfield

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Size is the number of bytes of the longest frame (CAN FD, ISO 11898-1); shorter data is followed by zeros.
const Size = 64

// A Type is how bits make a number.
type Type uint8

// The types. Binary32 and Binary64 (IEEE 754) are for fields of that many bits.
const (
	Unsigned Type = iota
	Signed        // two's complement
	Binary32
	Binary64
)

// A Field is where a signal's bits are: a window of eight bytes, read as one number in the signal's byte order, a shift and a
// mask.
type Field struct {
	// Mask has as many low bits as the field.
	Mask uint64
	sign uint64 // the sign bit, 0 when there is none
	// Need is the number of bytes a frame must have to hold the field.
	Need  uint8
	kind  kind
	base  uint8 // first byte of the window, at most 56
	shift uint8
	// wide is the type when the number is not simply the signed integer: unsigned of 64 bits or a float; else Signed.
	wide Type
}

type kind uint8

const (
	littleFirst kind = iota // in the first eight bytes, which a frame's signals share
	bigFirst
	little
	big
	littleWide // across nine bytes
	bigWide
)

// Locate works out the field of length bits, 1 to 64, at start. Bits are numbered as in a DBC file: bit 0 is the least
// significant of byte 0, bit 8 that of byte 1, and start is the field's least significant bit, or its most significant one
// with bigEndian. ok is false when the field does not lie within 64 bytes, or is a float of another length than its type's.
func Locate(start, length int, bigEndian bool, t Type) (f Field, ok bool) {
	const last = 8*Size - 1
	if length < 1 || length > 64 || start < 0 || start > last || t == Binary32 && length != 32 || t == Binary64 && length != 64 {
		return Field{}, false
	}
	first := start // as a little-endian file numbers bits, or counted from the most significant bit of byte 0
	if bigEndian {
		first = start/8*8 + 7 - start%8
	}
	end := first + length // the bit behind the field
	if end-1 > last {
		return Field{}, false
	}
	f = Field{kind: little, Need: uint8((end + 7) / 8), Mask: ^uint64(0) >> (64 - length), wide: t}
	switch {
	case t == Signed:
		f.sign = 1 << (length - 1)
	case t == Unsigned && length < 64:
		f.wide = Signed
	}
	if end > 64 {
		f.base = uint8(min(first/8, Size-8))
	} else {
		f.kind = littleFirst
	}
	low, high := first-8*int(f.base), end-8*int(f.base) // within the window
	if high > 64 {
		f.kind = littleWide
	}
	f.shift = uint8(low)
	if bigEndian {
		f.kind++
		if f.shift = uint8(64 - high); high > 64 {
			f.shift = uint8(72 - high)
		}
	}
	return f, true
}

// Words are the first eight bytes of data, little-endian and big-endian.
type Words [2]uint64

// Load returns the Words of data.
func Load(data *[Size]byte) Words {
	word := binary.LittleEndian.Uint64(data[:])
	return Words{word, bits.ReverseBytes64(word)}
}

// Raw returns the field's bits; words are Load(data).
func (f *Field) Raw(data *[Size]byte, words *Words) uint64 {
	if f.kind > bigFirst {
		return f.far(data)
	}
	return words[f.kind&1] >> (f.shift & 63) & f.Mask
}

// far is Raw for a field that does not lie within the first eight bytes.
func (f *Field) far(data *[Size]byte) uint64 {
	window := data[f.base:]
	word := binary.LittleEndian.Uint64(window)
	switch f.kind {
	case big:
		word = bits.ReverseBytes64(word) >> (f.shift & 63)
	case littleWide:
		word = word>>(f.shift&63) | uint64(window[8])<<(64-f.shift&63)
	case bigWide:
		word = bits.ReverseBytes64(word)<<(8-f.shift&63) | uint64(window[8])>>(f.shift&63)
	default:
		word >>= f.shift & 63
	}
	return word & f.Mask
}

// An Order is the byte order in which the first eight bytes make one word.
type Order bool

// Load returns the first eight bytes of data as a word.
func (o Order) Load(data *[Size]byte) uint64 {
	word := binary.LittleEndian.Uint64(data[:])
	if o {
		return bits.ReverseBytes64(word)
	}
	return word
}

// Near is a Field within the first eight bytes whose bits are an integer of 64 bits with a sign, as most are: they are the word of
// its Order, rotated left by Rotate, and Mask.
type Near struct {
	Mask   uint64
	Rotate uint8
}

// Near returns f as a Near and the order of the word that it is in; ok is false when it is none.
func (f *Field) Near() (n Near, o Order, ok bool) {
	return Near{f.Mask, -f.shift & 63}, f.kind&1 != 0, f.kind <= bigFirst && f.wide == Signed
}

// Number returns the number that the field's bits make.
func (f *Field) Number(raw uint64) (x float64) {
	if f.wide != Signed {
		return f.number(raw)
	}
	return float64(int64((raw ^ f.sign) - f.sign))
}

func (f *Field) number(raw uint64) float64 {
	switch f.wide {
	case Binary32:
		return float64(math.Float32frombits(uint32(raw)))
	case Binary64:
		return math.Float64frombits(raw)
	}
	return float64(raw)
}
