package credit

import (
	"testing"

	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/wire"
)

// TestHeadIsVerifiedOnce checks a signature once: with the binding or as a claim's end, and not again as the begin of the next. Every other signature under the
// head's number is verified, since the claim's bytes are for others to check too.
func TestHeadIsVerifiedOnce(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	one, two := e.at(t, 1, 97, 1_020_000), e.at(t, 2, 98, 1_040_000)

	unsigned := birth
	unsigned.Signature = wire.Signature{}
	if b, err := r.forge(e, unsigned, one, 1, 1, wire.Proof{1}).Encode(); err == nil {
		got, _ := r.submit("V1", wire.KindClaim, b)
		r.refused(got, wire.ReasonSignature, 0)
	}
	asked := func(c *wire.Claim) int {
		t.Helper()
		all := &checks{judge: r.judge}
		all.wants = make([]store.Want, 1)
		x, err := r.judge.prepare(t.Context(), wire.KindClaim, []Submission{{Vehicle: "V1", Body: r.encode(c)}}, all)
		if err != nil || x[0].err != nil {
			t.Fatal(err, x)
		}
		return all.snapshots.Len()
	}
	otherwise, err := attest.Sign(e.key, testProgram, birth.Seq, birth.Day, birth.Commitment)
	if err != nil {
		t.Fatal(err)
	}
	if n := asked(r.span(e, otherwise, one)); n != 2 && otherwise.Signature != birth.Signature {
		t.Errorf("a first claim with another signature of the bound head has %d signatures verified, want 2", n)
	}
	first := r.span(e, birth, one)
	if n := asked(first); n != 1 {
		t.Errorf("the first claim has %d signatures verified, want 1", n)
	}
	r.accepted(r.send("V1", first), 10)
	next := r.span(e, one, two)
	if n := asked(next); n != 1 {
		t.Errorf("a claim from the head has %d signatures verified, want 1", n)
	}

	forged := one
	forged.Signature[40] ^= 1
	r.refused(r.send("V1", r.span(e, forged, two)), wire.ReasonSignature, 10)
	again, err := attest.Sign(e.key, testProgram, one.Seq, one.Day, one.Commitment)
	if err != nil {
		t.Fatal(err)
	}
	if again.Signature == one.Signature {
		t.Skip("the key signs without randomness")
	}
	same := r.span(e, again, two)
	if n := asked(same); n != 2 {
		t.Errorf("another signature of the head has %d signatures verified, want 2", n)
	}
	r.accepted(r.send("V1", same), 10)
}
