package link

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

// A groupPort is a multicast group on the loopback interface: einride's UDP bus (go.einride.tech/can/pkg/socketcan, udp.go),
// one frame per datagram, on sockets of our own, because einride's finds no interface where only lo exists and loses
// frames to a small receive queue. It has one socket to receive, bound to the group, and a connected one to send, whose own
// port number tells our frames from those of others.
type groupPort struct {
	*net.UDPConn // to receive
	tx           *net.UDPConn
	self         netip.AddrPort
	local        map[netip.Addr]bool
}

// joinGroup opens both sockets.
func joinGroup(group netip.AddrPort, log *slog.Logger) (port, error) {
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
	return &groupPort{rx, tx, tx.LocalAddr().(*net.UDPAddr).AddrPort(), local}, nil
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
	return 0, nil, errors.New("no loopback interface is up; run `ip link set lo up`")
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

// enlarge asks for the receive queue of receiveBuffer bytes: past the system's limit when privileged, else up to it.
func enlarge(fd int, log *slog.Logger) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) == nil {
		return
	}
	// Refused or not, the size in force is what counts; the kernel reports twice what was granted.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	if got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil && got < 2*receiveBuffer {
		log.Warn("receive queue smaller than wanted, frames may be lost under load; raise net.core.rmem_max",
			"wanted_bytes", receiveBuffer, "granted_bytes", got/2)
	}
}

func (p *groupPort) receive(b []byte) (int, bool, int64, error) {
	n, from, err := p.ReadFromUDPAddrPort(b)
	if err == nil && !p.local[from.Addr()] {
		n = 0
	}
	return n, from == p.self, 0, err
}

func (p *groupPort) send(b []byte) error {
	_, err := p.tx.Write(b)
	return err
}

func (p *groupPort) SetWriteDeadline(t time.Time) error { return p.tx.SetWriteDeadline(t) }
func (p *groupPort) Close() error                       { return errors.Join(p.UDPConn.Close(), p.tx.Close()) }
