package audit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// TestAuditCultivation writes a log of 96 days, one drop each, without a gap, in which an owner is granted crystals, opens boxes, redeems
// after the 90 days, and the validators change; it is audited from its directory.
func TestAuditCultivation(t *testing.T) {
	w := newWorldOn(t, 2, 2, terms.Timing{GenesisS: 80, DayS: 40, DropS: 40})
	w.bind("anna")
	w.open("dora")
	w.accept(w.change("anna", w.rekey("anna"), 2))
	w.accept(w.change("dora", w.rekey("dora"), 0))
	w.credit("anna", 40, 2)
	w.accept(w.sealOffers(w.offers(1, 16)))
	days := func(day uint32) {
		for w.replay.Due().Day < day {
			w.block()
		}
	}
	days(16)
	w.accept(w.give("anna", "assist", w.feature("anna", "feature/assist"), 25, 16))
	w.accept(w.give("dora", "walk", wire.Hash{1}, 10, 16))
	p := w.purchase("anna", "sure")
	p.owner = true
	w.accept(w.box(p))
	fresh := w.validator("fresh.example")
	w.accept(w.sealWitness(w.witness(1, 17, w.validators[0], fresh)))
	w.block() // of the old
	w.validators = []*ledger.ValidatorKey{w.validators[0], fresh}
	w.block() // and of the new
	p = w.purchase("dora", "sure")
	w.accept(w.box(p))
	days(92)
	p = w.purchase("anna", "mug")
	p.milli, p.fen = 2000, 990
	w.accept(w.redeem(p))
	days(96)

	dir := write(t, w.author, w.entries)
	stranger, err := Audit(t.Context(), Config{Dir: dir, Root: w.rootKey()})
	if err != nil {
		t.Fatal(err)
	}
	// Thirty drops, of days 3 to 32, had weight.
	want := Report{Entries: uint64(len(w.entries)), Policies: 1, Credits: 2, Blocks: 94, Seeds: 2 * 94, Supply: 30 * 500_000, Scheduled: 30 * 500_000,
		Offers: 1, Changes: 1, Grants: 2, Boxes: 2, Redemptions: 1, Cultivated: 3000, Redeemed: 2000}
	if diff := cmp.Diff(want, stranger); diff != "" {
		t.Error(diff)
	}
	full, err := Audit(t.Context(), Config{Dir: dir, Root: w.rootKey(), Openings: w.openings})
	if err != nil {
		t.Fatal(err)
	}
	want.Opened, want.Weights, want.Draws = true, 30, 94
	want.Balances, want.Crystals = map[string]uint64{"anna": 30*500_000 + 3000 - 2000}, map[string]uint64{"anna": 20, "dora": 9}
	if diff := cmp.Diff(want, full); diff != "" {
		t.Error(diff)
	}
	if s := full.String(); !strings.Contains(s, "15000.000 stones issued of 15000.000 scheduled, 188 seeds; 2 boxes opened, 3.000 stones cultivated, 2.000 redeemed;") {
		t.Errorf("report says %q", s)
	}
	if _, err := Audit(t.Context(), Config{Dir: dir, Root: w.rootKey(), Openings: new(opening.Set)}); err == nil {
		t.Error("an audit without the openings it was promised passes")
	}
}
