package accounts

import (
	"strings"
	"testing"

	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// TestErased replays entries of whom nothing is known: what is left to check is checked, and whatever is not said to be erased needs its opening.
func TestErased(t *testing.T) {
	set := new(opening.Set)
	o := New(set)
	day := &ledger.Leaves{Day: 5}
	refused := func(what string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	_, err := o.Credit(1, ledger.Credit{Km: 40, Effective: 4})
	refused("credit", err, "has no opening")
	for n := range uint64(10) {
		set.AddErased(n + 1)
	}
	take := func(commit func(), err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		commit()
	}
	take(o.Binding(9, ledger.Binding{}))
	take(o.Change(8, account.Change{}, 0, 1))
	take(o.Credit(1, ledger.Credit{Km: 40, Effective: 4}))
	take(o.Handover(10, ledger.Handover{}))
	_, err = o.Box(2, account.Box{}, wire.Hash{}, 10)
	refused("box before a grant", err, "box costs 10 crystals, erased accounts have 0")
	take(o.Grant(3, account.Grant{Crystals: 10}, nil))
	take(o.Box(2, account.Box{}, wire.Hash{}, 10))
	_, err = o.Box(4, account.Box{}, wire.Hash{}, 1)
	refused("second box", err, "box costs 1 crystals, erased accounts have 0")
	o.Won(2, cultivation.Prize{Milli: 700, Crystals: 3})
	take(o.Box(4, account.Box{}, wire.Hash{}, 3))
	_, err = o.Redemption(5, account.Redemption{Milli: 701}, wire.Hash{}, nil)
	refused("redemption", err, "redemption uses 701 milli-stones, erased accounts have 700")
	take(o.Redemption(5, account.Redemption{Milli: 300}, wire.Hash{}, nil))

	_, err = o.Leaves(day)
	refused("no leaf", err, "should weigh 40 km")
	a, b := reward.Leaf{Pseudonym: wire.Hash{1}, Weight: 30}, reward.Leaf{Pseudonym: wire.Hash{2}, Weight: 10}
	set.AddErasedLeaf(5, a)
	_, err = o.Leaves(day)
	refused("one leaf", err, "weigh 30 km on day 5, should weigh 40 km")
	set.AddErasedLeaf(5, b)
	set.AddErasedLeaf(5, reward.Leaf{Pseudonym: wire.Hash{3}, Weight: 1})
	_, err = o.Leaves(day)
	refused("three leaves", err, "all of them weigh more than the 40 km")
	set = new(opening.Set)
	o.opener = set
	set.AddErasedLeaf(5, a)
	set.AddErasedLeaf(5, b)
	day.Count = 2
	if day.Set, day.Weight, err = reward.SetHash([]reward.Leaf{a, b}); err != nil {
		t.Fatal(err)
	}
	take(o.Leaves(day))
	if entries, milli := o.Erased(); entries != 8 || milli != 400 {
		t.Errorf("%d entries are erased, with %d milli-stones", entries, milli)
	}
	if len(o.Balances())+len(o.Crystals()) != 0 {
		t.Error("somebody has what nobody has")
	}
	// What nobody has stays nobody's when it is drawn.
	tree, err := reward.NewTree(reward.Order(wire.Hash{7}, []reward.Leaf{a, b}))
	if err != nil {
		t.Fatal(err)
	}
	take(o.Day(&ledger.Day{Order: wire.Hash{7}, Root: tree.Root().Hash}))
	take(o.Draw(&ledger.Block{Weight: 40, Units: 4}))
	if _, milli := o.Erased(); milli != 400+4*reward.Unit || len(o.Balances()) != 0 {
		t.Errorf("they have %d milli-stones after a draw", milli)
	}
}

// TestErasedKey binds a key again whose last binding was erased: from its cut on, and never once it is revoked. What stood in the log before the
// erasure is as it was.
func TestErasedKey(t *testing.T) {
	set := new(opening.Set)
	o := New(set)
	ecu := wire.PublicKey{1}
	set.AddAccount("ben", [32]byte{1})
	binding := func(number uint64, car string, from uint64) (func(), error) {
		b := ledger.BindingOpening{Vehicle: car, Account: "ben", ECU: ecu, Head: wire.Head{Seq: from}}
		set.AddBinding(number, b)
		blind, err := b.Blind()
		if err != nil {
			t.Fatal(err)
		}
		return o.Binding(number, ledger.Binding{Blind: blind})
	}
	credit := func(number, to uint64) (func(), error) {
		c := ledger.CreditOpening{Account: "ben", ECU: ecu.ID(), ToSeq: to, Kind: "mileage"}
		set.AddCredit(number, c)
		blind, err := c.Blind()
		if err != nil {
			t.Fatal(err)
		}
		return o.Credit(number, ledger.Credit{Blind: blind, Km: 40, Effective: 4})
	}
	set.AddErasedKey(ledger.ErasedKey{Mark: ledger.KeyMark(ecu.ID()), Since: 10, Cut: 100})
	if _, err := binding(10, "CAR", 99); err == nil || !strings.Contains(err.Error(), "begins at snapshot 99, should be at or after 100") {
		t.Errorf("a binding of what an erased account had: %v", err)
	}
	take := func(commit func(), err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		commit()
	}
	take(binding(10, "CAR", 100))
	take(credit(11, 150))
	o = New(set)
	take(binding(9, "CAR", 1)) // of an owner before the one who was erased
	take(credit(9, 50))
	set.AddErasedKey(ledger.ErasedKey{Mark: ledger.KeyMark(ecu.ID()), Since: 10, Cut: 100, Revoked: true})
	take(credit(9, 60))
	if _, err := credit(10, 70); err == nil || !strings.Contains(err.Error(), "was revoked") {
		t.Errorf("a credit of a revoked key: %v", err)
	}
	o = New(set)
	if _, err := binding(10, "CAR", 100); err == nil || !strings.Contains(err.Error(), "which is revoked") {
		t.Errorf("a binding of a revoked key: %v", err)
	}
	take(binding(9, "CAR", 1))
}
