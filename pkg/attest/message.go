package attest

import (
	"fmt"

	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

const (
	// MaxMessageLen bounds a message on the bus in bytes; one takes at most some 230.
	MaxMessageLen = 512
	// MaxRequestLen bounds a request in bytes, so that it fits a single ISO-TP frame.
	MaxRequestLen = 7
	// MaxLast is the number of snapshots that an ECU keeps to send again.
	MaxLast = 32
)

// A Message is what the ECU hands to the agent: a snapshot and what its commitment hides. It is as secret as the counters in it
// and never leaves the car.
type Message struct {
	Snapshot wire.Snapshot
	Opening  wire.Opening
}

// busMessage is a message as it stands on the bus.
type busMessage struct {
	_        struct{} `cbor:",toarray"`
	Version  uint8
	Snapshot wire.Snapshot
	Opening  wire.Opening
}

// Encode returns the message's bytes for one ISO-TP transfer on TxID.
func (m Message) Encode() ([]byte, error) {
	return codec.Encode(busMessage{Version: wire.Version, Snapshot: m.Snapshot, Opening: m.Opening})
}

// DecodeMessage reads a message of at most MaxMessageLen bytes. It checks neither the signature nor the opening.
func DecodeMessage(b []byte) (*Message, error) {
	var m busMessage
	if err := codec.Decode(b, &m, MaxMessageLen); err != nil {
		return nil, err
	}
	if err := checkVersion("snapshot message", m.Version); err != nil {
		return nil, err
	}
	return &Message{Snapshot: m.Snapshot, Opening: m.Opening}, nil
}

// A Request asks the ECU to send its last snapshots again.
type Request struct {
	// Last is how many, 1 to MaxLast; the ECU sends them oldest first.
	Last uint8
}

// busRequest is a request as it stands on the bus.
type busRequest struct {
	_       struct{} `cbor:",toarray"`
	Version uint8
	Last    uint8
}

func (r Request) validate() error {
	if r.Last < 1 || r.Last > MaxLast {
		return fmt.Errorf("it asks for %d snapshots, want 1 to %d", r.Last, MaxLast)
	}
	return nil
}

// Encode returns the request's bytes for one ISO-TP transfer on RxID.
func (r Request) Encode() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("cannot encode request: %w", err)
	}
	return codec.Encode(busRequest{Version: wire.Version, Last: r.Last})
}

// DecodeRequest reads a request of at most MaxRequestLen bytes.
func DecodeRequest(b []byte) (*Request, error) {
	var m busRequest
	if err := codec.Decode(b, &m, MaxRequestLen); err != nil {
		return nil, err
	}
	if err := checkVersion("request", m.Version); err != nil {
		return nil, err
	}
	r := &Request{Last: m.Last}
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("cannot accept request: %w", err)
	}
	return r, nil
}

func checkVersion(what string, v uint8) error {
	if v != wire.Version {
		return fmt.Errorf("cannot accept %s: version %d, want %d: update this program or the sender's", what, v, wire.Version)
	}
	return nil
}
