package credit

import (
	"context"
	"errors"
	"testing"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// sell has a car earn for another account from a head on.
func (r *rig) sell(vehicle string, e *ecu, cut wire.Head, account string) {
	r.t.Helper()
	r.update(func(ctx context.Context, tx *store.Tx) error {
		return errors.Join(tx.AddAccount(ctx, account), tx.CloseBinding(ctx, ledger.HandoverOpening{ECU: e.pub.ID(), Cut: cut.Seq}),
			tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: vehicle, Account: account, ECU: e.pub, Head: cut}), tx.SetOwner(ctx, vehicle, account))
	})
}

// earned returns the kilometres of each account from claims that end with numbers 1 to last.
func (r *rig) earned(e *ecu, last uint64) map[string]uint32 {
	r.t.Helper()
	out := make(map[string]uint32)
	r.update(func(ctx context.Context, tx *store.Tx) error {
		for to := range last {
			all, err := tx.SpanCredits(ctx, e.pub.ID(), to+1)
			if err != nil {
				return err
			}
			for _, c := range all {
				out[c.Account] += c.Km
			}
		}
		return nil
	})
	return out
}

// TestSoldCar: what a car drove before the cut is the seller's, whenever it is claimed, and what it drove behind it the buyer's. A claim
// across the cut is neither's: the receipt tells where it is to be divided, whatever else is wrong with its begin.
func TestSoldCar(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b, c, d := e.at(t, 1, 95, 1_020_000), e.at(t, 2, 96, 1_040_000), e.at(t, 3, 97, 1_060_000), e.at(t, 4, 98, 1_080_000)
	across := r.encode(r.span(e, birth, c))
	checked := r.prepare("V1", wire.KindClaim, across) // before the car is sold
	r.sell("V1", e, b.Head(), "buyer")

	divided := func(got *wire.Receipt) {
		t.Helper()
		r.refused(got, wire.ReasonGap, int64(r.earned(e, 4)["account of V1"]+r.earned(e, 4)["buyer"]))
		r.headIs(got, b.Head())
	}
	got, _ := r.apply("V1", across, checked)
	divided(got)
	divided(r.send("V1", r.span(e, a, d)))
	short := r.claim(e, wire.Origin{Seq: 0}, d, birth)
	divided(r.send("V1", short))
	skip := r.span(e, a, d)
	skip.Forfeit = true
	divided(r.send("V1", skip))
	// What is no claim of this ECU's is told nothing of it.
	forged := r.span(e, a, d)
	forged.To.Signature[40] ^= 1
	r.refused(r.send("V1", forged), wire.ReasonSignature, 0)
	// The buyer's first claim need not wait for the seller's last.
	r.accepted(r.send("V1", r.span(e, b, c)), 10)
	divided(r.send("V1", r.span(e, birth, d)))
	r.accepted(r.send("V1", r.span(e, birth, a)), 10)
	divided(r.send("V1", r.span(e, a, d)))
	r.accepted(r.send("V1", r.span(e, a, b)), 10)
	// Up to the cut all is claimed: what begins before it now is late.
	late := r.send("V1", r.span(e, a, d))
	r.refused(late, wire.ReasonStale, 30)
	r.headIs(late, c.Head())
	r.accepted(r.send("V1", r.span(e, c, d)), 10)
	if got := r.earned(e, 4); got["account of V1"] != 20 || got["buyer"] != 20 {
		t.Errorf("accounts earned %v", got)
	}
	// What was earned is told again as it was.
	r.accepted(r.send("V1", r.span(e, a, b)), 10)
	if got := r.earned(e, 4); got["account of V1"] != 20 || got["buyer"] != 20 {
		t.Errorf("accounts earned %v", got)
	}
}

// TestSoldAtTheHead: without a cut of its own all that is not claimed is the buyer's, and a claim on its way goes through.
func TestSoldAtTheHead(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b := e.at(t, 1, 95, 1_020_000), e.at(t, 2, 96, 1_040_000)
	r.accepted(r.send("V1", r.span(e, birth, a)), 10)
	onItsWay := r.encode(r.span(e, a, b))
	checked := r.prepare("V1", wire.KindClaim, onItsWay)
	r.sell("V1", e, r.head(e), "buyer")
	got, _ := r.apply("V1", onItsWay, checked)
	r.accepted(got, 10)
	if got := r.earned(e, 4); got["account of V1"] != 10 || got["buyer"] != 10 {
		t.Errorf("accounts earned %v", got)
	}
}

// TestSoldTwiceUnheard: a car that was off over two sales is told the first cut first. Once the key is revoked there is none.
func TestSoldTwiceUnheard(t *testing.T) {
	r, e := newRig(t), newECU(t)
	birth, _ := r.add("V1", e)
	a, b, c := e.at(t, 1, 95, 1_020_000), e.at(t, 2, 96, 1_040_000), e.at(t, 3, 97, 1_060_000)
	r.sell("V1", e, a.Head(), "second")
	r.sell("V1", e, b.Head(), "third")
	got := r.send("V1", r.span(e, birth, c))
	r.refused(got, wire.ReasonGap, 0)
	r.headIs(got, a.Head())
	r.accepted(r.send("V1", r.span(e, birth, a)), 10)
	got = r.send("V1", r.span(e, a, c))
	r.refused(got, wire.ReasonGap, 10)
	r.headIs(got, b.Head())
	r.handOver(e, b.Seq, true)
	r.refused(r.send("V1", r.span(e, a, c)), wire.ReasonRevoked, 10)
}
