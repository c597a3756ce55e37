package isotp

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
)

// FuzzHandle reads its input as frames of a hostile peer: a byte of length and kind, then the data. Nothing may panic, memory
// stays bounded, what is delivered was sent, and the end still works afterwards.
func FuzzHandle(f *testing.F) {
	f.Add([]byte{3, 2, 9, 2}, false)
	f.Add([]byte{8, 0x10, 8, 1, 2, 3, 4, 5, 6, 3, 0x21, 7, 8}, false)
	f.Add([]byte{8, 0x10, 0, 0xff, 0xff, 0xff, 0xff, 1, 2, 8, 0x21, 1, 2, 3, 4, 5, 6, 7}, false)
	f.Add([]byte{0x80 | 12, 0, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, true)
	f.Add([]byte{8, 0x10, 9, 1, 2, 3, 4, 5, 6, 8, 0x10, 8, 1, 2, 3, 4, 5, 6, 3, 0x21, 7, 8, 3, 0x30, 0, 0}, true)
	f.Fuzz(func(t *testing.T, in []byte, fd bool) {
		const maxLen = 300
		var now time.Time
		var arrived, delivered, frames, answers int
		var last []byte
		c, err := New(Config{
			Tx: tester, Rx: ecu, FD: fd, MaxLen: maxLen, BlockSize: 2,
			Now:  func() time.Time { return now },
			Send: func(context.Context, *can.Frame) error { answers++; return nil },
			Deliver: func(msg []byte) {
				if len(msg) == 0 || len(msg) > maxLen {
					t.Fatalf("delivered %d bytes", len(msg))
				}
				delivered += len(msg)
				last = bytes.Clone(msg)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		for len(in) > 0 {
			x := can.Frame{ID: ecu, Len: in[0] & 0x7F}
			if in[0]&0x80 != 0 {
				x.Flags = can.FD
			}
			n := copy(x.Data[:], in[1:min(len(in), 1+int(x.Len))])
			in = in[1+n:]
			arrived += n + int(x.Len)
			frames++
			if err := c.Handle(t.Context(), &x); err != nil {
				t.Fatal(err)
			}
			now = now.Add(time.Duration(x.Data[0]) * 5 * time.Millisecond)
			if cap(c.rx.buf) > 2*maxLen+64 {
				t.Fatalf("the buffer holds %d bytes", cap(c.rx.buf))
			}
		}
		if delivered > arrived {
			t.Fatalf("delivered %d bytes out of %d", delivered, arrived)
		}
		if answers > frames {
			t.Fatalf("%d flow controls for %d frames", answers, frames)
		}
		s := c.Stats()
		c.cfg.Send = func(ctx context.Context, _ *can.Frame) error { return nil }
		for _, s := range []string{"10 09 01 02 03 04 05 06", "21 07 08 09"} {
			if err := c.Handle(t.Context(), peerFrame(s)); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, last); d != "" {
			t.Fatal(d)
		}
		if got := c.Stats().Received - s.Received; got != 1 {
			t.Fatalf("%d messages received, want 1", got)
		}
	})
}

// A first frame that announces much and a peer that keeps starting over cost what arrived, not what was announced.
func TestHostileAllocation(t *testing.T) {
	b := newBench(t, Config{MaxLen: 1 << 30, Send: func(context.Context, *can.Frame) error { return nil }})
	for range 1000 {
		b.feed(t, "10 00 3f ff ff ff 01 02", "21 01 02 03 04 05 06 07")
	}
	if got := cap(b.rx.buf); got > 64 {
		t.Errorf("9 bytes arrived of each message and the buffer holds %d", got)
	}
	b.feed(t, "10 00 ff ff ff ff 01 02")
	if got := b.Stats(); got.Overflows != 1 || got.Interrupted != 1000 {
		t.Errorf("counters: %+v", got)
	}
}
