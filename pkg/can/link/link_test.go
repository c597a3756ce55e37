//go:build linux

package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link/internal/socket"
)

// freeGroup names a group that nobody else uses.
func freeGroup(t testing.TB) string {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return fmt.Sprintf("239.255.%d.%d:%d", rand.IntN(256), 1+rand.IntN(254), c.LocalAddr().(*net.UDPAddr).Port)
}

func open(t testing.TB, cfg Config) *Conn {
	t.Helper()
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return c
}

func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func receive(t testing.TB, ctx context.Context, c *Conn) can.Frame {
	t.Helper()
	var f can.Frame
	if err := c.Receive(ctx, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func send(t testing.TB, ctx context.Context, c *Conn, f can.Frame) {
	t.Helper()
	if err := c.Send(ctx, &f); err != nil {
		t.Fatal(err)
	}
}

func fixed(ns int64) func() time.Time { return func() time.Time { return time.Unix(0, ns) } }

// raw is a socket that can put any bytes on the bus.
func raw(t testing.TB, group string) *socket.Group {
	t.Helper()
	c, err := socket.JoinGroup(netip.MustParseAddrPort(group), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestExchange(t *testing.T) {
	url := "udp://" + freeGroup(t)
	const n = 4
	var conns []*Conn
	for range n {
		conns = append(conns, open(t, Config{URL: url, Now: fixed(77)}))
	}
	ctx := deadline(t)
	for i, c := range conns {
		send(t, ctx, c, frame(can.ID(0x100+i), 0, byte(i)))
		send(t, ctx, c, can.Frame{ID: can.Extended | can.ID(i), Flags: can.Remote, Len: 4})
	}
	// Everybody hears everybody else, in order, and not itself.
	for i, c := range conns {
		for j := range conns {
			if j == i {
				continue
			}
			want := frame(can.ID(0x100+j), 0, byte(j))
			want.Time = 77
			if d := cmp.Diff(want, receive(t, ctx, c)); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(can.Frame{Time: 77, ID: can.Extended | can.ID(j), Flags: can.Remote, Len: 4}, receive(t, ctx, c)); d != "" {
				t.Error(d)
			}
		}
		if d := cmp.Diff(Stats{Received: 2 * (n - 1), Sent: 2}, c.Stats()); d != "" {
			t.Error(d)
		}
	}
}

// Two buses may share the port number or the group, never frames.
func TestBusesAreSeparate(t *testing.T) {
	group := netip.MustParseAddrPort(freeGroup(t))
	twin := netip.AddrPortFrom(group.Addr().Next(), group.Port())
	a, b := open(t, Config{URL: "udp://" + group.String()}), open(t, Config{URL: "udp://" + twin.String()})
	tx := open(t, Config{URL: "udp://" + group.String()})
	tx2 := open(t, Config{URL: "udp://" + twin.String()})
	ctx := deadline(t)
	send(t, ctx, tx, frame(1, 0))
	send(t, ctx, tx2, frame(2, 0))
	// Unicast to the port is not the bus either.
	u, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", group.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	stray := make([]byte, sizeClassic)
	stray[0] = 3
	_, _ = u.Write(stray)
	send(t, ctx, tx, frame(4, 0))
	send(t, ctx, tx2, frame(4, 0))
	for c, id := range map[*Conn]can.ID{a: 1, b: 2} {
		for _, want := range []can.ID{id, 4} {
			if got := receive(t, ctx, c).ID; got != want {
				t.Errorf("received %s, want %s", got, want)
			}
		}
	}
}

func TestNoneLostInBursts(t *testing.T) {
	url := "udp://" + freeGroup(t)
	const frames, burst = 50_000, 100
	rx := [...]*Conn{open(t, Config{URL: url}), open(t, Config{URL: url})}
	tx := open(t, Config{URL: url})
	ctx := deadline(t)
	var all sync.WaitGroup
	var got [len(rx)]atomic.Int64
	for receiver, c := range rx {
		all.Go(func() {
			seen := make([]bool, frames) // and not their order, which the kernel may change
			for i := range frames {
				var f can.Frame
				if err := c.Receive(ctx, &f); err != nil {
					t.Errorf("after %d frames: %v", i, err)
					return
				}
				n := binary.BigEndian.Uint32(f.Data[:])
				if seen[n] {
					t.Errorf("frame %d arrived twice", n)
				}
				seen[n] = true
				got[receiver].Add(1)
			}
		})
	}
	f := can.Frame{ID: 0x123, Len: 8}
	for i := range frames {
		binary.BigEndian.PutUint32(f.Data[:], uint32(i))
		if err := tx.Send(ctx, &f); err != nil {
			t.Fatal(err)
		}
		if i%burst == burst-1 {
			for min(got[0].Load(), got[1].Load()) <= int64(i) && ctx.Err() == nil { // a starved receiver's queue would overflow
				time.Sleep(20 * time.Microsecond)
			}
		}
	}
	all.Wait()
}

func TestQueueIsLarge(t *testing.T) {
	// The default receive queue holds a few hundred frames.
	if limit, err := os.ReadFile("/proc/sys/net/core/rmem_max"); os.Geteuid() != 0 && err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(limit))); err == nil && n < 8<<20 {
			t.Skipf("skipped: large receive queues; run as root or set net.core.rmem_max, which is %d", n)
		}
	}
	url := "udp://" + freeGroup(t)
	rx, tx := open(t, Config{URL: url}), open(t, Config{URL: url})
	ctx := deadline(t)
	const frames = 4000
	for i := range frames {
		send(t, ctx, tx, can.Frame{ID: can.ID(i % 0x800)})
	}
	for range frames {
		receive(t, ctx, rx)
	}
}

func TestCancel(t *testing.T) {
	url := "udp://" + freeGroup(t)
	rx, tx := open(t, Config{URL: url}), open(t, Config{URL: url})
	var f can.Frame
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- rx.Receive(ctx, &f) }()
		if rand.IntN(2) == 0 {
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
		}
		cancel()
		if err := <-done; err != context.Canceled {
			t.Fatalf("Receive: %v, want context.Canceled", err)
		}
		// The deadline that ended it must not end the next, whose context lives.
		send(t, deadline(t), tx, frame(0x42, 0))
		if got := receive(t, t.Context(), rx).ID; got != 0x42 {
			t.Fatalf("received %s", got)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := rx.Receive(ctx, &f); err != context.DeadlineExceeded {
		t.Errorf("Receive: %v, want context.DeadlineExceeded", err)
	}
	if err := tx.Send(ctx, &f); err != context.DeadlineExceeded {
		t.Errorf("Send: %v, want context.DeadlineExceeded", err)
	}
}

func TestClose(t *testing.T) {
	c := open(t, Config{URL: "udp://" + freeGroup(t)})
	done := make(chan error)
	go func() {
		var f can.Frame
		done <- c.Receive(context.Background(), &f)
	}()
	time.Sleep(time.Millisecond)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Receive: %v, want net.ErrClosed", err)
	}
	f := frame(1, 0)
	if err := c.Send(t.Context(), &f); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send: %v, want net.ErrClosed", err)
	}
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v, want net.ErrClosed", err)
	}
}

func TestHostileDatagrams(t *testing.T) {
	group := freeGroup(t)
	rx := open(t, Config{URL: "udp://" + group})
	tx := raw(t, group)
	good := make([]byte, sizeClassic)
	good[0], good[4], good[8] = 0x42, 1, 9
	bad := [][]byte{{}, {1}, good[:15], append(good[:16:16], 0), make([]byte, 72), make([]byte, 9000)}
	for _, i := range []struct {
		at int
		v  byte
	}{{4, 9}, {4, 255}, {1, 8}, {2, 1}, {3, 0x60}, {3, 0xE0}} {
		b := append([]byte(nil), good...)
		b[i.at] = i.v
		bad = append(bad, b)
	}
	short, _ := new(timeSource).announce(5, time.Now()) // a time frame that has lost its last byte
	short[4] = 7
	past, _ := new(timeSource).announce(-5, time.Now())
	bad = append(bad, short[:], past[:])
	for _, b := range bad {
		if err := tx.Send(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Send(good); err != nil {
		t.Fatal(err)
	}
	got := receive(t, deadline(t), rx)
	got.Time = 0
	if d := cmp.Diff(frame(0x42, 0, 9), got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Stats{Received: 1, Malformed: uint64(len(bad))}, rx.Stats()); d != "" {
		t.Error(d)
	}
}

func TestSendRefuses(t *testing.T) {
	c := open(t, Config{URL: "udp://" + freeGroup(t), SendTime: true})
	for name, f := range map[string]can.Frame{
		"CAN FD":      {ID: 1, Flags: can.FD},
		"reserved":    {ID: TimeID, Len: 8},
		"more bits":   {ID: 0x800},
		"before 1970": {ID: 1, Time: -1},
	} {
		if err := c.Send(t.Context(), &f); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d := cmp.Diff(Stats{}, c.Stats()); d != "" {
		t.Error(d)
	}
}

func TestOpenRefuses(t *testing.T) {
	for url, want := range map[string]string{
		"":                             "unknown kind",
		"can0":                         "unknown kind",
		"tcp://239.1.1.1:4000":         "unknown kind",
		"udp://127.0.0.1:4000":         "not an IPv4 multicast address",
		"udp://192.0.2.2:4000":         "not an IPv4 multicast address",
		"udp://255.255.255.255:4000":   "not an IPv4 multicast address",
		"udp://0.0.0.0:4000":           "not an IPv4 multicast address",
		"udp://[ff02::1]:4000":         "not an IPv4 multicast address",
		"udp://239.1.1.1":              "not an address with a port",
		"udp://239.1.1.1:0":            "not an address with a port",
		"udp://239.1.1.1:x":            "not an address with a port",
		"udp://localhost:4000":         "not an address with a port",
		"udp://239.1.1.1:4000/x":       "not an address with a port",
		"udp://239.1.1.1:4000?if=lo":   "not an address with a port",
		"udp://me@239.1.1.1:4000":      "not an address with a port",
		"socketcan://can0/x":           "not the name of a network interface",
		"socketcan://":                 "not the name of a network interface",
		"socketcan://0123456789abcdef": "not the name of a network interface",
	} {
		c, err := Open(Config{URL: url})
		if err == nil {
			_ = c.Close()
			t.Errorf("%s: opened", url)
			continue
		}
		if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q does not say %q", url, err, want)
		}
	}
	if _, err := Open(Config{URL: "udp://239.1.1.1:4000", TimeTTL: -1}); err == nil {
		t.Error("a negative lifetime was accepted")
	}
}

func TestMain(m *testing.M) {
	// TestOnlyLoopback runs this binary again in a network namespace of its own.
	if url := os.Getenv("RAWSTONE_LINK_TEST_ALONE"); url != "" {
		os.Exit(alone(url))
	}
	os.Exit(m.Run())
}
