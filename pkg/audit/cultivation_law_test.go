package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// A person is what the model says of an account.
type person struct {
	keyed, car      bool
	activated       uint32
	milli, crystals int64 // may not go below zero; won only, the author counts what is drawn
	days            map[string]map[uint32]int64
	items           map[string]int
	used            map[string]bool // references and requests
	credit          wire.Hash       // of feature/assist, zero before there is one
}

// A want is a box of the model that was asked for.
type want struct {
	number uint64
	who    *person
	box    string
	owner  bool
}

// prize is the model's reading of the odds: H(tag ‖ seed ‖ number) modulo a million, laid along the table.
func prize(o *cultivation.OfferedBox, seed wire.Hash, number uint64, owner bool) cultivation.Prize {
	h := sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte("rawstone/box/v1"), seed[:]...), number))
	place := new(big.Int).Mod(new(big.Int).SetBytes(h[:]), big.NewInt(1_000_000)).Int64()
	table := o.Others
	if owner {
		table = o.Owners
	}
	for i := 0; ; i++ {
		if place -= int64(table[i].Parts); place < 0 {
			return table[i].Prize
		}
	}
}

// TestLawOfCultivation has accounts be changed, granted, ask for boxes and redeem at random, true and false, over days and blocks, and
// compares every answer and every balance with a model's. Nothing is ever below zero, and what exists adds up.
func TestLawOfCultivation(t *testing.T) {
	accepted, refused := make(map[string]int), make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, 1, 1)
		names := []string{"anna", "ben", "dora"}
		people := make(map[string]*person)
		for _, n := range names {
			people[n] = &person{days: make(map[string]map[uint32]int64), items: make(map[string]int), used: make(map[string]bool)}
			if n == "dora" {
				w.open(n)
			} else {
				w.bind(n)
				people[n].car = true
			}
			w.rekey(n)
		}
		list := []*cultivation.Offers{w.offers(1, 16), w.offers(2, 40)}
		for _, o := range list {
			w.accept(w.sealOffers(o))
		}
		if rapid.IntRange(0, 3).Draw(rt, "under way") > 0 {
			for _, n := range names {
				w.accept(w.change(n, w.publicKey(n), 2))
				people[n].keyed, people[n].activated = true, 2
			}
			w.credit("anna", 40, 2)
			w.credit("ben", 40, 2)
			people["anna"].credit = w.feature("anna", "feature/assist")
			w.jump(3)
			w.block()
		}
		w.jump(rapid.SampledFrom([]uint32{92, 100, 130, 16, 38, 91, 92}).Draw(rt, "first day"))
		var open []want
		last := uint64(0) // the number of the last block
		if w.entries[len(w.entries)-1].Type == ledger.TypeBlock {
			last = w.entries[len(w.entries)-1].Number
		}
		issued, reserved, redeemed, boxes := int64(0), int64(0), int64(0), uint64(0)
		worst := func(box string, owner bool) int64 {
			switch {
			case !owner:
				return 0
			case box == "small":
				return 2000
			case box == "sure":
				return 3000
			}
			return reward.CultivatedSupply/2 + 1
		}
		for range rapid.IntRange(10, 70).Draw(rt, "steps") {
			name := rapid.SampledFrom(names).Draw(rt, "account")
			who, today := people[name], w.replay.today()
			// Mostly right, so that much is accepted.
			day := today + rapid.SampledFrom([]uint32{0, 0, 0, 0, 0, 0, 0, 0, 1<<32 - 1, 1<<32 - 1, 1<<32 - 1, 1, 1 << 31, 1<<32 - 2}).Draw(rt, "day")
			timely := day == today || day+1 == today
			var offers *cultivation.Offers
			for _, o := range list {
				if o.FromDay <= day {
					offers = o
				}
			}
			serial := uint16(1)
			if offers != nil && rapid.IntRange(0, 9).Draw(rt, "right offers") > 0 {
				serial = offers.Serial
			}
			known := offers != nil && serial == offers.Serial
			nonce := rapid.Byte().Draw(rt, "nonce") % 24
			const far = 1_000_000
			until := rapid.SampledFrom([]uint32{far, far, far, far, far, far, far, today, today + 1, today - 1}).Draw(rt, "until")
			var e *ledger.Entry
			var right bool
			var then func()
			what := rapid.SampledFrom([]string{"change", "change", "grant", "grant", "grant", "feature", "feature", "box", "box", "box", "box", "redemption", "redemption", "redemption", "block", "block", "days", "car", "credit"}).Draw(rt, "what")
			switch what {
			case "change":
				on := rapid.SampledFrom([]uint32{who.activated, 0, today - 2, today - 1, today, today + 2, today + 3}).Draw(rt, "activated")
				e = w.change(name, w.publicKey(name), on)
				right = on == who.activated || who.activated == 0 && on+1 >= today && on <= today+2
				then = func() { who.keyed, who.activated = true, on }
			case "grant", "feature":
				task, n, daily, total := "walk", int64(10), int64(30), int64(70)
				reference := wire.Hash{nonce}
				if what == "feature" {
					task, n, daily, total, reference = assist(1), 25, 50, 1000, people[rapid.SampledFrom(names).Draw(rt, "whose")].credit
					if offers != nil {
						task = assist(offers.Serial)
					}
				} else if nonce == 0 {
					task, n, daily, total = "flood", int64(cultivation.MaxCrystals), int64(cultivation.MaxCrystals), int64(cultivation.MaxCrystals)
				}
				given := n
				if rapid.IntRange(0, 15).Draw(rt, "wrong") == 0 {
					given--
				}
				e = w.give(name, task, reference, uint32(given), day)
				once := what + task + reference.String()
				if what == "feature" {
					once = what + reference.String()
				}
				granted := int64(0)
				for _, m := range who.days[task] {
					granted += m
				}
				right = timely && offers != nil && who.keyed && given == n && !who.used[once] && who.days[task][day]+n <= daily && granted+n <= total &&
					who.crystals+n <= int64(cultivation.MaxCrystals) && (what == "grant" || reference == who.credit && reference != wire.Hash{})
				then = func() {
					who.crystals += n
					who.used[once] = true
					if who.days[task] == nil {
						who.days[task] = make(map[uint32]int64)
					}
					who.days[task][day] += n
				}
			case "box":
				p := w.purchase(name, rapid.SampledFrom([]string{"small", "sure", "sure", "jackpot", "gold"}).Draw(rt, "box"))
				p.nonce, p.offers, p.day, p.until, p.owner = nonce, serial, day, until, who.car != (rapid.IntRange(0, 9).Draw(rt, "lying") == 0)
				e = w.box(p)
				cost := map[string]int64{"small": 10, "sure": 5, "jackpot": 1}[p.name]
				id := fmt.Sprint("box", nonce, serial, until, p.name)
				right = timely && known && day <= until && p.name != "gold" && who.keyed && p.owner == who.car && !who.used[id] && who.crystals >= cost &&
					issued+reserved+worst(p.name, p.owner) <= reward.CultivatedSupply
				then = func() {
					who.crystals -= cost
					who.used[id] = true
					reserved += worst(p.name, p.owner)
					open = append(open, want{e.Number, who, p.name, p.owner})
				}
			case "redemption":
				p := w.purchase(name, rapid.SampledFrom([]string{"pen", "mug", "pen", "house"}).Draw(rt, "item"))
				p.nonce, p.offers, p.day, p.until = nonce, serial, day, until
				price := map[string]uint64{"mug": 1000 + 1000*uint64(serial), "pen": 1, "house": reward.Supply}[p.name]
				p.milli, p.fen = price, map[string]uint64{"mug": 990}[p.name]
				if rapid.IntRange(0, 9).Draw(rt, "cheap") == 0 {
					p.milli++
				}
				e = w.redeem(p)
				id := fmt.Sprint("redemption", nonce, serial, until, p.milli, p.name)
				right = timely && known && day <= until && who.keyed && !who.used[id] && p.milli == price && (p.name != "mug" || who.items["mug"] < 2) &&
					who.activated > 0 && day >= who.activated+90 && int64(w.balance[name])+who.milli >= int64(price)
				then = func() {
					who.milli -= int64(price)
					redeemed += int64(price)
					who.items[p.name]++
					who.used[id] = true
				}
			case "block":
				b := w.block()
				var opened, left []want
				reserved = 0
				for _, o := range open {
					if o.number > last {
						left, reserved = append(left, o), reserved+worst(o.box, o.owner)
						continue
					}
					opened = append(opened, o)
					won := prize(list[0].Box(o.box), b.Seed, o.number, o.owner)
					o.who.milli += int64(won.Milli)
					o.who.crystals = min(o.who.crystals+int64(won.Crystals), int64(cultivation.MaxCrystals))
					issued += int64(won.Milli)
				}
				boxes += uint64(len(opened))
				if got := w.public.Opened(); !slices.EqualFunc(got, opened, func(o Opened, w want) bool { return o.Number == w.number }) {
					rt.Fatalf("opened %v, want %v", got, opened)
				}
				open, last = left, w.replay.Next()-1
				if b.Boxes != boxes || b.Cultivated != uint64(issued) || b.Reserved != uint64(reserved) || b.Redeemed != uint64(redeemed) {
					rt.Fatalf("block says %d boxes, %d cultivated, %d reserved and %d redeemed, want %d, %d, %d and %d",
						b.Boxes, b.Cultivated, b.Reserved, b.Redeemed, boxes, issued, reserved, redeemed)
				}
			case "days":
				w.jump(today + rapid.SampledFrom([]uint32{1, 1, 2, 30, 60, 90}).Draw(rt, "days"))
			case "car":
				if name != "dora" {
					if who.car {
						w.accept(w.handOver(name, w.seq, false))
						w.seq++
					} else {
						w.accept(w.bindAgain(name, name, w.seq))
					}
					who.car = !who.car
				}
			case "credit":
				if who.car {
					w.credit(name, 40, today)
					who.credit = w.feature(name, "feature/assist")
				}
			}
			if e != nil {
				err := w.replay.Apply(e)
				if (err == nil) != right {
					rt.Fatalf("%s of %s on day %d, entry %d: %v, want accepted %t", what, name, today, e.Number, err, right)
				}
				if !right {
					refused[what]++
				} else {
					accepted[what]++
					w.entries = append(w.entries, e)
					w.meet() // what is right in whole is right in public
					then()
				}
			}
			r := w.replay.Report()
			milli, crystals, sum := make(map[string]uint64), make(map[string]uint64), uint64(0)
			for n, p := range people {
				has := int64(w.balance[n]) + p.milli
				if has < 0 || p.crystals < 0 {
					rt.Fatalf("%s has %d milli-stones and %d crystals", n, has, p.crystals)
				}
				milli[n], crystals[n], sum = uint64(has), uint64(p.crystals), sum+uint64(has)
			}
			for _, m := range []map[string]uint64{milli, crystals} {
				maps.DeleteFunc(m, func(_ string, n uint64) bool { return n == 0 })
			}
			if diff := cmp.Diff(milli, r.Balances) + cmp.Diff(crystals, r.Crystals); diff != "" {
				rt.Fatal(diff)
			}
			pool := w.public.Pool()
			if pool != w.replay.Pool() || pool.Issued() != uint64(issued) || pool.Reserved() != uint64(reserved) || pool.Issued()+pool.Reserved()+pool.Left() != reward.CultivatedSupply {
				rt.Fatalf("pool is %+v, want %d issued and %d reserved", pool, issued, reserved)
			}
			if r.Supply > reward.MinedSupply || r.Cultivated > reward.CultivatedSupply || r.Redeemed > r.Supply+r.Cultivated || sum != r.Supply+r.Cultivated-r.Redeemed {
				rt.Fatalf("accounts have %d of %d mined and %d cultivated less %d redeemed", sum, r.Supply, r.Cultivated, r.Redeemed)
			}
		}
	})
	for _, what := range []string{"change", "grant", "feature", "box", "redemption"} {
		if accepted[what] == 0 || refused[what] == 0 {
			t.Errorf("%s: %d were accepted and %d refused", what, accepted[what], refused[what])
		}
	}
	t.Log(accepted, refused)
}
