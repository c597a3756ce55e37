package store

import (
	"errors"
	"path/filepath"
	"testing"

	"rawstone/pkg/ledger"
)

// TestNumbers holds that numbers are dense and in the order of the rows, and that a draft keeps its number.
func TestNumbers(t *testing.T) {
	ctx := t.Context()
	db, err := Open(ctx, Config{Path: filepath.Join(t.TempDir(), "records.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	update := func(fn func(*Tx) error) {
		t.Helper()
		if err := db.Update(ctx, fn); err != nil {
			t.Fatal(err)
		}
	}
	add := func(bodies ...string) {
		for _, b := range bodies {
			update(func(tx *Tx) error { _, err := tx.AddEntry(ctx, ledger.TypeCredit, []byte(b)); return err })
		}
	}
	add("c", "d", "e")
	update(func(tx *Tx) error {
		id, err := tx.AddEntry(ctx, ledger.TypeProgram, []byte("a"))
		return errors.Join(err, tx.NumberEntry(ctx, id))
	})
	update(func(tx *Tx) error { return tx.NumberEntries(ctx, 2) })
	d := Draft{Number: 3, Type: ledger.TypeBlock, Payload: []byte("f")}
	if err := db.Update(ctx, func(tx *Tx) error { return tx.AddDraft(ctx, Draft{Number: 4, Type: ledger.TypeBlock}) }); err == nil {
		t.Error("a draft leaves a gap")
	}
	update(func(tx *Tx) error { return tx.AddDraft(ctx, d) })
	if err := db.Update(ctx, func(tx *Tx) error { return tx.AddDraft(ctx, d) }); err == nil {
		t.Error("two drafts wait")
	}
	if err := db.Update(ctx, func(tx *Tx) error { return tx.NumberEntries(ctx, 2) }); err == nil {
		t.Error("a draft's number is given away")
	}
	update(func(tx *Tx) error {
		if got, found, err := tx.Draft(ctx); err != nil || !found || got.Number != 3 || string(got.Payload) != "f" {
			t.Errorf("draft is %+v, %t, %v", got, found, err)
		}
		return tx.FinishDraft(ctx, d, []byte("f!"))
	})
	update(func(tx *Tx) error { return tx.NumberEntries(ctx, 2) })
	update(func(tx *Tx) error { return tx.MarkAppended(ctx, 3) })
	update(func(tx *Tx) error {
		all, err := tx.Entries(ctx, 0, 10)
		if err != nil {
			return err
		}
		text := ""
		for i, e := range all {
			if e.Number != uint64(i) {
				t.Errorf("entry %d has number %d", i, e.Number)
			}
			text += string(e.Body) + " "
		}
		if text != "a c d f! e " {
			t.Errorf("entries are %s", text)
		}
		if next, err := tx.NextNumber(ctx); err != nil || next != 5 {
			t.Errorf("next number is %d, %v", next, err)
		}
		if has, err := tx.Unnumbered(ctx); err != nil || has {
			t.Errorf("entries without a number: %t, %v", has, err)
		}
		last, err := tx.LastEntries(ctx, ledger.TypeCredit, 2)
		if err != nil || len(last) != 2 || last[0].Number != 4 || last[1].Number != 2 {
			t.Errorf("last credits are %v, %v", last, err)
		}
		return nil
	})
}

// TestSettleOnce holds that a day's gains are added once.
func TestSettleOnce(t *testing.T) {
	ctx := t.Context()
	db, err := Open(ctx, Config{Path: filepath.Join(t.TempDir(), "records.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
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
	err = db.View(ctx, func(tx *Tx) error {
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
