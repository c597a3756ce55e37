// Package j1939 reads the messages of trucks and buses: identifiers, parameters and the transport of messages longer than a
// frame, after SAE J1939-21 and J1939-71. Byte and packet order on the bus is least significant first.
//
// Two control units may send the same parameter group and disagree; a message therefore always carries its source address,
// and nothing here merges two sources.
//
// The package opens no sockets and starts no goroutines. It refuses address claiming (J1939-81), the extended transport of more
// than 1785 bytes and J1939-22 over CAN FD.
package j1939

import (
	"fmt"

	"rawstone/pkg/can"
)

// PGN is a parameter group number, 18 bits: extended data page, data page, PDU format and, from format F0 on, the group
// extension (J1939-21, 5.1.2).
type PGN uint32

// MaxPGN is the largest group number.
const MaxPGN PGN = 0x3FFFF

// The groups of the protocol itself.
const (
	PGNAcknowledgement PGN = 0x0E800 // 59392
	PGNRequest         PGN = 0x0EA00 // 59904
	PGNTransportData   PGN = 0x0EB00 // 60160, TP.DT
	PGNTransport       PGN = 0x0EC00 // 60416, TP.CM
)

const (
	// Global is the destination of what is for everybody.
	Global uint8 = 0xFF
	// NoAddress is the source of a unit without an address (null address).
	NoAddress uint8 = 0xFE
	// MaxAddress is the largest address of a unit.
	MaxAddress uint8 = 0xFD
	// MaxPriority is the lowest urgency; 0 is the highest.
	MaxPriority uint8 = 7
	// DefaultPriority is that of requests and acknowledgements (J1939-21, 5.4).
	DefaultPriority uint8 = 6
)

// Addressed reports whether messages of the group go to one destination (PDU1, format below F0), whose address then stands in
// the identifier.
func (p PGN) Addressed() bool { return p>>8&0xFF < 0xF0 }

// Valid reports whether p is a group number: 18 bits, without a group extension if it is addressed.
func (p PGN) Valid() bool { return p <= MaxPGN && (!p.Addressed() || p&0xFF == 0) }

// ID is a 29-bit identifier, taken apart.
type ID struct {
	// Priority is 0 to 7.
	Priority uint8
	PGN      PGN
	// Source is the sender's address.
	Source uint8
	// Destination is the receiver's address; Global for groups that are not Addressed.
	Destination uint8
}

// Split takes an identifier apart; ok is false for a standard one, which J1939 does not use.
func Split(id can.ID) (s ID, ok bool) {
	if !id.IsExtended() || !id.Valid() {
		return ID{}, false
	}
	raw := id.Raw()
	s = ID{Priority: uint8(raw >> 26), PGN: PGN(raw >> 8 & 0x3FFFF), Source: uint8(raw), Destination: Global}
	if s.PGN.Addressed() {
		s.Destination = uint8(s.PGN)
		s.PGN &^= 0xFF
	}
	return s, true
}

// Compose is the inverse of Split. It refuses what no identifier can say.
func (s ID) Compose() (can.ID, error) {
	switch {
	case s.Priority > MaxPriority:
		return 0, fmt.Errorf("cannot compose identifier: priority %d is above 7", s.Priority)
	case s.PGN > MaxPGN:
		return 0, fmt.Errorf("cannot compose identifier: PGN %d is above %d", s.PGN, MaxPGN)
	case s.PGN.Addressed() && s.PGN&0xFF != 0:
		return 0, fmt.Errorf("cannot compose identifier: the last byte of the addressed PGN %d is not 0", s.PGN)
	case !s.PGN.Addressed() && s.Destination != Global:
		return 0, fmt.Errorf("cannot compose identifier: PGN %d goes to everybody and not to address %d", s.PGN, s.Destination)
	}
	return s.compose(), nil
}

func (s ID) compose() can.ID {
	raw := can.ID(s.Priority)<<26 | can.ID(s.PGN)<<8 | can.ID(s.Source)
	if s.PGN.Addressed() {
		raw |= can.ID(s.Destination) << 8
	}
	return raw | can.Extended
}

// Filter lets a group pass with any priority, source and, if it is addressed, destination.
func Filter(p PGN) can.Filter {
	f := can.Filter{ID: can.Extended | can.ID(p)<<8, Mask: can.Extended | can.ID(MaxPGN)<<8}
	if p.Addressed() {
		f.Mask &^= 0xFF00
		f.ID &^= 0xFF00
	}
	return f
}

// A Message is one group's payload, in one frame or put together from many.
type Message struct {
	ID
	// Time is the frame time of its last frame in nanoseconds.
	Time int64
	// Data is valid until the function returns that was given it.
	Data []byte
}
