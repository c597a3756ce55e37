package identity

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// logged returns the types of the ledger's entries in their order.
func (r *rig) logged() (types []ledger.Type) {
	r.t.Helper()
	err := r.db.Update(r.t.Context(), func(tx *store.Tx) error {
		if err := tx.NumberEntries(r.t.Context(), 1000); err != nil {
			return err
		}
		all, err := tx.Entries(r.t.Context(), 0, 1000)
		for _, e := range all {
			types = append(types, e.Type)
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return types
}

// TestTransfer sells a car twice, once with its ECU's identity of that day and once as it stands: the ECU stays, and its key's ranges meet at
// the cut.
func TestTransfer(t *testing.T) {
	r := newRig(t)
	e, spare := r.ecu(), r.ecu()
	seller := r.add(r.fitted("V1", e))
	buyer, err := r.AddAccount(t.Context(), "buyer")
	if err != nil || buyer != "buyer" {
		t.Fatal(buyer, err)
	}
	r.add(r.fitted("V2", spare))
	before := len(r.logged())
	late, forged := e.sign(testProgram(), 9, today+2), e.final(9)
	forged.Snapshot.Seq = 90
	fork := e.sign(testProgram(), 3, today-1)
	stale := e.sign(testProgram(), 9, today-2)
	alien := e.sign(wire.Hash{1}, 9, today)
	for want, do := range map[string]func() (Transfer, error){
		"it is not registered":                   func() (Transfer, error) { return r.Transfer(t.Context(), "V9", buyer, e.final(9), false) },
		"there is no account nobody":             func() (Transfer, error) { return r.Transfer(t.Context(), "V1", "nobody", e.final(9), false) },
		"account name must be":                   func() (Transfer, error) { return r.Transfer(t.Context(), "V1", "no body", e.final(9), false) },
		"it earns for account " + seller:         func() (Transfer, error) { return r.Transfer(t.Context(), "V1", seller, e.final(9), false) },
		"is of key":                              func() (Transfer, error) { return r.Transfer(t.Context(), "V1", buyer, spare.final(9), false) },
		"its ECU says day 102":                   func() (Transfer, error) { return r.Transfer(t.Context(), "V1", buyer, &late, false) },
		"or give --old":                          func() (Transfer, error) { return r.Transfer(t.Context(), "V1", buyer, &stale, false) },
		"cannot verify snapshot":                 func() (Transfer, error) { return r.Transfer(t.Context(), "V1", buyer, forged, false) },
		"its ECU belongs to another program":     func() (Transfer, error) { return r.Transfer(t.Context(), "V1", buyer, &alien, false) },
		"snapshot 2, and snapshot 3":             func() (Transfer, error) { return r.Transfer(t.Context(), "V1", "", e.final(2), false) }, // no account is left behind
		"signed another snapshot under number 3": func() (Transfer, error) { return r.Transfer(t.Context(), "V1", "", &fork, false) },
	} {
		r.refused(want, func() error { _, err := do(); return err })
	}
	if n := len(r.logged()); n != before {
		t.Errorf("refusals logged %d entries", n-before)
	}

	got, err := r.Transfer(t.Context(), "V1", buyer, e.final(9), false)
	if want := (Transfer{Handover{ECU: e.pub.ID(), Vehicle: "V1", Head: 3, Cut: 9}, seller, buyer, got.HeadDay, got.CutDay}); err != nil || got != want || got.HeadDay > got.CutDay || got.CutDay == 0 {
		t.Fatalf("transfer %+v (%v), want %+v", got, err, want)
	}
	head := func(seq uint64) wire.Head { id := e.identity(seq); return id.Snapshot.Head() }
	end := e.identity(12).Snapshot
	err = r.db.Update(t.Context(), func(tx *store.Tx) error { // the buyer claims
		b, err := tx.OpenBinding(t.Context(), "V1")
		if err != nil {
			return err
		}
		return tx.AddSpan(t.Context(), store.Span{ECU: e.pub.ID(), From: head(9), To: end.Head(), Vehicle: "V1", Signature: end.Signature}, b.Entry, 9, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.Transfer(t.Context(), "V1", "", nil, false)
	if err != nil || second.From != buyer || second.To == "" || second.Head != 12 || second.Cut != 12 {
		t.Fatalf("transfer %+v (%v)", second, err)
	}
	want := []store.Binding{
		{ECU: e.pub, Vehicle: "V1", Account: seller, First: head(3), Head: head(3), Closed: true, Cut: 9},
		{ECU: e.pub, Vehicle: "V1", Account: buyer, First: head(9), Head: head(12), Closed: true, Cut: 12},
		{ECU: e.pub, Vehicle: "V1", Account: second.To, First: head(12), Head: head(12)},
	}
	if d := cmp.Diff(want, r.bindings(e.pub)); d != "" {
		t.Error(d)
	}
	// In the ledger a hand-over comes before the binding that follows from it.
	if d := cmp.Diff([]ledger.Type{ledger.TypeHandover, ledger.TypeBinding, ledger.TypeHandover, ledger.TypeBinding}, r.logged()[before:]); d != "" {
		t.Error(d)
	}
	if n := r.openedHeads(); n != 4 {
		t.Errorf("%d bindings", n)
	}
	if v, err := r.Get(t.Context(), "V1"); err != nil || v.Account != second.To {
		t.Errorf("vehicle %+v (%v)", v, err)
	}
	if _, err := r.Release(t.Context(), "V1", nil); err != nil {
		t.Fatal(err)
	}
	r.refused("no ECU is bound to it", func() error { _, err := r.Transfer(t.Context(), "V1", seller, nil, false); return err })

	// A head whose signature was not kept can be bound by no one who checks it.
	err = r.db.Update(t.Context(), func(tx *store.Tx) error {
		b, err := tx.OpenBinding(t.Context(), "V2")
		if err != nil {
			return err
		}
		return tx.AddSpan(t.Context(), store.Span{ECU: spare.pub.ID(), From: head(3), To: head(4), Vehicle: "V2"}, b.Entry, 3, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	r.refused("the signature of its head, snapshot 4, was not kept", func() error { _, err := r.Transfer(t.Context(), "V2", buyer, nil, false); return err })

	// Who owns is who has an open binding; a car that is out of order stays on its account's list.
	all, err := r.Accounts(t.Context())
	if err != nil || len(all) != 4 {
		t.Fatal(all, err)
	}
	for _, a := range all {
		one, err := r.Account(t.Context(), a.ID)
		if d := cmp.Diff(a, one); d != "" || err != nil {
			t.Error(err, d)
		}
		if owner := slices.Equal(a.Vehicles, []string{"V2"}); a.Owner != owner || len(a.Vehicles) > 0 && !owner && a.ID != second.To {
			t.Errorf("account %+v", a)
		}
	}
}

func TestAddAccount(t *testing.T) {
	r := newRig(t)
	one, err := r.AddAccount(t.Context(), "")
	two, err2 := r.AddAccount(t.Context(), "")
	if err != nil || err2 != nil || one == two || len(one) < 20 {
		t.Fatal(one, two, err, err2)
	}
	r.refused("it is there already", func() error { _, err := r.AddAccount(t.Context(), one); return err })
	r.refused("is no account's name", func() error { _, err := r.AddAccount(t.Context(), NewAccount); return err })
	if n, err := r.AddAccounts(t.Context(), []string{one, "a", "b", "a"}); n != 2 || err != nil {
		t.Errorf("%d made (%v)", n, err)
	}
	for _, bad := range []string{"", "x y", NewAccount} {
		r.refused("cannot add account "+bad+":", func() error { _, err := r.AddAccounts(t.Context(), []string{"c", bad}); return err })
	}
	// A car may be registered for one.
	v := r.vehicle("V1")
	v.Account = "a"
	r.add(v)
	if a, err := r.Account(t.Context(), "a"); err != nil || !a.Owner || !slices.Equal(a.Vehicles, []string{"V1"}) {
		t.Errorf("%+v (%v)", a, err)
	}
}
