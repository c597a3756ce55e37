// Package validity decides which values of a signal are meant to be used: a DBC file, and the conventions of the field, reserve
// some of a signal's raw values to say that there is none. It refuses to change values: what is out of range is told, not clamped.
package validity

import (
	"math"
	"slices"
	"strings"
	"unicode"
)

// A Signal is what a DBC file says about a signal's values: the number its bits make, times Scale, plus Offset.
type Signal struct {
	// Length is the number of bits.
	Length        int
	Signed, Float bool
	Scale, Offset float64
	// Min and Max are the range of physical values; there is none unless Max > Min.
	Min, Max float64
	// Values names raw values.
	Values map[int64]string
}

// A Rule tells usable values of a signal from the others. Its zero value allows nothing.
type Rule struct {
	low, high float64  // the physical value must lie between them
	absent    []uint64 // raw values that mean not available, ascending
}

// New returns the rule of s: its range, widened by half a step, and its reserved raw values, which are all ones in an unsigned
// integer of 8 bits or more (ISO 11783-7, SAE J1939-71) and what the value table names as not available.
func New(s Signal) Rule {
	r := Rule{low: math.Inf(-1), high: math.Inf(1), absent: absent(&s)}
	if s.Max > s.Min {
		slack := max(math.Abs(s.Min), math.Abs(s.Max), math.Abs(s.Offset)) * 0x1p-52 // limits are decimal, and often rounded
		if s.Float && s.Length == 32 {
			slack *= 0x1p29
		} else if !s.Float {
			slack = max(slack, math.Abs(s.Scale)/2)
		}
		r.low, r.high = s.Min-slack, s.Max+slack
	}
	return r
}

// Allows reports whether a value is meant to be used.
func (r *Rule) Allows(raw uint64, physical float64) bool {
	if physical > r.low && physical < r.high {
		_, reserved := slices.BinarySearch(r.absent, raw)
		return !reserved
	}
	return false
}

// absent returns, in ascending order, the raw values of s that are reserved.
func absent(s *Signal) []uint64 {
	if s.Float || s.Length == 1 {
		return nil
	}
	mask := ^uint64(0) >> (64 - s.Length)
	var values []uint64
	if !s.Signed && s.Length >= 8 {
		values = append(values, mask)
	}
	for key, text := range s.Values {
		// Tools write -1 and 255 alike. A key that does not fit the bits either way is nobody's.
		fits := key >= 0 && uint64(key) <= mask || key < 0 && key >= int64(-1)<<(s.Length-1) || s.Length == 64
		if fits && SaysAbsent(text) {
			values = append(values, uint64(key)&mask)
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// SaysAbsent reports whether the text of a value table says that there is no value: it ends in SNA, "not available",
// "unavailable", "not valid" or "invalid", in any case and spelling of the gaps, or is N/A.
func SaysAbsent(text string) bool {
	letters := strings.Map(func(c rune) rune {
		if !unicode.IsLetter(c) {
			return -1
		}
		return unicode.ToLower(c)
	}, text)
	for _, end := range []string{"sna", "notavailable", "notavail", "unavailable", "unavail", "notvalid", "invalid"} {
		if strings.HasSuffix(letters, end) {
			return true
		}
	}
	return letters == "na"
}
