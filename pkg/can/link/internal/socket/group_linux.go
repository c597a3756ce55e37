package socket

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Group is a multicast group on the loopback interface: einride's UDP bus (go.einride.tech/can/pkg/socketcan, udp.go),
// one frame per datagram, on sockets of our own, because einride's finds no interface where only lo exists and loses
// frames to a small receive queue. It has one socket to receive, bound to the group, and a connected one to send, whose own
// port number tells our frames from those of others.
type Group struct {
	*net.UDPConn // to receive
	tx           *net.UDPConn
	self         netip.AddrPort
	local        map[netip.Addr]bool
	oob          [oobSize]byte
	lost         uint32
}

// JoinGroup opens both sockets of the IPv4 multicast group.
func JoinGroup(group netip.AddrPort, log *slog.Logger) (*Group, error) {
	lo, local, err := host()
	if err != nil {
		return nil, err
	}
	rx, err := udpSocket(func(fd int) error { return listen(fd, group, lo, log) })
	if err != nil {
		return nil, fmt.Errorf("cannot listen to group %s: %w", group, err)
	}
	tx, err := udpSocket(func(fd int) error { return connect(fd, group, lo) })
	if err != nil {
		_ = rx.Close() // the first error is the one that tells
		return nil, fmt.Errorf("cannot send to group %s: %w", group, err)
	}
	return &Group{UDPConn: rx, tx: tx, self: tx.LocalAddr().(*net.UDPAddr).AddrPort(), local: local}, nil
}

// host finds the index of the loopback interface, which need not have the MULTICAST flag, and the addresses from which
// datagrams are taken: all of this host's, because a stock einride participant prefers another interface over lo, and the
// kernel loops its datagrams back all the same. Another host cannot send from them: the kernel drops such martians.
func host() (lo int, local map[netip.Addr]bool, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return 0, nil, fmt.Errorf("cannot list network interfaces: %w", err)
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return 0, nil, fmt.Errorf("cannot list network addresses: %w", err)
	}
	local = make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		if n, err := netip.ParsePrefix(a.String()); err == nil {
			local[n.Addr()] = true
		}
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback != 0 && i.Flags&net.FlagUp != 0 {
			return i.Index, local, nil
		}
	}
	return 0, nil, fmt.Errorf("no loopback interface is up; run `ip link set lo up`: %w", ErrDown)
}

// udpSocket makes a UDP socket, prepares it and hands it to the runtime's poller. The net package cannot do it: it binds
// to the wildcard address when asked for a multicast address, which would let in unicast datagrams and other groups.
func udpSocket(prepare func(fd int) error) (*net.UDPConn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	f := os.NewFile(uintptr(fd), "bus")
	defer f.Close() // FilePacketConn and FileConn duplicate it
	if err := prepare(fd); err != nil {
		return nil, err
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// listen and connect try every step in order and report the first that failed.
func listen(fd int, group netip.AddrPort, lo int, log *slog.Logger) error {
	enlarge(fd, log)
	at := &unix.SockaddrInet4{Addr: group.Addr().As4(), Port: int(group.Port())}
	m := &unix.IPMreqn{Multiaddr: at.Addr, Ifindex: int32(lo)}
	return cmp.Or(
		// Several processes listen to one group.
		os.NewSyscallError("setsockopt SO_REUSEADDR", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)),
		os.NewSyscallError("setsockopt SO_RXQ_OVFL", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)),
		os.NewSyscallError("bind", unix.Bind(fd, at)),
		os.NewSyscallError("setsockopt IP_ADD_MEMBERSHIP", unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, m)),
	)
}

func connect(fd int, group netip.AddrPort, lo int) error {
	to := &unix.SockaddrInet4{Addr: group.Addr().As4(), Port: int(group.Port())}
	m := &unix.IPMreqn{Ifindex: int32(lo)}
	return cmp.Or(
		// Left alone the kernel would choose another interface's address, or none where only lo exists, as those of lo are of
		// host scope.
		os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})),
		// Before connect: where only lo exists there is no route to a group but this. Loopback of multicast is on by default.
		os.NewSyscallError("setsockopt IP_MULTICAST_IF", unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, m)),
		os.NewSyscallError("setsockopt IP_MULTICAST_TTL", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 0)),
		os.NewSyscallError("connect", unix.Connect(fd, to)),
	)
}

// Receive reads one datagram into b; what another host sent has length 0. It fails with os.ErrDeadlineExceeded once the read
// deadline has passed.
func (g *Group) Receive(b []byte) (Arrival, error) {
	n, m, _, from, err := g.ReadMsgUDPAddrPort(b, g.oob[:])
	if err != nil {
		return Arrival{}, err
	}
	a := Arrival{Len: n, Own: from == g.self, Lost: g.lost}
	if !g.local[from.Addr()] {
		a.Len = 0
	}
	a.note(g.oob[:m])
	g.lost = a.Lost
	return a, nil
}

// Send sends one datagram to the group.
func (g *Group) Send(b []byte) error {
	_, err := g.tx.Write(b)
	return err
}

// SetWriteDeadline sets the deadline of Send.
func (g *Group) SetWriteDeadline(t time.Time) error { return g.tx.SetWriteDeadline(t) }

// Close leaves the group.
func (g *Group) Close() error { return errors.Join(g.UDPConn.Close(), g.tx.Close()) }
