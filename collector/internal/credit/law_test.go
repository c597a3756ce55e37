package credit

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// twin accepts a proof when the statement is true of the openings that its test knows.
type twin struct{ e *ecu }

func (v twin) Verify(s claim.Statement, p wire.Proof) error {
	if p != (wire.Proof{1}) {
		return errors.New("not a proof")
	}
	return s.Check(v.e.openings[s.From], v.e.openings[s.To])
}

func (v twin) VerifyBatch(items []claim.Item) (errs []error) {
	for _, i := range items {
		errs = append(errs, v.Verify(i.Statement, i.Proof))
	}
	return errs
}

// TestNothingTwice sends claims over arbitrary spans, true and false, in any order and repeatedly: what is credited never exceeds what
// was driven, no metre is credited twice, and the head only rises.
func TestNothingTwice(t *testing.T) {
	r, all := newRig(t), newECU(t)
	for k := range r.cfg.Verifiers {
		r.cfg.Verifiers[k] = twin{all}
	}
	r.restart()
	vehicles := 0
	rapid.Check(t, func(rt *rapid.T) {
		vehicles++
		vehicle, e := fmt.Sprintf("V%d", vehicles), newECU(t)
		e.openings = all.openings
		birth, _ := r.add(vehicle, e)
		before := r.summary().KmProven
		snaps := []wire.Snapshot{birth}
		metres := uint32(1_000_000)
		for i := range 5 {
			metres += rapid.Uint32Range(0, 30_000).Draw(rt, "metres")
			snaps = append(snaps, e.at(t, uint64(i+1), 60+uint32(i), metres))
		}
		var km uint32
		credited := make(map[int]bool) // intervals between snapshots
		for range rapid.IntRange(1, 12).Draw(rt, "claims") {
			from := rapid.IntRange(0, len(snaps)-2).Draw(rt, "from")
			to := rapid.IntRange(from+1, len(snaps)-1).Draw(rt, "to")
			c := &wire.Claim{Version: wire.Version, ECU: e.pub.ID(), From: wire.NewOrigin(snaps[from]), To: snaps[to]}
			c.Forfeit = rapid.Bool().Draw(rt, "forfeit")
			if !c.Forfeit && rapid.Bool().Draw(rt, "by number") {
				c.From = wire.Origin{Seq: snaps[from].Seq}
			}
			tier := uint8(rapid.IntRange(0, 5).Draw(rt, "tier"))
			c.Proofs = []wire.ClaimProof{{Policy: 1, Tier: tier, Proof: wire.Proof{1}}}
			was := r.head(e)
			got := r.send(vehicle, c)
			after := r.head(e)
			if after.Seq < was.Seq {
				rt.Fatalf("head moved back from %d to %d", was.Seq, after.Seq)
			}
			if !got.Accepted && after != was {
				rt.Fatal("a refused claim moved the head")
			}
			if !got.Accepted || got.Original != nil || after == was {
				continue
			}
			for i := from; i < to; i++ {
				if credited[i] {
					rt.Fatalf("interval %d credited twice", i)
				}
				credited[i] = true
			}
			if driven := e.openings[snaps[to].Commitment].Counters[0] - e.openings[snaps[from].Commitment].Counters[0]; got.Credits[0].Km*1000 > driven {
				rt.Fatalf("%d km credited for %d m", got.Credits[0].Km, driven)
			}
			km += got.Credits[0].Km
		}
		if sum := r.summary().KmProven - before; sum != int64(km) || int64(km)*1000 > int64(metres-1_000_000) {
			rt.Fatalf("%d km in the records, %d in receipts, %d m driven", sum, km, metres-1_000_000)
		}
	})
}
