package settle

import (
	"crypto/ecdsa"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	_ "modernc.org/sqlite"

	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/store"
	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// offered is the first day of the offers of these tests, as early as the first log's day allows, and begun its first drop.
const (
	offered = 2 + cultivation.NoticeDays
	begun   = 2 + 4*(offered-3)
)

// offers promise stones to owners from a day on, once in two.
func (w *world) offers(serial uint16, from uint32) Document {
	w.t.Helper()
	half := func(a, b cultivation.Prize) []cultivation.Odds {
		return []cultivation.Odds{{Parts: cultivation.Certain / 2, Prize: a}, {Parts: cultivation.Certain / 2, Prize: b}}
	}
	b, err := cultivation.SealOffers(w.policy, &cultivation.Offers{Version: wire.Version, Program: w.id, Serial: serial, FromDay: from,
		Tasks: []cultivation.Task{{ID: "survey", Title: "Survey", Crystals: 10, Daily: 1000, Total: 100000}},
		Boxes: []cultivation.OfferedBox{{ID: "box", Title: "Box", Cost: 2,
			Owners: half(cultivation.Prize{Milli: 700}, cultivation.Prize{Crystals: 3}), Others: half(cultivation.Prize{Goods: "mug"}, cultivation.Prize{})}},
		Catalogue: []cultivation.Item{{ID: "mug", Title: "Mug"}, {ID: "wash", Title: "Wash", Milli: 300, Fen: 5}}})
	w.must(err)
	return Document{Type: ledger.TypeOffers, Body: b}
}

func (w *world) rules() estate.Rules { return estate.Rules{Program: w.program, ID: w.id} }

// ask asks for something as an owner does.
func (w *world) ask(fn func(store.Estate) error) {
	w.t.Helper()
	w.must(w.db.Update(w.t.Context(), func(tx *store.Tx) error { return fn(tx.Estate(w.rules())) }))
}

// activate gives an account a key.
func (w *world) activate(id string) *ecdsa.PrivateKey {
	w.t.Helper()
	key, public := newKey(w.t)
	w.ask(func(e store.Estate) error { _, err := e.Change(w.t.Context(), id, &public, true); return err })
	return key
}

func (w *world) grant(id string) {
	w.t.Helper()
	var reference wire.Hash
	rand.Read(reference[:])
	w.ask(func(e store.Estate) error {
		_, err := e.Grant(w.t.Context(), estate.GrantRequest{Account: id, Task: "survey", Reference: reference})
		return err
	})
}

func (w *world) box(id string, key *ecdsa.PrivateKey, offers uint16) {
	w.t.Helper()
	r := &account.BoxRequest{Program: w.id, Account: id, Offers: offers, Box: "box", Until: timing.Day(w.now) + 1}
	rand.Read(r.Nonce[:])
	b, err := account.SealBoxRequest(key, r)
	w.must(err)
	w.ask(func(e store.Estate) error { _, err := e.OpenBox(w.t.Context(), id, b); return err })
}

func (w *world) redeem(id string, key *ecdsa.PrivateKey, offers uint16) {
	w.t.Helper()
	r := &account.RedemptionRequest{Program: w.id, Account: id, Offers: offers, Item: "wash", Milli: 300, Fen: 5, Until: timing.Day(w.now) + 1}
	rand.Read(r.Nonce[:])
	b, err := account.SealRedemptionRequest(key, r)
	w.must(err)
	w.ask(func(e store.Estate) error { _, err := e.Redeem(w.t.Context(), id, b); return err })
}

// profile returns what an account has, nothing for one that is not there.
func (w *world) profile(id string) (p estate.Profile) {
	w.t.Helper()
	err := w.db.View(w.t.Context(), func(tx *store.Tx) (err error) { p, err = tx.Estate(w.rules()).Profile(w.t.Context(), id); return err })
	if !errors.Is(err, estate.ErrNoAccount) {
		w.must(err)
	}
	return p
}

// waits returns how many boxes wait, and the pool.
func (w *world) waits(id string) (closed int, pool cultivation.Pool) {
	w.t.Helper()
	w.must(w.db.View(w.t.Context(), func(tx *store.Tx) error {
		e := tx.Estate(w.rules())
		list, err := e.History(w.t.Context(), id, 0, 1000)
		for _, event := range list {
			if event.Kind == "box" && !event.Opened {
				closed++
			}
		}
		p, err2 := e.Pool(w.t.Context())
		pool = p
		return errors.Join(err, err2)
	}))
	return closed, pool
}

// TestBoxes opens boxes with the second block after them; whoever replays the log finds the same of each account.
func TestBoxes(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.documents = append(w.documents, w.offers(1, offered))
	w.must(w.start())
	anna := w.owner("anna")
	w.owner("ben")
	w.must(w.db.Update(t.Context(), func(tx *store.Tx) error { return tx.AddAccount(t.Context(), "chen") })) // who has no car
	w.credit("anna", anna, 40)
	a, c := w.activate("anna"), w.activate("chen")
	w.at(begun)
	for drop := uint64(begun + 1); drop < begun+23; drop += 2 {
		w.grant("anna")
		w.grant("chen")
		for range 3 {
			w.box("anna", a, 1)
			w.box("chen", c, 1)
		}
		if closed, pool := w.waits("anna"); closed != 3 || pool.Reserved() != 3*700 {
			t.Fatalf("%d boxes wait, %d is reserved", closed, pool.Reserved())
		}
		if drop%3 == 0 {
			w.step() // numbered before the block is due
		}
		w.at(drop)
		if closed, pool := w.waits("anna"); closed != 3 || pool.Reserved() != 3*700 {
			t.Fatalf("%d boxes wait after the block that fixes their places, %d is reserved", closed, pool.Reserved())
		}
		w.at(drop + 1)
		if closed, pool := w.waits("anna"); closed != 0 || pool.Reserved() != 0 {
			t.Fatalf("%d boxes wait after their block, %d is reserved", closed, pool.Reserved())
		}
	}
	r := w.audit()
	if _, pool := w.waits("anna"); r.Boxes != 66 || r.Cultivated == 0 || pool.Issued() != r.Cultivated {
		t.Errorf("%+v, pool %+v", r, pool)
	}
}

// TestBoxesAreOpenedWithTheirBlock fails the transaction of a block at each of its statements, and stops the process there: afterwards neither
// the block nor a result is there, and in the end each box was opened once.
func TestBoxesAreOpenedWithTheirBlock(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.documents = append(w.documents, w.offers(1, offered))
	w.must(w.start())
	anna := w.owner("anna")
	w.owner("ben")
	w.owner("chen")
	w.credit("anna", anna, 40)
	key := w.activate("anna")
	w.at(begun)
	raw, err := sql.Open("sqlite", filepath.Join(w.dir, "records.db"))
	w.must(err)
	defer raw.Close()
	drop := uint64(begun)
	for i, on := range []string{"DELETE ON draft", "INSERT ON outbox", "UPDATE ON boxes", "INSERT ON crystals", "UPDATE ON crystals", "UPDATE ON pool"} {
		w.grant("anna")
		for range 5 {
			w.box("anna", key, 1)
		}
		w.at(drop + 1)
		drop += 2
		w.now = timing.DropTime(drop)
		before := w.profile("anna")
		_, err := raw.Exec(fmt.Sprintf(`CREATE TRIGGER dies BEFORE %s BEGIN SELECT RAISE(ABORT, 'the process dies'); END`, on))
		w.must(err)
		err = w.settler.Step(t.Context())
		_, err2 := raw.Exec(`DROP TRIGGER dies`)
		w.must(err2)
		if err == nil && on != "INSERT ON crystals" && on != "UPDATE ON crystals" { // which wait for a prize of that kind
			t.Fatalf("%s: nothing failed", on)
		}
		if closed, pool := w.waits("anna"); err != nil && (closed != 5 || pool.Reserved() != 5*700 || w.profile("anna") != before) {
			t.Errorf("%s: half a block: %d boxes wait, %+v, %+v was %+v", on, closed, pool, w.profile("anna"), before)
		}
		if i%2 == 0 && err != nil {
			w.stop()
			w.must(w.start())
		} else if err != nil {
			w.must(w.settler.runOnce(t.Context()))
		}
		w.step()
		if closed, _ := w.waits("anna"); closed != 0 {
			t.Errorf("%s: %d boxes wait after their block", on, closed)
		}
	}
	if r := w.audit(); r.Boxes != 30 {
		t.Errorf("%d boxes are open", r.Boxes)
	}
}

// TestRedemptions uses stones that were drawn and won, from the 90th day on.
func TestRedemptions(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.documents = append(w.documents, w.offers(1, offered))
	w.must(w.start())
	anna := w.owner("anna")
	w.owner("ben")
	w.owner("chen")
	key := w.activate("anna")
	w.step()
	w.credit("anna", anna, 40)
	const first = 2 + 4*(2+90-3) // activated on day 2
	for drop := uint64(begun); drop < first; drop += 40 {
		w.at(drop)
	}
	w.at(first)
	w.grant("anna")
	for range 4 {
		w.box("anna", key, 1)
	}
	for range 2 {
		w.redeem("anna", key, 1)
	}
	w.at(first + 1)
	w.redeem("anna", key, 1)
	w.stop()
	w.must(w.start())
	w.at(first + 2)
	if r := w.audit(); r.Redeemed != 900 || r.Redemptions != 3 || r.Boxes != 4 {
		t.Errorf("%+v", r)
	}
}

// TestNoticeBehindDraft starts with offers whose notice is just long enough, while the last block of the day waits for cosignatures: once it has
// them it is too short. Nothing of the offers is numbered, and without them all goes on.
func TestNoticeBehindDraft(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.must(w.start())
	w.at(0)
	w.validators[0].noSign = true
	w.now = timing.DropTime(1) // the last of day 2
	if err := w.settler.Step(t.Context()); !errors.Is(err, ErrNoQuorum) {
		t.Fatal(err)
	}
	w.documents = append(w.documents, w.offers(1, offered))
	w.stop()
	w.must(w.start())
	if err := w.settler.Step(t.Context()); err == nil || w.logged(ledger.TypeOffers) != 0 {
		t.Fatalf("offers without notice: %v, %d numbered", err, w.logged(ledger.TypeOffers))
	}
	w.stop()
	w.documents = append(w.documents[:3], w.offers(1, offered+1))
	w.must(w.start())
	w.at(4)
	if w.logged(ledger.TypeOffers) != 1 || w.settler.replay.Due().Drop != 5 {
		t.Errorf("%d offers, %+v", w.logged(ledger.TypeOffers), w.settler.replay.Due())
	}
}
