package j1939

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"rawstone/pkg/can"
)

// The receiver's own side: J1939-21's example of a session in blocks, with one packet lost and repeated.
func TestReceiver(t *testing.T) {
	t.Parallel()
	m := message(50) // 8 packets
	f := segment(engine, tool, 65260, m)
	f[0].Data[4] = 3 // the sender allows three in a block
	l := listen(t, Config{}, true)
	l.feed(t, f[0], f[1], f[2], f[3], f[4], f[6] /* 5 is lost */, f[5], f[6], f[7], f[8])
	l.check(t, []string{fmt.Sprintf("65260 00>F9: %x", m)}, []string{
		"00: 110301ffffecfe00", "00: 110304ffffecfe00", "00: 110205ffffecfe00", "00: 110207ffffecfe00", "00: 13320008ffecfe00",
	}, Stats{Delivered: 1, Duplicates: 1})

	// Three times in vain is enough.
	l = listen(t, Config{}, true)
	l.feed(t, f[0], f[1], f[3], f[3], f[3], f[2])
	l.check(t, nil, []string{"00: 110301ffffecfe00", "00: 110202ffffecfe00", "00: 110202ffffecfe00", "00: ff05ffffffecfe00"},
		Stats{Duplicates: 2, Aborted: 1, Unexpected: 1})

	// The end of a block is lost: asked for again by the clock.
	l = listen(t, Config{}, true)
	l.feed(t, f[0], f[1], f[2])
	for range 3 {
		l.now = l.now.Add(T2 + 1)
		if err := l.Tick(t.Context(), l.now); err != nil {
			t.Fatal(err)
		}
	}
	l.check(t, nil, []string{"00: 110301ffffecfe00", "00: 110103ffffecfe00", "00: 110103ffffecfe00", "00: ff03ffffffecfe00"}, Stats{Timeouts: 1})

	// No first packet at all; every transport frame lets the clock be looked at.
	l = listen(t, Config{}, true)
	l.feed(t, f[0])
	for range MaxRepeats + 1 {
		l.now = l.now.Add(T2)
		l.feed(t, cm(brakes, engine, 1<<8, abort, 1))
		l.now = l.now.Add(1)
		l.feed(t, cm(brakes, engine, 1<<8, abort, 1))
	}
	l.check(t, nil, []string{"00: 110301ffffecfe00", "00: 110301ffffecfe00", "00: 110301ffffecfe00", "00: ff03ffffffecfe00"}, Stats{Timeouts: 1})

	// What nobody wants, and what there is no room for, is declined politely; a session between others is none of ours.
	l = listen(t, Config{Want: func(p PGN) bool { return p != 65260 }, Sessions: 1}, true)
	l.feed(t, f[0], f[1], segment(engine, brakes, 65260, m)[0], segment(engine, Global, 65260, m)[0])
	l.feed(t, can.Frame{ID: ID{6, 65260, engine, Global}.compose(), Len: 8})
	l.feed(t, segment(engine, tool, 65261, m)[0])
	l.now = l.now.Add(1)
	l.feed(t, segment(brakes, tool, 65261, m)[0])
	l.check(t, nil, []string{"00: ff02ffffffecfe00", "00: 110801ffffedfe00", "00: ff02ffffffedfe00", "0B: 110801ffffedfe00"},
		Stats{Unexpected: 1, Evicted: 1})
}

func TestSendFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("bus off")
	l := listen(t, Config{}, false)
	l.cfg.Address = tool
	l.cfg.Send = func(context.Context, *can.Frame) error { return broken }
	f := segment(engine, tool, 65260, message(14))
	if err := l.Handle(t.Context(), &f[0]); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	l.feed(t, f[1])
	l.check(t, nil, nil, Stats{Unexpected: 1})
	// The message is whole although its sender will not hear of it.
	l = listen(t, Config{}, true)
	l.feed(t, f[0], f[1])
	l.cfg.Send = func(context.Context, *can.Frame) error { return broken }
	if err := l.Handle(t.Context(), &f[2]); !errors.Is(err, broken) || len(l.got) != 1 {
		t.Errorf("%v, %v", err, l.got)
	}
}
