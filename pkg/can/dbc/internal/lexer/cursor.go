package lexer

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A Cursor takes tokens off the front of a statement. Every method skips blanks first, and takes nothing when it fails.
type Cursor struct{ text []byte }

// NewCursor returns a Cursor at the beginning of text.
func NewCursor(text []byte) Cursor { return Cursor{text} }

// End reports whether only blanks are left.
func (c *Cursor) End() bool {
	c.skipBlanks()
	return len(c.text) == 0
}

func (c *Cursor) skipBlanks() {
	for len(c.text) > 0 && (c.text[0] <= ' ' || c.text[0] == 0x7f) {
		c.text = c.text[1:]
	}
}

// Accept takes the byte b.
func (c *Cursor) Accept(b byte) bool {
	c.skipBlanks()
	if len(c.text) == 0 || c.text[0] != b {
		return false
	}
	c.text = c.text[1:]
	return true
}

// maxName is the longest name in bytes; long names have up to 128.
const maxName = 256

// Name takes a run of bytes that are neither blanks nor punctuation of the format, or returns "". Real files have names with a
// leading digit, a hyphen or an umlaut.
func (c *Cursor) Name() string {
	c.skipBlanks()
	i := 0
	for i < len(c.text) && c.text[i] > ' ' && c.text[i] != 0x7f && strings.IndexByte(`:;,|@()[]"`, c.text[i]) < 0 {
		i++
	}
	if i > maxName {
		return ""
	}
	name := toText(c.text[:i])
	c.text = c.text[i:]
	return name
}

// Unsigned takes a run of decimal digits that fits 64 bits.
func (c *Cursor) Unsigned() (v uint64, ok bool) {
	c.skipBlanks()
	i := 0
	for i < len(c.text) && c.text[i] >= '0' && c.text[i] <= '9' {
		i++
	}
	v, err := strconv.ParseUint(string(c.text[:min(i, 30)]), 10, 64)
	if err != nil || i > 30 {
		return 0, false
	}
	c.text = c.text[i:]
	return v, true
}

// Float takes a finite decimal number.
func (c *Cursor) Float() (v float64, ok bool) {
	c.skipBlanks()
	i := 0
	for i < len(c.text) && strings.IndexByte("+-.0123456789eE", c.text[i]) >= 0 {
		i++
	}
	v, err := strconv.ParseFloat(string(c.text[:i]), 64)
	if err != nil || math.IsInf(v, 0) {
		return 0, false
	}
	c.text = c.text[i:]
	return v, true
}

// Integer takes an integer, which may be written with a fraction of zero. One above the signed
// range keeps its 64 bits.
func (c *Cursor) Integer() (v int64, ok bool) {
	c.skipBlanks()
	i := 0
	for i < len(c.text) && strings.IndexByte("+-.0123456789", c.text[i]) >= 0 {
		i++
	}
	digits, zeros, _ := strings.Cut(string(c.text[:min(i, 64)]), ".")
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		var bits uint64
		bits, err = strconv.ParseUint(digits, 10, 64)
		v = int64(bits)
	}
	if err != nil || i > 64 || strings.Trim(zeros, "0") != "" {
		return 0, false
	}
	c.text = c.text[i:]
	return v, true
}

// Quoted takes a string in double quotes; \" is a quote inside it.
func (c *Cursor) Quoted() (text string, ok bool) {
	c.skipBlanks()
	if len(c.text) == 0 || c.text[0] != '"' {
		return "", false
	}
	for i := 1; i < len(c.text); i++ {
		switch {
		case c.text[i] == '\\' && i+2 < len(c.text) && c.text[i+1] == '"' && bytes.IndexByte(c.text[i+2:], '"') >= 0:
			i++
		case c.text[i] == '"':
			text = strings.ReplaceAll(toText(c.text[1:i]), `\"`, `"`)
			c.text = c.text[i+1:]
			return text, true
		}
	}
	return "", false
}

// toText converts ISO 8859-1 to UTF-8, in which its bytes are the first 256 code points.
func toText(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	runes := make([]rune, len(b))
	for i, c := range b {
		runes[i] = rune(c)
	}
	return string(runes)
}
