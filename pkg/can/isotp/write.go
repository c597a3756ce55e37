package isotp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"rawstone/pkg/can"
)

// A control is what a flow control says.
type control struct {
	status byte
	block  int           // consecutive frames until the next one; 0 means all
	gap    time.Duration // least time between two of them
}

// A flowBox hands flow controls from Handle to the Write that expects one. Handle never waits: WAITs are counted and
// anything else closes the box.
type flowBox struct {
	mu       sync.Mutex
	expected bool
	waits    int
	got      *control
	wake     chan struct{}
}

// expect opens the box. It comes before the frame that provokes the answer, which may arrive before Send returns.
func (b *flowBox) expect() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected, b.waits, b.got = true, 0, nil
	select {
	case <-b.wake:
	default:
	}
}

// close makes flow controls unexpected again.
func (b *flowBox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = false
}

// put reports whether c was expected.
func (b *flowBox) put(c control) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.expected {
		return false
	}
	if c.status == wait {
		b.waits++
	} else {
		b.expected, b.got = false, &c
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

func (b *flowBox) look() (waits int, got *control) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waits, b.got
}

// Write sends msg, 1 to 4,294,967,295 bytes, and returns when its last frame was handed to Send; the protocol has no
// acknowledgement beyond flow control. Messages go one at a time, in no certain order among waiting callers. Handle must be
// fed meanwhile, by another goroutine or within Send. Its error wraps ErrTimeout, ErrOverflow, ctx's or Send's.
func (c *Conn) Write(ctx context.Context, msg []byte) error {
	if len(msg) == 0 || uint64(len(msg)) > math.MaxUint32 {
		return fmt.Errorf("cannot write message of %d bytes to %s: the protocol carries 1 to %d", len(msg), c.cfg.Tx, uint32(math.MaxUint32))
	}
	if c.cfg.Listen {
		return fmt.Errorf("cannot write message of %d bytes to %s: this end only listens", len(msg), c.cfg.Tx)
	}
	select {
	case c.writing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.writing }()
	if err := c.write(ctx, msg); err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return ctx.Err()
		}
		return fmt.Errorf("cannot write message of %d bytes to %s: %w", len(msg), c.cfg.Tx, err)
	}
	c.sent.Add(1)
	return nil
}

func (c *Conn) write(ctx context.Context, msg []byte) error {
	dl := 8
	if c.cfg.FD {
		dl = can.MaxData
	}
	switch n := len(msg); {
	case n <= maxSingle(8):
		return c.cfg.Send(ctx, c.frame([]byte{singleFrame<<4 | byte(n)}, msg))
	case n <= maxSingle(dl):
		return c.cfg.Send(ctx, c.frame([]byte{singleFrame << 4, byte(n)}, msg))
	}
	head := make([]byte, 2, 6)
	head[0] = firstFrame << 4
	if n := len(msg); n <= maxShort {
		head[0] |= byte(n >> 8)
		head[1] = byte(n)
	} else {
		head = binary.BigEndian.AppendUint32(head, uint32(n))
	}
	n := dl - len(head)
	c.flow.expect()
	defer c.flow.close()
	if err := c.cfg.Send(ctx, c.frame(head, msg[:n])); err != nil {
		return err
	}
	return c.writeRest(ctx, msg[n:], dl-1)
}

// writeRest sends the consecutive frames (9.6.4), size bytes in each, in blocks that the peer's flow controls allow.
func (c *Conn) writeRest(ctx context.Context, rest []byte, size int) error {
	sn := byte(1)
	for len(rest) > 0 {
		ctl, err := c.awaitControl(ctx)
		if err != nil {
			return err
		}
		for i := 0; len(rest) > 0 && (ctl.block == 0 || i < ctl.block); i++ {
			if i > 0 {
				if err := pause(ctx, ctl.gap); err != nil {
					return err
				}
			}
			n := min(size, len(rest))
			f := c.frame([]byte{consecutiveFrame<<4 | sn}, rest[:n])
			rest = rest[n:]
			if i == ctl.block-1 && len(rest) > 0 {
				c.flow.expect()
			}
			if err := c.cfg.Send(ctx, f); err != nil {
				return err
			}
			sn = (sn + 1) & 0xF
		}
	}
	return nil
}

// awaitControl waits for the peer to go on (9.6.5). Every WAIT starts N_Bs anew; their number is bounded here as well as by
// the peer's own limit (N_WFTmax, 9.7), so that a peer cannot hold a writer for ever.
func (c *Conn) awaitControl(ctx context.Context) (*control, error) {
	timer := time.NewTimer(c.cfg.Timeout)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			return nil, fmt.Errorf("%w: nothing for %v", ErrTimeout, c.cfg.Timeout)
		case <-c.flow.wake:
		}
		waits, got := c.flow.look()
		switch {
		case waits > c.cfg.MaxWait:
			return nil, fmt.Errorf("the peer asked to wait more than %d times in a row", c.cfg.MaxWait)
		case got == nil:
			timer.Reset(c.cfg.Timeout)
		case got.status == continueToSend:
			return got, nil
		case got.status == overflow:
			return nil, ErrOverflow
		default:
			return nil, fmt.Errorf("the peer's flow status %d is reserved", got.status) // N_INVALID_FS, 9.6.5
		}
	}
}

// pause waits for the peer's separation time.
func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
