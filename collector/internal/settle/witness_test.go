package settle

import (
	"errors"
	"strings"
	"testing"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// witness signs a change of the validators.
func (w *world) witness(serial uint16, from uint32, keys ...*ledger.ValidatorKey) Document {
	w.t.Helper()
	var list []terms.Validator
	for _, k := range keys {
		list = append(list, k.Public())
	}
	b, err := ledger.SealWitness(w.rootKey, &ledger.Witness{Version: wire.Version, Program: w.id, Serial: serial, FromDay: from, Validators: list})
	w.must(err)
	return Document{Type: ledger.TypeWitness, Body: b}
}

// TestWitness changes the validators while drops go on. Each day asks its own, by their names: one that is not configured is missing, which
// is said, and made up for once it is.
func TestWitness(t *testing.T) {
	w := newWorld(t, 2, 2)
	third, err := ledger.GenerateValidatorKey("third.example")
	w.must(err)
	w.must(w.start())
	anna := w.owner("anna")
	w.owner("ben")
	w.owner("chen")
	w.credit("anna", anna, 40)
	w.at(3) // day 3
	w.documents = append(w.documents, w.witness(1, 5, third, w.keys[1]))
	w.stop()
	w.must(w.start())
	w.at(9) // the last of day 4
	for drop := uint64(10); drop < 13; drop++ {
		w.now = timing.DropTime(drop)
		if err := w.settler.Step(t.Context()); !errors.Is(err, ErrNoQuorum) || !strings.Contains(err.Error(), "third.example is not in the list") {
			t.Fatalf("without the third: %v", err)
		}
	}
	w.keys = append(w.keys, third)
	w.stop()
	w.must(w.start())
	w.validators[0].noSign, w.validators[0].noProof = true, true // who is nobody from day 5 on
	w.at(15)
	w.documents = append(w.documents, w.witness(2, 8, w.keys[1], w.keys[0]))
	w.stop()
	w.must(w.start())
	w.at(24)
	if r := w.audit(); r.Blocks != 25 {
		t.Errorf("%d blocks", r.Blocks)
	}
	// Day 5 begins with drop 10, day 8 with drop 22.
	programs := map[uint32]*terms.Program{}
	for day := range uint32(9) {
		programs[day] = ledger.On(w.program, []*ledger.Witness{
			{FromDay: 5, Validators: []terms.Validator{third.Public(), w.keys[1].Public()}},
			{FromDay: 8, Validators: []terms.Validator{w.keys[1].Public(), w.keys[0].Public()}},
		}, day)
	}
	w.must(w.db.View(t.Context(), func(tx *store.Tx) error {
		list, err := tx.LastEntries(t.Context(), ledger.TypeBlock, 100)
		for _, e := range list {
			sealed, err := e.Sealed()
			w.must(err)
			b, err := ledger.DecodeBlock(sealed.Payload)
			w.must(err)
			if err := ledger.VerifyQuorum(programs[b.Day], w.id, ledger.TypeBlock, sealed); err != nil {
				t.Errorf("drop %d of day %d: %v", b.Drop, b.Day, err)
			}
		}
		return err
	}))
	// One without a day of notice is refused before anything is numbered.
	late := w.witness(3, timing.Day(w.now), w.keys[1], w.keys[0])
	late.Name = "program.witnesses[2], third.cose"
	w.documents = append(w.documents, late)
	w.stop()
	const want = "cannot start settler: cannot log program.witnesses[2], third.cose: witness change is from day 8, should be after day 8, on which change 2 begins; " +
		"build the change again with --from-day 9 or later"
	if err := w.start(); err == nil || err.Error() != want {
		t.Errorf("a change without notice: %v", err)
	}
}
