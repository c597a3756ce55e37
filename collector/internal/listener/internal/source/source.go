// Package source bounds how many connections one source has open, so that one of them does not take the places of all.
//
// A source is an IPv4 address, or the first 64 bits of an IPv6 address, which one subscriber has (RFC 6177). What comes beyond the bound is
// closed without a word. Memory is bounded by the connections that are open.
package source

import (
	"net"
	"net/netip"
	"sync"
)

// Limit returns a listener that accepts at most n connections of each source at once.
func Limit(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, most: n, open: make(map[netip.Prefix]int)}
}

type limited struct {
	net.Listener
	most int
	mu   sync.Mutex
	open map[netip.Prefix]int
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := of(c.RemoteAddr())
		if l.take(from) {
			return &conn{Conn: c, give: sync.OnceFunc(func() { l.give(from) })}, nil
		}
		c.Close() // it has no place here, whatever becomes of it
	}
}

func (l *limited) take(from netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from] >= l.most {
		return false
	}
	l.open[from]++
	return true
}

func (l *limited) give(from netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[from]--; l.open[from] == 0 {
		delete(l.open, from)
	}
}

// of returns the source of an address; what is no address of the Internet's is all one source.
func of(a net.Addr) netip.Prefix {
	t, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := t.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // within an address
	return p
}

type conn struct {
	net.Conn
	give func()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	defer c.give()
	return c.Conn.Close()
}
