package j1939

import (
	"fmt"

	"rawstone/pkg/can"
)

// Request returns the frame by which source asks destination, or Global, for a group (J1939-21, 5.4.2). A unit without an
// address may ask with NoAddress.
func Request(pgn PGN, source, destination uint8) (can.Frame, error) {
	switch {
	case !pgn.Valid():
		return can.Frame{}, fmt.Errorf("cannot request PGN %d: it is no group number", pgn)
	case source == Global:
		return can.Frame{}, fmt.Errorf("cannot request PGN %d: %d is no source address", pgn, source)
	case destination == NoAddress:
		return can.Frame{}, fmt.Errorf("cannot request PGN %d: %d is nobody's address", pgn, destination)
	}
	id := ID{Priority: DefaultPriority, PGN: PGNRequest, Source: source, Destination: destination}
	f := can.Frame{ID: id.compose(), Len: 3}
	putPGN(f.Data[:], pgn)
	return f, nil
}

// ParseRequest reads a request's payload.
func ParseRequest(m *Message) (PGN, bool) {
	if m.PGN != PGNRequest || len(m.Data) < 3 {
		return 0, false
	}
	p := readPGN(m.Data)
	return p, p.Valid()
}

// Verdict is what an acknowledgement says (J1939-21, 5.4.4).
type Verdict uint8

// The verdicts; everything else is reserved.
const (
	Positive Verdict = 0
	Negative Verdict = 1 // the group is not supported
	Denied   Verdict = 2
	Busy     Verdict = 3
)

// ParseAcknowledgement reads the answer of a unit that does not send the group it was asked for: what it says of which group,
// and the address of the asker whom it means (Global from units that do not say).
func ParseAcknowledgement(m *Message) (v Verdict, pgn PGN, asker uint8, ok bool) {
	if m.PGN != PGNAcknowledgement || len(m.Data) < 8 || m.Data[0] > uint8(Busy) {
		return 0, 0, 0, false
	}
	pgn = readPGN(m.Data[5:])
	return Verdict(m.Data[0]), pgn, m.Data[4], pgn.Valid()
}

// putPGN writes a group number into three bytes; p may carry bits above the 18, which are dropped.
func putPGN(b []byte, p PGN) {
	b[0], b[1], b[2] = byte(p), byte(p>>8), byte(p>>16)
}

// readPGN is putPGN's inverse.
func readPGN(b []byte) PGN { return PGN(b[0]) | PGN(b[1])<<8 | PGN(b[2])<<16 }
