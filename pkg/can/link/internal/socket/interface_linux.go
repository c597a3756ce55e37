package socket

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// sizeFD is CANFD_MTU of linux/can.h.
const sizeFD = 72

// An Interface is a raw SocketCAN socket (linux/can/raw.h) of our own: go.einride.tech/can knows neither CAN FD nor receive time,
// filters or losses, and leaves the receive queue at its default, which loses frames under load.
type Interface struct {
	*os.File
	raw syscall.RawConn

	// What poll works with: kept here so that receiving does not allocate a closure.
	poll func(fd uintptr) bool
	b    []byte
	oob  [oobSize]byte
	n, m int // bytes in b, in oob
	err  error
	lost uint32
}

// OpenInterface opens a socket on the interface and says whether it carries CAN FD frames. Filters are set in the kernel, wider ones
// where it does not take as many; nil lets everything pass, an empty list nothing. Error frames pass always.
func OpenInterface(name string, filters []Filter, log *slog.Logger) (*Interface, bool, error) {
	fd, err := unix.Socket(unix.AF_CAN, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.CAN_RAW)
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EINVAL):
		return nil, false, fmt.Errorf("interface %s needs a kernel with CAN, which this one lacks; run `modprobe can-raw` or boot a kernel with CONFIG_CAN_RAW, or use a udp:// bus: %w", name, os.NewSyscallError("socket", err))
	case err != nil:
		return nil, false, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), name)
	canFD, err := bind(fd, name, filters, log)
	i, errRaw := NewInterface(f)
	if err = cmp.Or(err, errRaw); err != nil {
		_ = f.Close() // the first error is the one that tells
		return nil, false, err
	}
	return i, canFD, nil
}

func bind(fd int, name string, filters []Filter, log *slog.Logger) (canFD bool, err error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return false, fmt.Errorf("there is no interface %s; see `ip link`, or make a virtual one with `ip link add %s type vcan`: %w: %w", name, name, ErrDown, err)
	}
	if i.Flags&net.FlagUp == 0 {
		return false, fmt.Errorf("interface %s is down; run `ip link set %s up type can bitrate 500000` (a virtual one: `ip link set %s up`): %w", name, name, name, ErrDown)
	}
	enlarge(fd, log)
	canFD = unix.SetsockoptInt(fd, unix.SOL_CAN_RAW, unix.CAN_RAW_FD_FRAMES, 1) == nil && i.MTU >= sizeFD
	if filters != nil {
		// Before bind, so that nothing else gets into the queue.
		if err := unix.SetsockoptCanRawFilter(fd, unix.SOL_CAN_RAW, unix.CAN_RAW_FILTER, kernelFilters(filters)); err != nil {
			return false, os.NewSyscallError("setsockopt CAN_RAW_FILTER", err)
		}
	}
	err = cmp.Or(
		os.NewSyscallError("setsockopt SO_TIMESTAMPNS", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)),
		os.NewSyscallError("setsockopt SO_RXQ_OVFL", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)),
		// Error frames are wanted, all classes.
		os.NewSyscallError("setsockopt CAN_RAW_ERR_FILTER", unix.SetsockoptInt(fd, unix.SOL_CAN_RAW, unix.CAN_RAW_ERR_FILTER, unix.CAN_ERR_MASK)),
		os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrCAN{Ifindex: i.Index})),
	)
	if errors.Is(err, unix.ENODEV) {
		if _, gone := net.InterfaceByName(name); gone != nil {
			return false, fmt.Errorf("interface %s went away: %w: %w", name, ErrDown, err)
		}
		return false, fmt.Errorf("interface %s is not a CAN interface; see `ip -details link show type can`: %w", name, err)
	}
	return canFD, err
}

func kernelFilters(filters []Filter) (out []unix.CanFilter) {
	for _, f := range narrow(filters) {
		out = append(out, unix.CanFilter{Id: f.ID, Mask: f.Mask})
	}
	return out
}

// NewInterface takes a non-blocking datagram socket that moves one frame at a time.
func NewInterface(f *os.File) (*Interface, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	i := &Interface{File: f, raw: raw}
	i.poll = func(fd uintptr) bool {
		for {
			i.n, i.m, _, _, i.err = unix.Recvmsg(int(fd), i.b, i.oob[:], 0)
			if !errors.Is(i.err, unix.EINTR) {
				return !errors.Is(i.err, unix.EAGAIN)
			}
		}
	}
	return i, nil
}

// Receive reads one frame into b. It fails with os.ErrDeadlineExceeded once the deadline has passed.
func (i *Interface) Receive(b []byte) (Arrival, error) {
	i.b = b
	err := i.raw.Read(i.poll)
	i.b = nil
	if err = cmp.Or(err, os.NewSyscallError("recvmsg", i.err)); err != nil {
		return Arrival{}, down(err)
	}
	a := Arrival{Len: i.n, Lost: i.lost}
	a.note(i.oob[:i.m])
	i.lost = a.Lost
	return a, nil
}

// Carried returns how many frames the interface has received, those included that the filters keep from this socket: the kernel's
// count in sysfs, or 0 where that cannot be read.
func (i *Interface) Carried() uint64 {
	text, err := os.ReadFile("/sys/class/net/" + i.Name() + "/statistics/rx_packets")
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Send writes one frame. The interface's full transmit queue is ENOBUFS.
func (i *Interface) Send(b []byte) error {
	_, err := i.Write(b)
	return down(err)
}

// down marks the errors by which net/can/raw.c tells that the interface went down (ENETDOWN) or away (ENODEV; ENXIO when
// sending).
func down(err error) error {
	if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	return err
}
