package link

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An interfacePort is a raw SocketCAN socket (linux/can/raw.h).
type interfacePort struct {
	*os.File
	raw syscall.RawConn

	// What poll works with: kept here so that receiving does not allocate a closure.
	poll func(fd uintptr) bool
	b    []byte
	oob  [64]byte
	n, m int // bytes in b, in oob
	err  error
}

// bindInterface opens a socket on the interface and says whether it carries CAN FD frames.
func bindInterface(name string, log *slog.Logger) (port, bool, error) {
	fd, err := unix.Socket(unix.AF_CAN, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.CAN_RAW)
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EINVAL):
		return nil, false, fmt.Errorf("interface %s needs a kernel with CAN, which this one lacks; run `modprobe can-raw` or boot a kernel with CONFIG_CAN_RAW, or use a udp:// bus: %w", name, os.NewSyscallError("socket", err))
	case err != nil:
		return nil, false, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), name)
	canFD, err := bindSocket(fd, name, log)
	p, errPort := newInterfacePort(f)
	if err = cmp.Or(err, errPort); err != nil {
		_ = f.Close() // the first error is the one that tells
		return nil, false, err
	}
	return p, canFD, nil
}

func bindSocket(fd int, name string, log *slog.Logger) (canFD bool, err error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return false, fmt.Errorf("there is no interface %s; see `ip link`, or make a virtual one with `ip link add %s type vcan`: %w", name, name, err)
	}
	if i.Flags&net.FlagUp == 0 {
		return false, fmt.Errorf("interface %s is down; run `ip link set %s up type can bitrate 500000` (a virtual one: `ip link set %s up`)", name, name, name)
	}
	enlarge(fd, log)
	canFD = unix.SetsockoptInt(fd, unix.SOL_CAN_RAW, unix.CAN_RAW_FD_FRAMES, 1) == nil && i.MTU >= sizeFD
	err = cmp.Or(
		os.NewSyscallError("setsockopt SO_TIMESTAMPNS", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)),
		// Error frames are wanted, all classes.
		os.NewSyscallError("setsockopt CAN_RAW_ERR_FILTER", unix.SetsockoptInt(fd, unix.SOL_CAN_RAW, unix.CAN_RAW_ERR_FILTER, maskExtended)),
		os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrCAN{Ifindex: i.Index})),
	)
	if errors.Is(err, unix.ENODEV) {
		return false, fmt.Errorf("interface %s is not a CAN interface; see `ip -details link show type can`: %w", name, err)
	}
	return canFD, err
}

// newInterfacePort takes a non-blocking datagram socket that moves one frame at a time.
func newInterfacePort(f *os.File) (*interfacePort, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &interfacePort{File: f, raw: raw}
	p.poll = func(fd uintptr) bool {
		for {
			p.n, p.m, _, _, p.err = unix.Recvmsg(int(fd), p.b, p.oob[:], 0)
			if !errors.Is(p.err, unix.EINTR) {
				return !errors.Is(p.err, unix.EAGAIN)
			}
		}
	}
	return p, nil
}

func (p *interfacePort) receive(b []byte) (int, bool, int64, error) {
	p.b = b
	err := p.raw.Read(p.poll)
	p.b = nil
	if err = cmp.Or(err, os.NewSyscallError("recvmsg", p.err)); err != nil {
		return 0, false, 0, err
	}
	return p.n, false, timestamp(p.oob[:p.m]), nil
}

// timestamp finds the kernel's receive time in the control messages of a frame, in Unix nanoseconds; 0 means none.
func timestamp(oob []byte) int64 {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return 0
		}
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS && len(data) == 16 {
			// struct timespec of a 64-bit machine
			return int64(binary.NativeEndian.Uint64(data))*int64(time.Second) + int64(binary.NativeEndian.Uint64(data[8:]))
		}
		oob = rest
	}
	return 0
}

func (p *interfacePort) send(b []byte) error {
	_, err := p.Write(b)
	return err
}
