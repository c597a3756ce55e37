// Package packet bounds the MQTT packets that a connection reads. The MQTT client allocates whatever length a header announces, up to
// 256 MiB, and a vehicle may publish as much as a broker lets it.
//
// To fail at a long message would not do: one that is not acknowledged comes again on every connection, and nothing after it gets
// through. So a PUBLISH that is too long is passed on cut, for the reader to refuse and acknowledge; any other such packet is an error.
package packet

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
)

const typePublish = 3

// A Conn follows the fixed headers of the MQTT packets that it reads (MQTT 3.1.1 §2.2). It is used by one reader.
type Conn struct {
	net.Conn
	most int
	from *bufio.Reader
	head []byte // of the packet's fixed header, what is yet to be passed on
	pass int    // bytes of the packet that are yet to be passed on, after head
	skip int    // bytes of the packet that are dropped after that
}

// Bound returns a connection that reads packets of at most so many bytes, without the fixed header, from c: a longer PUBLISH cut to that
// length, and an error in place of any other longer one.
func Bound(c net.Conn, most int) *Conn { return &Conn{Conn: c, most: most, from: bufio.NewReader(c)} }

// Read implements io.Reader.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if len(c.head) == 0 && c.pass == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n, err := c.from.Read(b[:min(len(b), c.pass)])
	c.pass -= n
	return n, err
}

// next drops the rest of the packet before and reads a fixed header.
func (c *Conn) next() error {
	n, err := io.CopyN(io.Discard, c.from, int64(c.skip))
	c.skip -= int(n)
	if err != nil {
		return err
	}
	first, err := c.from.ReadByte()
	if err != nil {
		return err
	}
	length := 0
	for shift := 0; ; shift += 7 {
		if shift > 21 {
			return errors.New("cannot read from broker: the length of a packet has more than four bytes")
		}
		b, err := c.from.ReadByte()
		if err != nil {
			return err
		}
		length |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
	}
	c.pass, c.skip = length, 0
	if length > c.most {
		if first>>4 != typePublish {
			return fmt.Errorf("cannot read from broker: it sends a packet of %d bytes, at most %d allowed", length, c.most)
		}
		c.pass, c.skip = c.most, length-c.most
	}
	c.head = append(c.head[:0], first)
	for n := c.pass; ; {
		digit := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			c.head = append(c.head, digit)
			return nil
		}
		c.head = append(c.head, digit|0x80)
	}
}
