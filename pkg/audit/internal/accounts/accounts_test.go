package accounts

import (
	"testing"

	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// TestKeepsOnlyWhatMayCount credits two accounts on different days: what is refused changes nothing, and what counts no more is forgotten.
// Everything else of the package is tested with the replay.
func TestKeepsOnlyWhatMayCount(t *testing.T) {
	open := new(opening.Set)
	a := New(open)
	number := uint64(0)
	apply := func(commit func(), err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		commit()
		number++
	}
	for i, c := range []struct {
		account   string
		effective uint32
	}{{"anna", 3}, {"ben", 5}} {
		open.AddAccount(c.account, [32]byte{byte(i)})
		b := ledger.BindingOpening{Vehicle: "CAR" + c.account, Account: c.account, ECU: wire.PublicKey{byte(i)}}
		open.AddBinding(number, b)
		blind, err := b.Blind()
		if err != nil {
			t.Fatal(err)
		}
		apply(a.Binding(number, ledger.Binding{Blind: blind}))
		o := ledger.CreditOpening{Account: c.account, ECU: b.ECU.ID(), ToSeq: 1, Kind: terms.KindMileage}
		open.AddCredit(number, o)
		if blind, err = o.Blind(); err != nil {
			t.Fatal(err)
		}
		apply(a.Credit(number, ledger.Credit{Blind: blind, Km: 40, Effective: c.effective}))
	}
	leaves := func(day uint32, accounts ...byte) *ledger.Leaves {
		t.Helper()
		var list []reward.Leaf
		for _, i := range accounts {
			list = append(list, reward.Leaf{Pseudonym: reward.Pseudonym([32]byte{i}, day), Weight: 40})
		}
		hash, _, err := reward.SetHash(list)
		if err != nil {
			t.Fatal(err)
		}
		return &ledger.Leaves{Day: day, Count: uint64(len(list)), Set: hash}
	}
	if _, err := a.Leaves(leaves(6, 0)); err == nil || len(a.weights) != 2 {
		t.Errorf("leaves without ben's: %v, %d accounts", err, len(a.weights))
	}
	apply(a.Leaves(leaves(6, 0, 1)))
	apply(a.Leaves(leaves(3+reward.WindowDays+1, 1)))
	if len(a.weights) != 1 || a.weights["ben"] == nil {
		t.Errorf("on the day after anna's last %v are kept, want ben's alone", a.weights)
	}
	apply(a.Leaves(leaves(5 + reward.WindowDays + 1)))
	if len(a.weights) != 0 {
		t.Errorf("%v are kept that count no more", a.weights)
	}
}

// TestCrystalsBeyondTheBound holds that a prize fills an account's crystals up to the bound and no further, and that goods are kept.
func TestCrystalsBeyondTheBound(t *testing.T) {
	a := New(new(opening.Set))
	for i, c := range []struct{ has, want cultivation.Crystals }{{0, 7}, {cultivation.MaxCrystals - 8, cultivation.MaxCrystals - 1}, {cultivation.MaxCrystals - 3, cultivation.MaxCrystals}, {cultivation.MaxCrystals, cultivation.MaxCrystals}} {
		a.boxes[uint64(i)] = "anna"
		a.holding("anna").crystals = c.has
		a.Won(uint64(i), cultivation.Prize{Crystals: 7})
		if got := a.Crystals()["anna"]; got != uint64(c.want) {
			t.Errorf("7 on top of %d make %d, want %d", c.has, got, c.want)
		}
	}
	a.boxes[9] = "ben"
	a.Won(9, cultivation.Prize{Goods: "mug"})
	if got := a.Goods("ben"); len(got) != 1 || got[0] != "mug" || len(a.Goods("anna")) != 0 || len(a.boxes) != 0 {
		t.Errorf("ben has %v, anna %v, and %d boxes wait", got, a.Goods("anna"), len(a.boxes))
	}
}
