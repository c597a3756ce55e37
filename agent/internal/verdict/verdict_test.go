package verdict

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/archive"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

var now = time.Unix(1_000_000, 0)

func TestRebasesActAtOnceThenWait(t *testing.T) {
	var st archive.State
	for i := range MaxRebases + 1 {
		head := wire.Head{Seq: uint64(i)}
		Refuse(&st, new(wire.Claim), &wire.Receipt{Reason: wire.ReasonStale, Head: &head}, now)
		if st.Head == nil || *st.Head != head {
			t.Fatalf("head %+v, want %+v", st.Head, head)
		}
		if waits := !RetryAt(st, now, time.Hour).IsZero(); waits != (i == MaxRebases) {
			t.Errorf("rebase %d: waits %v", i+1, waits)
		}
	}
	Accept(&st, wire.Snapshot{Seq: 50}, &wire.Receipt{Head: &wire.Head{Seq: 49}})
	if want := (archive.State{Head: &wire.Head{Seq: 50}}); cmp.Diff(want, st) != "" {
		t.Errorf("accepted: %+v", st)
	}
	Accept(&st, wire.Snapshot{Seq: 51}, &wire.Receipt{Head: &wire.Head{Seq: 60}})
	if st.Head.Seq != 60 {
		t.Errorf("a head carried further is forgotten: %+v", st.Head)
	}
}

func TestBackOffDoublesToABound(t *testing.T) {
	st := archive.State{Head: &wire.Head{Seq: 3}}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 32, 32}
	for i, hours := range want {
		Refuse(&st, new(wire.Claim), &wire.Receipt{Reason: wire.ReasonUnknownVehicle}, now)
		if got := RetryAt(st, now, time.Hour).Sub(now); got != hours*time.Hour {
			t.Errorf("refusal %d: waits %v, want %v", i+1, got, hours*time.Hour)
		}
	}
	if st.Head.Seq != 3 || st.Reason != wire.ReasonUnknownVehicle {
		t.Errorf("state %+v", st)
	}
	if at := RetryAt(st, now.Add(-time.Minute), time.Hour); !at.IsZero() {
		t.Errorf("a clock set back waits until %v", at)
	}
	st.Refusals = 0 // of a damaged or older state
	if got := RetryAt(st, now, time.Hour).Sub(now); got != time.Hour {
		t.Errorf("waits %v", got)
	}
}

func TestOutcomeTellsTheDriver(t *testing.T) {
	timing := terms.Timing{DayS: 86400}
	got := Outcome(wire.KindClaim, &wire.Receipt{Accepted: true, Credits: []wire.Credit{{Policy: 1, Km: 40, Effective: 10}, {Policy: 2}}}, timing)
	if want := "accepted: 40 km credited from program day 10 (1970-01-11)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	seen := make(map[string]bool)
	for _, r := range []wire.Reason{wire.ReasonGap, wire.ReasonUnknownVehicle, wire.ReasonUnknownKey, wire.ReasonRevoked, wire.ReasonFuture,
		wire.ReasonPolicy, wire.ReasonCharter, wire.ReasonEpoch, wire.ReasonProof} {
		// A report that is refused is gone, whatever the reason.
		if of := Remedy(wire.KindReport, r); r != wire.ReasonPolicy && strings.Contains(of, "again") || of == Remedy(wire.KindClaim, r) && r == wire.ReasonFuture {
			t.Errorf("a report refused for %s: %s", r, of)
		}
		text := Outcome(wire.KindClaim, &wire.Receipt{Reason: r}, timing)
		if !strings.HasPrefix(text, "refused ("+string(r)+"): ") || seen[Remedy(wire.KindClaim, r)] {
			t.Errorf("%s: %q", r, text)
		}
		seen[Remedy(wire.KindClaim, r)] = true
	}
}

func TestClaimsWaitForAKeyADayForEachPolicy(t *testing.T) {
	key := func(serial uint16, kind string) *terms.Policy { return &terms.Policy{Serial: serial, Kind: kind} }
	const day = time.Hour
	var st archive.State
	for i, c := range []struct {
		at      time.Duration
		lacking []*terms.Policy
		waits   bool
	}{
		{0, []*terms.Policy{key(4, terms.KindSafe)}, true},
		{day - 1, []*terms.Policy{key(4, terms.KindSafe)}, true},
		{day, []*terms.Policy{key(4, terms.KindSafe)}, false},
		{day, []*terms.Policy{key(3, terms.KindSafe)}, false}, // no newer than what was waited for
		{day, []*terms.Policy{key(3, terms.KindMileage), key(4, terms.KindSafe)}, true},
		{9 * day, []*terms.Policy{key(3, terms.KindMileage)}, true},
		{9 * day, []*terms.Policy{key(4, terms.KindSafe), key(5, "feature/x")}, true}, // 5 is new
		{10*day - time.Second, []*terms.Policy{key(5, "feature/x")}, true},
		{10 * day, []*terms.Policy{key(5, "feature/x")}, false},
	} {
		if got := Await(&st, c.lacking, now.Add(c.at), day); got != c.waits {
			t.Errorf("step %d: waits %v, want %v; %+v", i, got, c.waits, st)
		}
	}
	// A clock set back begins the wait again rather than making it years long.
	if !Await(&st, []*terms.Policy{key(5, "feature/x")}, now, day) || Await(&st, []*terms.Policy{key(5, "feature/x")}, now.Add(day), day) {
		t.Errorf("after the clock was set back: %+v", st)
	}
	if !Await(&st, []*terms.Policy{key(4, terms.KindSafe)}, now.Add(-day), day) || Await(&st, []*terms.Policy{key(5, "feature/x")}, now, day) {
		t.Errorf("a clock set back makes a policy new that was waited for: %+v", st)
	}
}
