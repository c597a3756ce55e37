package store

import (
	"errors"
	"testing"
)

// TestSettleOnce holds that a day's gains are added once.
func TestSettleOnce(t *testing.T) { engines(t, testSettleOnce) }

func testSettleOnce(t *testing.T, r *rig) {
	ctx := t.Context()
	db := r.open(t, every)
	settle := func(from, next uint64) error {
		return db.Update(ctx, func(tx *Tx) error { return tx.Settle(ctx, from, next, map[string]uint64{"anna": 500}) })
	}
	if err := settle(0, 4); err == nil {
		t.Error("stones go to an account that does not exist")
	}
	if err := db.Update(ctx, func(tx *Tx) error { return tx.AddAccount(ctx, "anna") }); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(settle(0, 4), settle(4, 8)); err != nil {
		t.Fatal(err)
	}
	if err := settle(4, 8); err == nil {
		t.Error("the same drops are settled twice")
	}
	err := db.View(ctx, func(tx *Tx) error {
		milli, err := tx.Balance(ctx, "anna")
		drop, err2 := tx.Settled(ctx)
		if milli != 1000 || drop != 8 {
			t.Errorf("balance is %d after drop %d, want 1000 after 8", milli, drop)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
}
