package isotp

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
)

// TestKernelPeer speaks with Linux's own implementation (net/can/isotp.c) where the kernel has it: RAWSTONE_CAN names an
// interface that is up, for example a vcan with mtu 72.
func TestKernelPeer(t *testing.T) {
	name := os.Getenv("RAWSTONE_CAN")
	if name == "" {
		t.Skip("set RAWSTONE_CAN to a CAN interface that is up, on a kernel with can-isotp")
	}
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		cfg  Config
	}{
		{"classic", Config{}},
		{"blocks", Config{BlockSize: 5, STmin: time.Millisecond, Padding: true, PadByte: 0xCC}},
		{"fd", Config{FD: true, BitRateSwitch: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fd, err := unix.Socket(unix.AF_CAN, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.CAN_ISOTP)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			// struct can_isotp_options: ask for a block size of 4 and no separation through struct can_isotp_fc_options.
			const optRecvFC, optLinkLayer = 2, 5 // CAN_ISOTP_RECV_FC, CAN_ISOTP_LL_OPTS of linux/can/isotp.h
			if err := unix.SetsockoptString(fd, unix.SOL_CAN_BASE+unix.CAN_ISOTP, optRecvFC, "\x04\x00\x00"); err != nil {
				t.Fatal(err)
			}
			if c.cfg.FD {
				// struct can_isotp_ll_options: mtu 72, tx_dl 64, bit rate switch.
				if err := unix.SetsockoptString(fd, unix.SOL_CAN_BASE+unix.CAN_ISOTP, optLinkLayer, "\x48\x40\x01"); err != nil {
					t.Fatal(err)
				}
			}
			if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
				t.Fatal(err)
			}
			if err := unix.Bind(fd, &unix.SockaddrCAN{Ifindex: ifi.Index, RxID: uint32(tester), TxID: uint32(ecu)}); err != nil {
				t.Fatal(err)
			}

			bus, err := link.Open(link.Config{URL: "socketcan://" + name})
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan []byte, 1)
			cfg := c.cfg
			cfg.Tx, cfg.Rx, cfg.Send = tester, ecu, bus.Send
			cfg.Deliver = func(msg []byte) { got <- bytes.Clone(msg) }
			conn, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			var loop sync.WaitGroup
			loop.Go(func() {
				for {
					var f can.Frame
					if err := bus.Receive(ctx, &f); err != nil {
						if !errors.Is(err, context.Canceled) {
							t.Error(err)
						}
						return
					}
					if err := conn.Handle(ctx, &f); err != nil {
						t.Error(err)
					}
				}
			})
			defer func() {
				cancel()
				loop.Wait()
				if err := bus.Close(); err != nil {
					t.Error(err)
				}
			}()
			for _, n := range []int{1, 7, 8, 62, 63, 500, 4095} {
				msg := message(n)
				answer := make(chan error, 1)
				go func() {
					buf := make([]byte, 5000)
					m, err := unix.Read(fd, buf)
					if err == nil && !bytes.Equal(buf[:m], msg) {
						err = fmt.Errorf("the kernel received %d bytes that differ", m)
					}
					if err == nil {
						_, err = unix.Write(fd, msg)
					}
					answer <- err
				}()
				if err := conn.Write(ctx, msg); err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				if err := <-answer; err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				select {
				case m := <-got:
					if !bytes.Equal(m, msg) {
						t.Errorf("%d bytes came back as %d that differ", n, len(m))
					}
				case <-ctx.Done():
					t.Fatalf("%d bytes did not come back", n)
				}
			}
			if s := conn.Stats(); s.Received != 7 || s.Sent != 7 || s.Malformed+s.Unexpected+s.Sequence+s.Timeouts != 0 {
				t.Errorf("counters: %+v", s)
			}
		})
	}
}

// A spy hears both ends of a conversation.
type spy struct {
	bus    *link.Conn
	frames []can.Frame
}

// until collects frames up to the one that cansend is told to send now.
func (s *spy) until(t *testing.T, ctx context.Context, iface string) []can.Frame {
	t.Helper()
	if out, err := exec.CommandContext(ctx, "cansend", iface, "001#").CombinedOutput(); err != nil {
		t.Fatalf("cansend: %v\n%s", err, out)
	}
	s.frames = s.frames[:0]
	for {
		var f can.Frame
		if err := s.bus.Receive(ctx, &f); err != nil {
			t.Fatal(err)
		}
		if f.ID == 1 {
			return s.frames
		}
		s.frames = append(s.frames, f)
	}
}

// controls returns the flow controls of an end, after it saw that every one allows the same.
func controls(t *testing.T, frames []can.Frame, from can.ID, block, stmin byte) (n int) {
	t.Helper()
	for i := range frames {
		if f := &frames[i]; f.ID == from && f.Data[0]>>4 == flowControl {
			n++
			if f.Data[0] != flowControl<<4 || f.Data[1] != block || f.Data[2] != stmin {
				t.Errorf("flow control % X, want 30 %02X %02X", f.Data[:3], block, stmin)
			}
		}
	}
	return n
}

// separation looks whether consecutive frames of a block are at least gap apart. Only a lower bound can be asserted: machines stall.
func separation(t *testing.T, frames []can.Frame, from can.ID, gap time.Duration) {
	t.Helper()
	last := int64(0) // no consecutive frame since the last flow control
	for _, f := range frames {
		switch {
		case f.ID != from:
			last = 0
		case f.Data[0]>>4 == consecutiveFrame:
			if last != 0 && f.Time-last < int64(gap) {
				t.Errorf("consecutive frames are %v apart, want at least %v", time.Duration(f.Time-last), gap)
				return
			}
			last = f.Time
		}
	}
}

// blocks is how many flow controls a message of n bytes takes when a frame carries dl bytes.
func blocks(n, dl, block int) int {
	if n <= maxSingle(dl) {
		return 0
	}
	if block == 0 {
		return 1
	}
	consecutive := (n - (dl - 2) + dl - 2) / (dl - 1)
	return (consecutive + block - 1) / block
}

// TestKernelTools speaks with isotpsend and isotprecv of can-utils, programs over the kernel's can-isotp, with block sizes and
// separation times asked by either side.
func TestKernelTools(t *testing.T) {
	iface := os.Getenv("RAWSTONE_CAN")
	if iface == "" {
		t.Skip("set RAWSTONE_CAN to a CAN interface that is up, on a kernel with can-isotp, and have can-utils; make test-socketcan does both")
	}
	for _, c := range []struct {
		name         string
		cfg          Config
		args         []string // of isotprecv and isotpsend
		block, stmin byte     // that isotprecv asks for
		dl           int
	}{
		{"classic", Config{}, nil, 0, 0, 8},
		{"blocks", Config{BlockSize: 5, STmin: time.Millisecond}, nil, 8, 1, 8},
		{"microseconds", Config{BlockSize: 1, STmin: 100 * time.Microsecond}, nil, 3, 0xF3, 8},
		{"padding", Config{BlockSize: 15, Padding: true, PadByte: 0xCC}, []string{"-p", "AA:CC"}, 15, 0, 8},
		{"fd", Config{FD: true, BitRateSwitch: true}, []string{"-L", "72:64:1"}, 0, 0, 64},
		{"fd blocks", Config{FD: true, BlockSize: 4, STmin: 2 * time.Millisecond}, []string{"-L", "72:64:0"}, 7, 2, 64},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
			defer cancel()
			var conns [2]*link.Conn
			for i := range conns {
				b, err := link.Open(link.Config{URL: "socketcan://" + iface})
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				conns[i] = b
			}
			bus, spy := conns[0], spy{bus: conns[1]}
			got := make(chan []byte, 1)
			cfg := c.cfg
			cfg.Tx, cfg.Rx, cfg.Send, cfg.Timeout = tester, ecu, bus.Send, 20*time.Second
			cfg.Deliver = func(msg []byte) { got <- bytes.Clone(msg) }
			conn, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var loop sync.WaitGroup
			loop.Go(func() {
				for {
					var f can.Frame
					if err := bus.Receive(ctx, &f); err != nil {
						if !errors.Is(err, context.Canceled) {
							t.Error(err)
						}
						return
					}
					if err := conn.Handle(ctx, &f); err != nil {
						t.Error(err)
					}
				}
			})
			defer loop.Wait()
			defer cancel()
			args := append([]string{"-s", ecu.String(), "-d", tester.String()}, c.args...)
			sizes := []int{7, 62, 63, 4095} // the longest single frames, one more, and the longest of all
			for _, n := range sizes {
				msg := message(n)
				// From the kernel.
				sender := exec.CommandContext(ctx, "isotpsend", append(args, "-b", iface)...)
				sender.Stdin = strings.NewReader(fmt.Sprintf("% X\n", msg))
				if out, err := sender.CombinedOutput(); err != nil {
					t.Fatalf("isotpsend of %d bytes: %v\n%s", n, err, out)
				}
				select {
				case m := <-got:
					if !bytes.Equal(m, msg) {
						t.Errorf("isotpsend's %d bytes came as %d that differ", n, len(m))
					}
				case <-ctx.Done():
					t.Fatalf("isotpsend's %d bytes did not come", n)
				}
				frames := spy.until(t, ctx, iface)
				asked := byte(c.cfg.STmin / time.Millisecond)
				if c.cfg.STmin > 0 && asked == 0 {
					asked = 0xF0 + byte(c.cfg.STmin/(100*time.Microsecond))
				}
				if have, want := controls(t, frames, tester, c.cfg.BlockSize, asked), blocks(n, c.dl, int(c.cfg.BlockSize)); have != want {
					t.Errorf("receiving %d bytes took %d flow controls, want %d", n, have, want)
				}
				// To the kernel.
				var out, diagnostics bytes.Buffer
				receiver := exec.CommandContext(ctx, "isotprecv", append(args, "-b", fmt.Sprintf("%X", c.block), "-m", fmt.Sprintf("%X", c.stmin), iface)...)
				receiver.Stdout, receiver.Stderr = &out, &diagnostics
				if err := receiver.Start(); err != nil {
					t.Fatal(err)
				}
				for !listening(t, iface, tester) || !asleep(t, receiver.Process.Pid) {
					if ctx.Err() != nil {
						t.Fatal("isotprecv does not listen")
					}
					time.Sleep(time.Millisecond)
				}
				if err := conn.Write(ctx, msg); err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				if err := receiver.Wait(); err != nil {
					t.Fatalf("isotprecv of %d bytes: %v\n%s", n, err, diagnostics.Bytes())
				}
				back, err := hex.DecodeString(strings.Join(strings.Fields(out.String()), ""))
				if err != nil || !bytes.Equal(back, msg) {
					t.Errorf("isotprecv got %d bytes that differ from the %d sent: %v", len(back), n, err)
				}
				frames = spy.until(t, ctx, iface)
				if have, want := controls(t, frames, ecu, c.block, c.stmin), blocks(n, c.dl, int(c.block)); have != want {
					t.Errorf("sending %d bytes took %d flow controls, want %d", n, have, want)
				}
				gap := time.Duration(c.stmin) * time.Millisecond
				if c.stmin > 0xF0 {
					gap = time.Duration(c.stmin-0xF0) * 100 * time.Microsecond
				}
				separation(t, frames, tester, gap)
			}
			n := uint64(len(sizes))
			if s := conn.Stats(); s != (Stats{Sent: n, Received: n}) {
				t.Errorf("counters: %+v", s)
			}
		})
	}
}

// listening reports whether a socket takes exactly this standard identifier from the interface.
func listening(t *testing.T, iface string, id can.ID) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/net/can/rcvlist_sff")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == iface && strings.EqualFold(f[1], id.String()) {
			return true
		}
	}
	return false
}

// asleep reports whether a process waits. isotprecv does once it reads; before that, a kernel of the 6.1 series already takes
// frames for the socket being bound and cannot answer them yet.
func asleep(t *testing.T, pid int) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, state, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(state, "S")
}
