package codec

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-cmp/cmp"
)

type sample struct {
	Number uint64   `cbor:"0,keyasint"`
	Text   string   `cbor:"1,keyasint,omitempty"`
	List   []uint16 `cbor:"2,keyasint,omitempty"`
	Nested *sample  `cbor:"3,keyasint,omitempty"`
}

// TestOneSpelling accepts the one form of a value and refuses every other spelling of it.
func TestOneSpelling(t *testing.T) {
	want := sample{Number: 24, Text: "a", List: []uint16{1}}
	b, err := Encode(&want)
	if err != nil || hex.EncodeToString(b) != "a3001818016161028101" {
		t.Fatalf("%x, %v", b, err)
	}
	var got sample
	if err := Decode(b, &got, len(b)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for name, text := range map[string]string{
		"longer integer": "a100190018", "integer as two": "a1001817", "order": "a201616100181818", "repeated key": "a200010001",
		"unknown key": "a200010401", "text key": "a1613001", "tag": "a100c101", "indefinite map": "bf0001ff", "indefinite text": "a20001017f6161ff",
		"trailing byte": "a1000100", "cut off": "a100", "empty": "", "no UTF-8": "a200010161ff", "empty text spelt out": "a200010160", "float": "a100f93c00",
		"nothing": "f6",
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := Decode(b, new(sample), 100); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := Decode(b, &got, len(b)-1); err == nil {
		t.Error("more than the limit was accepted")
	}
	if _, err := Encode(func() {}); err == nil {
		t.Error("encoded a function")
	}
}

// TestBounds decodes the deepest and longest that is allowed, and one more.
func TestBounds(t *testing.T) {
	nested := func(n int) (s sample) {
		for range n - 1 {
			inner := s
			s = sample{Nested: &inner}
		}
		return s
	}
	for name, c := range map[string]struct {
		v  sample
		ok bool
	}{
		"nesting 8": {nested(8), true}, "nesting 9": {nested(9), false},
		"256 elements": {sample{List: make([]uint16, 256)}, true}, "257 elements": {sample{List: make([]uint16, 257)}, false},
	} {
		b, err := Encode(&c.v)
		if err != nil {
			t.Fatal(err)
		}
		if err := Decode(b, new(sample), 1<<10); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for n, ok := range map[byte]bool{32: true, 33: false} {
		pairs := []byte{0xb8, n}
		for i := range n {
			if i >= 24 {
				pairs = append(pairs, 0x18)
			}
			pairs = append(pairs, i, 1)
		}
		if err := Decode(pairs, &map[int]int{}, 1<<10); (err == nil) != ok {
			t.Errorf("%d pairs: %v", n, err)
		}
	}
}

// FuzzDecode wants what is accepted to be its own encoding.
func FuzzDecode(f *testing.F) {
	for _, v := range []sample{{}, {Number: 1 << 40, Text: "é", List: []uint16{1, 300}}, {Nested: &sample{Nested: &sample{}}}} {
		b, err := Encode(&v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v sample
		if Decode(b, &v, 1<<10) != nil {
			return
		}
		if again, err := Encode(&v); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x came back as %x, %v", b, again, err)
		}
	})
}

// BenchmarkModes compares a message with the making of the modes that Encode and Decode do for each.
func BenchmarkModes(b *testing.B) {
	v := sample{Number: 24, Text: "a", List: []uint16{1, 2, 3}, Nested: &sample{Text: "b"}}
	encoded, err := Encode(&v)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("anew", func(b *testing.B) {
		for b.Loop() {
			if err := Decode(encoded, new(sample), 100); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("modes", func(b *testing.B) {
		var enc cbor.EncMode
		var dec cbor.DecMode
		for b.Loop() {
			enc, dec = encoding(), decoding()
		}
		_, _ = enc, dec
	})
}

type secretOpening struct {
	Salt [4]byte `cbor:"0,keyasint"`
}

// TestNames holds that errors speak of no Go types.
func TestNames(t *testing.T) {
	for text, want := range map[string]string{
		"a10001":           "cannot decode secret opening: it has a value of kind positive integer where another belongs",
		"a1004101":         "",
		"a100440102030400": "cannot decode secret opening: cbor: 1 bytes of extraneous data starting at index 7",
	} {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if err = Decode(b, new(secretOpening), 10); want != "" && (err == nil || err.Error() != want) || strings.Contains(fmt.Sprint(err), "codec.") {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	if _, err := Encode(func() {}); err == nil || !strings.HasPrefix(err.Error(), "cannot encode value: ") {
		t.Error(err)
	}
}
