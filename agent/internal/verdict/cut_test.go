package verdict

import (
	"errors"
	"testing"
	"time"

	"rawstone/agent/internal/archive"
	"rawstone/pkg/attest"
	"rawstone/pkg/wire"
)

type snapshots struct {
	list []attest.Message
	err  error
}

func (s snapshots) Backlog(archive.State) ([]attest.Message, error) { return s.list, s.err }

// TestDividedClaim: a gap inside the claim moves no head and bounds the next claim; any other moves the head and leaves the bound.
func TestDividedClaim(t *testing.T) {
	c := &wire.Claim{From: wire.Origin{Seq: 10}, To: wire.Snapshot{Seq: 20}}
	begin := &wire.Head{Seq: 10}
	for seq, divided := range map[uint64]bool{9: false, 10: false, 11: true, 19: true, 20: false, 21: false} {
		for _, reason := range []wire.Reason{wire.ReasonGap, wire.ReasonStale, wire.ReasonRevoked} {
			st, head := archive.State{Head: begin, Spent: 10}, wire.Head{Seq: seq}
			Refuse(&st, c, &wire.Receipt{Reason: reason, Head: &head}, now)
			divided := divided && reason == wire.ReasonGap
			moved := !divided && reason != wire.ReasonRevoked
			if (st.Cut != nil) != divided || (*st.Head == head) != (moved || seq == 10) || st.Refusals != 1 || divided && (st.Cut == &head || st.Spent != 10) {
				t.Errorf("%s at %d: %+v", reason, seq, st)
			}
			if waits := !RetryAt(st, now, time.Hour).IsZero(); waits != (reason == wire.ReasonRevoked) {
				t.Errorf("%s at %d: waits %v", reason, seq, waits)
			}
		}
	}
	// One that tells cuts without end is answered more and more seldom.
	st := archive.State{Head: begin}
	for range MaxRebases + 1 {
		Refuse(&st, c, &wire.Receipt{Reason: wire.ReasonGap, Head: &wire.Head{Seq: 15}}, now)
	}
	if RetryAt(st, now, time.Hour).IsZero() || *st.Head != *begin {
		t.Errorf("%+v", st)
	}
}

func TestBacklogEndsAtTheCut(t *testing.T) {
	var all []attest.Message
	for _, seq := range []uint64{10, 12, 14, 16} {
		all = append(all, attest.Message{Snapshot: wire.Snapshot{Seq: seq}})
	}
	for _, x := range []struct {
		head, cut *wire.Head
		want      int
		bounded   bool
	}{
		{nil, nil, 4, false},
		{&wire.Head{Seq: 10}, nil, 4, false},
		{nil, &wire.Head{Seq: 14}, 3, true},
		{&wire.Head{Seq: 10}, &wire.Head{Seq: 14}, 3, true},
		{&wire.Head{Seq: 10}, &wire.Head{Seq: 13}, 2, true},
		{&wire.Head{Seq: 10}, &wire.Head{Seq: 99}, 4, true},
		{&wire.Head{Seq: 8}, &wire.Head{Seq: 9}, 0, true},
		{&wire.Head{Seq: 10}, &wire.Head{Seq: 10}, 4, false},
		{&wire.Head{Seq: 12}, &wire.Head{Seq: 10}, 4, false},
	} {
		list, cut, err := Backlog(snapshots{list: all}, archive.State{Head: x.head, Cut: x.cut})
		if len(list) != x.want || (cut != nil) != x.bounded || err != nil {
			t.Errorf("head %v, cut %v: %d snapshots, cut %v, %v", x.head, x.cut, len(list), cut, err)
		}
	}
	broken := errors.New("flash")
	if _, cut, err := Backlog(snapshots{err: broken}, archive.State{Cut: &wire.Head{Seq: 9}}); !errors.Is(err, broken) || cut != nil {
		t.Errorf("%v, %v", cut, err)
	}
}
