package reveal

import (
	"errors"
	"path/filepath"
	"testing"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/feed"
	"rawstone/collector/internal/person"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

var _ feed.Source = (*Records)(nil)

// TestErased reads what is behind entries before and after an account was erased, also where it was read a moment ago.
func TestErased(t *testing.T) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(t.TempDir(), "records.db"), Role: store.Ingest | store.Settle | store.Admin | store.Person})
	must(err)
	t.Cleanup(func() { must(db.Close()) })
	leaves, err := ledger.EncodePayload(&ledger.Leaves{Day: 9, Count: 1, Weight: 40, Validators: []byte{0}})
	must(err)
	body, err := (&ledger.Sealed{Payload: leaves, Cosignatures: []ledger.Cosignature{{}}}).Encode()
	must(err)
	key := wire.PublicKey{2, 1}
	must(db.Update(ctx, func(tx *store.Tx) error {
		return errors.Join(tx.AddAccount(ctx, "anna"), tx.AddVehicle(ctx, store.Vehicle{ID: "CAR1", Account: "anna"}), tx.AddECU(ctx, key, nil),
			tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: "CAR1", Account: "anna", ECU: key}))
	}))
	must(db.Update(ctx, func(tx *store.Tx) error {
		b, err := tx.OpenBinding(ctx, "CAR1")
		return errors.Join(err, tx.AddSpan(ctx, store.Span{ECU: key.ID(), To: wire.Head{Seq: 5, Day: 7}, Vehicle: "CAR1", Submission: wire.Hash{1}}, b.Entry, 0,
			[]store.Credit{{Account: "anna", Vehicle: "CAR1", ECU: key.ID(), ToSeq: 5, Policy: 1, Kind: terms.KindMileage, Km: 40, Effective: 8, Submission: wire.Hash{1}}}))
	}))
	var secret [32]byte
	must(db.Update(ctx, func(tx *store.Tx) error {
		secret, err = tx.AccountSecret(ctx, "anna")
		_, err2 := tx.AddEntry(ctx, ledger.TypeLeaves, body)
		err3 := tx.CloseBinding(ctx, ledger.HandoverOpening{ECU: key.ID(), Cut: 5})
		_, err4 := tx.AddEntry(ctx, ledger.TypeBlock, []byte{1})
		return errors.Join(err, err2, err3, err4, tx.NumberEntries(ctx, 10), tx.RevokeVehicle(ctx, "CAR1"))
	}))
	r := &Records{DB: db}
	read := func() (out []disclosure.Entry) {
		t.Helper()
		list, err := r.Entries(ctx, 0)
		must(err)
		batches, err := r.Batches(ctx, list)
		must(err)
		for _, b := range batches {
			part, err := disclosure.DecodeBatch(b)
			must(err)
			out = append(out, part...)
		}
		return out
	}
	for i, e := range read() {
		if hides := disclosure.Hides(e.Type); e.Erased || hides != (len(e.Opening) > 0) || len(e.Leaves) > 0 {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
	if n, err := r.Erasure(ctx, 1); err != nil || len(n) != 0 {
		t.Errorf("erased are %v, %v", n, err)
	}
	_, err = person.Erase(ctx, person.Config{Reader: db, Writer: db}, "anna")
	must(err)
	if n, err := r.Erasure(ctx, 1); err != nil || len(n) != 3 {
		t.Errorf("erased are %v, %v", n, err)
	}
	for i, e := range read() {
		hides, day := disclosure.Hides(e.Type), e.Type == ledger.TypeLeaves
		if e.Erased != hides || len(e.Opening)+len(e.Secret)+len(e.Account)+len(e.Claim) > 0 || day != (len(e.Leaves) > 0) {
			t.Errorf("entry %d: %+v", i, e)
		}
		e.ErasedLeaves(func(l reward.Leaf) {
			if want := (reward.Leaf{Pseudonym: reward.Pseudonym(secret, 9), Weight: 40}); l != want {
				t.Errorf("leaf is %+v, want %+v", l, want)
			}
		})
	}
	if n, err := r.Erasure(ctx, 2); err != nil || len(n) != 0 {
		t.Errorf("erased are %v, %v", n, err)
	}
}
