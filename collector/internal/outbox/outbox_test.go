package outbox_test

import (
	"errors"
	"path/filepath"
	"testing"

	"rawstone/collector/internal/outbox"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
)

// TestNumbers holds that numbers are dense and in the order of the rows, and that a draft keeps its number.
func TestNumbers(t *testing.T) {
	ctx := t.Context()
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(t.TempDir(), "records.db"), Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	update := func(fn func(*store.Tx) error) {
		t.Helper()
		if err := db.Update(ctx, fn); err != nil {
			t.Fatal(err)
		}
	}
	add := func(bodies ...string) {
		for _, b := range bodies {
			update(func(tx *store.Tx) error { _, err := tx.AddEntry(ctx, ledger.TypeCredit, []byte(b)); return err })
		}
	}
	if err := db.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.AddEntry(ctx, ledger.TypeCredit, make([]byte, ledger.MaxBodyLen+1))
		return err
	}); err == nil {
		t.Error("a body that no log takes was added")
	}
	add("c", "d", "e")
	update(func(tx *store.Tx) error {
		id, err := tx.AddEntry(ctx, ledger.TypeProgram, []byte("a"))
		return errors.Join(err, tx.NumberEntry(ctx, id))
	})
	update(func(tx *store.Tx) error { return tx.NumberEntries(ctx, 2) })
	d := outbox.Draft{Number: 3, Type: ledger.TypeBlock, Payload: []byte("f")}
	if err := db.Update(ctx, func(tx *store.Tx) error {
		return tx.AddDraft(ctx, outbox.Draft{Number: 4, Type: ledger.TypeBlock, Payload: []byte("f")})
	}); err == nil {
		t.Error("a draft leaves a gap")
	}
	update(func(tx *store.Tx) error { return tx.AddDraft(ctx, d) })
	if err := db.Update(ctx, func(tx *store.Tx) error { return tx.AddDraft(ctx, d) }); err == nil {
		t.Error("two drafts wait")
	}
	if err := db.Update(ctx, func(tx *store.Tx) error { return tx.NumberEntries(ctx, 2) }); err == nil {
		t.Error("a draft's number is given away")
	}
	update(func(tx *store.Tx) error {
		if got, found, err := tx.Draft(ctx); err != nil || !found || got.Number != 3 || string(got.Payload) != "f" {
			t.Errorf("draft is %+v, %t, %v", got, found, err)
		}
		return tx.FinishDraft(ctx, d, []byte("f!"))
	})
	update(func(tx *store.Tx) error { return tx.NumberEntries(ctx, 2) })
	update(func(tx *store.Tx) error { return tx.MarkAppended(ctx, 3) })
	update(func(tx *store.Tx) error {
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
