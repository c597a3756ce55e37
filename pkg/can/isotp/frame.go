package isotp

import (
	"time"

	"rawstone/pkg/can"
)

// The kinds of frame, in the upper four bits of the first byte (N_PCItype, 9.6).
const (
	singleFrame      = 0x0
	firstFrame       = 0x1
	consecutiveFrame = 0x2
	flowControl      = 0x3
)

// The flow status of a flow control (FS, 9.6.5); the rest is reserved.
const (
	continueToSend = 0
	wait           = 1
	overflow       = 2
)

const (
	// maxShort is the longest message whose first frame has the 12-bit length; longer ones take the 32-bit escape (9.6.3).
	maxShort = 4095
	// maxSTmin is the longest separation time, and what a reserved value means (9.6.5).
	maxSTmin = 127 * time.Millisecond
)

// maxSingle is the longest message in a single frame of dl bytes (9.6.2): one byte says its length, two above 8 bytes.
func maxSingle(dl int) int {
	if dl <= 8 {
		return dl - 1
	}
	return dl - 2
}

// frame returns a new frame of ours.
func (c *Conn) frame(head, data []byte) *can.Frame {
	f := new(can.Frame)
	c.build(f, head, data)
	return f
}

// build makes f a frame of ours from its header and data.
func (c *Conn) build(f *can.Frame, head, data []byte) {
	*f = can.Frame{ID: c.cfg.Tx}
	n := copy(f.Data[:], head)
	n += copy(f.Data[n:], data)
	size := n
	if c.cfg.Padding {
		size = max(size, 8)
	}
	if c.cfg.FD {
		f.Flags = can.FD
		if c.cfg.BitRateSwitch {
			f.Flags |= can.BitRateSwitch
		}
		size = fdLength(size)
	}
	for i := n; i < size; i++ {
		f.Data[i] = c.cfg.PadByte
	}
	f.Len = uint8(size)
}

// fdLength is the least length of a CAN FD frame that holds n bytes, up to 64 (ISO 11898-1, coding of the data length code).
func fdLength(n int) int {
	switch {
	case n <= 8:
		return n
	case n <= 24:
		return (n + 3) / 4 * 4
	case n <= 32:
		return 32
	case n <= 48:
		return 48
	}
	return can.MaxData
}

// encodeSTmin says d in the protocol's byte, rounded up (9.6.5).
func encodeSTmin(d time.Duration) (byte, bool) {
	const step = 100 * time.Microsecond
	switch {
	case d < 0 || d > maxSTmin:
		return 0, false
	case d == 0:
		return 0, true
	case d <= 9*step:
		return 0xF0 + byte((d+step-1)/step), true
	}
	return byte((d + time.Millisecond - 1) / time.Millisecond), true
}

// decodeSTmin reads the peer's byte; a reserved value is the longest time (9.6.5).
func decodeSTmin(b byte) time.Duration {
	switch {
	case b <= 0x7F:
		return time.Duration(b) * time.Millisecond
	case b >= 0xF1 && b <= 0xF9:
		return time.Duration(b-0xF0) * 100 * time.Microsecond
	}
	return maxSTmin
}
