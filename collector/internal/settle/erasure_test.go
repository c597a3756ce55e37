package settle

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"rawstone/collector/internal/person"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/wire"
)

// remembering is the view of a validator, which forgets nothing that it was told until it is started again.
type remembering struct {
	stones.Opener
	secrets map[string][32]byte
}

func (r remembering) Secret(account string) ([32]byte, bool) {
	if s, ok := r.secrets[account]; ok {
		return s, true
	}
	s, ok := r.Opener.Secret(account)
	if ok {
		r.secrets[account] = s
	}
	return s, ok
}

// erase has an account erased.
func (w *world) erase(account string) error {
	w.t.Helper()
	_, err := person.Erase(w.t.Context(), person.Config{Reader: w.db, Writer: w.db}, account)
	return err
}

// leave takes the ECU out of an account's car, whose vehicle may not connect any more.
func (w *world) leave(account string, ecu wire.KeyID) {
	w.t.Helper()
	w.must(w.db.Update(w.t.Context(), func(tx *store.Tx) error {
		b, err := tx.OpenBinding(w.t.Context(), strings.ToUpper(account))
		if err != nil {
			return err
		}
		return errors.Join(tx.CloseBinding(w.t.Context(), ledger.HandoverOpening{ECU: ecu, Cut: b.Head.Seq}), tx.RevokeVehicle(w.t.Context(), strings.ToUpper(account)))
	}))
}

// TestErasure erases an account in the middle of a day, with mileage that counts for another month, mine boxes, redeemed stones and a car that another
// has now. The settler and its validator go on, also when they are started again, and everybody else's balance is what it would have been.
func TestErasure(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.documents = append(w.documents, w.offers(1, offered))
	w.must(w.start())
	anna, ben, chen := w.owner("anna"), w.owner("ben"), w.owner("chen")
	key := w.activate("ben")
	w.step()
	w.credit("ben", ben, 40)
	w.credit("chen", chen, 3)
	const first = 2 + 4*(2+90-3) // activated on day 2
	for drop := uint64(begun); drop < first-80; drop += 40 {
		w.at(drop)
	}
	w.credit("ben", ben, 60)
	w.credit("anna", anna, 500)
	w.at(first)
	w.move("anna", "chen", anna, chen)
	w.credit("chen", anna, 50)
	w.grant("ben")
	w.box("ben", key, 1)
	w.box("ben", key, 1)
	w.redeem("ben", key, 1)
	w.credit("ben", ben, 9)
	if err := w.erase("ben"); err == nil || !strings.Contains(err.Error(), "BEN is bound to it") {
		t.Fatal(err)
	}
	w.leave("ben", ben)
	if err := w.erase("ben"); err == nil || !strings.Contains(err.Error(), "wait for the ledger") {
		t.Fatal(err)
	}
	w.at(first + 6)
	before := w.audit()
	settledAs := w.profile("chen")
	w.must(w.erase("ben"))
	if err := w.erase("ben"); !errors.Is(err, person.ErrNoAccount) {
		t.Errorf("erased twice: %v", err)
	}
	r := w.audit()
	if r.Erased != 10 || r.Balances["ben"] != 0 || r.ErasedMilli != before.Balances["ben"] || r.Boxes != 2 || r.Redemptions != 1 {
		t.Errorf("audit reports %+v, ben had %d", r, before.Balances["ben"])
	}
	if s := r.String(); !strings.Contains(s, "10 entries were erased") {
		t.Error(s)
	}
	// On this day, and on the next ones on which ben's kilometres count, in this life and in another.
	for drop := uint64(first + 7); drop < first+20; drop++ {
		if drop == first+13 {
			w.stop()
			w.must(w.start())
		}
		w.at(drop)
	}
	again := w.audit()
	if again.Erased != 10 || again.ErasedMilli <= r.ErasedMilli || again.Weights <= r.Weights || w.profile("chen").Milli < settledAs.Milli {
		t.Errorf("audit reports %+v after %+v", again, r)
	}
	// The key of anna's old car is chen's now: her part of it goes, his stays.
	w.must(w.db.Update(t.Context(), func(tx *store.Tx) error { return tx.RevokeVehicle(t.Context(), "ANNA") }))
	w.must(w.erase("anna"))
	w.credit("chen", anna, 5)
	w.at(first + 21)
	w.stop()
	w.must(w.start())
	w.at(first + 30)
	r = w.audit()
	if r.Erased != 13 || len(r.Balances) != 1 || r.Balances["chen"] == 0 {
		t.Errorf("audit reports %+v", r)
	}
	// Nothing that names them is left in the records' files, but for the numbers.
	w.must(w.db.View(t.Context(), func(tx *store.Tx) error {
		all, err := tx.Openings(t.Context())
		for _, a := range all.Accounts {
			if a.ID != "chen" {
				t.Errorf("account %s is still there", a.ID)
			}
		}
		if len(all.Credits) != 3 || len(all.Bindings) != 2 || len(all.Handovers) != 1 || len(all.Requests)+len(all.Grants)+len(all.Changes) != 0 {
			t.Errorf("%d credits, %d bindings and %d hand-overs are open", len(all.Credits), len(all.Bindings), len(all.Handovers))
		}
		return err
	}))
	// A month later nobody's tree holds them.
	w.at(first + 40*4)
	w.at(first + 40*4 + 1)
	w.audit()
	openings, err := stones.Openings(t.Context(), w.db)
	w.must(err)
	if n := len(openings.ErasedLeaves(timing.Day(w.now))); n != 0 {
		t.Errorf("%d leaves of erased accounts count still", n)
	}
}

// TestErasureIsNoExcuse has an operator call live entries erased: a settler numbers nothing that it cannot see behind, and an auditor refuses
// leaves that do not weigh what the credits do.
func TestErasureIsNoExcuse(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.must(w.start())
	anna, ben := w.owner("anna"), w.owner("ben")
	w.credit("anna", anna, 40)
	w.credit("ben", ben, 12)
	for drop := range uint64(9) {
		w.at(drop)
	}
	w.leave("ben", ben)
	w.at(9)
	w.must(w.erase("ben"))
	text := func() string {
		o, err := stones.Openings(t.Context(), w.db)
		w.must(err)
		var b bytes.Buffer
		w.must(o.Write(&b))
		return b.String()
	}()
	var unsaid string
	{
		o, err := opening.Read(strings.NewReader(text))
		w.must(err)
		for n := range w.settler.replay.Next() {
			if o.Erased(n) {
				unsaid = strings.Replace(text, fmt.Sprintf(" %d,\n", n), "", 1)
				break
			}
		}
	}
	_, pseudonym, _ := strings.Cut(text, `"pseudonym": "`)
	for name, c := range map[string]struct{ change, want string }{
		"heavier leaf": {strings.Replace(text, `"weight": 12`, `"weight": 13`, 1), "weigh"},
		"lighter leaf": {strings.Replace(text, `"weight": 12`, `"weight": 11`, 1), "should weigh 12 km"},
		"other leaf":   {strings.Replace(text, pseudonym[:8], "00000000", 1), "hash of the set of leaves"},
		"one not said": {unsaid, "has no opening"},
	} {
		if c.change == text {
			t.Fatalf("%s: nothing was changed", name)
		}
		o, err := opening.Read(strings.NewReader(c.change))
		if err == nil {
			_, err = audit.Audit(t.Context(), audit.Config{Dir: w.logDir(), Root: w.root, Openings: o})
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A credit that nobody sees behind is set aside, whatever is said of it.
	w.must(w.db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.AddEncoded(t.Context(), ledger.TypeCredit, ledger.Credit{Blind: wire.Hash{1}, Km: 100, Effective: timing.Day(w.now) + 1})
		return err
	}))
	w.at(10)
	if !strings.Contains(w.said.String(), "entries set aside") {
		t.Error("a credit without an opening is numbered")
	}
	w.audit()
}

// TestErasedName gives an erased account's name to another: the settler begins anew, for it remembers the first.
func TestErasedName(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.must(w.start())
	anna, ben := w.owner("anna"), w.owner("ben")
	w.credit("anna", anna, 40)
	w.credit("ben", ben, 12)
	for drop := range uint64(5) {
		w.at(drop)
	}
	w.leave("ben", ben)
	w.at(5)
	w.must(w.erase("ben"))
	ben = w.owner("ben")
	w.credit("ben", ben, 7)
	err := w.settler.Step(t.Context())
	if _, heals := errors.AsType[recordsError](err); !heals || !strings.Contains(err.Error(), "another has its name") {
		t.Fatalf("it goes on with what it remembers: %v", err)
	}
	w.must(w.settler.load(t.Context()))
	w.stop()
	w.must(w.start()) // the validator too
	for drop := uint64(6); drop < 14; drop++ {
		w.at(drop)
	}
	if r := w.audit(); r.Erased != 3 || r.Balances["ben"] == 0 {
		t.Errorf("audit reports %+v", r)
	}
}
