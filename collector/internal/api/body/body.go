// Package body reads the bodies of the accounts' API: small JSON objects of strings and whole numbers.
//
// It is strict (RFC 7493): a body has one spelling of each key, no key twice and none that is unknown, valid UTF-8, nothing after it,
// and at most MaxLen bytes. Numbers are whole, in decimal digits without sign, fraction or exponent, and at most MaxNumber, so that every
// JSON library reads them alike. What a value means is for its readers.
package body

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// MaxLen bounds a body in bytes.
	MaxLen = 16 << 10
	// MaxNumber bounds a number: 2^53 − 1, the largest that a double-precision number counts up to (RFC 7493 §2.2).
	MaxNumber = 1<<53 - 1
)

// A Field takes a value, a string or a json.Number, and says what is wrong with it.
type Field func(value any) error

// Object reads a body with these fields. Those in required must be there.
func Object(b []byte, fields map[string]Field, required ...string) error {
	switch {
	case len(b) > MaxLen:
		return fmt.Errorf("the body has more than %d bytes", MaxLen)
	case !utf8.Valid(b):
		return errors.New("the body is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.New("the body is not a JSON object")
	}
	seen := make(map[string]bool)
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return errors.New("the body is not JSON")
		}
		field, known := fields[name]
		if !known {
			return fmt.Errorf("the body has an unknown key %s", quote(name))
		}
		if seen[name] {
			return fmt.Errorf("the body has the key %q twice", name)
		}
		seen[name] = true
		value, err := dec.Token()
		if err != nil {
			return errors.New("the body is not JSON")
		}
		if err := field(value); err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return errors.New("the body is not JSON")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	for _, name := range required {
		if !seen[name] {
			return fmt.Errorf("the body lacks the key %q", name)
		}
	}
	return nil
}

// quote shows no more of a stranger's text than is of use.
func quote(s string) string { return strconv.QuoteToASCII(s[:min(len(s), 40)]) }

// Text takes a string of 1 to most characters of printable ASCII, as accounts are named.
func Text(to *string, most int) Field {
	return func(value any) error {
		s, ok := value.(string)
		if !ok || s == "" || len(s) > most || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' }) {
			return fmt.Errorf("is not text of 1 to %d characters of printable ASCII", most)
		}
		*to = s
		return nil
	}
}

// Number takes a whole number from least to most, which is at most MaxNumber.
func Number(to *uint64, least, most uint64) Field {
	return func(value any) error {
		n, ok := value.(json.Number)
		if !ok {
			return errors.New("is not a number")
		}
		v, err := ParseNumber(n.String(), least, most)
		if err != nil {
			return err
		}
		*to = v
		return nil
	}
}

// ParseNumber reads decimal digits as a whole number from least to most.
func ParseNumber(s string, least, most uint64) (uint64, error) {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil || strconv.FormatUint(v, 10) != s || v < least || v > min(most, MaxNumber) {
		return 0, fmt.Errorf("is %s, want a whole number from %d to %d", outside(s), least, min(most, MaxNumber))
	}
	return v, nil
}

// outside names what is wrong with digits that are no number within bounds.
func outside(s string) string {
	if len(s) <= 40 {
		if i, ok := new(big.Int).SetString(s, 10); ok {
			return i.String()
		}
	}
	return "something else"
}

// Bytes takes 1 to most bytes in base64 with padding (RFC 4648 §4), in its one spelling.
func Bytes(to *[]byte, most int) Field {
	return func(value any) error {
		s, ok := value.(string)
		if ok && len(s) <= base64.StdEncoding.EncodedLen(most) {
			if b, err := base64.StdEncoding.DecodeString(s); err == nil && 0 < len(b) && len(b) <= most && base64.StdEncoding.EncodeToString(b) == s {
				*to = b
				return nil
			}
		}
		return fmt.Errorf("is not 1 to %d bytes in base64", most)
	}
}

// Hash takes 32 bytes, not all zero, in lower-case hexadecimal.
func Hash(to *[32]byte) Field {
	return func(value any) error {
		s, ok := value.(string)
		if ok && len(s) == 64 {
			if b, err := hex.DecodeString(s); err == nil && hex.EncodeToString(b) == s && [32]byte(b) != ([32]byte{}) {
				*to = [32]byte(b)
				return nil
			}
		}
		return errors.New("is not 32 bytes in lower-case hexadecimal, or zero")
	}
}
