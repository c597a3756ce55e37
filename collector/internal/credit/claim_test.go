package credit

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

func TestAcceptsClaim(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	to := e.at(t, 7, 99, 1_043_000)
	c := r.span(e, birth, to, proof{1, 3}, proof{2, 0})
	got := r.send("V1", c)
	head := to.Head()
	want := &wire.Receipt{
		Version: wire.Version, Submission: wire.ID(r.encode(c)), Vehicle: "V1", Accepted: true, Head: &head,
		Credits: []wire.Credit{{Policy: 1, Km: 40, Effective: today + 1}, {Policy: 2, Km: 0, Effective: today + 1}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if h := r.head(e); h != head {
		t.Errorf("head is %+v, want %+v", h, head)
	}
	s := r.summary()
	if s.ClaimsAccepted != 1 || s.Credits != 2 || s.KmProven != 40 || s.Seen != 1 {
		t.Errorf("summary %+v", s)
	}
}

func TestSequenceNumberAloneStandsForTheHead(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	to := e.at(t, 1, 99, 1_043_000)
	r.accepted(r.send("V1", r.claim(e, wire.Origin{Seq: 0}, to, birth)), 10)
	next := e.at(t, 2, 100, 1_060_000)
	r.accepted(r.send("V1", r.claim(e, wire.Origin{Seq: 1}, next, to)), 10)
}

func TestHugeSequenceNumbers(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b := e.at(t, 1<<63-1, 98, 1_020_000), e.at(t, 1<<64-1, 99, 1_040_000)
	r.accepted(r.send("V1", r.span(e, birth, a)), 10)
	r.accepted(r.send("V1", r.claim(e, wire.Origin{Seq: 1<<63 - 1}, b, a)), 10)
	if h := r.head(e); h != b.Head() {
		t.Errorf("head is %+v, want %+v", h, b.Head())
	}
}

func TestCapPerDaySpanned(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	to := e.at(t, 1, 53, 1_500_000)
	r.accepted(r.send("V1", r.span(e, birth, to, proof{1, 5})), 300) // 400 km proven, 3 days at 100 km
}

func TestReplayGetsTheStoredReceipt(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	mid := e.at(t, 1, 98, 1_020_000)
	good := r.encode(r.span(e, birth, mid))
	_, first := r.submit("V1", wire.KindClaim, good)
	bad := r.encode(r.span(e, birth, e.at(t, 2, 102, 1_020_000)))
	_, refused := r.submit("V1", wire.KindClaim, bad)
	r.accepted(r.send("V1", r.span(e, mid, e.at(t, 3, 99, 1_040_000))), 10)
	r.day++
	r.restart()
	if _, again := r.submit("V1", wire.KindClaim, good); !bytes.Equal(first, again) {
		t.Error("the same claim got another receipt")
	}
	if _, again := r.submit("V1", wire.KindClaim, bad); !bytes.Equal(refused, again) {
		t.Error("the same refused claim got another receipt")
	}
	if s := r.summary(); s.KmProven != 20 || s.ClaimsAccepted != 2 {
		t.Errorf("a replay changed the records: %+v", s)
	}
}

func TestReplayByAnotherVehicle(t *testing.T) {
	r, e, thief := newRig(t), newECU(t), newECU(t)
	birth, _ := r.add("V1", e)
	r.add("V2", thief)
	body := r.encode(r.span(e, birth, e.at(t, 1, 99, 1_020_000)))
	stolen, _ := r.submit("V2", wire.KindClaim, body)
	r.refused(stolen, wire.ReasonUnknownKey, 0)
	if stolen.Head != nil {
		t.Error("the refusal tells another vehicle's head")
	}
	// Having been sent first by a thief takes nothing from its owner.
	own, _ := r.submit("V1", wire.KindClaim, body)
	r.accepted(own, 10)
}

func TestAnotherVehiclesSnapshot(t *testing.T) {
	r, e, other := newRig(t), newECU(t), newECU(t)
	birth, _ := r.add("V1", e)
	otherBirth, _ := r.add("V2", other)
	farther := other.at(t, 1, 99, 1_400_000)
	for c, o := range other.openings {
		e.openings[c] = o
	}
	r.refused(r.send("V1", r.span(e, birth, farther)), wire.ReasonSignature, 0)
	r.refused(r.send("V1", r.span(e, otherBirth, e.at(t, 2, 99, 1_020_000))), wire.ReasonSignature, 0)
	r.refused(r.send("V1", r.span(other, otherBirth, farther)), wire.ReasonUnknownKey, 0)
	// Moved into this vehicle's claim under its own key, the counters prove nothing without the signature.
	forged := farther
	forged.Signature = birth.Signature
	r.refused(r.send("V1", r.span(e, birth, forged)), wire.ReasonSignature, 0)
}

func TestReorderedSpans(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b := e.at(t, 1, 97, 1_020_000), e.at(t, 2, 98, 1_040_000)
	got := r.send("V1", r.span(e, a, b))
	r.refused(got, wire.ReasonGap, 0)
	if head := birth.Head(); *got.Head != head {
		t.Errorf("refused with head %+v, want %+v", got.Head, head)
	}
	r.refused(r.send("V1", r.claim(e, wire.Origin{Seq: 1}, b, a)), wire.ReasonGap, 0)
	r.accepted(r.send("V1", r.span(e, birth, a)), 10)
	r.accepted(r.send("V1", r.span(e, a, b)), 10)
}

func TestOverlappingAndOvertakingSpans(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b, c, d := e.at(t, 1, 95, 1_020_000), e.at(t, 2, 96, 1_040_000), e.at(t, 3, 97, 1_060_000), e.at(t, 4, 98, 1_080_000)
	r.accepted(r.send("V1", r.span(e, birth, c, proof{1, 4})), 50)
	for name, bad := range map[string]*wire.Claim{
		"begin of it":          r.span(e, birth, b),
		"middle of it":         r.span(e, a, b),
		"its end again":        r.span(e, a, c),
		"across its end":       r.span(e, b, d),
		"longer than it":       r.span(e, birth, d),
		"longer, by number":    r.claim(e, wire.Origin{Seq: 0}, d, birth),
		"middle of it, number": r.claim(e, wire.Origin{Seq: 1}, b, a),
	} {
		for _, forfeit := range []bool{false, true} {
			if bad.From.Commitment == nil && forfeit {
				continue
			}
			bad.Forfeit = forfeit
			got := r.send("V1", bad)
			r.refused(got, wire.ReasonStale, 50)
			if head := c.Head(); got.Head == nil || *got.Head != head {
				t.Errorf("%s: refused with head %+v, want %+v", name, got.Head, head)
			}
		}
	}
	r.accepted(r.send("V1", r.span(e, c, d)), 10)
}

func TestForfeit(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b := e.at(t, 1, 97, 1_100_000), e.at(t, 2, 98, 1_111_000)
	c := r.span(e, a, b)
	c.Forfeit = true
	r.accepted(r.send("V1", c), 10)
	// What was given up is gone.
	r.refused(r.send("V1", r.span(e, birth, a)), wire.ReasonStale, 10)
}

func TestForkedSnapshotUnderTheHeadsNumber(t *testing.T) {
	r, e := newRig(t), newECU(t)
	r.add("V1", e)
	fork := e.at(t, 0, 50, 900_000)
	r.refused(r.send("V1", r.span(e, fork, e.at(t, 1, 99, 1_000_000))), wire.ReasonStale, 0)
}

func TestFutureDay(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	far := e.at(t, 2, today+2, 1_020_000)
	r.refused(r.send("V1", r.span(e, birth, far)), wire.ReasonFuture, 0)
	r.refused(r.send("V1", r.span(e, birth, e.at(t, 3, 1<<32-1, 1_020_000))), wire.ReasonFuture, 0)
	ahead := e.at(t, 1, today+1, 1_020_000)
	r.accepted(r.send("V1", r.span(e, birth, ahead)), 10)
}

func TestDayMustRise(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	r.refused(r.send("V1", r.claim(e, wire.Origin{Seq: 0}, e.at(t, 1, 50, 1_020_000), birth)), wire.ReasonMalformed, 0)
	r.refused(r.send("V1", r.claim(e, wire.Origin{Seq: 0}, e.at(t, 2, 49, 1_020_000), birth)), wire.ReasonMalformed, 0)
}

func TestTierOneHigher(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	to := e.at(t, 1, 99, 1_000_000+39_999)
	r.refused(r.send("V1", r.span(e, birth, to, proof{1, 3})), wire.ReasonProof, 0)
	r.accepted(r.send("V1", r.span(e, birth, to, proof{1, 2})), 20)
}

func TestAcceptedWholeOrRefusedWhole(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	to := e.at(t, 1, 99, 1_020_000)
	c := r.span(e, birth, to, proof{1, 1}, proof{2, 0})
	c.Proofs[1].Proof = c.Proofs[0].Proof
	r.refused(r.send("V1", c), wire.ReasonProof, 0)
	if h := r.head(e); h != birth.Head() {
		t.Errorf("a refused claim moved the head to %+v", h)
	}
	if n := r.summary().Credits; n != 0 {
		t.Errorf("a refused claim earned %d credits", n)
	}
}

func TestProofsAreWholeBytes(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	c := r.span(e, birth, e.at(t, 1, 99, 1_020_000))
	c.Proofs[0].Proof = wire.Proof{}
	r.refused(r.send("V1", c), wire.ReasonProof, 0)
	c.Proofs[0].Proof[0] = 0xff
	r.refused(r.send("V1", c), wire.ReasonProof, 0)
}

func TestPolicyInForce(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	to := e.at(t, 1, 99, 1_020_000)
	good := r.span(e, birth, to)
	for name, change := range map[string]func(*wire.ClaimProof){
		"unknown":      func(p *wire.ClaimProof) { p.Policy = 9 },
		"not in force": func(p *wire.ClaimProof) { p.Policy = 3 },
		"stopped":      func(p *wire.ClaimProof) { p.Policy = 4 },
		"no such tier": func(p *wire.ClaimProof) { p.Tier = 6 },
	} {
		c := *good
		c.Proofs = slices.Clone(good.Proofs)
		change(&c.Proofs[0])
		t.Log(name)
		r.refused(r.send("V1", &c), wire.ReasonPolicy, 0)
	}
	r.accepted(r.send("V1", good), 10)
}

func TestSameSpanProvenAgain(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	to := e.at(t, 1, 98, 1_045_000)
	first := r.span(e, birth, to, proof{1, 1})
	r.accepted(r.send("V1", first), 10)
	original := wire.ID(r.encode(first))
	next := e.at(t, 2, 99, 1_060_000)
	r.accepted(r.send("V1", r.span(e, to, next)), 10)
	r.day += 5
	r.cfg.Policies[0].Stop = true // a policy that was stopped since takes nothing back
	r.restart()
	for name, c := range map[string]*wire.Claim{
		"another proof":       r.span(e, birth, to, proof{1, 1}),
		"a higher tier":       r.span(e, birth, to, proof{1, 3}),
		"its begin by number": r.claim(e, wire.Origin{Seq: 0}, to, birth, proof{1, 1}),
	} {
		got := r.send("V1", c)
		head := next.Head()
		want := &wire.Receipt{
			Version: wire.Version, Submission: wire.ID(r.encode(c)), Vehicle: "V1", Accepted: true, Head: &head, Original: &original,
			Credits: []wire.Credit{{Policy: 1, Km: 10, Effective: today + 1}},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if s := r.summary(); s.KmProven != 20 || s.Credits != 2 {
		t.Errorf("proving a span again earned something: %+v", s)
	}
	c := r.span(e, birth, to, proof{1, 4}) // 50 km is not true
	r.refused(r.send("V1", c), wire.ReasonProof, 20)
}

// TestStrippedProof has somebody on the way take a proof out of a claim: what it earns is credited once the whole claim arrives, also
// when the head has moved on, and once only.
func TestStrippedProof(t *testing.T) {
	for _, lost := range []int{0, 1} {
		r, e := newRig(t), newECU(t)
		birth, _ := r.add("V1", e)
		to := e.at(t, 1, 98, 1_020_000)
		whole := r.span(e, birth, to, proof{1, 1}, proof{2, 0})
		stripped := *whole
		stripped.Proofs = slices.Delete(slices.Clone(whole.Proofs), lost, lost+1)
		r.accepted(r.send("V1", &stripped), []uint32{0, 10}[lost])
		next := e.at(t, 2, 99, 1_040_000)
		r.accepted(r.send("V1", r.span(e, to, next)), 10)
		got := r.send("V1", whole)
		head, original := next.Head(), wire.ID(r.encode(&stripped))
		want := &wire.Receipt{
			Version: wire.Version, Submission: wire.ID(r.encode(whole)), Vehicle: "V1", Accepted: true, Head: &head, Original: &original,
			Credits: []wire.Credit{{Policy: 1, Km: 10, Effective: today + 1}, {Policy: 2, Km: 0, Effective: today + 1}},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		r.accepted(r.send("V1", r.span(e, birth, to, proof{1, 1}, proof{2, 0})), 10)
		if s := r.summary(); s.KmProven != 20 || s.Credits != 3 {
			t.Errorf("records hold %d credits with %d km, want 3 with 20", s.Credits, s.KmProven)
		}
		if h := r.head(e); h != head {
			t.Errorf("head is %+v, want %+v", h, head)
		}
	}
}

// TestStrippedProofOfStoppedPolicy credits a kind later only while its policy is in force on the claim's day.
func TestStrippedProofOfStoppedPolicy(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	to := e.at(t, 1, 98, 1_020_000)
	r.accepted(r.send("V1", r.span(e, birth, to, proof{2, 0})), 0)
	r.cfg.Policies[0].Stop = true
	r.restart()
	r.refused(r.send("V1", r.span(e, birth, to, proof{1, 1}, proof{2, 0})), wire.ReasonPolicy, 0)
}

func TestTwoClaimsCheckedAgainstOneHead(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b := e.at(t, 1, 98, 1_020_000), e.at(t, 2, 99, 1_040_000)
	one, two, three := r.encode(r.span(e, birth, a)), r.encode(r.span(e, birth, b)), r.encode(r.span(e, a, b))
	p1, p2 := r.prepare("V1", wire.KindClaim, one), r.prepare("V1", wire.KindClaim, two)
	p3, p4 := r.prepare("V1", wire.KindClaim, three), r.prepare("V1", wire.KindClaim, one)
	got, first := r.apply("V1", one, p1)
	r.accepted(got, 10)
	got, _ = r.apply("V1", two, p2)
	r.refused(got, wire.ReasonStale, 10)
	got, _ = r.apply("V1", three, p3) // a gap when it was checked
	r.accepted(got, 10)
	if _, again := r.apply("V1", one, p4); !bytes.Equal(first, again) {
		t.Error("the same bytes, checked before they were decided, got another receipt")
	}
}

func TestRevokedKey(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	body := r.encode(r.span(e, birth, e.at(t, 1, 99, 1_020_000)))
	apply := r.prepare("V1", wire.KindClaim, body)
	err := r.db.Update(t.Context(), func(tx *store.Tx) error {
		return tx.CloseBinding(t.Context(), ledger.HandoverOpening{ECU: e.pub.ID(), Cut: birth.Seq, Revoked: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := r.apply("V1", body, apply) // revoked between check and decision
	r.refused(got, wire.ReasonRevoked, 0)
	r.refused(r.send("V1", r.span(e, birth, e.at(t, 2, 99, 1_020_000))), wire.ReasonRevoked, 0)
}

func TestUnknownVehicle(t *testing.T) {
	r, e := newRig(t), newECU(t)
	e2 := newECU(t)
	birth, _ := r.add("V2", e2)
	body := r.encode(r.span(e2, birth, e2.at(t, 1, 99, 1_020_000)))
	for range 2 {
		got, _ := r.submit("V1", wire.KindClaim, body)
		r.refused(got, wire.ReasonUnknownVehicle, 0)
	}
	got, _ := r.submit("V1", wire.KindReport, []byte("x"))
	r.refused(got, wire.ReasonUnknownVehicle, 0)
	var refusals []store.Refusals
	var kept []store.Submission
	err := r.db.View(t.Context(), func(tx *store.Tx) (err error) {
		if refusals, err = tx.Refusals(t.Context()); err != nil {
			return err
		}
		kept, err = tx.Pending(t.Context(), 0, 10)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Refusals{{Kind: wire.KindClaim, Reason: wire.ReasonUnknownVehicle, N: 2}, {Kind: wire.KindReport, Reason: wire.ReasonUnknownVehicle, N: 1}}
	if d := cmp.Diff(want, refusals); d != "" {
		t.Error(d)
	}
	if len(kept) != 0 {
		t.Errorf("%d submissions of an unknown vehicle kept", len(kept))
	}
	// The refusal is not held against the vehicle once it is registered.
	first, _ := r.add("V1", e)
	r.accepted(r.send("V1", r.span(e, first, e.at(t, 1, 99, 1_020_000))), 10)
}

func TestNameThatNoVehicleHas(t *testing.T) {
	r := newRig(t)
	for _, vehicle := range []string{"", "v1", "V/1"} {
		apply := r.prepare(vehicle, wire.KindClaim, []byte("x"))
		err := r.db.Update(t.Context(), func(tx *store.Tx) error {
			s, _, err := apply(t.Context(), tx)
			if s.Receipt != nil || s.Accepted || s.Reason != wire.ReasonUnknownVehicle {
				t.Errorf("vehicle %q: %+v", vehicle, s)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestMalformedClaims(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	good := r.encode(r.span(e, birth, e.at(t, 1, 99, 1_020_000)))
	long := append([]byte{good[0], 0x18, good[1]}, good[2:]...) // key 0 in two bytes: not the shortest form
	for name, b := range map[string][]byte{
		"empty":         {},
		"text":          []byte("hello"),
		"truncated":     good[:len(good)-1],
		"trailing byte": append(slices.Clone(good), 0),
		"non-canonical": long,
		"oversized":     make([]byte, wire.MaxClaimLen+1),
		"version 2":     bytes.Replace(good, []byte{0, 1}, []byte{0, 2}, 1),
	} {
		got, first := r.submit("V1", wire.KindClaim, b)
		t.Log(name)
		r.refused(got, wire.ReasonMalformed, 0)
		if _, again := r.submit("V1", wire.KindClaim, b); !bytes.Equal(first, again) {
			t.Errorf("%s: another receipt for the same bytes", name)
		}
	}
	got, _ := r.submit("V1", wire.KindClaim, good)
	r.accepted(got, 10)
}
