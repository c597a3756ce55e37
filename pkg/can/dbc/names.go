package dbc

import (
	"errors"
	"fmt"
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
