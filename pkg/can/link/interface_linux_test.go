package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link/internal/socket"
)

// alone exchanges a frame where only lo exists, without a route and without the MULTICAST flag.
func alone(url string) int {
	if out, err := exec.Command("ip", "link", "set", "lo", "up", "multicast", "off").CombinedOutput(); err != nil {
		fmt.Printf("cannot prepare lo: %v: %s\n", err, out)
		return 3
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := func() error {
		rx, err := Open(Config{URL: url})
		if err != nil {
			return err
		}
		tx, err := Open(Config{URL: url})
		if err != nil {
			return err
		}
		f := frame(0x42, 0, 1)
		if err := tx.Send(ctx, &f); err != nil {
			return err
		}
		if err := rx.Receive(ctx, &f); err != nil {
			return err
		}
		return errors.Join(rx.Close(), tx.Close())
	}()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("exchanged")
	return 0
}

func TestOnlyLoopback(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("no ip command")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "RAWSTONE_LINK_TEST_ALONE=udp://"+freeGroup(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 3 {
		t.Skipf("cannot make a network namespace: %v %s", err, out)
	}
	if err != nil || strings.TrimSpace(string(out)) != "exchanged" {
		t.Errorf("%v: %s", err, out)
	}
}

// This machine's kernel may lack CAN, or have it and lack the interface: both must be said with the remedy.
func TestMissingInterface(t *testing.T) {
	_, err := Open(Config{URL: "socketcan://nosuchcan"})
	if err == nil {
		t.Fatal("opened")
	}
	msg := err.Error()
	if !strings.Contains(msg, "nosuchcan") ||
		!strings.Contains(msg, "kernel with CAN") && !strings.Contains(msg, "ip link") && !errors.Is(err, unix.EPERM) {
		t.Errorf("%q names no remedy", msg)
	}
}

// pair is a SocketCAN socket's double: like it, a Unix datagram socket moves whole frames without blocking the thread.
func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	side := func(fd int) *Conn {
		p, err := socket.NewInterface(os.NewFile(uintptr(fd), "pair"))
		if err != nil {
			t.Fatal(err)
		}
		c := newConn(Config{URL: "socketcan://pair", Now: fixed(55)}, p, binary.NativeEndian)
		c.fd = true
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	return side(fds[0]), side(fds[1])
}

func TestInterfacePort(t *testing.T) {
	a, b := pair(t)
	ctx := deadline(t)
	long := make([]byte, 64)
	long[63] = 9
	for _, f := range []can.Frame{
		frame(0x123, 0, 1, 2, 3),
		frame(can.Extended|0x1FFFFFFF, can.FD|can.BitRateSwitch, long...),
		frame(TimeID, 0, 1, 2, 3, 4, 5, 6, 7, 8), // nothing special here
	} {
		send(t, ctx, a, f)
		f.Time = 55
		if d := cmp.Diff(f, receive(t, ctx, b)); d != "" {
			t.Error(d)
		}
	}
	var got can.Frame
	short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	if err := b.Receive(short, &got); err != context.DeadlineExceeded {
		t.Errorf("Receive: %v, want context.DeadlineExceeded", err)
	}
	// A full queue blocks Send until it is cancelled, and then works again.
	var sent int
	fill, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	var err error
	for err == nil {
		f := frame(0x1, 0)
		if err = a.Send(fill, &f); err == nil {
			sent++
		}
	}
	if err != context.DeadlineExceeded {
		t.Errorf("Send: %v, want context.DeadlineExceeded", err)
	}
	for range sent {
		receive(t, ctx, b)
	}
	send(t, ctx, a, frame(2, 0))
	if got := receive(t, ctx, b); got.ID != 2 {
		t.Errorf("received %s", got.ID)
	}
	done := make(chan error)
	go func() { done <- b.Receive(ctx, &got) }()
	time.Sleep(time.Millisecond)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Receive: %v, want net.ErrClosed", err)
	}
}

// busyPort answers like an interface whose transmit queue is full.
type busyPort struct {
	port
	refusals int
}

func (p *busyPort) Send([]byte) error {
	if p.refusals > 0 {
		p.refusals--
		return os.NewSyscallError("write", unix.ENOBUFS)
	}
	return nil
}

func (p *busyPort) SetWriteDeadline(time.Time) error { return nil }

func TestFullTransmitQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := &busyPort{refusals: 3}
		c := newConn(Config{URL: "socketcan://busy", Now: time.Now}, busy, binary.NativeEndian)
		f := frame(1, 0)
		if err := c.Send(t.Context(), &f); err != nil || busy.refusals != 0 {
			t.Errorf("Send: %v with %d refusals left", err, busy.refusals)
		}
		busy.refusals = 1 << 30
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := c.Send(ctx, &f); err != context.DeadlineExceeded {
			t.Errorf("Send: %v, want context.DeadlineExceeded", err)
		}
		start := time.Now()
		if err := c.Send(t.Context(), &f); !errors.Is(err, unix.ENOBUFS) || !strings.Contains(err.Error(), "acknowledges") {
			t.Errorf("Send: %v, want ENOBUFS and what to look at", err)
		}
		if d := time.Since(start); d < sendPatience || d > sendPatience+2*sendPause {
			t.Errorf("gave up after %v", d)
		}
		if got := c.Stats().Sent; got != 1 {
			t.Errorf("counted %d frames sent, want 1", got)
		}
	})
}

// TestSocketCAN runs on a kernel with CAN: RAWSTONE_CAN names an interface that is up, for example a vcan with mtu 72.
func TestSocketCAN(t *testing.T) {
	name := os.Getenv("RAWSTONE_CAN")
	if name == "" {
		t.Skip("set RAWSTONE_CAN to a CAN interface that is up")
	}
	a, b := open(t, Config{URL: "socketcan://" + name}), open(t, Config{URL: "socketcan://" + name})
	ctx := deadline(t)
	long := make([]byte, 64)
	long[63] = 9
	frames := []can.Frame{
		frame(0x123, 0, 1, 2, 3),
		frame(can.Extended|0x123, 0, 1, 2, 3, 4, 5, 6, 7, 8),
		{ID: 0x7FF, Flags: can.Remote, Len: 8},
	}
	if a.fd {
		frames = append(frames, frame(can.Extended|0x1FFFFFFF, can.FD|can.BitRateSwitch, long...))
	}
	for _, f := range frames {
		before := time.Now().UnixNano()
		send(t, ctx, a, f)
		got := receive(t, ctx, b)
		if got.Time < before || got.Time > time.Now().UnixNano() {
			t.Errorf("time stamp %d is not between sending and now", got.Time)
		}
		got.Time = 0
		if d := cmp.Diff(f, got); d != "" {
			t.Error(d)
		}
	}
	// No more under way than the kernel holds between two sockets (net.core.netdev_max_backlog is 1000): beyond it a machine that stands still
	// for a moment drops frames, which TestKernelOverflow is about.
	const many, ahead = 20_000, 200
	done, way := make(chan error, 1), make(chan struct{}, ahead)
	go func() {
		var f can.Frame
		for i := range many {
			if err := b.Receive(ctx, &f); err != nil {
				done <- fmt.Errorf("after %d frames: %w", i, err)
				return
			}
			if got := int(binary.BigEndian.Uint32(f.Data[:])); got != i {
				done <- fmt.Errorf("frame %d arrived when %d was due", got, i)
				return
			}
			<-way
		}
		done <- nil
	}()
	f := can.Frame{ID: 0x321, Len: 8}
	for i := range many {
		binary.BigEndian.PutUint32(f.Data[:], uint32(i))
		select {
		case way <- struct{}{}:
		case err := <-done:
			t.Fatal(err)
		}
		send(t, ctx, a, f)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := a.Stats(); got.Received != 0 {
		t.Errorf("the sender heard itself: %+v", got)
	}
	// What the kernel keeps from a Conn still shows that the bus is alive.
	none := open(t, Config{URL: "socketcan://" + name, Filters: []can.Filter{}})
	heard := none.Carried()
	send(t, ctx, a, f)
	if receive(t, ctx, b); none.Carried() == heard || heard == 0 {
		t.Errorf("%d frames carried before and after one more", heard)
	}
	// A wait that ends without a frame, and one that ends by closing.
	short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
	defer cancel()
	if err := b.Receive(short, &f); err != context.DeadlineExceeded {
		t.Errorf("Receive: %v, want context.DeadlineExceeded", err)
	}
	go func() { done <- b.Receive(ctx, &f) }()
	time.Sleep(time.Millisecond)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Receive: %v, want net.ErrClosed", err)
	}
}
