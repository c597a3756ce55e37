package settle

import (
	"crypto/ecdsa"
	crypto "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/store"
	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// A crowd is owners who ask for all sorts of things.
type crowd struct {
	*world
	rand *rand.Rand
	keys map[string]*ecdsa.PrivateKey
	cars map[string]wire.KeyID // bound
	did  *tally
}

func (c *crowd) who() string { return []string{"anna", "ben", "chen"}[c.rand.IntN(3)] }

// try asks for something; that it is refused for a reason is all right.
func (c *crowd) try(what string, fn func(store.Estate) error) {
	c.t.Helper()
	err := c.db.Update(c.t.Context(), func(tx *store.Tx) error { return fn(tx.Estate(c.rules())) })
	for _, refused := range []error{
		estate.ErrNoKey, estate.ErrSeen, estate.ErrOffers, estate.ErrUnproven, estate.ErrCrystals, estate.ErrStones, estate.ErrFull, estate.ErrLimit, estate.ErrPool,
		estate.ErrNotRedeemable, estate.ErrPrice,
	} {
		if errors.Is(err, refused) {
			c.did.add(what + ": " + refused.Error())
			return
		}
	}
	c.must(err)
	c.did.add(what)
}

func (c *crowd) change() {
	id := c.who()
	key, public := newKey(c.t)
	c.try("change", func(e store.Estate) error {
		_, err := e.Change(c.t.Context(), id, &public, c.rand.IntN(2) == 0)
		return err
	})
	c.keys[id] = key
}

func (c *crowd) grant() {
	r := estate.GrantRequest{Account: c.who(), Task: []string{"survey", "rich", "drive"}[c.rand.IntN(3)]}
	if r.Task != "drive" {
		r.Reference = wire.Hash{1, byte(c.rand.IntN(30))}
	}
	c.try(r.Task, func(e store.Estate) error { _, err := e.Grant(c.t.Context(), r); return err })
}

// car binds an account's car or releases it.
func (c *crowd) car() {
	id := c.who()
	if ecu, ok := c.cars[id]; ok {
		delete(c.cars, id)
		c.must(c.db.Update(c.t.Context(), func(tx *store.Tx) error {
			b, err := tx.OpenBinding(c.t.Context(), strings.ToUpper(id))
			return errors.Join(err, tx.CloseBinding(c.t.Context(), ledger.HandoverOpening{ECU: ecu, Cut: b.Head.Seq}))
		}))
		return
	}
	_, pub := newKey(c.t)
	c.cars[id] = pub.ID()
	c.must(c.db.Update(c.t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.AddECU(c.t.Context(), pub, nil), tx.AddBinding(c.t.Context(), ledger.BindingOpening{Vehicle: strings.ToUpper(id), Account: id, ECU: pub}))
	}))
}

// drive credits mileage or the use of a feature.
func (c *crowd) drive() {
	id := c.who()
	ecu, ok := c.cars[id]
	if !ok || timing.Day(c.now) > c.settler.replay.Due().Day+1 { // a claim is not credited while drops wait for days
		return
	}
	kind, km := "feature/cruise", uint32(0)
	if c.rand.IntN(2) == 0 {
		kind, km = "mileage", 1+c.rand.Uint32N(400)
	}
	c.creditOf(id, ecu, kind, km)
}

// serial is of the offers in force, or now and then another.
func (c *crowd) serial() (serial uint16) {
	c.t.Helper()
	if c.rand.IntN(10) == 0 {
		return uint16(1 + c.rand.IntN(3))
	}
	c.must(c.db.View(c.t.Context(), func(tx *store.Tx) error {
		o, _, err := tx.Estate(c.rules()).Offers(c.t.Context())
		serial = o.Serial
		return err
	}))
	return serial
}

func (c *crowd) open() {
	id := c.who()
	if c.keys[id] == nil {
		return
	}
	r := &account.BoxRequest{Program: c.id, Account: id, Offers: c.serial(), Box: []string{"box", "bigger"}[c.rand.IntN(2)], Nonce: [16]byte{1, byte(c.rand.IntN(40))}, Until: account.MaxUntil}
	b, err := account.SealBoxRequest(c.keys[id], r)
	c.must(err)
	c.try(r.Box, func(e store.Estate) error { _, err := e.OpenBox(c.t.Context(), id, b); return err })
}

func (c *crowd) redeem() {
	id := c.who()
	if c.keys[id] == nil {
		return
	}
	r := &account.RedemptionRequest{Program: c.id, Account: id, Offers: c.serial(), Item: "wash", Milli: 300, Fen: 5, Until: timing.Day(c.now) + 1}
	_, _ = crypto.Read(r.Nonce[:])
	b, err := account.SealRedemptionRequest(c.keys[id], r)
	c.must(err)
	c.try("redeem", func(e store.Estate) error { _, err := e.Redeem(c.t.Context(), id, b); return err })
}

// tick lets time pass, or the validator fail, and settles.
func (c *crowd) tick() {
	v := c.validators[0]
	v.noSign = c.rand.IntN(100) < 25
	c.now = c.now.Add(timing.DropTime(c.rand.Uint64N(4)).Sub(timing.DropTime(0)))
	if err := c.settler.Step(c.t.Context()); err != nil && !errors.Is(err, ErrNoQuorum) {
		c.t.Fatal(err)
	}
}

// offersOf are some whose limits owners reach.
func (c *crowd) offersOf(serial uint16, from uint32) Document {
	c.t.Helper()
	odds := func(prizes ...cultivation.Prize) (out []cultivation.Odds) {
		for _, p := range prizes {
			out = append(out, cultivation.Odds{Parts: cultivation.Certain / uint32(len(prizes)), Prize: p})
		}
		return out
	}
	stones := cultivation.Prize{Milli: 700 * uint64(serial)}
	b, err := cultivation.SealOffers(c.policy, &cultivation.Offers{Version: wire.Version, Program: c.id, Serial: serial, FromDay: from,
		Tasks: []cultivation.Task{
			{ID: "survey", Title: "s", Crystals: 10, Daily: 20, Total: 2000}, {ID: "rich", Title: "r", Crystals: 1 << 31, Daily: 1 << 31, Total: 1<<32 - 1},
			{ID: "drive", Title: "d", Crystals: 3, Daily: 6, Total: 200, Kind: "feature/cruise"},
		},
		Boxes: []cultivation.OfferedBox{
			{ID: "box", Title: "b", Cost: 2, Owners: odds(stones, cultivation.Prize{Crystals: 3}), Others: odds(cultivation.Prize{Goods: "mug"}, cultivation.Prize{Crystals: 3})},
			{ID: "bigger", Title: "b", Cost: 1 << 28, Owners: odds(cultivation.Prize{Milli: 40_000_000_000}, cultivation.Prize{}, stones, cultivation.Prize{Crystals: 1_000_000}),
				Others: odds(cultivation.Prize{Crystals: 1_000_000}, cultivation.Prize{}, cultivation.Prize{}, cultivation.Prize{})},
		},
		Catalogue: []cultivation.Item{{ID: "mug", Title: "m"}, {ID: "wash", Title: "w", Milli: 300, Fen: 5, Limit: 12}}})
	c.must(err)
	return Document{Type: ledger.TypeOffers, Body: b}
}

// TestLedgerTakesWhatOwnersAskFor drives owners, cars and the settler at random: whatever the records accept, in whatever order entries get
// their numbers, the rules of the ledger take, and an audit finds the same of each account.
func TestLedgerTakesWhatOwnersAskFor(t *testing.T) {
	did := &tally{n: make(map[string]int)}
	t.Run("runs", func(t *testing.T) {
		for seed := range uint64(2) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 1, 1)
				c := &crowd{world: w, rand: rand.New(rand.NewPCG(seed, 7)), keys: make(map[string]*ecdsa.PrivateKey), cars: make(map[string]wire.KeyID), did: did}
				w.documents = append(w.documents, c.offersOf(1, offered), c.offersOf(2, 96), c.offersOf(3, 100))
				w.must(w.start())
				for _, id := range []string{"anna", "ben", "chen"} {
					c.cars[id] = w.owner(id)
					if id != "chen" {
						c.keys[id] = w.activate(id)
					}
				}
				w.credit("anna", c.cars["anna"], 40)
				for drop := uint64(0); drop < 4*90; drop += 60 { // until the 90 days are nearly over
					w.at(drop)
				}
				for range 400 {
					pick := []func(){c.change, c.grant, c.grant, c.grant, c.grant, c.car, c.drive, c.open, c.open, c.open, c.open, c.open, c.open, c.redeem, c.redeem, c.tick, c.tick}
					pick[c.rand.IntN(len(pick))]()
				}
				w.validators[0].noSign = false
				w.now = w.now.Add(timing.DropTime(4).Sub(timing.DropTime(0)))
				w.step()
				w.audit()
			})
		}
	})
	for _, what := range []string{
		"change", "survey", "rich", "drive", "box", "bigger", "redeem", "drive: " + estate.ErrUnproven.Error(), "box: " + estate.ErrOffers.Error(),
		"box: " + estate.ErrSeen.Error(), "redeem: " + estate.ErrNotRedeemable.Error(),
	} {
		if did.n[what] == 0 {
			t.Errorf("it never came to %q", what)
		}
	}
	t.Log(did.n)
}
