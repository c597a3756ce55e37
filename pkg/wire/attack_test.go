package wire

import (
	"bytes"
	"crypto/elliptic"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"runtime"
	"slices"
	"testing"

	"rawstone/pkg/vectortest"
)

// A spelling is a message in other bytes.
type spelling struct {
	why   string
	bytes []byte
}

// An item is one CBOR data item (RFC 8949 §3) within its message.
type item struct {
	at, head, end int // of its bytes: first, first after the head, and first after the whole
	major         byte
	value         uint64
	children      []item
}

// parse reads the item at an offset of deterministic CBOR without tags.
func parse(b []byte, at int) item {
	it := item{at: at, head: at + 1, major: b[at] >> 5, value: uint64(b[at] & 31)}
	if it.value >= 24 && it.major < 7 {
		n := 1 << (it.value - 24)
		it.value = binary.BigEndian.Uint64(append(make([]byte, 8-n), b[it.head:it.head+n]...))
		it.head += n
	}
	it.end = it.head
	children := 0
	switch it.major {
	case 2, 3:
		it.end += int(it.value)
	case 4:
		children = int(it.value)
	case 5:
		children = 2 * int(it.value)
	}
	for range children {
		child := parse(b, it.end)
		it.children = append(it.children, child)
		it.end = child.end
	}
	return it
}

// respell returns other encodings of a message, one for each liberty that CBOR leaves at each of its items, and some bytes too many.
func respell(b []byte) (list []spelling) {
	add := func(it item, why string, replacement ...[]byte) {
		list = append(list, spelling{
			fmt.Sprintf("byte %d: %s", it.at, why),
			slices.Concat(b[:it.at], slices.Concat(replacement...), b[it.end:]),
		})
	}
	var walk func(item)
	walk = func(it item) {
		body, end := b[it.head:it.end], []byte{0xff}
		if it.major < 7 {
			for width, n := range []int{1, 2, 4, 8} {
				if it.head-it.at-1 >= n {
					continue // the shortest form, or too short for the value
				}
				wide := binary.BigEndian.AppendUint64(nil, it.value)[8-n:]
				add(it, fmt.Sprintf("head with %d bytes of length", n), []byte{it.major<<5 | byte(24+width)}, wide, body)
			}
		}
		add(it, "tag 55799", []byte{0xd9, 0xd9, 0xf7}, b[it.at:it.end])
		switch it.major {
		case 0:
			add(it, "bignum", []byte{0xc2, 0x48}, binary.BigEndian.AppendUint64(nil, it.value))
			if it.value < 1024 {
				add(it, "single-precision float", float(it.value))
			}
		case 2, 3:
			add(it, "indefinite length", []byte{it.major<<5 | 31}, b[it.at:it.end], end)
			if it.major == 2 { // every byte string of the protocol has one length; a shorter name is a name
				add(it, "a byte short", shortened(it), body[:len(body)-1])
			}
		case 4, 5:
			add(it, "indefinite length", []byte{it.major<<5 | 31}, body, end)
		case 7:
			add(it, "undefined", []byte{0xf7})
		}
		if it.major == 5 {
			pair := func(i int) []byte { return b[it.children[2*i].at:it.children[2*i+1].end] }
			n := len(it.children) / 2
			for i := 1; i < n; i++ {
				swapped := slices.Concat(b[it.head:it.children[2*i-2].at], pair(i), pair(i-1), b[it.children[2*i+1].end:it.end])
				add(it, fmt.Sprintf("keys %d and %d out of order", i-1, i), b[it.at:it.head], swapped)
			}
			if n > 0 && n < 23 {
				more := []byte{0xa0 | byte(n+1)}
				add(it, "a key twice", more, pair(0), body)
				add(it, "an unknown key", more, body, []byte{0x17, 0x00})
				add(it, "a text for a key", more, body, []byte{0x61, 'x', 0x00})
			}
		}
		for _, child := range it.children {
			walk(child)
		}
	}
	whole := parse(b, 0)
	if whole.major == 6 { // the tag of a COSE_Sign1: its item follows
		whole = parse(b, 1)
		list = append(list, spelling{"tag left out", b[1:]}, spelling{"tag in two bytes", slices.Concat([]byte{0xd8, 0x12}, b[1:])})
	}
	walk(whole)
	for _, more := range [][]byte{{0}, {0xf6}, {0xff}, b} {
		list = append(list, spelling{fmt.Sprintf("%d trailing bytes", len(more)), slices.Concat(b, more)})
	}
	return append(list, spelling{"a byte short", b[:len(b)-1]}, spelling{"nothing", []byte{}})
}

// refit pads spellings of a padded message's text to the message's size again, so that it is not the size they are refused for, and adds
// padding that is none. What was cut short is another message then, not another spelling.
func refit(text, good []byte, list []spelling) (out []spelling) {
	for _, s := range list {
		if len(s.bytes) < len(good) {
			s.bytes = append(slices.Clone(s.bytes), make([]byte, len(good)-len(s.bytes))...)
		}
		if s.why != "a byte short" && !bytes.Equal(s.bytes, good) {
			out = append(out, s)
		}
	}
	out = append(out, spelling{"padding a byte short", good[:len(good)-1]}, spelling{"padding a byte longer", slices.Concat(good, []byte{0})})
	if len(text) == len(good) {
		return out
	}
	for _, at := range []int{len(text), len(good) - 1} {
		b := slices.Clone(good)
		b[at] = 1
		out = append(out, spelling{fmt.Sprintf("padding with 1 at byte %d", at), b})
	}
	return append(out, spelling{"no padding", text})
}

// text returns a padded message without its padding.
func text(t testing.TB, b []byte) []byte {
	t.Helper()
	b, err := unpad(b)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shortened returns the head of a string that is one byte shorter.
func shortened(it item) []byte {
	n := it.value - 1
	if n < 24 {
		return []byte{it.major<<5 | byte(n)}
	}
	if n < 256 {
		return []byte{it.major<<5 | 24, byte(n)}
	}
	return []byte{it.major<<5 | 25, byte(n >> 8), byte(n)}
}

// float returns a small integer as a single-precision float.
func float(v uint64) []byte {
	return binary.BigEndian.AppendUint32([]byte{0xfa}, math.Float32bits(float32(v)))
}

// resign returns a sealed message, whose last 64 bytes are its signature, with signatures that must not stand for it.
func resign(b []byte) (list []spelling) {
	n := elliptic.P256().Params().N
	at := len(b) - 64
	r, s := new(big.Int).SetBytes(b[at:at+32]), new(big.Int).SetBytes(b[at+32:])
	add := func(why string, r, s *big.Int) {
		sig := make([]byte, 64)
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		list = append(list, spelling{why, slices.Concat(b[:at], sig)})
	}
	zero := new(big.Int)
	add("signature with high s", r, new(big.Int).Sub(n, s))
	add("signature with s of 0", r, zero)
	add("signature with r of 0", zero, s)
	add("signature of zeros", zero, zero)
	add("signature with r of the order", n, s)
	add("signature with s of the order", r, n)
	add("signature with r and s exchanged", s, r)
	if over := new(big.Int).Add(s, n); over.BitLen() <= 256 {
		add("signature with s and the order", r, over)
	}
	return list
}

// TestOneSpelling refuses every other encoding of each message: identifiers are hashes of bytes.
func TestOneSpelling(t *testing.T) {
	key := vectortest.Key(t, "collector and device")
	keys := KeySet{testPublic(t, key)}
	v := fill(t, inputs())
	check := func(name string, good []byte, list []spelling, accepts func([]byte) error) {
		t.Helper()
		if err := accepts(good); err != nil {
			t.Fatalf("%s, the good form: %v", name, err)
		}
		if len(list) < 5 {
			t.Fatalf("%s: only %d other forms", name, len(list))
		}
		for _, s := range list {
			if err := accepts(s.bytes); bytes.Equal(s.bytes, good) || err == nil {
				t.Errorf("%s, %s: accepted %x", name, s.why, s.bytes)
			}
		}
	}
	decode := func(b []byte) error { _, err := DecodeClaim(b); return err }
	for _, c := range v.Claims {
		text := text(t, c.Bytes)
		check(c.Name, c.Bytes, refit(text, c.Bytes, respell(text)), decode)
	}
	open := func(b []byte) error { _, err := OpenReceipt(keys, b); return err }
	sign := func(b []byte) error {
		sealed, err := Seal(key, contextReceipt, b)
		if err != nil {
			t.Fatal(err)
		}
		if sealed, err = pad(sealed, ReceiptLen); err != nil {
			t.Fatal(err)
		}
		return open(sealed)
	}
	for _, r := range v.Receipts {
		text := text(t, r.Bytes)
		check(r.Name, r.Bytes, refit(text, r.Bytes, respell(text)), open)
		check(r.Name+", signatures", r.Bytes, refit(text, r.Bytes, resign(text)), open)
		check(r.Name+", payload", r.Payload, respell(r.Payload), sign)
	}
	for _, r := range v.Reports {
		open := func(b []byte) error { _, err := OpenReport(keys[0], r.Vehicle, b); return err }
		text := text(t, r.Bytes)
		check("report", r.Bytes, refit(text, r.Bytes, respell(text)), open)
		check("report, signatures", r.Bytes, refit(text, r.Bytes, resign(text)), open)
	}
}

// TestHostileLengths gives decoders heads that promise far more than follows, in every place where a head can stand: none may allocate
// for the promise.
func TestHostileLengths(t *testing.T) {
	const limit = 1 << 20
	key := vectortest.Key(t, "collector and device")
	keys := KeySet{testPublic(t, key)}
	v := fill(t, inputs())
	var most uint64
	try := func(b []byte, decode func([]byte) error) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_ = decode(b) // a head within a signature's bytes is as good as any other bytes
		runtime.ReadMemStats(&after)
		most = max(most, after.TotalAlloc-before.TotalAlloc)
	}
	claim := func(b []byte) error { _, err := DecodeClaim(b); return err }
	receipt := func(b []byte) error { _, err := OpenReceipt(keys, b); return err }
	report := func(b []byte) error { _, err := ReadReport(b); return err }
	for _, m := range []struct {
		bytes  []byte
		decode func([]byte) error
	}{{v.Claims[1].Bytes, claim}, {v.Receipts[0].Bytes, receipt}, {v.Reports[0].Bytes, report}} {
		for at := range m.bytes {
			for _, head := range []string{
				"\x5b\x00\x00\x00\x00\x7f\xff\xff\xff", "\x7b\x00\x00\x00\x00\x7f\xff\xff\xff", "\x9b\x00\x00\x00\x00\x7f\xff\xff\xff",
				"\xbb\x00\x00\x00\x00\x7f\xff\xff\xff", "\x9a\x00\x00\xff\xff", "\x9f\x9f\x9f\x9f\x9f\x9f\x9f\x9f\x9f",
			} {
				b := slices.Concat(m.bytes[:at], []byte(head))
				try(slices.Concat(b, m.bytes[at:]), m.decode)
				try(b, m.decode)
				try(slices.Concat(b, m.bytes)[:len(m.bytes)], m.decode) // of the right size
			}
		}
		try(make([]byte, 64<<20), m.decode)
	}
	t.Logf("at most %d bytes allocated", most)
	if most > limit {
		t.Errorf("a decoder allocated %d bytes, at most %d allowed", most, limit)
	}
}
