//go:build linux

package link

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/can"
)

// Time frames on a real bus: announced, consumed, forgotten.
func TestFrameTime(t *testing.T) {
	url := "udp://" + freeGroup(t)
	var at time.Time
	clock := func() time.Time { return at }
	source := open(t, Config{URL: url, SendTime: true, Now: clock})
	ecu := open(t, Config{URL: url, Now: clock})
	rx := open(t, Config{URL: url, Now: clock})
	ctx := deadline(t)
	stamped := func(want int64) {
		t.Helper()
		if f := receive(t, ctx, rx); f.Time != want {
			t.Errorf("frame %s has time %d, want %d", f.ID, f.Time, want)
		}
	}
	play := func(ns int64, id can.ID) {
		t.Helper()
		f := frame(id, 0)
		f.Time = ns
		send(t, ctx, source, f)
	}
	at = time.Unix(1000, 0)
	send(t, ctx, ecu, frame(1, 0))
	stamped(at.UnixNano()) // no time source yet: the host's clock
	play(0, 2)
	stamped(0) // even the first of all times is announced
	play(123_456_789, 3)
	stamped(123_456_789)
	play(123_456_789, 4)
	stamped(123_456_789)
	send(t, ctx, ecu, frame(5, 0))
	stamped(123_456_789) // another sender's frame is on the same bus at the same time
	play(5, 6)
	stamped(5) // a capture that starts over
	// The source hears its own announcements.
	if got := receive(t, ctx, source); got.ID != 1 {
		t.Errorf("received %s", got.ID)
	}
	send(t, ctx, ecu, frame(7, 0))
	for _, want := range []can.Frame{{ID: 5, Time: 123_456_789}, {ID: 7, Time: 5}} {
		if d := cmp.Diff(want, receive(t, ctx, source)); d != "" {
			t.Error(d)
		}
	}
	stamped(5)
	// Half the lifetime later the same time is announced again and stays in force.
	at = at.Add(time.Second)
	play(5, 8)
	stamped(5)
	at = at.Add(2 * time.Second)
	send(t, ctx, ecu, frame(9, 0))
	stamped(5)
	// Announced longer ago than its lifetime: the host's clock again.
	at = at.Add(time.Nanosecond)
	if err := ecu.Send(ctx, &can.Frame{ID: 10}); err != nil {
		t.Fatal(err)
	}
	rx.clock.heard = rx.clock.heard.Add(-time.Nanosecond)
	stamped(at.UnixNano())
	if d := cmp.Diff(Stats{Received: 10}, rx.Stats()); d != "" {
		t.Error(d)
	}
}

// A repeated time costs one announcement, not one a frame.
func TestAnnouncedOnce(t *testing.T) {
	group := freeGroup(t)
	source := open(t, Config{URL: "udp://" + group, SendTime: true, Now: fixed(1e18)})
	spy := open(t, Config{URL: "udp://" + group})
	spy.timed = false // as a stock receiver: time frames are frames
	ctx := deadline(t)
	for i, ns := range []int64{100, 100, 100, 200, 200, 100} {
		f := frame(can.ID(i), 0)
		f.Time = ns
		send(t, ctx, source, f)
	}
	var got []string
	for range 9 {
		f := receive(t, ctx, spy)
		got = append(got, fmt.Sprintf("%s#%X", f.ID, f.Payload()))
	}
	want := []string{
		"1FFFFFF7#0000000000000064", "000#", "001#", "002#",
		"1FFFFFF7#00000000000000C8", "003#", "004#",
		"1FFFFFF7#0000000000000064", "005#",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Stats{Sent: 6}, source.Stats()); d != "" {
		t.Error(d)
	}
}
