package isotp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
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
