package isotp

import (
	"bytes"
	"context"
	"testing"
	"time"

	"rawstone/pkg/can"
)

// A bystander takes what an ECU says to its tester and never says anything itself.
func TestListen(t *testing.T) {
	var now time.Time
	var got []byte
	c, err := New(Config{
		Tx: tester, Rx: ecu, FD: true, Listen: true, BlockSize: 1, MaxLen: 100,
		Now:     func() time.Time { return now },
		Send:    func(context.Context, *can.Frame) error { t.Error("a frame was sent"); return nil },
		Deliver: func(msg []byte) { got = append(got[:0], msg...) },
	})
	if err != nil {
		t.Fatal(err)
	}
	feed := func(frames ...string) {
		t.Helper()
		for _, s := range frames {
			if err := c.Handle(t.Context(), peerFrame(s)); err != nil {
				t.Fatal(err)
			}
		}
	}
	feed("10 14 00 01 02 03 04 05", "21 06 07 08 09 0a 0b 0c", "22 0d 0e 0f 10 11 12 13")
	want := make([]byte, 20)
	for i := range want {
		want[i] = byte(i)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("overheard %x", got)
	}
	feed("10 00 ff ff ff ff 01 02", "21 01 02 03 04 05 06 07") // 4 GiB
	feed("10 14 00 01 02 03 04 05")
	now = now.Add(time.Second + 1)
	c.Tick(now)
	if s := c.Stats(); s != (Stats{Received: 1, Unexpected: 1, Overflows: 1, Timeouts: 1}) {
		t.Errorf("counters: %+v", s)
	}
	if err := c.Write(t.Context(), want); err == nil {
		t.Error("a listener wrote")
	}
	if _, err := New(Config{Tx: tester, Rx: ecu, Listen: true, Deliver: func([]byte) {}}); err != nil {
		t.Errorf("a listener needs no Send: %v", err)
	}
}

// Once its buffer has grown, receiving costs no memory, flow control included.
func TestReceiveAllocations(t *testing.T) {
	var sent uint8
	c, err := New(Config{
		Tx: tester, Rx: ecu, BlockSize: 1,
		Send:    func(_ context.Context, f *can.Frame) error { sent += f.Len; return nil },
		Deliver: func([]byte) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	frames := []*can.Frame{
		peerFrame("10 14 00 01 02 03 04 05"), peerFrame("21 06 07 08 09 0a 0b 0c"), peerFrame("22 0d 0e 0f 10 11 12 13"), peerFrame("03 01 02 03"),
	}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		for _, f := range frames {
			if err := c.Handle(ctx, f); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 || c.Stats().Received == 0 || sent == 0 {
		t.Errorf("%v allocations, counters %+v", n, c.Stats())
	}
}
