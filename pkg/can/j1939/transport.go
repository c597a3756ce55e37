package j1939

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"rawstone/pkg/can"
)

// The control bytes of TP.CM (J1939-21, 5.10.3).
const (
	requestToSend = 16
	clearToSend   = 17
	endOfMessage  = 19
	broadcast     = 32
	abort         = 255
)

// The reasons of an abort (J1939-21, table 7).
const (
	abortResource = 2
	abortTimeout  = 3
	abortRepeats  = 5
)

// The times after which a session is given up (J1939-21, 5.10.2.4).
const (
	// T1 is the longest gap between two packets.
	T1 = 750 * time.Millisecond
	// T2 is the longest wait for the first packet after a clear to send.
	T2 = 1250 * time.Millisecond
	// T3 is the longest wait for a clear to send or an acknowledgement; seen from aside it is a session's longest pause.
	T3 = 1250 * time.Millisecond
	// T4 is the longest wait after a clear to send for no packets, which holds the session.
	T4 = 1050 * time.Millisecond
)

const (
	// MaxData is the longest message in bytes: 255 packets of 7.
	MaxData = 255 * 7
	// MaxRepeats is how often a receiver asks again for packets of one message that were lost (J1939-21, 5.10.2.4).
	MaxRepeats = 2

	defaultSessions = 32
	maxSessions     = 256
)

// Config describes one bus. The zero value without Deliver is refused.
type Config struct {
	// Want says whether a group is of interest; nil means all are. It is asked before anything is kept of a message.
	Want func(PGN) bool
	// Address is our own address, 0 to MaxAddress; without Send it means nothing.
	Address uint8
	// Send puts a frame on the bus; the frame is valid until it returns. nil means to listen only: every session is then
	// followed as a bystander. It is called within Handle and Tick
	// and must not call either.
	Send func(ctx context.Context, f *can.Frame) error
	// Sessions is how many messages may be under way at once, up to 256; 0 means 32. Memory is at most 3 KiB for each,
	// and is taken as packets arrive, whatever was announced.
	Sessions int
	// Now is the clock of the timeouts; nil means time.Now.
	Now func() time.Time
	// Deliver takes every whole message of a group that is wanted, in one frame or in many, within Handle. The message and its
	// data are valid until it returns.
	Deliver func(m *Message)
}

// Stats are the counters of a Transport since New.
type Stats struct {
	// Delivered counts messages given to Deliver that took more than a frame.
	Delivered uint64
	// Malformed counts transport frames that contradict the protocol or themselves.
	Malformed uint64
	// Unexpected counts packets outside the sessions that are followed, those of unwanted groups included.
	Unexpected uint64
	// Duplicates counts packets that had come before.
	Duplicates uint64
	// Incomplete counts messages acknowledged by their receiver of which packets did not reach us.
	Incomplete uint64
	// Interrupted counts messages given up because their sender started another.
	Interrupted uint64
	// Aborted counts messages given up by an abort of one of the two sides; ours are among them.
	Aborted uint64
	// Timeouts counts messages given up because nothing came in time.
	Timeouts uint64
	// Evicted counts messages given up because more than Sessions were under way.
	Evicted uint64
}

// A Transport follows the messages of one bus. Handle and Tick are for one goroutine; Stats is safe for concurrent use.
type Transport struct {
	cfg      Config
	sessions []session
	out      []byte // a message whose packets came out of order
	msg      Message
	frame    can.Frame // of ours, while Send runs

	delivered, malformed, unexpected, duplicates, incomplete, interrupted, aborted, timeouts, evicted atomic.Uint64
}

// New checks cfg.
func New(cfg Config) (*Transport, error) {
	switch {
	case cfg.Deliver == nil:
		return nil, fmt.Errorf("cannot set up J1939 transport: Deliver is required")
	case cfg.Send != nil && cfg.Address > MaxAddress:
		return nil, fmt.Errorf("cannot set up J1939 transport: %d is no address of a unit, they go up to %d", cfg.Address, MaxAddress)
	case cfg.Sessions < 0 || cfg.Sessions > maxSessions:
		return nil, fmt.Errorf("cannot set up J1939 transport: %d sessions are not within 0 and %d", cfg.Sessions, maxSessions)
	}
	if cfg.Sessions == 0 {
		cfg.Sessions = defaultSessions
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Transport{cfg: cfg}, nil
}

// Stats returns the counters.
func (t *Transport) Stats() Stats {
	return Stats{
		Delivered: t.delivered.Load(), Malformed: t.malformed.Load(), Unexpected: t.unexpected.Load(),
		Duplicates: t.duplicates.Load(), Incomplete: t.incomplete.Load(), Interrupted: t.interrupted.Load(),
		Aborted: t.aborted.Load(), Timeouts: t.timeouts.Load(), Evicted: t.evicted.Load(),
	}
}

func (t *Transport) wants(p PGN) bool { return t.cfg.Want == nil || t.cfg.Want(p) }

// ours reports whether we are the receiver of a session to address destination.
func (t *Transport) ours(destination uint8) bool {
	return t.cfg.Send != nil && destination == t.cfg.Address
}

// Handle takes a frame from the bus; frames with standard identifiers, of CAN FD, remote and error frames are left alone. Its
// error is Send's and ends the message that the answer was for.
func (t *Transport) Handle(ctx context.Context, f *can.Frame) error {
	id, ok := Split(f.ID)
	if !ok || f.Flags&(can.FD|can.Remote|can.Error) != 0 || f.Len > 8 {
		return nil
	}
	if id.PGN == PGNTransport || id.PGN == PGNTransportData {
		now := t.cfg.Now()
		if err := t.Tick(ctx, now); err != nil {
			return err
		}
		if id.PGN == PGNTransport {
			return t.control(ctx, id, f, now)
		}
		return t.packet(ctx, id, f, now)
	}
	if t.wants(id.PGN) {
		t.msg = Message{ID: id, Time: f.Time, Data: f.Payload()}
		t.cfg.Deliver(&t.msg)
	}
	return nil
}
