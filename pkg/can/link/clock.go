package link

import (
	"encoding/binary"
	"time"

	"rawstone/pkg/can"
)

// TimeID is the identifier of a time frame on a multicast bus: an extended identifier of the lowest priority range, which no
// car uses for traffic. The 8 data bytes are frame time in Unix nanoseconds, big-endian, not negative; the frames after it
// carry that time until the next. A Conn consumes time frames; a stock einride receiver sees an ordinary extended frame and
// ignores it like any other that it does not know. One sender may be the time source of a bus: with two, the frames of each
// would be stamped with the time of either.
const TimeID = can.Extended | 0x1FFFFFF7

// A busClock keeps the last announced frame time.
type busClock struct {
	ttl   time.Duration
	time  int64
	heard time.Time // zero: nothing heard yet
}

// announce takes a time frame and reports whether it is one.
func (c *busClock) announce(f *can.Frame, now time.Time) bool {
	ns := int64(binary.BigEndian.Uint64(f.Data[:]))
	if f.Flags != 0 || f.Len != 8 || ns < 0 {
		return false
	}
	c.time, c.heard = ns, now
	return true
}

// stamp returns the frame time of a frame received now.
func (c *busClock) stamp(now time.Time) int64 {
	if c.heard.IsZero() || now.Sub(c.heard) > c.ttl {
		return now.UnixNano()
	}
	return c.time
}

// A timeSource decides when to announce frame time: when it changes, and again before listeners would forget it, so that a
// listener that joined late or lost the announcement recovers.
type timeSource struct {
	on      bool
	refresh time.Duration
	time    int64
	at      time.Time // the zero time is long enough ago
}

// announce returns the bytes of a time frame and whether to send them now.
func (s *timeSource) announce(ns int64, now time.Time) (b [sizeClassic]byte, due bool) {
	if ns == s.time && now.Sub(s.at) < s.refresh {
		return b, false
	}
	s.time, s.at = ns, now
	f := can.Frame{ID: TimeID, Len: 8}
	binary.BigEndian.PutUint64(f.Data[:], uint64(ns))
	_, _ = encode(b[:], binary.LittleEndian, &f) // well-formed by construction
	return b, true
}
