package store

import (
	"errors"
	"testing"
	"time"

	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// TestAhead reads ahead and then decides a chain of claims: what the transaction itself changes it sees.
func TestAhead(t *testing.T) { engines(t, testAhead) }

func testAhead(t *testing.T, r *rig) {
	ctx := t.Context()
	d := r.open(t, every)
	register(t, d)
	first, second := span(9), span(12)
	second.From = first.To
	wants := []Want{
		{wire.Hash{1}, "V1", wire.KindClaim, public.ID(), 9}, {wire.Hash{2}, "V1", wire.KindClaim, public.ID(), 12},
		{wire.Hash{1}, "V1", wire.KindClaim, public.ID(), 9}, {wire.Hash{3}, "V\x00", wire.KindClaim, public.ID(), 9},
		{wire.Hash{4}, "V9", wire.KindReport, wire.KeyID{}, 0}, {wire.Hash{5}, "V1", wire.KindClaim, wire.KeyID{9}, 1},
	}
	kept := Submission{ID: wire.Hash{1}, Vehicle: "V1", Kind: wire.KindClaim, Accepted: true, Receipt: []byte{1}}
	seen := time.Unix(77, 0)
	update(t, d, func(tx *Tx) error {
		tx.Ahead(ctx, wants)
		head := func(want uint64) int64 {
			t.Helper()
			bs, err := tx.KeyBindings(ctx, public.ID())
			if err != nil || len(bs) != 1 || bs[0].Head.Seq != want {
				t.Fatalf("bindings %+v (%v), want head %d", bs, err, want)
			}
			return bs[0].Entry
		}
		gone := func(err error) {
			t.Helper()
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("got %v", err)
			}
		}
		_, none := tx.Submission(ctx, wire.Hash{1}, "V1", wire.KindClaim)
		_, none2 := tx.Span(ctx, public.ID(), 9)
		_, none3 := tx.Vehicle(ctx, "V9")
		_, none4 := tx.LastBlock(ctx)
		gone(none)
		gone(none2)
		gone(none3)
		gone(none4)
		if bs, err := tx.KeyBindings(ctx, wire.KeyID{9}); err != nil || len(bs) != 0 {
			t.Errorf("an unknown key has %+v (%v)", bs, err)
		}
		err := errors.Join(tx.AddSpan(ctx, first, head(3), 3, []Credit{credit(9)}), tx.AddSubmission(ctx, &kept), tx.SetSeen(ctx, "V1", seen), tx.SetSeen(ctx, "V1", seen))
		err = errors.Join(err, tx.AddSpan(ctx, second, head(9), 9, []Credit{credit(12)}))
		head(12)
		s, err2 := tx.Span(ctx, public.ID(), 9)
		got, err3 := tx.Submission(ctx, wire.Hash{1}, "V1", wire.KindClaim)
		v, err4 := tx.Vehicle(ctx, "V1")
		if s != first || got.Serial == nil || *got.Serial == 0 || !v.LastSeen.Equal(seen) || v.Account != "A" {
			t.Errorf("%+v %+v %+v", s, got, v)
		}
		if kept.Serial == nil || *kept.Serial != *got.Serial {
			t.Error("the serial number is not known after a read")
		}
		return errors.Join(err, err2, err3, err4)
	})
	update(t, d, func(tx *Tx) error { // and what others have committed
		tx.Ahead(ctx, wants)
		_, err := tx.Submission(ctx, wire.Hash{1}, "V1", wire.KindClaim)
		s, err2 := tx.Span(ctx, public.ID(), 12)
		if s != second {
			t.Errorf("span %+v", s)
		}
		return errors.Join(err, err2)
	})
}

// TestManyCreditsHaveTheirEntries writes credits together, of several keys and kinds: each is the opening of the entry that it points to, and
// a failure among many fails all.
func TestManyCreditsHaveTheirEntries(t *testing.T) { engines(t, testManyCredits) }

func testManyCredits(t *testing.T, r *rig) {
	ctx := t.Context()
	d := r.open(t, every)
	register(t, d)
	const n = 40
	key := func(i int) wire.PublicKey { return wire.PublicKey{3, byte(i)} }
	id := func(i int) string { return string(rune('a'+i%26)) + string(rune('a'+i/26)) }
	entries := make([]int64, n)
	update(t, d, func(tx *Tx) error {
		for i := range n {
			err := errors.Join(tx.AddVehicle(ctx, Vehicle{ID: id(i), Account: "A"}), tx.AddECU(ctx, key(i), nil),
				tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: id(i), Account: "A", ECU: key(i), Head: birth}))
			b, err2 := tx.OpenBinding(ctx, id(i))
			entries[i] = b.Entry
			if err := errors.Join(err, err2); err != nil {
				return err
			}
		}
		return nil
	})
	subs := make([]Submission, n)
	add := func(tx *Tx, i int, head uint64) error {
		s := Span{ECU: key(i).ID(), From: birth, To: wire.Head{Seq: head + 1}, Vehicle: id(i), Submission: wire.Hash{byte(i), byte(head)}}
		c := Credit{Account: "A", Vehicle: id(i), ECU: s.ECU, ToSeq: s.To.Seq, Kind: terms.KindMileage, Km: uint32(i), Submission: s.Submission}
		more := c
		more.Kind, more.Policy = "other", 2
		subs[i] = Submission{ID: s.Submission, Vehicle: id(i), Kind: wire.KindClaim, Accepted: true, Receipt: []byte{1}}
		return errors.Join(tx.AddSpan(ctx, s, entries[i], head, []Credit{c, more}), tx.AddClaim(ctx, s.Submission, id(i), []byte{byte(i)}),
			tx.SetSeen(ctx, id(i), time.Unix(int64(i), 0)), tx.AddSubmission(ctx, &subs[i]))
	}
	update(t, d, func(tx *Tx) error {
		for i := range n {
			if err := add(tx, i, birth.Seq); err != nil {
				return err
			}
		}
		return nil
	})
	last := int64(0)
	for i, s := range subs {
		if *s.Serial <= last {
			t.Errorf("submission %d has serial number %d after %d", i, *s.Serial, last)
		}
		last = *s.Serial
	}
	err := d.Update(ctx, func(tx *Tx) error { // the last one's head is not there
		return errors.Join(add(tx, 0, birth.Seq+1), add(tx, 1, birth.Seq+1), add(tx, 2, birth.Seq+7))
	})
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("a span without a head: %v", err)
	}
	update(t, d, func(tx *Tx) error { return tx.NumberEntries(ctx, 1000) })
	view(t, d, func(tx *Tx) error {
		all, err := tx.Entries(ctx, 0, 1000)
		credits := 0
		for _, e := range all {
			if e.Type != ledger.TypeCredit {
				continue
			}
			var body ledger.Credit
			o, err := tx.CreditOpening(ctx, e.Number)
			blind, err2 := o.Blind()
			if err := errors.Join(err, err2, codec.Decode(e.Body, &body, ledger.MaxBodyLen)); err != nil || body.Blind != blind || o.ECU != key(int(body.Km)).ID() {
				t.Errorf("entry %d has the opening of another: %+v (%v)", e.Number, o, err)
			}
			credits++
		}
		if credits != 2*n {
			t.Errorf("%d credits", credits)
		}
		return err
	})
}
