//go:build linux

package link

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rawstone/pkg/can"
)

// until receives frames up to the last, of identifier 1.
func until(t *testing.T, ctx context.Context, c *Conn) (frames []can.Frame) {
	t.Helper()
	for f := receive(t, ctx, c); f.ID != 1; f = receive(t, ctx, c) {
		f.Time = 0
		frames = append(frames, f)
	}
	return frames
}

// The kernel filters: what nobody wants never reaches the socket, which the kernel's own counts of what it delivered say.
func TestKernelFilters(t *testing.T) {
	iface, ctx := kernelBus(t)
	if s := subscriptions(t, iface); len(s) != 0 {
		t.Fatalf("somebody else listens: %v", s)
	}
	wanted := []can.ID{0x7E8, can.Extended | 0x7E9, can.Extended | 0x18FEE021, can.Extended | 0x0CFEE0FF, can.Extended | 0x00FEE000}
	other := []can.ID{
		0, 0x7E9, 0x7E0, 0x7EA, can.Extended | 0x7E8, can.Extended | 0x107E9, // in the other format, and neighbours
		can.Extended | 0x18FEE121, can.Extended | 0x18FEF021, can.Extended | 0x18EEE021, 0x021, // other groups
	}
	var want, all []can.Frame
	for i, id := range append(wanted, other...) {
		for _, f := range []can.Frame{frame(id, 0, 1, 2), {ID: id, Flags: can.Remote, Len: 3}, frame(id, can.FD, make([]byte, 64)...)} {
			if all = append(all, f); i < len(wanted) {
				want = append(want, f)
			}
		}
	}
	filters := []can.Filter{can.Exact(0x7E8), can.Exact(can.Extended | 0x7E9), {ID: can.Extended | 0xFEE000, Mask: can.Extended | 0xFFFF00}, can.Exact(1)}
	c := open(t, Config{URL: "socketcan://" + iface, Filters: filters})
	for _, s := range subscriptions(t, iface) {
		if s.List == "all" {
			t.Errorf("the kernel delivers everything: %v", s)
		}
	}
	play(t, ctx, iface, all)
	tool(t, ctx, "cansend", iface, "001#")
	if d := cmp.Diff(want, until(t, ctx, c)); d != "" {
		t.Error(d)
	}
	var delivered uint64
	for _, s := range subscriptions(t, iface) {
		delivered += s.Matches
	}
	if s := c.Stats(); delivered != uint64(len(want))+1 || s.Received != delivered || s.Filtered != 0 {
		t.Errorf("the kernel delivered %d frames of %d wanted: %+v", delivered, len(want)+1, s)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}

	// More filters than the kernel takes: it gets wider ones, and what these let pass too much is kept out here.
	many := []can.Filter{can.Exact(1)}
	want = nil
	for i := range can.ID(1000) {
		id := can.Extended | i<<4
		many = append(many, can.Exact(id))
		if i%100 == 0 {
			want = append(want, frame(id, 0, byte(i)))
		}
	}
	c = open(t, Config{URL: "socketcan://" + iface, Filters: many})
	all = nil
	for _, f := range want {
		near := f
		near.ID ^= 0x10 << 10 // not asked for, whatever is merged
		far := f
		far.ID |= 0x10000000
		all = append(all, f, near, far)
	}
	play(t, ctx, iface, all)
	tool(t, ctx, "cansend", iface, "001#")
	if d := cmp.Diff(want, until(t, ctx, c)); d != "" {
		t.Error(d)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}

	// No filter lets nothing pass.
	open(t, Config{URL: "socketcan://" + iface, Filters: []can.Filter{}})
	for _, s := range subscriptions(t, iface) {
		if s.List != "err" {
			t.Errorf("the kernel delivers frames that nobody wants: %v", s)
		}
	}
}

// What a full queue loses is counted to the frame.
func TestKernelOverflow(t *testing.T) {
	iface, ctx := kernelBus(t)
	c := open(t, Config{URL: "socketcan://" + iface})
	raw, err := c.port.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	small := func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1<<16) }
	if errControl := raw.Control(small); errControl != nil || err != nil {
		t.Fatal(errControl, err)
	}
	const n, room = 5_000, 8
	for round := range uint64(2) {
		flood(t, ctx, iface, n) // and nobody reads
		for range room {
			receive(t, ctx, c)
		}
		tool(t, ctx, "cansend", iface, "001#")
		until(t, ctx, c)
		s := c.Stats()
		// Of every round the last frame, too, was received.
		if got, want := s.Received+s.Overflowed, (round+1)*(n+1); got != want {
			t.Errorf("received and lost %d frames of %d: %+v", got, want, s)
		}
		if s.Overflowed == 0 || s.Received <= room*(round+1) {
			t.Errorf("the queue was not full, or empty: %+v", s)
		}
	}
}

// Error frames are counted by class and never received, whatever is filtered.
func TestKernelErrorFrames(t *testing.T) {
	iface, ctx := kernelBus(t)
	for _, filters := range [][]can.Filter{nil, {can.Exact(1)}} {
		c := open(t, Config{URL: "socketcan://" + iface, Filters: filters})
		var want ErrorCounts
		for _, e := range []struct {
			text    string
			classes []ErrorClass
		}{
			{"20000001#0000000000000000", []ErrorClass{TransmitTimeout}},
			{"20000002#0B00000000000000", []ErrorClass{LostArbitration}},
			{"20000004#0001000000000000", []ErrorClass{Controller}},         // receive queue
			{"20000004#0004000000000000", []ErrorClass{Controller}},         // warning level
			{"20000004#0010000000000000", []ErrorClass{ErrorPassive}},       // receiving
			{"20000204#0020000000008000", []ErrorClass{ErrorPassive}},       // sending, with counters
			{"20000088#0000041900000000", []ErrorClass{Protocol, BusError}}, // a stuff error
			{"20000010#0000000004000000", []ErrorClass{Transceiver}},        // CANH without wire
			{"20000020#0000000000000000", []ErrorClass{NoAcknowledge}},
			{"20000040#0000000000000000", []ErrorClass{BusOff}},
			{"20000040#0000000000000000", []ErrorClass{BusOff}},
			{"20000100#0000000000000000", []ErrorClass{Restarted}},
			{"20000200#0000000000007F00", []ErrorClass{OtherError}}, // counters alone
		} {
			tool(t, ctx, "cansend", iface, e.text)
			for _, class := range e.classes {
				want[class]++
			}
		}
		tool(t, ctx, "cansend", iface, "001#")
		if got := until(t, ctx, c); len(got) != 0 {
			t.Errorf("received %v", got)
		}
		if d := cmp.Diff(Stats{Received: 1, ErrorFrames: want}, c.Stats()); d != "" {
			t.Error(d)
		}
	}
}

// An interface that goes down, comes up, goes away and comes again, under a receiver and under a sender.
func TestKernelDown(t *testing.T) {
	_, ctx := kernelBus(t)
	const iface, url = "rawdown0", "socketcan://rawdown0"
	ip := func(args ...string) { t.Helper(); tool(t, ctx, "ip", append([]string{"link"}, args...)...) }
	refused := func(what string) {
		t.Helper()
		if c, err := Open(Config{URL: url}); !errors.Is(err, ErrDown) {
			t.Errorf("%s: Open: %v, want ErrDown", what, err)
			if err == nil {
				_ = c.Close()
			}
		}
	}
	refused("not there")
	ip("add", iface, "type", "vcan")
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", iface).Run() })
	refused("not up")
	if _, err := Open(Config{URL: "socketcan://lo"}); err == nil || errors.Is(err, ErrDown) || !strings.Contains(err.Error(), "not a CAN interface") {
		t.Errorf("Open of lo: %v, want that it is no CAN interface", err)
	}
	for _, end := range [][]string{{"set", iface, "down"}, {"del", iface}} {
		ip("set", iface, "up")
		receiver, sender := open(t, Config{URL: url}), open(t, Config{URL: url})
		send(t, ctx, sender, frame(0x42, 0))
		receive(t, ctx, receiver)
		done := make(chan error, 1)
		go func() {
			var f can.Frame
			done <- receiver.Receive(ctx, &f)
		}()
		ip(end...)
		if err := <-done; !errors.Is(err, ErrDown) {
			t.Errorf("%v: Receive: %v, want ErrDown", end, err)
		}
		f := frame(0x42, 0)
		if err := sender.Send(ctx, &f); !errors.Is(err, ErrDown) {
			t.Errorf("%v: Send: %v, want ErrDown", end, err)
		}
		if err := sender.Receive(ctx, &f); !errors.Is(err, ErrDown) {
			t.Errorf("%v: Receive after Send: %v, want ErrDown", end, err)
		}
		refused(fmt.Sprint(end))
	}
	ip("add", iface, "type", "vcan")
	ip("set", iface, "mtu", "16") // CAN_MTU: no CAN FD
	ip("set", iface, "up")
	c := open(t, Config{URL: url})
	tool(t, ctx, "cansend", iface, "123#")
	if f := receive(t, ctx, c); f.ID != 0x123 {
		t.Errorf("received %s", f.ID)
	}
	fd := frame(1, can.FD, make([]byte, 12)...)
	if err := c.Send(ctx, &fd); err == nil || !strings.Contains(err.Error(), "no CAN FD") {
		t.Errorf("an FD frame on an interface of mtu 16: %v", err)
	}
}
