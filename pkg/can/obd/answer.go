package obd

import (
	"encoding/binary"
	"fmt"
)

// Kind says what an answer is.
type Kind uint8

// The kinds of answer.
const (
	// Foreign is an answer to a service that this package does not ask for, or no answer at all: Service is its first byte as
	// it came. It is no fault; another tester may be on the bus.
	Foreign Kind = iota
	// Positive carries records.
	Positive
	// Negative carries a code; Service is the one refused, which need not be one of ours.
	Negative
)

// Rest is the size of a record that takes all that is left of its answer: the way to read one DID whose length is not known.
const Rest = -1

// Sizes returns how many data bytes follow the identifier id in an answer to service (01 or 22): at least 1, Rest, or 0 when
// it is not known. The standard's own are StandardSize.
type Sizes func(service uint8, id uint16) int

// A Record is one identifier of a positive answer with its data, which share the message's memory.
type Record struct {
	// ID is the PID (0 to FF) or the DID.
	ID uint16
	// Data holds at least one byte.
	Data []byte
}

// An Answer is what a vehicle said. Parse fills it again and again without allocating once Records has grown.
type Answer struct {
	// Kind says which of the other fields hold something.
	Kind Kind
	// Service is the service asked for (01, 22), not the answer's own byte, which has bit 6 set in addition.
	Service uint8
	// Code is the reason of a negative answer.
	Code NRC
	// Records are those of a positive answer, in its order; they are valid as long as the message parsed.
	Records []Record
}

// Parse reads msg, a whole message of the transport, into a. Its error is one sentence about a message that does not add up
// (too short, left over bytes, an identifier of unknown length, too many identifiers); a then holds no records, because every
// boundary before the fault is as doubtful as the fault.
func (a *Answer) Parse(msg []byte, size Sizes) error {
	*a = Answer{Records: a.Records[:0]}
	if len(msg) == 0 {
		return fmt.Errorf("cannot read answer: it is empty")
	}
	switch msg[0] {
	case negativeResponse:
		if len(msg) != 3 {
			return fmt.Errorf("cannot read negative answer of %d bytes: it has 3", len(msg))
		}
		a.Kind, a.Service, a.Code = Negative, msg[1], NRC(msg[2])
		return nil
	case ServiceCurrentData | positiveResponse:
		a.Service = ServiceCurrentData
		return a.records(msg[1:], 1, MaxPIDs, size)
	case ServiceReadData | positiveResponse:
		a.Service = ServiceReadData
		return a.records(msg[1:], 2, MaxDIDs, size)
	}
	a.Service = msg[0]
	return nil
}

// records splits the body of a positive answer, whose identifiers have width bytes.
func (a *Answer) records(rest []byte, width, limit int, size Sizes) error {
	err := a.split(rest, width, limit, size)
	if err != nil {
		a.Records = a.Records[:0]
		return err
	}
	a.Kind = Positive
	return nil
}

func (a *Answer) split(rest []byte, width, limit int, size Sizes) error {
	if len(rest) == 0 {
		return fmt.Errorf("cannot read answer to service %02X: it names nothing", a.Service)
	}
	for len(rest) > 0 {
		if len(a.Records) == limit {
			return fmt.Errorf("cannot read answer to service %02X: it has more than %d identifiers", a.Service, limit)
		}
		if len(rest) <= width {
			return fmt.Errorf("cannot read answer to service %02X: its last %d bytes are an identifier without data", a.Service, len(rest))
		}
		id := uint16(rest[0])
		if width == 2 {
			id = binary.BigEndian.Uint16(rest)
		}
		rest = rest[width:]
		n := size(a.Service, id)
		switch {
		case n == Rest:
			n = len(rest)
		case n <= 0:
			return fmt.Errorf("cannot read answer to service %02X: the length of %0*X is not known, a layout must give it", a.Service, 2*width, id)
		case n > len(rest):
			return fmt.Errorf("cannot read answer to service %02X: %0*X has %d bytes of data and only %d are there", a.Service, 2*width, id, n, len(rest))
		}
		a.Records = append(a.Records, Record{ID: id, Data: rest[:n:n]})
		rest = rest[n:]
	}
	return nil
}

// String says what the answer is, for people.
func (a *Answer) String() string {
	switch a.Kind {
	case Positive:
		return fmt.Sprintf("positive answer to service %02X with %d records", a.Service, len(a.Records))
	case Negative:
		return fmt.Sprintf("negative answer to service %02X: %s", a.Service, a.Code)
	}
	return fmt.Sprintf("message of foreign service %02X", a.Service)
}
