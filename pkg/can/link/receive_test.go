//go:build linux

package link

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link/internal/socket"
)

// A flood of identifiers that nobody wants costs a count each and hides nothing that is wanted.
func TestFilters(t *testing.T) {
	url := "udp://" + freeGroup(t)
	var many []can.Filter // more than a kernel takes
	for i := range 600 {
		many = append(many, can.Exact(can.Extended|can.ID(i*16)))
	}
	tx := open(t, Config{URL: url, SendTime: true})
	rx := open(t, Config{URL: url, Filters: append(many, can.Filter{ID: 0x7E8, Mask: can.Extended | 0x7F8})})
	none := open(t, Config{URL: url, Filters: []can.Filter{}})
	ctx := deadline(t)
	const flood = 2000
	for i := range flood {
		f := frame(can.Extended|can.ID(i*16+1), 0, 1, 2)
		f.Time = 5e9
		send(t, ctx, tx, f)
	}
	for _, id := range []can.ID{can.Extended | 0x7E8, 0x7E7, can.Extended | 16, 0x7EF} {
		f := frame(id, 0)
		f.Time = 5e9
		send(t, ctx, tx, f)
	}
	for _, id := range []can.ID{can.Extended | 16, 0x7EF} {
		if got := receive(t, ctx, rx); got.ID != id || got.Time != 5e9 { // the time frame is not filtered
			t.Errorf("received %s at %d, want %s", got.ID, got.Time, id)
		}
	}
	if d := cmp.Diff(Stats{Received: 2, Filtered: flood + 2}, rx.Stats()); d != "" {
		t.Error(d)
	}
	if n := rx.Carried(); n != flood+4 {
		t.Errorf("%d frames carried, want %d", n, flood+4)
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	var f can.Frame
	if err := none.Receive(short, &f); err != context.DeadlineExceeded {
		t.Errorf("an empty list let %s pass: %v", f.ID, err)
	}
}

// A bus that is opened again and again for years, under one context, leaves nothing behind.
func TestReopenLeavesNothing(t *testing.T) {
	url := "udp://" + freeGroup(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := func(n int) (descriptors, goroutines int) {
		t.Helper()
		for range n {
			c, err := Open(Config{URL: url})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error)
			go func() {
				var f can.Frame
				done <- c.Receive(ctx, &f)
			}()
			send(t, ctx, c, frame(1, 0))
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				t.Fatal(err)
			}
		}
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(fds), runtime.NumGoroutine()
	}
	descriptors, goroutines := open(1)
	if d, g := open(3000); d > descriptors || g > goroutines+2 { // of the runtime's own, some come and go
		t.Errorf("%d descriptors and %d goroutines, %d and %d before", d, g, descriptors, goroutines)
	}
}

// Error frames are counted by what they say and never received, whatever the filters.
func TestErrorFrames(t *testing.T) {
	a, b := pair(t)
	ctx := deadline(t)
	b.want = can.NewMatcher([]can.Filter{can.Exact(1)})
	for _, f := range []can.Frame{
		frame(can.Extended|0x40, can.Error, 0, 0, 0, 0, 0, 0, 0, 0),
		frame(can.Extended|0x40, can.Error, 0, 0, 0, 0, 0, 0, 0, 0),
		frame(can.Extended|0x04, can.Error, 0, 0x08, 0, 0, 0, 0, 0, 0),       // transmit warning
		frame(can.Extended|0x04, can.Error, 0, 0x20, 0, 0, 0, 0, 0, 0),       // transmit passive
		frame(can.Extended|0x204, can.Error, 0, 0x10, 0, 0, 0, 0, 0x80, 0),   // receive passive, with counters
		frame(can.Extended|0xA8, can.Error, 0, 0x30, 0x80, 0x19, 0, 0, 0, 0), // protocol, acknowledgement, bus error
		frame(can.Extended|0x100, can.Error, 0, 0, 0, 0, 0, 0, 0, 0),
		frame(can.Extended|0x13, can.Error, 0, 0, 0, 0, 0, 0, 0, 0),
		frame(can.Extended|0x200, can.Error, 0, 0, 0, 0, 0, 0, 1, 1),
		frame(can.Extended|0x1000, can.Error),
		frame(1, 0),
	} {
		send(t, ctx, a, f)
	}
	if got := receive(t, ctx, b); got.ID != 1 || got.Flags != 0 {
		t.Errorf("received %s with flags %x", got.ID, got.Flags)
	}
	want := Stats{Received: 1, ErrorFrames: ErrorCounts{
		BusOff: 2, Controller: 1, ErrorPassive: 2, Protocol: 1, NoAcknowledge: 1, BusError: 1, Restarted: 1,
		TransmitTimeout: 1, LostArbitration: 1, Transceiver: 1, OtherError: 2,
	}}
	if d := cmp.Diff(want, b.Stats()); d != "" {
		t.Error(d)
	}
	names := make(map[string]bool)
	for c := range NumErrorClasses {
		names[c.String()] = true
	}
	if len(names) != int(NumErrorClasses) || names[NumErrorClasses.String()] {
		t.Errorf("names %v", names)
	}
}

// A scriptPort is a socket's double that says what it was told to.
type scriptPort struct {
	port
	arrivals []socket.Arrival
	sendErr  error
	deadline chan struct{}
}

func (p *scriptPort) Receive(b []byte) (socket.Arrival, error) {
	if len(p.arrivals) == 0 {
		<-p.deadline
		return socket.Arrival{}, os.ErrDeadlineExceeded
	}
	a := p.arrivals[0]
	p.arrivals = p.arrivals[1:]
	clear(b[:a.Len])
	return a, nil
}

func (p *scriptPort) Send([]byte) error                { return p.sendErr }
func (p *scriptPort) SetWriteDeadline(time.Time) error { return nil }
func (p *scriptPort) SetReadDeadline(t time.Time) error {
	if !t.IsZero() {
		p.deadline <- struct{}{}
	}
	return nil
}

// The kernel's counter has 32 bits.
func TestOverflowCountWraps(t *testing.T) {
	p := &scriptPort{}
	for _, lost := range []uint32{0, 5, 5, 1<<32 - 2, 1<<32 - 1, 3} {
		p.arrivals = append(p.arrivals, socket.Arrival{Len: sizeClassic, Lost: lost})
	}
	c := newConn(Config{URL: "socketcan://script", Now: time.Now}, p, binary.NativeEndian)
	for range 6 {
		receive(t, t.Context(), c)
	}
	if d := cmp.Diff(Stats{Received: 6, Overflowed: 1<<32 + 3}, c.Stats()); d != "" {
		t.Error(d)
	}
}

// The kernel tells that an interface went down once, to whoever asks first: a Send that learns it must not leave Receive waiting.
func TestSendEndsReceive(t *testing.T) {
	p := &scriptPort{sendErr: errors.Join(socket.ErrDown, unix.ENETDOWN), deadline: make(chan struct{})}
	c := newConn(Config{URL: "socketcan://script", Now: time.Now}, p, binary.NativeEndian)
	done := make(chan error)
	go func() {
		var f can.Frame
		done <- c.Receive(t.Context(), &f)
	}()
	f := frame(1, 0)
	if err := c.Send(t.Context(), &f); !errors.Is(err, ErrDown) {
		t.Errorf("Send: %v", err)
	}
	if err := <-done; !errors.Is(err, ErrDown) {
		t.Errorf("Receive: %v", err)
	}
}

func TestCheck(t *testing.T) {
	for url, ok := range map[string]bool{
		"udp://239.1.1.1:4000": true, "socketcan://can0": true, "udp://10.0.0.1:4000": false, "socketcan://": false, "replay:///x": false,
	} {
		if err := Check(url); (err == nil) != ok {
			t.Errorf("%s: %v", url, err)
		}
	}
}
