//go:build linux

package socket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel's count is found by the interface's name.
func TestCarried(t *testing.T) {
	count := func(name string) uint64 {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		i, err := NewInterface(os.NewFile(uintptr(fd), name))
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		return i.Carried()
	}
	if n := count("no-such-name"); n != 0 {
		t.Errorf("%d frames of no interface", n)
	}
	before := count("lo")
	if before == 0 {
		t.Skip("nothing has gone over lo, or its statistics cannot be read")
	}
	to, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if _, err := to.WriteTo([]byte{1}, to.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if count("lo") == before {
		t.Errorf("still %d after a datagram", before)
	}
}

func TestNote(t *testing.T) {
	cmsg := func(typ int32, data []byte) []byte {
		b := make([]byte, unix.CmsgSpace(len(data)))
		binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(len(data)))) // size_t, on the 64-bit machines that run tests
		binary.NativeEndian.PutUint32(b[8:], unix.SOL_SOCKET)
		binary.NativeEndian.PutUint32(b[12:], uint32(typ))
		copy(b[unix.CmsgLen(0):], data)
		return b
	}
	if unix.CmsgLen(0) != 16 {
		t.Skip("needs a 64-bit machine")
	}
	spec := make([]byte, 16)
	binary.NativeEndian.PutUint64(spec, 1_700_000_000)
	binary.NativeEndian.PutUint64(spec[8:], 123_456_789)
	for name, c := range map[string]struct {
		oob  []byte
		want int64
	}{
		"none":   {nil, 0},
		"wide":   {cmsg(unix.SCM_TIMESTAMPNS, spec), 1_700_000_000_123_456_789},
		"second": {append(cmsg(unix.SO_RXQ_OVFL, []byte{1, 0, 0, 0}), cmsg(unix.SCM_TIMESTAMPNS, spec)...), 1_700_000_000_123_456_789},
		"other":  {cmsg(unix.SO_RXQ_OVFL, []byte{1, 0, 0, 0}), 0},
		"cut":    {cmsg(unix.SCM_TIMESTAMPNS, spec)[:20], 0},
		"odd":    {cmsg(unix.SCM_TIMESTAMPNS, spec[:12]), 0},
	} {
		var a Arrival
		if a.note(c.oob); a.Time != c.want {
			t.Errorf("%s: %d, want %d", name, a.Time, c.want)
		}
	}
	for name, c := range map[string]struct {
		oob  []byte
		want uint32
	}{
		"nothing new": {cmsg(unix.SCM_TIMESTAMPNS, spec), 7},
		"lost":        {append(cmsg(unix.SCM_TIMESTAMPNS, spec), cmsg(unix.SO_RXQ_OVFL, []byte{1, 2, 3, 4})...), binary.NativeEndian.Uint32([]byte{1, 2, 3, 4})},
		"cut":         {cmsg(unix.SO_RXQ_OVFL, []byte{1, 2}), 7},
	} {
		a := Arrival{Lost: 7}
		if a.note(c.oob); a.Lost != c.want {
			t.Errorf("%s: %d lost, want %d", name, a.Lost, c.want)
		}
	}
}

func join(t *testing.T) (a, b *Group) {
	t.Helper()
	free, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	group := netip.MustParseAddrPort(fmt.Sprintf("239.255.%d.%d:%d", rand.IntN(256), 1+rand.IntN(254), free.LocalAddr().(*net.UDPAddr).Port))
	open := func() *Group {
		g, err := JoinGroup(group, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = g.Close() })
		return g
	}
	return open(), open()
}

func TestForeignSource(t *testing.T) {
	rx, tx := join(t)
	// As if loopback's address were another host's.
	delete(rx.local, netip.MustParseAddr("127.0.0.1"))
	if err := tx.Send(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	var b [80]byte
	if a, err := rx.Receive(b[:]); err != nil || a.Len != 0 {
		t.Errorf("received %+v, %v", a, err)
	}
}

// What the queue lost and what was read add up to what was sent.
func TestLostIsCounted(t *testing.T) {
	rx, tx := join(t)
	if err := rx.SetReadBuffer(1); err != nil { // the kernel has a least size
		t.Fatal(err)
	}
	const sent = 1000
	for range sent {
		if err := tx.Send(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
	}
	var b [80]byte
	read := 0
	for { // until nothing waits
		if err := rx.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := rx.Receive(b[:]); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		read++
	}
	if err := errors.Join(tx.Send(make([]byte, 16)), rx.SetReadDeadline(time.Time{})); err != nil {
		t.Fatal(err)
	}
	a, err := rx.Receive(b[:]) // the first that can tell
	if err != nil || a.Lost == 0 || read+int(a.Lost) != sent {
		t.Errorf("%d read and %d lost of %d: %v", read, a.Lost, sent, err)
	}
}

func TestDownIsTold(t *testing.T) {
	for _, err := range []error{unix.ENETDOWN, unix.ENODEV, unix.ENXIO} {
		if got := down(os.NewSyscallError("recvmsg", err)); !errors.Is(got, ErrDown) || !errors.Is(got, err) {
			t.Errorf("%v became %v", err, got)
		}
	}
	for _, err := range []error{nil, unix.ENOBUFS, os.ErrDeadlineExceeded, net.ErrClosed} {
		if got := down(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
