package isotp

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"rawstone/pkg/can"
)

// A reassembly is the message being received. Its buffer is kept from message to message.
type reassembly struct {
	active   bool
	buf      []byte
	want     int       // announced length in bytes
	dl       int       // length of the first frame, which all but the last keep (RX_DL)
	sn       byte      // next sequence number
	left     uint8     // frames until our next flow control
	deadline time.Time // N_Cr
}

// Handle takes a frame from the bus; those with another identifier than Rx are left alone. It answers first frames and full
// blocks with flow control, calls Deliver when a message is whole, and passes the peer's flow control to Write; it does not
// wait for anything but Send. Its error is Send's and ends the message being received.
func (c *Conn) Handle(ctx context.Context, f *can.Frame) error {
	if f.ID != c.cfg.Rx {
		return nil
	}
	fd := f.Flags&can.FD != 0
	if f.Flags&(can.Remote|can.Error) != 0 || fd && !c.cfg.FD || f.Len == 0 || f.Len > can.MaxData || !fd && f.Len > 8 {
		c.malformed.Add(1)
		return nil
	}
	c.Tick(c.cfg.Now())
	p := f.Payload()
	switch p[0] >> 4 {
	case singleFrame:
		c.single(p)
	case firstFrame:
		return c.first(ctx, p)
	case consecutiveFrame:
		return c.consecutive(ctx, p)
	case flowControl:
		c.control(p)
	default:
		c.malformed.Add(1) // reserved types are ignored (9.8.3)
	}
	return nil
}

// Tick gives up a message whose next frame is overdue at now. Handle does it too; an owner who wants memory and counters to
// tell the truth on a silent bus calls Tick from time to time.
func (c *Conn) Tick(now time.Time) {
	if c.rx.active && now.After(c.rx.deadline) {
		c.rx.active = false
		c.timeouts.Add(1)
	}
}

// interrupt ends a message because another starts (9.8.3).
func (c *Conn) interrupt() {
	if c.rx.active {
		c.rx.active = false
		c.interrupted.Add(1)
	}
}

// single takes a single frame (9.6.2). Above 8 bytes the length is in the second byte and the first says 0.
func (c *Conn) single(p []byte) {
	n, data := int(p[0]&0xF), p[1:]
	if len(p) > 8 {
		// Less than 8 bytes belong into a shorter frame and are ignored there, like a length in the first byte.
		if n != 0 || p[1] < 8 {
			c.malformed.Add(1)
			return
		}
		n, data = int(p[1]), p[2:]
	}
	if n == 0 || n > len(data) {
		c.malformed.Add(1)
		return
	}
	c.interrupt()
	if n > c.cfg.MaxLen {
		c.overflowed.Add(1)
		return
	}
	c.received.Add(1)
	c.cfg.Deliver(data[:n:n])
}

// first takes a first frame (9.6.3).
func (c *Conn) first(ctx context.Context, p []byte) error {
	if len(p) < 8 {
		c.malformed.Add(1)
		return nil
	}
	n, data := uint32(p[0]&0xF)<<8|uint32(p[1]), p[2:]
	escaped := n == 0
	if escaped {
		n, data = binary.BigEndian.Uint32(p[2:]), p[6:]
	}
	// A length that a single frame or the short form could have said is ignored.
	if escaped && n <= maxShort || n <= uint32(maxSingle(len(p))) {
		c.malformed.Add(1)
		return nil
	}
	c.interrupt()
	if uint64(n) > uint64(c.cfg.MaxLen) {
		c.overflowed.Add(1)
		return c.sendControl(ctx, overflow)
	}
	r := &c.rx
	r.active, r.want, r.dl, r.sn, r.left = true, int(n), len(p), 1, c.cfg.BlockSize
	r.buf = append(r.buf[:0], data...)
	return c.proceed(ctx)
}

// consecutive takes a consecutive frame (9.6.4).
func (c *Conn) consecutive(ctx context.Context, p []byte) error {
	r := &c.rx
	if !r.active {
		c.unexpected.Add(1)
		return nil
	}
	data, rest := p[1:], r.want-len(r.buf)
	if len(data) < rest && len(p) != r.dl {
		c.malformed.Add(1) // only the last frame may have another length
		return nil
	}
	if p[0]&0xF != r.sn {
		r.active = false
		c.sequence.Add(1)
		return nil
	}
	r.sn = (r.sn + 1) & 0xF
	r.buf = append(r.buf, data[:min(len(data), rest)]...)
	if len(r.buf) == r.want {
		r.active = false
		c.received.Add(1)
		c.cfg.Deliver(r.buf)
		return nil
	}
	if c.cfg.BlockSize != 0 {
		if r.left--; r.left == 0 {
			r.left = c.cfg.BlockSize
			return c.proceed(ctx)
		}
	}
	r.deadline = c.cfg.Now().Add(c.cfg.Timeout)
	return nil
}

// proceed lets the peer send the next block; N_Cr runs from then.
func (c *Conn) proceed(ctx context.Context) error {
	if err := c.sendControl(ctx, continueToSend); err != nil {
		c.rx.active = false
		return err
	}
	c.rx.deadline = c.cfg.Now().Add(c.cfg.Timeout)
	return nil
}

func (c *Conn) sendControl(ctx context.Context, status byte) error {
	if c.cfg.Listen {
		return nil
	}
	// One frame serves all: first frames are a peer's to send, and answering one must not cost memory.
	c.build(&c.answer, []byte{flowControl<<4 | status, c.cfg.BlockSize, c.stMin}, nil)
	if err := c.cfg.Send(ctx, &c.answer); err != nil {
		return fmt.Errorf("cannot send flow control to %s: %w", c.cfg.Tx, err)
	}
	return nil
}

// control takes a flow control (9.6.5) for the Write that waits for it.
func (c *Conn) control(p []byte) {
	if len(p) < 3 {
		c.malformed.Add(1)
		return
	}
	if !c.flow.put(control{status: p[0] & 0xF, block: int(p[1]), gap: decodeSTmin(p[2])}) {
		c.unexpected.Add(1) // ignored (9.8.3)
	}
}
