// Package can holds the one value that everything below the signal level talks about, the CAN frame, and the text form in
// which captures keep it (`candump -L`, plain or gzip).
//
// A Frame carries frame time: the moment at which the frame was on its bus, as the capture, the kernel or the player of a
// capture says it. Everything that judges physics (speed bounds, rates, minutes) reads frame time and never the host's clock,
// so that a drive replayed at any speed is judged alike.
//
// The package refuses to interpret data bytes: that is dbc's work. It opens no sockets: that is link's.
package can

import "fmt"

// ID is a CAN identifier with the SocketCAN flag for the extended format in bit 31, so that the standard 0x7E8 and the
// extended 0x000007E8 are different keys.
type ID uint32

// Extended marks a 29-bit identifier (CAN_EFF_FLAG of linux/can.h).
const Extended ID = 1 << 31

const (
	// MaxStandard is the largest 11-bit identifier.
	MaxStandard ID = 0x7FF
	// MaxExtended is the largest 29-bit identifier, without the flag.
	MaxExtended ID = 0x1FFFFFFF
)

// IsExtended reports whether id is a 29-bit identifier.
func (id ID) IsExtended() bool { return id&Extended != 0 }

// Raw returns the identifier's bits without the flag.
func (id ID) Raw() uint32 { return uint32(id &^ Extended) }

// Valid reports whether the identifier fits its format.
func (id ID) Valid() bool {
	if id.IsExtended() {
		return id&^Extended <= MaxExtended
	}
	return id <= MaxStandard
}

// String is candump's form: three hex digits for a standard identifier, eight for an extended one.
func (id ID) String() string {
	if id.IsExtended() {
		return fmt.Sprintf("%08X", id.Raw())
	}
	return fmt.Sprintf("%03X", id.Raw())
}

// Flags says what kind of frame it is.
type Flags uint8

// The flags of a frame.
const (
	// Remote is a remote transmission request: it has a length and no data.
	Remote Flags = 1 << iota
	// FD is a CAN FD frame: up to 64 bytes.
	FD
	// BitRateSwitch (FD only): the data phase ran at the higher bit rate.
	BitRateSwitch
	// ErrorState (FD only): the sender is error passive.
	ErrorState
	// Error is an error frame of the controller, not traffic of a node.
	Error
)

// MaxData is the number of data bytes of the largest frame (CAN FD, ISO 11898-1).
const MaxData = 64

// A Frame is one frame on one bus.
type Frame struct {
	// Time is frame time in nanoseconds since the Unix epoch.
	Time int64
	// ID is the identifier.
	ID ID
	// Bus is the index of the bus in its source's list of names.
	Bus uint8
	// Flags is the kind.
	Flags Flags
	// Len is the number of valid bytes in Data, 0 to 8, or to 64 with FD.
	Len uint8
	// Data holds the payload; bytes from Len on are zero.
	Data [MaxData]byte
}

// Payload returns the valid data bytes; they share the frame's memory.
func (f *Frame) Payload() []byte { return f.Data[:f.Len] }

// SetPayload copies p into the frame and sets its length; it reports whether p fits.
func (f *Frame) SetPayload(p []byte) bool {
	limit := 8
	if f.Flags&FD != 0 {
		limit = MaxData
	}
	if len(p) > limit {
		return false
	}
	f.Data = [MaxData]byte{}
	f.Len = uint8(copy(f.Data[:], p))
	return true
}
