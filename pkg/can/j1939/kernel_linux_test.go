package j1939

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link"
)

// TestKernelPeer takes messages from Linux's own implementation (net/can/j1939) where the kernel has it: RAWSTONE_CAN names an
// interface that is up.
func TestKernelPeer(t *testing.T) {
	name := os.Getenv("RAWSTONE_CAN")
	if name == "" {
		t.Skip("set RAWSTONE_CAN to a CAN interface that is up, on a kernel with can-j1939")
	}
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	const (
		we, peer, other uint8 = 0x80, 0x21, 0x32
		group           PGN   = 0xEF00 // proprietary A, addressed
		open            PGN   = 65248
	)
	kernel(t, ifi.Index, other) // an address that another message can go to
	from := kernel(t, ifi.Index, peer)
	for _, c := range []struct {
		name   string
		answer bool
		pgn    PGN
		to     uint8
		sizes  []int
	}{
		// One message after another: the kernel starts the next only when it has seen the last one acknowledged.
		{"addressed", true, group, we, []int{1, 8, 9, 14, 15, 112, 113, 1785}},
		{"listening", false, group, other, []int{8, 9, 100, 1785}},
		{"broadcast", true, open, Global, []int{8, 9, 40, 140}}, // the kernel leaves 50 ms between two packets
	} {
		t.Run(c.name, func(t *testing.T) {
			bus, err := link.Open(link.Config{URL: "socketcan://" + name})
			if err != nil {
				t.Fatal(err)
			}
			got := make(chan Message, 8)
			cfg := Config{Address: we, Want: func(p PGN) bool { return p == c.pgn }, Deliver: func(m *Message) {
				n := *m
				n.Data = bytes.Clone(m.Data)
				got <- n
			}}
			if c.answer {
				cfg.Send = bus.Send
			}
			transport, err := New(cfg)
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
					if err := transport.Handle(ctx, &f); err != nil {
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
			long := uint64(0)
			for _, n := range c.sizes {
				msg := make([]byte, n)
				for i := range msg {
					msg[i] = byte(i*7 + n)
				}
				if n > 8 {
					long++
				}
				if err := unix.Sendto(from, msg, 0, &unix.SockaddrCANJ1939{Ifindex: ifi.Index, PGN: uint32(c.pgn), Addr: c.to}); err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				select {
				case m := <-got:
					if !bytes.Equal(m.Data, msg) || m.Source != peer || m.Destination != c.to || m.PGN != c.pgn {
						t.Errorf("%d bytes: got %d from %02X to %02X as PGN %d, which differ", n, len(m.Data), m.Source, m.Destination, m.PGN)
					}
				case <-ctx.Done():
					t.Fatalf("%d bytes did not come: %+v", n, transport.Stats())
				}
			}
			if s := transport.Stats(); s != (Stats{Delivered: long}) {
				t.Errorf("%+v, want %d delivered and nothing else", s, long)
			}
		})
	}
}

// kernel opens a socket of the kernel's implementation with an address.
func kernel(t *testing.T, ifindex int, address uint8) int {
	t.Helper()
	const noPGN = 0x40000 // J1939_NO_PGN of linux/can/j1939.h
	fd, err := unix.Socket(unix.AF_CAN, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.CAN_J1939)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrCANJ1939{Ifindex: ifindex, PGN: noPGN, Addr: address}); err != nil {
		t.Fatal(err)
	}
	return fd
}
