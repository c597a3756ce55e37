//go:build linux

package link

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	einridecan "go.einride.tech/can"
	"go.einride.tech/can/pkg/socketcan"

	"rawstone/pkg/can"
)

// A stock einride participant on the same group. It prefers another interface over lo where there is one and finds none
// where lo lacks the MULTICAST flag and is alone; TestEinrideBytes covers the format there.
func TestEinridePeer(t *testing.T) {
	group := freeGroup(t)
	peer, err := socketcan.Dial("udp", group)
	if err != nil {
		t.Skipf("einride's bus does not work on this machine: %v", err)
	}
	defer peer.Close()
	c := open(t, Config{URL: "udp://" + group, SendTime: true})
	ctx := deadline(t)
	theirs := einridecan.Frame{ID: 0x18DAF110, IsExtended: true, Length: 3, Data: einridecan.Data{1, 2, 3}}
	if err := socketcan.NewTransmitter(peer).TransmitFrame(ctx, theirs); err != nil {
		t.Fatal(err)
	}
	got := receive(t, ctx, c)
	got.Time = 0
	if d := cmp.Diff(frame(can.Extended|0x18DAF110, 0, 1, 2, 3), got); d != "" {
		t.Error(d)
	}
	mine := frame(0x7E8, 0, 4, 5)
	mine.Time = 0x0102030405060708
	send(t, ctx, c, mine)
	if err := peer.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r := socketcan.NewReceiver(peer)
	for _, want := range []einridecan.Frame{
		theirs, // it hears itself
		{ID: 0x1FFFFFF7, IsExtended: true, Length: 8, Data: einridecan.Data{1, 2, 3, 4, 5, 6, 7, 8}},
		{ID: 0x7E8, Length: 2, Data: einridecan.Data{4, 5}},
	} {
		if !r.Receive() {
			t.Fatal(r.Err())
		}
		if d := cmp.Diff(want, r.Frame()); d != "" {
			t.Error(d)
		}
	}
}
