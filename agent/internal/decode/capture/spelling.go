package capture

import (
	"bytes"
	"strconv"

	"rawstone/pkg/can"
)

// A Spelling is how a capture writes times: seconds of at least so many digits, zeros first, and a fraction of so many.
type Spelling struct{ seconds, fraction int }

// learn returns the spelling of the first time in text, or candump's own when there is none. One program writes a capture, and
// writes all of it alike.
func learn(text []byte) Spelling {
	candump := Spelling{10, 6}
	for line := range bytes.Lines(text) {
		line, ok := bytes.CutPrefix(bytes.TrimLeft(line, " \t\r"), []byte("("))
		if !ok {
			continue
		}
		stamp, _, ok := bytes.Cut(line, []byte(")"))
		if !ok {
			continue
		}
		seconds, fraction, ok := bytes.Cut(stamp, []byte("."))
		if !ok || !digits(seconds) || !digits(fraction) || len(fraction) > 9 || len(seconds) > can.MaxLine {
			continue
		}
		s := Spelling{1, len(fraction)}
		if seconds[0] == '0' || len(seconds) == candump.seconds {
			s.seconds = len(seconds)
		}
		return s
	}
	return candump
}

func digits(s []byte) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(s) > 0
}

// Append appends a time in nanoseconds since 1970; one that needs more digits of fraction than the spelling has gets all nine.
func (s Spelling) Append(dst []byte, nanos int64) []byte {
	var text [20]byte
	seconds := strconv.AppendInt(text[:0], nanos/1e9, 10)
	for range s.seconds - len(seconds) {
		dst = append(dst, '0')
	}
	dst = append(append(dst, seconds...), '.')
	fraction := strconv.AppendInt(text[:0], 1e9+nanos%1e9, 10)[1:]
	if digits := bytes.TrimRight(fraction, "0"); len(digits) <= s.fraction {
		fraction = fraction[:s.fraction]
	}
	return append(dst, fraction...)
}
