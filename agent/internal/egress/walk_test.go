// Package egress holds a test: it has the rooms that send make every message that leaves the car, and walks each byte of it. A byte is a field
// of the table beside the message, whose row says why it may leave, or the frame that the encoding puts around fields, which follows from
// them. Anything else fails: a new field needs a row here.
package egress

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// A leaf is a value within a message, at a path of keys and places.
type leaf struct {
	path  string
	value []byte
}

// A field is a row of a table: where a value stands, why it may leave, and what it must be, where the test knows.
type field struct {
	path, why string
	want      []byte // nil where only the size is fixed: what noise, a proof or a signature is made of
	size      int    // of want nil
}

// check compares leaves with a table: each has its row, and each row its leaf.
func check(leaves []leaf, table []field) error {
	rows := make(map[string]field)
	for _, f := range table {
		if _, twice := rows[f.path]; twice || f.why == "" {
			return fmt.Errorf("%s: a row twice or without a reason", f.path)
		}
		rows[f.path] = f
	}
	for _, l := range leaves {
		f, ok := rows[l.path]
		switch {
		case !ok:
			return fmt.Errorf("%s: %x leaves the car and nothing says why", l.path, l.value)
		case f.want != nil && !bytes.Equal(l.value, f.want):
			return fmt.Errorf("%s (%s): %x, want %x", l.path, f.why, l.value, f.want)
		case f.want == nil && len(l.value) != f.size:
			return fmt.Errorf("%s (%s): %d bytes, want %d", l.path, f.why, len(l.value), f.size)
		}
		delete(rows, l.path)
	}
	for path := range rows {
		return fmt.Errorf("%s: not there", path)
	}
	return nil
}

// cborLeaves walks one item of deterministic CBOR and returns its leaves, with the bytes after it. Heads are in their shortest form or refused:
// they hold nothing of their own. Map keys are the path; an integer is a leaf of 8 bytes.
func cborLeaves(path string, b []byte) (leaves []leaf, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, fmt.Errorf("%s: cut short", path)
	}
	major, n, head := b[0]>>5, uint64(b[0]&31), 1
	if major == 7 {
		if n != 20 && n != 21 {
			return nil, nil, fmt.Errorf("%s: simple value %d", path, n)
		}
		return []leaf{{path, b[:1]}}, b[1:], nil
	}
	if n >= 24 {
		if n > 27 || len(b) < 1+1<<(n-24) {
			return nil, nil, fmt.Errorf("%s: length %d", path, n)
		}
		head += 1 << (n - 24)
		n = binary.BigEndian.Uint64(append(make([]byte, 9-head), b[1:head]...))
	}
	if shortest := len(cborHead(major, n)); shortest != head {
		return nil, nil, fmt.Errorf("%s: a head of %d bytes where %d do", path, head, shortest)
	}
	b = b[head:]
	children := func(n uint64, name func(i uint64) (string, error)) error {
		for i := range n {
			at, err := name(i)
			if err != nil {
				return err
			}
			var more []leaf
			if more, b, err = cborLeaves(path+"/"+at, b); err != nil {
				return err
			}
			leaves = append(leaves, more...)
		}
		return nil
	}
	switch major {
	case 0, 1:
		return []leaf{{path, integer(major, n)}}, b, nil
	case 2, 3:
		if n > uint64(len(b)) {
			return nil, nil, fmt.Errorf("%s: cut short", path)
		}
		return []leaf{{path, b[:n]}}, b[n:], nil
	case 4:
		err = children(n, func(i uint64) (string, error) { return fmt.Sprint(i), nil })
	case 5:
		last := ""
		err = children(n, func(uint64) (string, error) {
			if len(b) == 0 || b[0] > 23 || last != "" && last >= fmt.Sprintf("%02d", b[0]) {
				return "", fmt.Errorf("%s: a key that is no small number, or out of order", path)
			}
			last = fmt.Sprintf("%02d", b[0])
			key := fmt.Sprint(b[0])
			b = b[1:]
			return key, nil
		})
	case 6:
		err = children(1, func(uint64) (string, error) { return fmt.Sprintf("tag%d", n), nil })
	}
	return leaves, b, err
}

func integer(major byte, n uint64) []byte {
	if major == 1 {
		n = ^n
	}
	return binary.BigEndian.AppendUint64(nil, n)
}

func cborHead(major byte, n uint64) []byte {
	for width, most := range []uint64{23, 0xff, 0xffff, 0xffffffff} {
		if n <= most {
			return make([]byte, []int{1, 2, 3, 5}[width])
		}
	}
	return make([]byte, 9)
}

// padded walks a message that ends in zeros, up to a size.
func padded(b []byte, size int) ([]leaf, error) {
	if len(b) != size {
		return nil, fmt.Errorf("%d bytes, want %d", len(b), size)
	}
	leaves, rest, err := cborLeaves("", b)
	if err == nil && slices.ContainsFunc(rest, func(c byte) bool { return c != 0 }) {
		err = fmt.Errorf("padding of other than zeros: %x", rest)
	}
	return leaves, err
}

// inner replaces byte strings that hold CBOR by what is in them.
func inner(leaves []leaf, paths ...string) (out []leaf, err error) {
	for _, l := range leaves {
		if !slices.Contains(paths, l.path) {
			out = append(out, l)
			continue
		}
		more, rest, err := cborLeaves(l.path, l.value)
		if err != nil || len(rest) != 0 {
			return nil, fmt.Errorf("%s: %d bytes behind, %w", l.path, len(rest), err)
		}
		out = append(out, more...)
	}
	return out, nil
}

// derLeaves walks ASN.1 in DER. Lengths are in their shortest form or refused.
func derLeaves(path string, b []byte) (leaves []leaf, err error) {
	for i := 0; len(b) > 0; i++ {
		if len(b) < 2 {
			return nil, fmt.Errorf("%s: cut short", path)
		}
		tag, n, head := b[0], int(b[1]), 2
		if n == 0x81 && len(b) > 2 && b[2] >= 0x80 {
			n, head = int(b[2]), 3
		} else if n == 0x82 && len(b) > 3 && b[2] > 0 {
			n, head = int(b[2])<<8|int(b[3]), 4
		} else if n >= 0x80 {
			return nil, fmt.Errorf("%s: length %x", path, b[1])
		}
		if n > len(b)-head {
			return nil, fmt.Errorf("%s: cut short", path)
		}
		at := fmt.Sprintf("%s/%d.%02x", path, i, tag)
		if tag&0x20 != 0 && n > 0 {
			more, err := derLeaves(at, b[head:head+n])
			if err != nil {
				return nil, err
			}
			leaves = append(leaves, more...)
		} else {
			leaves = append(leaves, leaf{at, b[head : head+n]})
		}
		b = b[head+n:]
	}
	return leaves, nil
}

// httpLeaves walks an HTTP/1.1 request (RFC 9112): its line, its headers, which are in the path, and the body.
func httpLeaves(b []byte) ([]leaf, error) {
	head, body, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok {
		return nil, fmt.Errorf("no end of headers in %q", b)
	}
	lines := strings.Split(string(head), "\r\n")
	leaves := []leaf{{"request", []byte(lines[0])}}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			return nil, fmt.Errorf("header %q", line)
		}
		leaves = append(leaves, leaf{"header " + name, []byte(value)})
	}
	return append(leaves, leaf{"body", body}), nil
}
