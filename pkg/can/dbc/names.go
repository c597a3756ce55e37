package dbc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// An index holds every signal twice, under "Message.Signal" and under "Signal".
type index map[string][]place

type place struct {
	message *Message
	signal  *Signal
}

func newIndex(file *File) index {
	x := index{}
	for _, m := range file.Messages {
		for _, s := range m.Signals {
			for _, name := range []string{s.Name, m.Name + "." + s.Name} {
				x[name] = append(x[name], place{m, s})
			}
		}
	}
	return x
}

func (x index) find(name string) (*Message, *Signal, error) {
	switch places := x[name]; len(places) {
	case 0:
		return nil, nil, errors.New("the DBC file has none of that name: write it as its SG_ line does, or as Message.Signal")
	case 1:
		return places[0].message, places[0].signal, nil
	default:
		a, b := places[0], places[1]
		return nil, nil, fmt.Errorf("the DBC file has %d of that name: write %s.%s or %s.%s, and rename one where these are alike",
			len(places), a.message.Name, a.signal.Name, b.message.Name, b.signal.Name)
	}
}

// absentValues returns, in ascending order, the raw values of s that mean not available, as Value.Available documents.
func absentValues(s *Signal, mask uint64) []uint64 {
	if s.Float || s.Length == 1 {
		return nil
	}
	var absent []uint64
	if !s.Signed && s.Length >= 8 {
		absent = append(absent, mask)
	}
	for key, text := range s.Values {
		// Tools write -1 and 255 alike. A key that does not fit the bits either way is nobody's.
		fits := key >= 0 && uint64(key) <= mask || key < 0 && key >= int64(-1)<<(s.Length-1) || s.Length == 64
		if fits && saysAbsent(text) {
			absent = append(absent, uint64(key)&mask)
		}
	}
	slices.Sort(absent)
	return absent
}

// saysAbsent reports whether the text of a value table says "not available", as Value.Available documents.
func saysAbsent(text string) bool {
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
