package credit

import (
	"context"
	"testing"

	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// heads returns the heads of an ECU's bindings in the order in which they were made.
func (r *rig) heads(e *ecu) (heads []wire.Head) {
	r.t.Helper()
	err := r.db.View(r.t.Context(), func(tx *store.Tx) error {
		all, err := tx.KeyBindings(r.t.Context(), e.pub.ID())
		for _, b := range all {
			heads = append(heads, b.Head)
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return heads
}

func (r *rig) headIs(got *wire.Receipt, want wire.Head) {
	r.t.Helper()
	if got.Head == nil || *got.Head != want {
		r.t.Errorf("receipt with head %+v, want %+v", got.Head, want)
	}
}

// TestSwappedECU replaces a car's ECU: what the old one signed up to the cut still counts, and nothing beyond.
func TestSwappedECU(t *testing.T) {
	r, old, young := newRig(t), newECU(t), newECU(t)
	birth, _ := r.add("V1", old)
	a, b, c := old.at(t, 1, 95, 1_020_000), old.at(t, 2, 96, 1_040_000), old.at(t, 3, 97, 1_060_000)
	r.accepted(r.send("V1", r.span(old, birth, a)), 10)
	r.release(old, 2)
	first := young.at(t, 7, 96, 5_000)
	r.bind("V1", young, first)

	r.accepted(r.send("V1", r.span(young, first, young.at(t, 8, 98, 25_000))), 10)
	beyond := r.send("V1", r.span(old, a, c))
	r.refused(beyond, wire.ReasonRevoked, 20)
	r.headIs(beyond, a.Head())
	last := r.send("V1", r.span(old, a, b))
	r.accepted(last, 10)
	r.headIs(last, b.Head())
	r.refused(r.send("V1", r.span(old, b, c)), wire.ReasonRevoked, 30)
	r.refused(r.send("V1", r.claim(old, wire.Origin{Seq: 2}, c, b)), wire.ReasonRevoked, 30)
	skip := r.span(old, b, c)
	skip.Forfeit = true
	r.refused(r.send("V1", skip), wire.ReasonRevoked, 30)
}

// TestMovedECU puts an ECU into another car: the new one begins at the head that was logged with it, the old one may still claim up to
// the cut, and a span across it is neither's.
func TestMovedECU(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b, c, d := e.at(t, 5, 95, 1_020_000), e.at(t, 6, 96, 1_040_000), e.at(t, 7, 97, 1_060_000), e.at(t, 8, 98, 1_080_000)
	r.accepted(r.send("V1", r.span(e, birth, a)), 10)
	r.release(e, b.Seq)
	_, device := newKey(t)
	r.register("V2", device)
	r.bind("V2", e, b)

	across := r.span(e, a, c)
	old := r.send("V1", across)
	r.refused(old, wire.ReasonRevoked, 10)
	r.headIs(old, a.Head())
	young := r.send("V2", across)
	r.refused(young, wire.ReasonStale, 10)
	r.headIs(young, b.Head())
	r.refused(r.send("V2", r.span(e, a, b)), wire.ReasonStale, 10) // the old car's backlog
	r.accepted(r.send("V2", r.claim(e, wire.Origin{Seq: b.Seq}, c, b)), 10)
	r.refused(r.send("V1", r.span(e, c, d)), wire.ReasonRevoked, 20)
	r.accepted(r.send("V1", r.span(e, a, b)), 10)
	if got := r.heads(e); len(got) != 2 || got[0] != b.Head() || got[1] != c.Head() {
		t.Errorf("heads %+v", got)
	}
	r.accepted(r.send("V2", r.span(e, c, d)), 10)
	// Each account has its own.
	earned := make(map[string]uint32)
	r.update(func(ctx context.Context, tx *store.Tx) error {
		for _, to := range []uint64{5, 6, 7, 8} {
			all, err := tx.SpanCredits(ctx, e.pub.ID(), to)
			if err != nil {
				return err
			}
			for _, c := range all {
				earned[c.Account] += c.Km
			}
		}
		return nil
	})
	if earned["account of V1"] != 20 || earned["account of V2"] != 20 {
		t.Errorf("accounts earned %v", earned)
	}
}

// TestMovedAwayAndBack has a key speak for a car twice, with another car in between.
func TestMovedAwayAndBack(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b, c, d := e.at(t, 1, 95, 1_020_000), e.at(t, 2, 96, 1_040_000), e.at(t, 3, 97, 1_060_000), e.at(t, 4, 98, 1_080_000)
	r.release(e, a.Seq)
	_, device := newKey(t)
	r.register("V2", device)
	r.bind("V2", e, a)
	r.release(e, c.Seq)
	r.bind("V1", e, c)

	for name, bad := range map[string]struct {
		claim *wire.Claim
		want  wire.Reason
		head  wire.Head
	}{
		"the other car's time":  {r.span(e, a, c), wire.ReasonRevoked, birth.Head()},
		"part of it":            {r.span(e, b, c), wire.ReasonRevoked, birth.Head()},
		"across all":            {r.span(e, birth, d), wire.ReasonGap, a.Head()}, // to be divided where the car's first time ended
		"from the other's time": {r.span(e, b, d), wire.ReasonStale, c.Head()},
	} {
		t.Log(name)
		got := r.send("V1", bad.claim)
		r.refused(got, bad.want, 0)
		r.headIs(got, bad.head)
	}
	r.accepted(r.send("V1", r.span(e, c, d)), 10)
	r.accepted(r.send("V2", r.span(e, a, c)), 10)
	r.accepted(r.send("V1", r.span(e, birth, a)), 10)
	if got := r.heads(e); len(got) != 3 || got[0] != a.Head() || got[1] != c.Head() || got[2] != d.Head() {
		t.Errorf("heads %+v", got)
	}
}

// TestRevokedKeyEarnsNothing: neither anew, nor for a kind that a span lost, nor for a car that it was taken out of.
func TestRevokedKeyEarnsNothing(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b, c := e.at(t, 1, 95, 1_020_000), e.at(t, 2, 96, 1_040_000), e.at(t, 3, 97, 1_060_000)
	whole := r.span(e, birth, a, proof{1, 1}, proof{2, 0})
	stripped := *whole
	stripped.Proofs = whole.Proofs[1:]
	r.accepted(r.send("V1", &stripped), 0)
	r.release(e, b.Seq)
	_, device := newKey(t)
	r.register("V2", device)
	r.bind("V2", e, b)
	young := r.encode(r.span(e, b, c))
	checked := r.prepare("V2", wire.KindClaim, young)
	backlog := r.encode(r.span(e, a, b))
	checkedBacklog := r.prepare("V1", wire.KindClaim, backlog)
	r.handOver(e, b.Seq, true)
	got, _ := r.apply("V2", young, checked)
	r.refused(got, wire.ReasonRevoked, 0)
	got, _ = r.apply("V1", backlog, checkedBacklog)
	r.refused(got, wire.ReasonRevoked, 0)
	r.refused(r.send("V1", whole), wire.ReasonRevoked, 0)
	r.refused(r.send("V2", r.span(e, b, e.at(t, 4, 98, 1_080_000))), wire.ReasonRevoked, 0)
	// What was answered before is answered so again.
	r.accepted(r.send("V1", &stripped), 0)
}

// TestHandOverBetweenCheckAndDecision: the cut is the transaction's, not that of the check before it.
func TestHandOverBetweenCheckAndDecision(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b := e.at(t, 1, 95, 1_020_000), e.at(t, 2, 96, 1_040_000)
	one, two := r.encode(r.span(e, birth, a)), r.encode(r.span(e, birth, b))
	checked := r.prepareAll(wire.KindClaim, Submission{"V1", two}, Submission{"V1", one})
	r.release(e, a.Seq)
	got, _ := r.apply("V1", two, checked[0])
	r.refused(got, wire.ReasonRevoked, 0)
	got, _ = r.apply("V1", one, checked[1])
	r.accepted(got, 10)
}

// TestClaimBeforeItsBinding: a key that another car had before has nothing to say for this one about that time.
func TestClaimBeforeItsBinding(t *testing.T) {
	r, e := newRig(t), newECU(t)
	_, device := newKey(t)
	r.register("V1", device)
	a, b, c := e.at(t, 1, 95, 1_020_000), e.at(t, 2, 96, 1_040_000), e.at(t, 3, 97, 1_060_000)
	r.bind("V1", e, b)
	for _, bad := range []*wire.Claim{r.span(e, a, b), r.span(e, a, c), r.span(e, e.at(t, 0, 90, 1_000_000), a)} {
		got := r.send("V1", bad)
		r.refused(got, wire.ReasonStale, 0)
		r.headIs(got, b.Head())
	}
	r.accepted(r.send("V1", r.span(e, b, c)), 10)
}
