package audit

import (
	"fmt"
	"strings"
	"testing"

	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// TestCultivationLies writes one log with everything that cultivation knows. Before each true entry false ones stand in its place: each is
// refused and changes nothing, so the truth is accepted after it.
func TestCultivationLies(t *testing.T) {
	w := newWorld(t, 1, 1)
	evil, _ := newKey(t)
	hash := wire.Hash{0xbd}
	bare := func(typ ledger.Type, body any) lie {
		return lie{"no opening", false, func() *ledger.Entry { return w.entry(typ, w.encode(body)) }, "has no opening"}
	}
	garbled := func(typ ledger.Type) lie {
		return lie{"garbled", true, func() *ledger.Entry { return w.entry(typ, []byte{1}) }, "cannot"}
	}
	w.bind("anna")
	w.bind("ben")
	w.open("dora")
	w.open("chen")
	w.credit("anna", 40, 2)
	w.meet()

	// Offers, on day 2.
	w.refuse(t,
		lie{"offers too early", true, func() *ledger.Entry { return w.sealOffers(w.offers(1, 15)) }, "offers are in force from day 15, should be from day 16 or later"},
		lie{"offers of nobody", true, func() *ledger.Entry {
			b, err := cultivation.SealOffers(evil, w.offers(1, 16))
			w.must(err)
			return w.entry(ledger.TypeOffers, b)
		}, "may not sign"},
		lie{"offers of another program", true, func() *ledger.Entry { o := w.offers(1, 16); o.Program = hash; return w.sealOffers(o) }, "another program"},
		lie{"policy as offers", true, func() *ledger.Entry { return w.entry(ledger.TypeOffers, w.entries[2].Body) }, "cannot"},
		garbled(ledger.TypeOffers),
	)
	chain := w.replay.documents.Chain()
	w.accept(w.sealOffers(w.offers(1, 16)))
	if w.replay.documents.Chain() != chain {
		t.Error("offers are in the chain that agents obey")
	}
	w.refuse(t, lie{"offers again", true, func() *ledger.Entry { return w.sealOffers(w.offers(1, 17)) }, "offers have serial 1, should be above 1"})

	// Accounts.
	key := w.rekey("anna")
	w.refuse(t,
		bare(ledger.TypeAccount, account.Change{}),
		lie{"no point", false, func() *ledger.Entry { return w.change("anna", wire.PublicKey{5}, 0) }, "not a point"},
		lie{"account of nobody", false, func() *ledger.Entry { return w.change("nobody", key, 0) }, `account "nobody" has no secret`},
		lie{"activated long ago", false, func() *ledger.Entry { w.jump(7); return w.change("anna", key, 5) }, "activated on day 5, should be from 6 to 9"},
		lie{"activated ahead", false, func() *ledger.Entry { return w.change("anna", key, 10) }, "activated on day 10, should be from 6 to 9"},
		lie{"another opening of an account", false, func() *ledger.Entry {
			e := w.change("anna", key, 7)
			w.openings.AddChange(e.Number, account.ChangeOpening{Account: "anna", Key: key})
			return e
		}, "account's blind is"},
		garbled(ledger.TypeAccount),
	)
	w.accept(w.change("anna", key, 6))
	w.accept(w.change("ben", w.rekey("ben"), 0))
	w.accept(w.change("dora", w.rekey("dora"), 9))
	w.refuse(t,
		lie{"activated again", false, func() *ledger.Entry { return w.change("anna", key, 7) }, "activated on day 7, should be on day 6 as before"},
		lie{"no more activated", false, func() *ledger.Entry { return w.change("anna", key, 0) }, "activated on day 0, should be on day 6 as before"},
	)

	// Grants.
	w.refuse(t, lie{"grant before any offers", false, func() *ledger.Entry { return w.give("anna", "walk", hash, 10, 7) }, "no offers are in force"})
	w.refuse(t, lie{"box before any offers", true, func() *ledger.Entry { return w.box(w.purchase("anna", "sure")) }, "no offers are in force"})
	w.jump(15)
	w.refuse(t, lie{"grant on the day before", false, func() *ledger.Entry { return w.give("anna", "walk", hash, 10, 15) }, "no offers are in force"})
	w.jump(16)
	bens, safe := w.feature("ben", "feature/assist"), w.feature("anna", "feature/eco")
	w.refuse(t,
		bare(ledger.TypeGrant, account.Grant{Crystals: 10, Day: 16}),
		lie{"grant of no crystals", true, func() *ledger.Entry { return w.give("anna", "walk", hash, 0, 16) }, "grant gives no crystals"},
		lie{"grant for tomorrow", true, func() *ledger.Entry { return w.give("anna", "walk", hash, 10, 17) }, "grant is of day 17, should be of the log's day 16 or the one before"},
		lie{"grant of long ago", true, func() *ledger.Entry { return w.give("anna", "walk", hash, 10, 14) }, "grant is of day 14"},
		lie{"grant of yesterday, without offers", false, func() *ledger.Entry { return w.give("anna", "walk", hash, 10, 15) }, "no offers are in force"},
		lie{"too much for a task", false, func() *ledger.Entry { return w.give("anna", "walk", hash, 11, 16) }, "grant gives 11 crystals, should give 10"},
		lie{"unknown task", false, func() *ledger.Entry { return w.give("anna", "run", hash, 10, 16) }, `task "run", which is not in offers 1`},
		lie{"grant to nobody", false, func() *ledger.Entry { return w.give("nobody", "walk", hash, 10, 16) }, `grant is of account "nobody", which has no key`},
		lie{"grant to an account without key", false, func() *ledger.Entry { return w.give("chen", "walk", hash, 10, 16) }, `grant is of account "chen", which has no key`},
		lie{"feature without credit", false, func() *ledger.Entry { return w.give("anna", "assist", hash, 25, 16) }, `no credit of kind "feature/assist" of account "anna"`},
		lie{"another's feature", false, func() *ledger.Entry { return w.give("anna", "assist", bens, 25, 16) }, `no credit of kind "feature/assist" of account "anna"`},
		lie{"another feature", false, func() *ledger.Entry { return w.give("anna", "assist", safe, 25, 16) }, `no credit of kind "feature/assist" of account "anna"`},
		lie{"mileage as a feature", false, func() *ledger.Entry {
			c, err := w.entries[5].Credit()
			w.must(err)
			return w.give("anna", "assist", c.Blind, 25, 16)
		}, `no credit of kind "feature/assist" of account "anna"`},
		lie{"another opening of a grant", false, func() *ledger.Entry {
			e := w.give("anna", "walk", hash, 10, 16)
			w.openings.AddGrant(e.Number, account.GrantOpening{Account: "anna", Task: "walk"})
			return e
		}, "grant's blind is"},
		garbled(ledger.TypeGrant),
	)
	w.accept(w.give("ben", "assist", bens, 25, 16))
	w.refuse(t, lie{"feature twice", false, func() *ledger.Entry { return w.give("ben", "assist", bens, 25, 16) }, "stands a second time"})
	for i := range byte(3) {
		w.accept(w.give("anna", "walk", wire.Hash{i}, 10, 16))
		w.accept(w.give("dora", "walk", wire.Hash{i}, 10, 16))
	}
	w.refuse(t, lie{"beyond the day's limit", false, func() *ledger.Entry { return w.give("anna", "walk", hash, 10, 16) }, "daily limit of 30"})
	w.jump(17)
	w.refuse(t,
		lie{"beyond yesterday's limit", false, func() *ledger.Entry { return w.give("anna", "walk", hash, 10, 16) }, "daily limit of 30"},
		lie{"grant twice", false, func() *ledger.Entry { return w.give("anna", "walk", wire.Hash{2}, 10, 17) }, "stands a second time"},
	)
	w.accept(w.give("anna", "walk", wire.Hash{3}, 10, 17))
	w.refuse(t, lie{"beyond yesterday's limit, after today's", false, func() *ledger.Entry { return w.give("anna", "walk", hash, 10, 16) }, "daily limit of 30"})
	w.refuse(t, lie{"more crystals than there can be", false, func() *ledger.Entry {
		return w.give("dora", "flood", hash, uint32(cultivation.MaxCrystals), 17)
	}, "cannot grant crystals: 4294967295 on top of 30"})

	// Boxes. Anna has 40 crystals and a car, dora 30 and none.
	w.accept(w.sealOffers(w.offers(2, 31)))
	buy := func(lie func(p *purchase)) func() *ledger.Entry {
		return func() *ledger.Entry {
			p := w.purchase("anna", "sure")
			p.owner = true
			lie(&p)
			return w.box(p)
		}
	}
	w.refuse(t,
		bare(ledger.TypeBox, account.Box{Day: 17, Offers: 1, Box: "sure"}),
		lie{"box for tomorrow", true, buy(func(p *purchase) { p.day = 18 }), "box is of day 18, should be of the log's day 17"},
		lie{"box of long ago", true, buy(func(p *purchase) { p.day = 15 }), "box is of day 15"},
		lie{"offers not in force yet", true, buy(func(p *purchase) { p.offers = 2 }), "box is of offers 2, should be of 1"},
		lie{"unknown box", true, buy(func(p *purchase) { p.name = "gold" }), `box "gold" is not in offers 1`},
		lie{"other offers than asked", false, buy(func(p *purchase) { p.offers, p.entered = 2, 1 }), `its request asks for "sure" of offers 2`},
		lie{"another box than asked", false, buy(func(p *purchase) { p.given = "small" }), `box is "small" of offers 1, its request asks for "sure"`},
		lie{"no owner who is one", false, buy(func(p *purchase) { p.owner = false }), "box says owner false, should be true"},
		lie{"request of yesterday", false, buy(func(p *purchase) { p.until = 16 }), "box is of day 17, its request is good until day 16"},
		lie{"another's request", false, buy(func(p *purchase) { p.account = "ben"; p.opened = "anna" }), "it is of another account"},
		lie{"request in another's name", false, buy(func(p *purchase) { p.account = "ben" }), "may not sign"},
		lie{"request for another program", false, buy(func(p *purchase) { p.program = hash }), "it is for another program"},
		lie{"redemption as a box", false, buy(func(p *purchase) { p.typ, p.milli = ledger.TypeRedemption, 1 }), "cannot"},
		lie{"operator's signature", false, buy(func(p *purchase) { p.key = evil }), "may not sign"},
		lie{"account without key", false, buy(func(p *purchase) { p.account = "chen" }), `account "chen", which has no key`},
		lie{"another opening of a box", false, func() *ledger.Entry {
			e := buy(func(*purchase) {})()
			w.openings.AddRequest(e.Number, account.RequestOpening{Account: "anna"})
			return e
		}, "box's blind is"},
		lie{"owner without a car", false, func() *ledger.Entry {
			p := w.purchase("dora", "sure")
			p.owner = true
			return w.box(p)
		}, "box says owner true, should be false"},
		garbled(ledger.TypeBox),
	)
	first := buy(func(*purchase) {})()
	w.accept(first)
	w.refuse(t, lie{"box twice under another signature", false, func() *ledger.Entry {
		e := buy(func(*purchase) {})()
		if string(e.Body) == string(first.Body) {
			t.Error("the second signature is the first")
		}
		return e
	}, "stands a second time"})
	before := w.keys["anna"]
	w.accept(w.change("anna", w.rekey("anna"), 6))
	w.refuse(t, lie{"key of before", false, buy(func(p *purchase) { p.nonce, p.key = 9, before }), "may not sign"})
	w.accept(buy(func(p *purchase) { p.nonce = 1; p.name = "jackpot" })())
	w.refuse(t, lie{"more than the pool may have to pay", true, buy(func(p *purchase) { p.nonce = 2; p.name = "jackpot" }), "cannot open box: it may give"})
	p := w.purchase("dora", "sure")
	w.accept(w.box(p)) // others cost the pool nothing
	if n, left := w.replay.Pool().Reserved(), w.public.Pool().Left(); n != 3000+reward.CultivatedSupply/2+1 || left != reward.CultivatedSupply-n {
		t.Errorf("pool has reserved %d and %d left", n, left)
	}
	for i := range byte(2) {
		p.nonce = i + 1
		w.accept(w.box(p))
	}
	boxes := w.replay.Next()
	// Whoever puts a box into the log before a block may know that block's seed.
	b := w.block()
	if n := w.replay.Pool().Reserved(); b.Boxes != 0 || b.Cultivated != 0 || b.Reserved != n || n != 3000+reward.CultivatedSupply/2+1 || len(w.public.Opened()) != 0 {
		t.Errorf("block is %+v, opened %v", b, w.public.Opened())
	}
	b = w.block()
	if b.Boxes != 5 || b.Cultivated != 3000 || b.Reserved != 0 || b.Redeemed != 0 {
		t.Errorf("block is %+v", b)
	}
	if got := w.public.Opened(); len(got) != 5 || got[0].Number != first.Number || got[0].Prize != (cultivation.Prize{Milli: 3000}) || got[4].Prize.Crystals != 4 || got[4].Number != boxes-1 {
		t.Errorf("opened %+v", got)
	}
	w.block()
	if got := w.replay.Opened(); len(got) != 0 {
		t.Errorf("opened again %+v", got)
	}
	w.refuse(t, lie{"crystals that are not there", false, func() *ledger.Entry {
		p.nonce, p.name = 7, "small"
		e := w.box(p) // dora has 27
		w.accept(e)
		p.nonce = 8
		w.accept(w.box(p))
		p.nonce = 9
		return w.box(p)
	}, "cannot spend crystals: 10 asked, the account has 7"})

	// Redemptions. Anna may from day 96 on.
	pay := func(lie func(p *purchase)) func() *ledger.Entry {
		return func() *ledger.Entry {
			p := w.purchase("anna", "mug")
			p.offers, p.milli, p.fen = 2, 3000, 990
			lie(&p)
			return w.redeem(p)
		}
	}
	w.block()
	w.jump(31)
	w.accept(w.sealOffers(w.offers(3, 99)))
	w.refuse(t, lie{"feature twice under another name", false, func() *ledger.Entry { return w.give("ben", assist(2), bens, 25, 31) }, "stands a second time"})
	w.accept(w.give("ben", assist(2), w.feature("ben", "feature/assist"), 25, 31))
	w.refuse(t,
		bare(ledger.TypeRedemption, account.Redemption{Day: 31, Milli: 1}),
		lie{"box under superseded offers", true, buy(func(p *purchase) { p.nonce = 3 }), "box is of offers 1, should be of 2"},
		lie{"redemption at once", false, pay(func(*purchase) {}), "should be at least 90 days after the account's activation on day 6"},
	)
	w.jump(95)
	w.refuse(t, lie{"redemption a day early", false, pay(func(*purchase) {}), "should be at least 90 days after the account's activation on day 6"})
	w.jump(96)
	w.refuse(t,
		lie{"redemption of yesterday", false, pay(func(p *purchase) { p.day = 95 }), "should be at least 90 days after"},
		lie{"redemption of long ago", true, pay(func(p *purchase) { p.day = 94 }), "redemption is of day 94"},
		lie{"redemption for tomorrow", true, pay(func(p *purchase) { p.day = 97 }), "redemption is of day 97"},
		lie{"redemption of nothing", true, func() *ledger.Entry {
			return w.entry(ledger.TypeRedemption, w.encode(account.Redemption{Day: 96}))
		}, "redemption uses no stones"},
		lie{"more than exists", true, pay(func(p *purchase) { p.name, p.milli, p.fen = "house", reward.Supply, 0 }), "only"},
		lie{"most of all", true, pay(func(p *purchase) { p.used = 1<<64 - 1 }), "only"},
		lie{"redemption asked for until yesterday", false, pay(func(p *purchase) { p.until = 95 }), "redemption is of day 96, its request is good until day 95"},
		lie{"redemption of an account without key", false, pay(func(p *purchase) { p.account = "chen" }), `redemption is of account "chen", which has no key`},
		lie{"superseded price", false, pay(func(p *purchase) { p.offers, p.milli = 1, 2000 }), "request is of offers 1, should be of 2"},
		lie{"price", false, pay(func(p *purchase) { p.milli = 2999 }), "should be at 3000 and 990"},
		lie{"money", false, pay(func(p *purchase) { p.fen = 989 }), "should be at 3000 and 990"},
		lie{"more stones than asked", false, pay(func(p *purchase) { p.used = 3001 }), "redemption uses 3001 milli-stones, should use 3000"},
		lie{"unknown item", false, pay(func(p *purchase) { p.name = "cup" }), `item "cup", which is not in offers 2`},
		lie{"prize alone", false, pay(func(p *purchase) { p.name, p.milli, p.fen = "medal", 1, 0 }), "should be at 0 and 0"},
		lie{"operator's signature under a redemption", false, pay(func(p *purchase) { p.key = evil }), "may not sign"},
		lie{"another program's redemption", false, pay(func(p *purchase) { p.program = hash }), "it is for another program"},
		lie{"another's redemption", false, pay(func(p *purchase) { p.account = "ben"; p.opened = "anna" }), "it is of another account"},
		lie{"box request as a redemption", false, pay(func(p *purchase) { p.typ = ledger.TypeBox }), "cannot"},
		lie{"never activated", false, func() *ledger.Entry {
			p := w.purchase("ben", "pen")
			p.offers, p.milli = 2, 1
			return w.redeem(p)
		}, "activation on day 0"},
		lie{"another opening of a redemption", false, func() *ledger.Entry {
			e := pay(func(*purchase) {})()
			w.openings.AddRequest(e.Number, account.RequestOpening{Account: "anna"})
			return e
		}, "redemption's blind is"},
		garbled(ledger.TypeRedemption),
	)
	w.accept(pay(func(*purchase) {})())
	w.refuse(t, lie{"redemption twice under another signature", false, pay(func(*purchase) {}), "stands a second time"})
	w.jump(99)
	w.refuse(t, lie{"stones that are not there", false, func() *ledger.Entry {
		p := w.purchase("dora", "pen")
		p.offers, p.milli = 3, 1
		return w.redeem(p)
	}, "redemption uses 1 milli-stones, the account has 0"})
	w.accept(pay(func(p *purchase) { p.nonce = 1; p.day = 98 })()) // at yesterday's price
	w.refuse(t, lie{"a third mug of two", false, pay(func(p *purchase) { p.nonce, p.offers, p.milli = 2, 3, 4000 }), "of which the account has 2, at most 2 allowed"})
	for i := range byte(5) {
		w.accept(pay(func(p *purchase) { p.nonce, p.offers, p.name, p.milli, p.fen = 10+i, 3, "pen", 1, 0 })())
	}
	for i, day := range []uint32{100, 100, 100, 101, 101, 101, 102} {
		w.jump(day)
		w.accept(w.give("ben", "walk", wire.Hash{byte(i)}, 10, day))
	}
	w.refuse(t, lie{"beyond a task's limit", false, func() *ledger.Entry { return w.give("ben", "walk", hash, 10, 102) }, "exceed the task's limit of 70"})

	// A block's own account of it, under good cosignatures.
	for _, l := range []struct {
		lie  func(b *ledger.Block)
		want string
	}{
		{func(b *ledger.Block) { b.Cultivated++ }, "Cultivated is"}, {func(b *ledger.Block) { b.Boxes-- }, "Boxes is"},
		{func(b *ledger.Block) { b.Reserved++ }, "Reserved is"}, {func(b *ledger.Block) { b.Redeemed-- }, "Redeemed is"},
	} {
		w.until(ledger.TypeBlock, w.replay.Due().Drop)
		w.meet()
		b := w.nextBlock()
		l.lie(b)
		payload, err := ledger.EncodePayload(b)
		w.must(err)
		e := w.seal(ledger.TypeBlock, payload, w.all()...)
		for _, r := range []*Replay{w.replay, w.public} {
			if err := r.Apply(e); err == nil || !strings.Contains(err.Error(), l.want) {
				t.Errorf("got %v, want %s", err, l.want)
			}
			if err := r.Check(ledger.TypeBlock, payload); err == nil {
				t.Errorf("a validator would cosign a block whose %s", l.want)
			}
		}
	}
	if b := w.block(); b.Redeemed != 6005 {
		t.Errorf("block says %d redeemed", b.Redeemed)
	}
	r := w.replay.Report()
	if got, want := r.Balances["anna"], w.balance["anna"]+3000-6005; got != want || r.Redemptions != 7 || r.Offers != 3 {
		t.Errorf("anna has %d, want %d; %+v", got, want, r)
	}
	if s := r.String(); !strings.Contains(s, fmt.Sprintf("; %d boxes opened, 3.000 stones cultivated, 6.005 redeemed", r.Boxes)) {
		t.Errorf("report says %q", s)
	}
}
