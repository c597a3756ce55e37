// Package dbc reads DBC files (Vector's CAN database text) and compiles the signals somebody wants out of them into a plan
// that decodes frames without allocating.
//
// The parser is line tolerant: real DBC files are written by many tools and by hand, and one bad line must not cost the car
// the rest of the file. Parse therefore never fails: what cannot be understood is left out, alone, and named in a Warning.
// A plan is the opposite: Compile refuses, naming every signal it cannot decode for certain, because a wrong signal is worse
// than none.
//
// Decoding never clamps and never guesses: a reading carries the raw bits and the physical value as they were on the bus, and
// beside them whether the sender meant them to be used (Value.Available).
//
// What is understood: BO_, SG_ with both byte orders, signs, simple (M, m0) and extended (m0M, SG_MUL_VAL_) multiplexing,
// SIG_VALTYPE_, VAL_ and VAL_TABLE_. Everything else, attributes and comments included, is skipped. VFrameFormat is skipped
// too: whether an identifier is extended stands in BO_, and a frame says itself whether it is CAN FD.
package dbc

import (
	"fmt"

	"rawstone/pkg/can"
)

// The bounds of a file. What is beyond them is left out with a Warning.
const (
	// MaxFile is the largest file, in bytes.
	MaxFile = 16 << 20
	// MaxMessages is the largest number of messages.
	MaxMessages = 1 << 14
	// MaxSignals is the largest number of signals of all messages together.
	MaxSignals = 1 << 17
	// MaxValues is the largest number of entries of all value tables together.
	MaxValues = 1 << 18

	maxReferences = 1 << 18 // lines that refer to a signal
	maxSameID     = 8       // messages that share one identifier
	maxRanges     = 256     // ranges of one SG_MUL_VAL_ line
	maxWarnings   = 1000    // further ones are counted in a last one
	maxLength     = 1 << 16 // declared lengths and places are cut to this, which is far above what can be decoded
)

// A File is what a DBC file says.
type File struct {
	// Messages are in the order of their BO_ lines.
	Messages []*Message
}

// A Message is the layout of the frames with one identifier.
type Message struct {
	// ID is the identifier, with can.Extended for 29 bits.
	ID   can.ID
	Name string
	// Length is the declared length in bytes. Above 8 it is CAN FD or, above 64, the transport protocol's.
	Length int
	// Signals are in the order of their SG_ lines; names are unique.
	Signals []*Signal
}

// A Signal is a bit field of a message and its meaning: physical = raw * Scale + Offset.
type Signal struct {
	Name string
	// Start is the start bit as the file numbers it: bit 0 is the least significant of byte 0, bit 8 of byte 1. It is the
	// field's least significant bit, or with BigEndian its most significant one.
	Start int
	// Length is the number of bits, 1 to 64.
	Length int
	// BigEndian is Motorola byte order (@0).
	BigEndian bool
	// Signed is two's complement.
	Signed bool
	// Float is IEEE 754: binary32 when Length is 32, binary64 when it is 64.
	Float         bool
	Scale, Offset float64
	// Min and Max are the declared range of physical values. There is none unless Max > Min.
	Min, Max float64
	Unit     string
	// Multiplexor says that other signals depend on this one's value.
	Multiplexor bool
	// Mux says when the signal is present; nil means always.
	Mux *Mux
	// Values names raw values: as signed numbers when Signed, else their bits. Signals may share one table.
	Values map[int64]string
}

// A Mux is the condition under which a multiplexed signal is present.
type Mux struct {
	// Switch is the name of the deciding signal of the same message. It is empty when the file does not say which it is.
	Switch string
	// Ranges are the raw values of Switch with which the signal is present.
	Ranges []Range
}

// A Range is a range of raw values, both ends included.
type Range struct{ From, To uint64 }

// A Warning says what a line of a file cost.
type Warning struct {
	// File is the name given to Parse.
	File string
	// Line counts from 1; 0 is the file as a whole.
	Line int
	// Reason is a sentence.
	Reason string
}

// String returns "file:line: reason".
func (w Warning) String() string { return fmt.Sprintf("%s:%d: %s", w.File, w.Line, w.Reason) }
