// Package isotp carries messages longer than a frame over CAN and CAN FD: the transport protocol of ISO 15765-2:2016 with
// normal addressing, one pair of identifiers per Conn. Clause numbers in this package are those of that edition.
//
// The package opens no sockets and starts no goroutines. The owner of the bus loop passes every frame to Handle, which
// reassembles messages and answers first frames; Write segments a message on its caller's goroutine. Both directions are
// independent of one another.
//
// Whatever a peer does, memory stays within about twice Config.MaxLen, and grows with the bytes that really arrived, never
// with the length that a first frame announces. A peer's mistakes are counted, not returned: they end at most the one
// message they are in.
//
// It refuses extended, mixed and functional addressing, and offers no retransmission: a lost frame loses its message, and the
// layer above asks again.
package isotp

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"rawstone/pkg/can"
)

var (
	// ErrTimeout is wrapped by Write's error when the peer sent no flow control in time (N_TIMEOUT_Bs): it may be absent.
	ErrTimeout = errors.New("no flow control in time")
	// ErrOverflow is wrapped by Write's error when the peer has no room for so long a message (N_BUFFER_OVFLW): sending it
	// again is pointless.
	ErrOverflow = errors.New("the peer has no room for the message")
)

const (
	defaultMaxLen  = 4095
	defaultTimeout = time.Second // N_Bs and N_Cr of 9.8
	defaultMaxWait = 10
)

// Config describes one end. Tx, Rx, Deliver and, unless Listen is set, Send are required.
type Config struct {
	// Tx is the identifier of the frames we send, Rx of those we receive. They must differ.
	Tx, Rx can.ID
	// FD makes us send CAN FD frames of up to 64 bytes (TX_DL 64); it also admits received ones. BitRateSwitch asks for their
	// data phase to run at the higher bit rate.
	FD, BitRateSwitch bool
	// Padding fills frames up to 8 bytes with PadByte. CAN FD frames above 8 bytes are filled up to the next length that CAN FD
	// has in any case.
	Padding bool
	PadByte byte
	// BlockSize is how many consecutive frames the peer may send between our flow controls; 0 means all of them (9.6.5).
	BlockSize uint8
	// STmin is the least time that we ask the peer to leave between two consecutive frames, up to 127 ms; it is rounded up to
	// what the protocol can say: steps of 100 µs below 1 ms, of 1 ms above (9.6.5).
	STmin time.Duration
	// MaxLen is the longest message in bytes that we accept; a first frame that announces more is answered with overflow. 0
	// means 4095. What we send is bounded by the peer.
	MaxLen int
	// Timeout is how long we wait for the peer's next flow control (N_Bs) or consecutive frame (N_Cr); 0 means 1 s.
	Timeout time.Duration
	// MaxWait is how many flow controls in a row may tell us to wait; 0 means 10.
	MaxWait int
	// Now is the clock that judges N_Cr; nil means time.Now. It is the host's clock, not frame time: a capture played ten times
	// faster does not make a peer ten times slower.
	Now func() time.Time
	// Listen is for an end that only overhears what Rx says to somebody else, who answers it: first frames are taken without
	// flow control, nothing is ever sent, and Write is refused.
	Listen bool
	// Send puts a frame on the bus. It is called by Write and by Handle, possibly at once, and must not wait for Handle. The
	// frame is valid until Send returns and has no Time: on a bus that carries frame time, Send sets it.
	Send func(ctx context.Context, f *can.Frame) error
	// Deliver takes a whole message, on Handle's goroutine. msg is valid until it returns.
	Deliver func(msg []byte)
}

// Stats are the counters of a Conn since New.
type Stats struct {
	// Sent and Received count whole messages.
	Sent, Received uint64
	// Malformed counts frames that are none of the protocol's, or whose lengths contradict one another.
	Malformed uint64
	// Unexpected counts consecutive frames outside a message and flow controls that nobody waited for.
	Unexpected uint64
	// Sequence counts messages given up for a wrong sequence number: a frame was lost.
	Sequence uint64
	// Interrupted counts messages given up because the peer started another.
	Interrupted uint64
	// Timeouts counts messages given up because the next consecutive frame did not come in time.
	Timeouts uint64
	// Overflows counts messages refused for being longer than MaxLen.
	Overflows uint64
}

// A Conn is one end of a pair. Handle and Tick are for one goroutine at a time, the owner of the bus loop; Write and Stats
// are safe for concurrent use.
type Conn struct {
	cfg     Config
	stMin   byte
	rx      reassembly
	answer  can.Frame // the flow control that Handle sends
	flow    flowBox
	writing chan struct{} // holds a token while a message is being sent

	sent, received, malformed, unexpected       atomic.Uint64
	sequence, interrupted, timeouts, overflowed atomic.Uint64
}

// New checks cfg and returns an end that is ready for Handle and Write.
func New(cfg Config) (*Conn, error) {
	switch {
	case !cfg.Tx.Valid() || !cfg.Rx.Valid():
		return nil, fmt.Errorf("cannot set up transport %s to %s: an identifier has more bits than its format", cfg.Rx, cfg.Tx)
	case cfg.Tx == cfg.Rx:
		return nil, fmt.Errorf("cannot set up transport %s to %s: the two directions need different identifiers", cfg.Rx, cfg.Tx)
	case cfg.Send == nil && !cfg.Listen || cfg.Deliver == nil:
		return nil, fmt.Errorf("cannot set up transport %s to %s: Send and Deliver are required", cfg.Rx, cfg.Tx)
	case cfg.MaxLen < 0 || cfg.MaxLen > math.MaxInt32:
		return nil, fmt.Errorf("cannot set up transport %s to %s: longest message %d is not within 0 and %d", cfg.Rx, cfg.Tx, cfg.MaxLen, math.MaxInt32)
	case cfg.Timeout < 0:
		return nil, fmt.Errorf("cannot set up transport %s to %s: timeout %v is negative", cfg.Rx, cfg.Tx, cfg.Timeout)
	case cfg.MaxWait < 0:
		return nil, fmt.Errorf("cannot set up transport %s to %s: number of waits %d is negative", cfg.Rx, cfg.Tx, cfg.MaxWait)
	}
	st, ok := encodeSTmin(cfg.STmin)
	if !ok {
		return nil, fmt.Errorf("cannot set up transport %s to %s: separation time %v is not within 0 and 127 ms", cfg.Rx, cfg.Tx, cfg.STmin)
	}
	if cfg.MaxLen == 0 {
		cfg.MaxLen = defaultMaxLen
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.MaxWait == 0 {
		cfg.MaxWait = defaultMaxWait
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Conn{cfg: cfg, stMin: st, writing: make(chan struct{}, 1)}
	c.flow.wake = make(chan struct{}, 1)
	return c, nil
}

// Stats returns the counters.
func (c *Conn) Stats() Stats {
	return Stats{
		Sent: c.sent.Load(), Received: c.received.Load(),
		Malformed: c.malformed.Load(), Unexpected: c.unexpected.Load(),
		Sequence: c.sequence.Load(), Interrupted: c.interrupted.Load(),
		Timeouts: c.timeouts.Load(), Overflows: c.overflowed.Load(),
	}
}
