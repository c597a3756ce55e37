// Package link is the layer between frames and a bus that other processes share: a SocketCAN interface, or a multicast group on
// the loopback interface that plays one.
//
// Both kinds behave alike. A Conn hears every participant but itself, as a SocketCAN socket does by default; a full receive
// queue loses frames in the kernel, which is why it is enlarged and what it lost is counted; what is not a well-formed frame is
// counted and skipped. Error frames are no traffic: they are counted by class and never received, or a decoder would take their
// class for an identifier. Filters are set in the kernel where it can, and always looked at here.
// On the multicast bus an overloaded kernel may swap frames of a sender that it moves from one processor to another.
//
// Each received frame carries frame time (can.Frame.Time): the kernel's receive time stamp on SocketCAN; on the multicast bus
// the time that its one time source announces (see TimeID), or else the host's clock.
//
// The package refuses to leave the machine: the multicast bus sends with TTL 0 on the loopback interface and takes datagrams
// from this host's own addresses only. It does not interpret data bytes or re-open a lost interface.
//
// The sockets are its own: go.einride.tech/can, whose multicast bus this is and whose participants it meets there, has neither
// CAN FD nor receive time, filters, error classes or a count of what was lost.
package link

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"rawstone/pkg/can"
	"rawstone/pkg/can/link/internal/socket"
)

// sendPatience bounds how long Send waits for room in a full transmit queue, and sendPause is the wait between two tries.
const sendPatience, sendPause = time.Second, 500 * time.Microsecond

// ErrDown is wrapped by the error of Open when the interface is not there yet or not up, and of Receive and Send when it went down
// or away: opening again later may succeed. Any other error of Open is a mistake that stays.
var ErrDown = socket.ErrDown

// Config says which bus to open. Only URL is required.
type Config struct {
	// URL is "udp://GROUP:PORT" with an IPv4 multicast address, for example udp://239.64.142.206:4000, or "socketcan://IFACE".
	URL string
	// Filters say which frames to receive: those that any of them lets pass. Nil means all, an empty list none. More than 512 are
	// more than the kernel takes: it gets wider ones.
	Filters []can.Filter
	// SendTime makes this Conn the time source of a multicast bus: Send announces f.Time in a time frame whenever it changes.
	// At most one participant of a bus may be its time source. A SocketCAN bus has kernel time stamps and ignores it.
	SendTime bool
	// TimeTTL is how long, in receive time, an announced frame time stays in force; then the host's clock stamps frames until the
	// next announcement. A time source repeats itself at half of it. 0 means 2 s.
	TimeTTL time.Duration
	// Now is the host's clock; nil means time.Now.
	Now func() time.Time
	// Logger takes warnings about the opened link; nil means none.
	Logger *slog.Logger
}

// Stats are the counters of a Conn since Open.
type Stats struct {
	// Received counts the frames that Receive returned, Sent those that Send handed to the kernel, both without time frames.
	Received, Sent uint64
	// Filtered counts frames that Config.Filters kept out here; those that the kernel kept out are not known.
	Filtered uint64
	// Malformed counts datagrams skipped because they are not a frame (wrong size, length or identifier) or because another
	// host sent them.
	Malformed uint64
	// Overflowed counts the frames that the full receive queue lost (SO_RXQ_OVFL), known when the next frame is received.
	Overflowed uint64
	// ErrorFrames counts error frames by class.
	ErrorFrames ErrorCounts
}

// A port moves the bytes of single frames: a socket, or a test's double. Its calls fail with os.ErrDeadlineExceeded once a
// deadline has passed.
type port interface {
	Receive(b []byte) (socket.Arrival, error)
	Send(b []byte) error
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	Close() error
}

// A Conn is one participant of a bus. Receive is for one goroutine at a time; everything else is safe for concurrent use. Whoever
// only sends calls Receive all the same, or the kernel keeps up to 16 MiB of unread frames.
type Conn struct {
	name  string
	port  port
	order binary.ByteOrder
	fd    bool // the bus may carry CAN FD frames
	timed bool // the bus may carry time frames
	now   func() time.Time
	want  *can.Matcher

	in      [rxSize]byte
	lost    uint32 // by the kernel's count
	clock   busClock
	rx      watch
	sending sync.Mutex
	out     [sizeFD]byte
	source  timeSource
	tx      watch

	closed, down   atomic.Bool
	received, sent atomic.Uint64
	rare           sync.Mutex // guards skipped
	skipped        Stats      // all but Received and Sent
}

// Open joins the bus that cfg names. Its errors say what is missing and how to get it.
func Open(cfg Config) (*Conn, error) {
	c, err := dial(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot open bus %q: %w", cfg.URL, err)
	}
	return c, nil
}

// Check says what is wrong with a URL as far as that can be seen without opening it.
func Check(url string) error {
	if _, err := parse(url); err != nil {
		return fmt.Errorf("cannot use bus %q: %w", url, err)
	}
	return nil
}

// parse returns the group of a udp URL, and the zero AddrPort for a socketcan URL.
func parse(url string) (group netip.AddrPort, err error) {
	const forms = "give udp://GROUP:PORT, for example udp://239.64.142.206:4000, or socketcan://IFACE"
	kind, host, _ := strings.Cut(url, "://")
	switch kind {
	case "udp":
		group, err := netip.ParseAddrPort(host)
		if err != nil || group.Port() == 0 {
			return group, fmt.Errorf("%q is not an address with a port; %s", host, forms)
		} else if !group.Addr().Is4() || !group.Addr().IsMulticast() {
			return group, fmt.Errorf("%s is not an IPv4 multicast address; choose one in 239.0.0.0/8", group.Addr())
		}
		return group, nil
	case "socketcan":
		// 15 is IFNAMSIZ of linux/if.h without the final zero.
		if host == "" || len(host) > 15 || strings.ContainsAny(host, "/?#@: ") {
			return group, fmt.Errorf("%q is not the name of a network interface; give for example socketcan://can0", host)
		}
		return group, nil
	}
	return group, fmt.Errorf("unknown kind %q; %s", kind, forms)
}

func dial(cfg Config) (*Conn, error) {
	if cfg.TimeTTL < 0 {
		return nil, fmt.Errorf("the lifetime of frame time, %v, is negative; give 0 for the default", cfg.TimeTTL)
	}
	cfg.TimeTTL = cmp.Or(cfg.TimeTTL, 2*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	group, err := parse(cfg.URL)
	if err != nil {
		return nil, err
	}
	if group.IsValid() {
		p, err := socket.JoinGroup(group, cfg.Logger)
		if err != nil {
			return nil, err
		}
		c := newConn(cfg, p, binary.LittleEndian) // einride's choice for the wire; the kernel's struct has the host's order
		c.timed = true
		c.source = timeSource{on: cfg.SendTime, refresh: cfg.TimeTTL / 2}
		return c, nil
	}
	var filters []socket.Filter
	if cfg.Filters != nil {
		filters = []socket.Filter{}
	}
	for _, f := range cfg.Filters {
		filters = append(filters, socket.Filter{ID: uint32(f.ID), Mask: uint32(f.Mask)})
	}
	p, fd, err := socket.OpenInterface(strings.TrimPrefix(cfg.URL, "socketcan://"), filters, cfg.Logger)
	if err != nil {
		return nil, err
	}
	c := newConn(cfg, p, binary.NativeEndian)
	c.fd = fd
	return c, nil
}

func newConn(cfg Config, p port, order binary.ByteOrder) *Conn {
	return &Conn{
		name: cfg.URL, port: p, order: order, now: cfg.Now, want: can.NewMatcher(cfg.Filters),
		clock: busClock{ttl: cfg.TimeTTL},
		rx:    watch{set: p.SetReadDeadline},
		tx:    watch{set: p.SetWriteDeadline},
	}
}

// Receive waits for the next frame of another participant that the filters let pass and writes it to f, Bus being 0: who reads
// several buses sets it. It returns ctx's error when ctx is done, an error wrapping net.ErrClosed after Close, one wrapping ErrDown
// once the interface went down or away, and otherwise the kernel's error: then the Conn is of no more use, whatever becomes of the
// interface. It is cheapest when called with the same ctx each time.
func (c *Conn) Receive(ctx context.Context, f *can.Frame) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.rx.arm(ctx)
	for {
		a, err := c.port.Receive(c.in[:])
		if err != nil {
			if err = c.rx.retry(ctx, err); err == nil && c.down.Load() {
				err = ErrDown
			}
			if err != nil {
				return c.fault(ctx, "receive from", err)
			}
			continue
		}
		if a.Lost != c.lost {
			c.skip(func(s *Stats) { s.Overflowed += uint64(a.Lost - c.lost) }) // whose difference survives its wrapping
			c.lost = a.Lost
		}
		switch {
		case !decode(c.in[:a.Len], c.order, c.fd, f):
			c.skip(func(s *Stats) { s.Malformed++ })
			continue
		case c.timed && f.ID == TimeID:
			if !c.clock.announce(f, c.now()) {
				c.skip(func(s *Stats) { s.Malformed++ })
			}
			continue
		case a.Own:
			continue
		case f.Flags&can.Error != 0:
			c.skip(func(s *Stats) { s.ErrorFrames.Add(f) })
			continue
		case !c.want.Match(f.ID):
			c.skip(func(s *Stats) { s.Filtered++ })
			continue
		}
		if f.Time = a.Time; f.Time == 0 {
			f.Time = c.clock.stamp(c.now())
		}
		c.received.Add(1)
		return nil
	}
}

// skip counts what Receive does not return.
func (c *Conn) skip(count func(*Stats)) {
	c.rare.Lock()
	defer c.rare.Unlock()
	count(&c.skipped)
}

// Send puts f on the bus. It refuses a frame that the bus cannot carry, waits up to a second for room in a full transmit
// queue, and returns ctx's error when ctx is done first. Once ctx is done f may or may not have been sent. An error that wraps
// ErrDown ends a waiting Receive too, as the kernel tells only one of the two.
func (c *Conn) Send(ctx context.Context, f *can.Frame) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := encode(c.out[:], c.order, f)
	switch {
	case f.Flags&can.FD != 0 && !c.fd:
		err = errors.New("this bus carries no CAN FD frames; send at most 8 bytes in a classic frame")
	case c.timed && f.ID == TimeID:
		err = errors.New("this identifier is reserved for frame time; choose another")
	case c.source.on && f.Time < 0:
		err = errors.New("its frame time is before 1970; give Unix nanoseconds")
	}
	if err != nil {
		return fmt.Errorf("cannot send frame %s on %s: %w", f.ID, c.name, err)
	}
	c.tx.arm(ctx)
	if c.source.on {
		if b, due := c.source.announce(f.Time, c.now()); due {
			if err := c.write(ctx, b[:]); err != nil {
				c.source.at = time.Time{}
				return err
			}
		}
	}
	if err = c.write(ctx, c.out[:n]); err == nil {
		c.sent.Add(1)
	}
	return err
}

// write sends the bytes of one frame, waiting while the interface's transmit queue is full: there the kernel answers ENOBUFS
// instead of blocking (can_send, net/can/af_can.c).
func (c *Conn) write(ctx context.Context, b []byte) error {
	var giveUp time.Time
	for {
		err := c.port.Send(b)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.ENOBUFS) {
			if errors.Is(err, ErrDown) {
				c.down.Store(true)
				_ = c.port.SetReadDeadline(time.Unix(1, 0)) // it fails on a closed port only, where nobody waits
			}
			if err = c.tx.retry(ctx, err); err != nil {
				return c.fault(ctx, "send on", err)
			}
			continue
		}
		if giveUp.IsZero() {
			giveUp = time.Now().Add(sendPatience)
		} else if time.Now().After(giveUp) {
			return fmt.Errorf("cannot send on %s: the transmit queue stayed full for %v; see that another node acknowledges frames: %w", c.name, sendPatience, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(sendPause):
		}
	}
}

// fault dresses an error of the port; a done ctx explains itself.
func (c *Conn) fault(ctx context.Context, verb string, err error) error {
	switch {
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return ctx.Err()
	case c.closed.Load():
		return fmt.Errorf("cannot %s %s: %w", verb, c.name, net.ErrClosed)
	}
	return fmt.Errorf("cannot %s %s: %w", verb, c.name, err)
}

// Stats returns the counters.
func (c *Conn) Stats() Stats {
	c.rare.Lock()
	defer c.rare.Unlock()
	s := c.skipped
	s.Received, s.Sent = c.received.Load(), c.sent.Load()
	return s
}

// Carried returns a number that grows while the bus carries frames of others, whatever the filters let pass, and stands still while it
// is silent. It counts from no particular moment.
func (c *Conn) Carried() uint64 {
	if i, ok := c.port.(interface{ Carried() uint64 }); ok {
		return i.Carried()
	}
	s := c.Stats()
	return s.Received + s.Filtered
}

// Close leaves the bus and wakes a waiting Receive and Send. Closing twice is an error that wraps net.ErrClosed.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return c.fault(context.Background(), "close", net.ErrClosed)
	}
	c.rx.arm(context.Background())
	c.tx.arm(context.Background())
	return c.port.Close()
}
