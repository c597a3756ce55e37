// Package codec is Rawstone's form of CBOR: deterministic (RFC 8949 §4.2.1), bounded, and with one spelling for each value.
//
// A decoder bounds its input before it allocates and refuses unknown or repeated keys, trailing bytes, tags, indefinite lengths, text that
// is not UTF-8 and every form that does not re-encode to itself. What a value means is for its own package.
package codec

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/fxamacker/cbor/v2"
)

// encoding is made anew for each message, which costs little beside it: the library keeps what it knows of types by itself.
func encoding() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic("codec: " + err.Error()) // constant options: unreachable
	}
	return m
}

func decoding() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   8,
		MaxArrayElements:  256,
		MaxMapPairs:       32,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic("codec: " + err.Error()) // constant options: unreachable
	}
	return m
}

// Encode returns the deterministic encoding of v, a struct whose fields have integer keys.
func Encode(v any) ([]byte, error) {
	b, err := encoding().Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cannot encode %s: %w", Name(v), err)
	}
	return b, nil
}

// Decode reads b, at most limit bytes, into v, a pointer to such a struct: nesting 8, 256 array elements, 32 map pairs. Input that does
// not re-encode to the same bytes is refused.
func Decode(b []byte, v any, limit int) error {
	if len(b) > limit {
		return fmt.Errorf("cannot decode %s: %d bytes, at most %d allowed", Name(v), len(b), limit)
	}
	if err := decoding().Unmarshal(b, v); err != nil {
		if kind, ok := errors.AsType[*cbor.UnmarshalTypeError](err); ok {
			return fmt.Errorf("cannot decode %s: it has a value of kind %s where another belongs", Name(v), kind.CBORType)
		}
		return fmt.Errorf("cannot decode %s: %w", Name(v), err)
	}
	again, err := encoding().Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot decode %s: %w", Name(v), err)
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("cannot decode %s: not in deterministic form (RFC 8949 §4.2.1)", Name(v))
	}
	return nil
}

// First returns the length of the first data item of b, without regard to what follows it.
func First(b []byte) (int, error) {
	mode, err := cbor.DecOptions{MaxNestedLevels: 8, MaxArrayElements: 256, MaxMapPairs: 32, IndefLength: cbor.IndefLengthForbidden}.DecMode()
	if err != nil {
		panic("codec: " + err.Error()) // constant options: unreachable
	}
	rest, err := mode.UnmarshalFirst(b, new(cbor.RawMessage))
	if err != nil {
		return 0, fmt.Errorf("cannot find the end of a data item: %w", err)
	}
	return len(b) - len(rest), nil
}

// Name is what a reader calls a value's type: credit opening for *ledger.CreditOpening.
func Name(v any) string {
	t := reflect.TypeOf(v)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Name() == "" {
		return "value"
	}
	var b strings.Builder
	letters := []rune(t.Name())
	for i, r := range letters {
		if i > 0 && unicode.IsUpper(r) && unicode.IsLower(letters[i-1]) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Blind returns the hash that stands for an opening where it must not be seen: SHA-256 over a tag and its encoding, whose first field is a
// random salt of 32 bytes, for else it could be guessed.
func Blind(tag string, opening any) ([sha256.Size]byte, error) {
	b, err := Encode(opening)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(append([]byte(tag), b...)), nil
}
