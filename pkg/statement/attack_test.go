package statement

import (
	"slices"
	"strings"
	"testing"

	"rawstone/pkg/account"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// short is a life of some days in which anna is credited, opens a box and is drawn for.
func short(t testing.TB) *world {
	w := newWorld(t, timing)
	w.document(ledger.TypePolicy, []byte("policy"))
	w.announce(1, w.today()+14)
	w.bind()
	w.change(0)
	w.credit(40)
	w.others(5, 20)
	w.blocks(3)
	w.credit(60)
	w.credit(5)
	w.blocks(4)
	w.until(w.today() + 13)
	w.grant(30)
	w.box(1, true)
	w.blocks(3)
	return w
}

// find returns the place of the nth record that is wanted.
func find(records []*Record, n int, wanted func(*Record) bool) int {
	for i, r := range records {
		if wanted(r) {
			if n--; n < 0 {
				return i
			}
		}
	}
	panic("no such record")
}

func isBlock(r *Record) bool { return r.Block != nil }
func isDay(r *Record) bool   { return r.Day != nil }
func isEntry(t ledger.Type) func(*Record) bool {
	return func(r *Record) bool {
		return r.Entry != nil && must(ledger.DecodeEntry(r.Entry.Entry)).Type == t
	}
}

// TestForgedStatements makes a good statement false in one way each, over a log that is right.
func TestForgedStatements(t *testing.T) {
	w := short(t)
	good := w.statement(0, false)
	if _, _, err := w.verify(good, nil); err != nil {
		t.Fatal(err)
	}
	block := func(n int, change func(*Block)) func(*[]*Record) {
		return func(r *[]*Record) {
			i := find(*r, n, isBlock)
			b := *(*r)[i].Block
			change(&b)
			(*r)[i] = &Record{Block: &b}
		}
	}
	day := func(n int, change func(*Day)) func(*[]*Record) {
		return func(r *[]*Record) {
			i := find(*r, n, isDay)
			d := *(*r)[i].Day
			d.Path.Steps = slices.Clone(d.Path.Steps)
			change(&d)
			(*r)[i] = &Record{Day: &d}
		}
	}
	remove := func(n int, wanted func(*Record) bool) func(*[]*Record) {
		return func(r *[]*Record) { i := find(*r, n, wanted); *r = slices.Delete(*r, i, i+1) }
	}
	opening := func(change func(*Opening)) func(*[]*Record) {
		return func(r *[]*Record) { o := *(*r)[0].Opening; change(&o); (*r)[0] = &Record{Opening: &o} }
	}
	entry := func(n int, typ ledger.Type, change func(*Entry)) func(*[]*Record) {
		return func(r *[]*Record) {
			i := find(*r, n, isEntry(typ))
			e := *(*r)[i].Entry
			e.Path = slices.Clone(e.Path)
			change(&e)
			(*r)[i] = &Record{Entry: &e}
		}
	}
	end := func(change func(*Close)) func(*[]*Record) {
		return func(r *[]*Record) { c := *(*r)[len(*r)-1].Close; change(&c); (*r)[len(*r)-1] = &Record{Close: &c} }
	}
	sealed := func(change func(*ledger.Sealed)) func(*Opening) {
		return func(o *Opening) {
			s := must((&ledger.Entry{Type: ledger.TypeBlock, Body: o.Newest}).Sealed())
			change(s)
			o.Newest = must(s.Encode())
		}
	}
	var older []byte // body of the last block but one
	for _, s := range w.steps[:len(w.steps)-1] {
		if s.block != nil {
			older = s.sealed
		}
	}
	for name, c := range map[string]struct {
		forge func(*[]*Record)
		want  string
	}{
		"credit left out, weight with it": {remove(1, isEntry(ledger.TypeCredit)), "weight of day 6 is 105 km, should be 45 km, the sum"},
		"credit left out, weight without": {func(r *[]*Record) {
			remove(1, isEntry(ledger.TypeCredit))(r)
			for n := range 20 {
				func() {
					defer func() { _ = recover() }()
					day(n, func(d *Day) {
						if d.Weight == 105 {
							d.Weight = 45
						}
					})(r)
				}()
			}
		}, "does not weigh the account with its 45 km"},
		"credit twice":        {func(r *[]*Record) { i := find(*r, 1, isEntry(ledger.TypeCredit)); *r = slices.Insert(*r, i, (*r)[i]) }, "does not follow entry"},
		"weight one km short": {day(0, func(d *Day) { d.Weight-- }), "should be 40 km"},
		"day left out":        {remove(0, isDay), "has no path, but 40 km count on it"},
		"day without weight": {func(r *[]*Record) {
			d := *(*r)[find(*r, 0, isDay)].Day
			d.Day, d.Weight = 3, 0
			*r = slices.Insert(*r, find(*r, 0, isBlock), &Record{Day: &d})
		}, "day 3 has a path, but no credit counts on it"},
		"day twice":                      {func(r *[]*Record) { i := find(*r, 0, isDay); *r = slices.Insert(*r, i, (*r)[i]) }, "without a block"},
		"day within a day":               {func(r *[]*Record) { i := find(*r, 0, isDay); *r = slices.Insert(*r, i+2, (*r)[i]) }, "stands within day"},
		"another day's path":             {day(1, func(d *Day) { d.Path = (*find2(good, 2)).Path }), "does not weigh the account"},
		"path with another index":        {day(1, func(d *Day) { d.Path.Index ^= 1 }), "does not weigh the account"},
		"path with another sum":          {day(1, func(d *Day) { d.Path.Steps[0].Sum++ }), "does not weigh the account"},
		"path swapped":                   {day(1, func(d *Day) { slices.Reverse(d.Path.Steps) }), "does not weigh the account"},
		"share one unit short":           {block(6, func(b *Block) { b.Units-- }), "the account's share is"},
		"share one unit more":            {block(6, func(b *Block) { b.Units++ }), "the account's share is"},
		"block left out":                 {remove(4, isBlock), "should be of drop 4: none is left out"},
		"first block left out":           {remove(0, isBlock), "should be of drop 0"},
		"last block left out":            {func(r *[]*Record) { *r = slices.Delete(*r, len(*r)-2, len(*r)-1) }, "it ends before the block of drop"},
		"block twice":                    {func(r *[]*Record) { i := find(*r, 4, isBlock); *r = slices.Insert(*r, i, (*r)[i]) }, "should be of drop 5"},
		"another block":                  {block(5, func(b *Block) { b.Payload = reblock(b.Payload, func(b *ledger.Block) { b.Withheld = []byte{9} }) }), "validators with a proof and without"},
		"false seed":                     {block(4, func(b *Block) { b.Payload = reblock(b.Payload, func(b *ledger.Block) { b.Seed[0] ^= 1 }) }), "seed is"},
		"forged VRF proof":               {block(4, func(b *Block) { b.Payload = reblock(b.Payload, func(b *ledger.Block) { b.Proofs[1].Proof[40] ^= 1 }) }), "VRF proof of validator"},
		"one VRF proof omitted":          {block(5, func(b *Block) { b.Payload = reblock(b.Payload, func(b *ledger.Block) { b.Proofs = b.Proofs[:2] }) }), "should be the day's [0 1 2]"},
		"block changed on the way":       {block(4, func(b *Block) { b.Payload = reblock(b.Payload, func(b *ledger.Block) { b.CreditFrom = 3 }) }), "hash of the previous block is"},
		"last block changed":             {block(len(w.statementBlocks())-1, func(b *Block) { b.Payload = reblock(b.Payload, func(b *ledger.Block) { b.LogRoot[0] ^= 1 }) }), "it ends before the block"},
		"another account":                {opening(func(o *Opening) { o.Account = "ben" }), `of account "ben"`},
		"another secret":                 {opening(func(o *Opening) { o.Secret[0] ^= 1 }), "does not weigh the account"},
		"program of another root":        {opening(func(o *Opening) { o.Program = must(terms.SealProgram(w.policy, w.program)) }), "cannot"},
		"later beginning without a base": {opening(func(o *Opening) { o.From = 1 }), "stands before the block that the statement is based on"},
		"quorum missing":                 {opening(sealed(func(s *ledger.Sealed) { s.Cosignatures = s.Cosignatures[:1] })), "should be at least 2"},
		"cosignature forged":             {opening(sealed(func(s *ledger.Sealed) { s.Cosignatures[1].Signature[3] ^= 1 })), "does not match"},
		"older newest block":             {opening(func(o *Opening) { o.Newest = older }), "not in the tree"},
		"entry of another's path":        {entry(1, ledger.TypeCredit, func(e *Entry) { e.Path[0][0] ^= 1 }), "it is not in the tree of the newest block"},
		"entry with more kilometres": {entry(1, ledger.TypeCredit, func(e *Entry) {
			x := must(ledger.DecodeEntry(e.Entry))
			c := must(x.Credit())
			c.Km++
			x.Body = must(codec.Encode(&c))
			e.Entry = must(x.Encode())
		}), "it is not in the tree of the newest block"},
		"another salt": {entry(0, ledger.TypeCredit, func(e *Entry) {
			var o ledger.CreditOpening
			if err := codec.Decode(e.Opening, &o, 1000); err != nil {
				panic(err)
			}
			o.Salt[0] ^= 1
			e.Opening = must(codec.Encode(&o))
		}), "its opening's is"},
		"opening of another type":     {entry(0, ledger.TypeCredit, func(e *Entry) { e.Opening = []byte{0xa0} }), "cannot decode"},
		"binding left out":            {remove(0, isEntry(ledger.TypeBinding)), "is not bound to the account"},
		"key of the account left out": {remove(0, isEntry(ledger.TypeAccount)), "cannot"},
		"offers left out":             {remove(0, isEntry(ledger.TypeOffers)), "no offers are in force"},
		"grant left out":              {remove(0, isEntry(ledger.TypeGrant)), "cannot spend crystals"},
		"box left out":                {remove(0, isEntry(ledger.TypeBox)), "should be"},
		"policy left out":             {remove(0, func(r *Record) bool { return r.Document != nil }), "chain of policies is"},
		"document of no chain":        {func(r *[]*Record) { *r = slices.Insert(*r, 1, &Record{Document: &Document{ledger.TypeOffers, nil}}) }, "no document that blocks chain"},
		"balance one milli short":     {end(func(c *Close) { c.Milli-- }), "balance is"},
		"balance one crystal short":   {end(func(c *Close) { c.Crystals-- }), "crystals, should be"},
		"no end":                      {func(r *[]*Record) { *r = (*r)[:len(*r)-1] }, "it ends early"},
		"two ends":                    {func(r *[]*Record) { *r = append(*r, (*r)[len(*r)-1]) }, "follows its end"},
		"two openings":                {func(r *[]*Record) { *r = slices.Insert(*r, 1, (*r)[0]) }, "must open once"},
		"no opening":                  {func(r *[]*Record) { *r = (*r)[1:] }, "must open once"},
		"entry after its block": {func(r *[]*Record) {
			i := find(*r, 2, isEntry(ledger.TypeCredit))
			e := (*r)[i]
			*r = slices.Insert(slices.Delete(*r, i, i+1), find(*r, 4, isBlock)+1, e)
		}, "stands after the block of drop"},
		"entry before its block": {func(r *[]*Record) {
			i := find(*r, 1, isEntry(ledger.TypeCredit))
			e := (*r)[i]
			*r = slices.Insert(slices.Delete(*r, i, i+1), find(*r, 2, isBlock), e)
		}, "whose checkpoint covers"},
	} {
		records := slices.Clone(good)
		c.forge(&records)
		if _, _, err := w.verify(records, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func find2(records []*Record, n int) *Day { return records[find(records, n, isDay)].Day }

func (w *world) statementBlocks() (blocks []*ledger.Block) {
	for _, s := range w.steps {
		if s.block != nil {
			blocks = append(blocks, s.block)
		}
	}
	return blocks
}

// reblock changes a block's payload.
func reblock(payload []byte, change func(*ledger.Block)) []byte {
	b := must(ledger.DecodeBlock(payload))
	change(b)
	return must(ledger.EncodePayload(b))
}

// TestLyingLedger: an operator who holds every validator's key writes a log that is wrong, and the statement says what it says.
func TestLyingLedger(t *testing.T) {
	only := func(drop uint64, change func(*ledger.Block)) func(*world) {
		return func(w *world) {
			w.lie = func(b *ledger.Block) {
				if b.Drop == drop {
					change(b)
				}
			}
		}
	}
	after := func(drop uint64, change func(*ledger.Block)) func(*world) {
		return func(w *world) {
			w.lieAfter = func(b *ledger.Block) {
				if b.Drop == drop {
					change(b)
				}
			}
		}
	}
	for name, c := range map[string]struct {
		lie  func(*world)
		want string
	}{
		"credit missing in a day's weight": {func(w *world) {
			w.forget = func(account string) uint64 {
				if account == anna {
					return 1
				}
				return 0
			}
		}, "weight of day 5 is 39 km, should be 40 km, the sum of the account's credits that count"},
		"account missing in a day": {func(w *world) {
			w.forget = func(account string) uint64 {
				if account == anna {
					return 1000
				}
				return 0
			}
		}, "day 5 has no path, but 40 km count on it"},
		"one unit more for a drop":    {only(5, func(b *ledger.Block) { b.Units++ }), "number of units is"},
		"more supply":                 {only(5, func(b *ledger.Block) { b.Supply += 500 }), "supply is"},
		"more carry":                  {only(5, func(b *ledger.Block) { b.Carry++ }), "carry is"},
		"another height":              {only(5, func(b *ledger.Block) { b.Height++ }), "height is"},
		"another time":                {only(5, func(b *ledger.Block) { b.Time++ }), "time is"},
		"another day":                 {only(5, func(b *ledger.Block) { b.Day++ }), "day is"},
		"another history":             {only(5, func(b *ledger.Block) { b.Previous[0] ^= 1 }), "hash of the previous block is"},
		"policies that nobody sees":   {only(5, func(b *ledger.Block) { b.Policies[0] ^= 1 }), "chain of policies is"},
		"another program":             {only(5, func(b *ledger.Block) { b.Program[0] ^= 1 }), "program is"},
		"a drop skipped":              {func(w *world) { w.lie = func(b *ledger.Block) { b.Drop += b.Drop / 5 } }, "should be of drop 5: none is left out"},
		"checkpoint that goes back":   {only(5, func(b *ledger.Block) { b.Size = 5 }), "its checkpoint covers 5 entries"},
		"another root within a day":   {only(5, func(b *ledger.Block) { b.Root[0] ^= 1 }), "weights root of the day is"},
		"more weight within a day":    {only(5, func(b *ledger.Block) { b.Weight++ }), "total weight is"},
		"chosen seed":                 {after(5, func(b *ledger.Block) { b.Seed[0] ^= 1 }), "seed is"},
		"VRF proof of another drop":   {after(5, func(b *ledger.Block) { b.Proofs[0] = validator("validator-0").Prove(0, ledger.DrawAlpha(b.Root, 4)) }), "does not match"},
		"one VRF proof for a seed":    {after(4, func(b *ledger.Block) { b.Proofs = b.Proofs[:1] }), "should be at least 2"},
		"pool that is promised twice": {after(5, func(b *ledger.Block) { b.Reserved = reward.CultivatedSupply - b.Cultivated + 1 }), "are reserved"},
		"pool beyond its supply":      {after(5, func(b *ledger.Block) { b.Cultivated = reward.CultivatedSupply + 1 }), "were cultivated"},
		"redeemed beyond the supply":  {func(w *world) { w.lieAfter = func(b *ledger.Block) { b.Redeemed = b.Supply + b.Cultivated + b.Drop/5 } }, "were redeemed, should be from"},
		"box that is not opened": {func(w *world) {
			w.lieAfter = func(b *ledger.Block) { b.Boxes = 0 }
		}, "it opens 0 boxes"},
	} {
		w := newWorld(t, timing)
		c.lie(w)
		relive(w)
		if _, _, err := w.verify(w.statement(0, false), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

func relive(w *world) {
	w.document(ledger.TypePolicy, []byte("policy"))
	w.announce(1, w.today()+14)
	w.bind()
	w.change(0)
	w.credit(40)
	w.others(5, 20)
	w.blocks(8)
	w.until(w.today() + 13)
	w.grant(30)
	w.box(1, true)
	w.blocks(3)
}

// TestEntriesAgainstTheRules: entries that are in the log and may not be.
func TestEntriesAgainstTheRules(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(*world)
		want string
	}{
		"another's credit": {func(w *world) {
			o := &ledger.CreditOpening{Account: "ben", ECU: w.ecu.ID(), ToSeq: 9, Kind: terms.KindMileage}
			w.own(ledger.TypeCredit, ledger.Credit{Blind: must(o.Blind()), Km: 3, Effective: w.today() + 1}, o)
		}, "it is another account's"},
		"kilometres for safety": {func(w *world) {
			o := &ledger.CreditOpening{Account: anna, ECU: w.ecu.ID(), ToSeq: 9, Kind: terms.KindSafe}
			w.own(ledger.TypeCredit, ledger.Credit{Blind: must(o.Blind()), Km: 3, Effective: w.today() + 1}, o)
		}, "should be 0"},
		"credit that counts at once": {func(w *world) {
			o := &ledger.CreditOpening{Account: anna, ECU: w.ecu.ID(), ToSeq: 9, Kind: terms.KindMileage}
			w.own(ledger.TypeCredit, ledger.Credit{Blind: must(o.Blind()), Km: 3, Effective: w.today() - 1}, o)
		}, "takes effect on day"},
		"credit after the hand-over": {func(w *world) { w.handover(); w.credit(3) }, "is not bound to the account"},
		"second binding":             {func(w *world) { w.bind() }, "is bound already"},
		"fewer crystals":             {func(w *world) { w.grant(29) }, "should be 30"},
		"grant of tomorrow": {func(w *world) {
			o := &account.GrantOpening{Account: anna, Task: "survey"}
			w.own(ledger.TypeGrant, account.Grant{Blind: must(o.Blind()), Crystals: 30, Day: w.today() + 1}, o)
		}, "should be of day"},
		"grant of the day before yesterday": {func(w *world) {
			o := &account.GrantOpening{Account: anna, Task: "survey"}
			w.own(ledger.TypeGrant, account.Grant{Blind: must(o.Blind()), Crystals: 30, Day: w.today() - 2}, o)
		}, "should be of day"},
		"another's grant": {func(w *world) {
			o := &account.GrantOpening{Account: "ben", Task: "survey"}
			w.own(ledger.TypeGrant, account.Grant{Blind: must(o.Blind()), Crystals: 30, Day: w.today()}, o)
		}, "it is another account's"},
		"box for one without a car": {func(w *world) { w.grant(30); w.box(9, false) }, "should say true"},
		"box for one with a car":    {func(w *world) { w.grant(30); w.handover(); w.box(9, true) }, "should say false"},
		"request twice":             {func(w *world) { w.grant(30); w.box(9, true); w.box(9, true) }, "a second time"},
		"request twice, later": {func(w *world) {
			w.grant(30)
			w.box(9, true)
			var o account.RequestOpening
			if err := codec.Decode(w.steps[len(w.steps)-1].record.Entry.Opening, &o, 1000); err != nil {
				panic(err)
			}
			w.blocks(2)
			o.Salt[0] ^= 1
			w.own(ledger.TypeBox, account.Box{Blind: must(o.Blind()), Day: w.today(), Offers: 1, Box: "small", Owner: true}, &o)
		}, "a second time"},
		"box that was not asked for": {func(w *world) {
			w.grant(30)
			r := must(account.SealBoxRequest(w.owner, &account.BoxRequest{Program: w.id, Account: anna, Nonce: [16]byte{7}, Offers: 1, Box: "large", Until: 99}))
			o := &account.RequestOpening{Account: anna, Request: r}
			w.own(ledger.TypeBox, account.Box{Blind: must(o.Blind()), Day: w.today(), Offers: 1, Box: "small", Owner: true}, o)
		}, "as was asked"},
		"box after its request's last day": {func(w *world) {
			w.grant(30)
			r := must(account.SealBoxRequest(w.owner, &account.BoxRequest{Program: w.id, Account: anna, Nonce: [16]byte{7}, Offers: 1, Box: "small", Until: w.today() - 1}))
			o := &account.RequestOpening{Account: anna, Request: r}
			w.own(ledger.TypeBox, account.Box{Blind: must(o.Blind()), Day: w.today(), Offers: 1, Box: "small", Owner: true}, o)
		}, "its request is good until day"},
		"redemption after its request's last day": {func(w *world) {
			r := must(account.SealRedemptionRequest(w.owner, &account.RedemptionRequest{Program: w.id, Account: anna, Nonce: [16]byte{7}, Offers: 1, Item: "mug", Milli: 2500, Fen: 100, Until: w.today() - 1}))
			o := &account.RequestOpening{Account: anna, Request: r}
			w.own(ledger.TypeRedemption, account.Redemption{Blind: must(o.Blind()), Day: w.today(), Milli: 2500}, o)
		}, "its request is good until day"},
		"activation long ago": {func(w *world) { w.change(w.today() - 2) }, "should be from"},
		"redemption by other offers": {func(w *world) {
			r := must(account.SealRedemptionRequest(w.owner, &account.RedemptionRequest{Program: w.id, Account: anna, Nonce: [16]byte{7}, Offers: 2, Item: "mug", Milli: 2500, Fen: 100, Until: 99}))
			o := &account.RequestOpening{Account: anna, Request: r}
			w.own(ledger.TypeRedemption, account.Redemption{Blind: must(o.Blind()), Day: w.today(), Milli: 2500}, o)
		}, "which is not in offers 1"},
		"higher price":            {func(w *world) { w.redeem(9, 2501) }, "redemption takes 2501"},
		"redemption too early":    {func(w *world) { w.redeem(9, 2500) }, "activated on day"},
		"request of another key":  {func(w *world) { w.grant(30); w.owner = w.policy; w.box(9, true) }, "cannot"},
		"offers without notice":   {func(w *world) { w.announce(2, w.today()+13) }, "at the earliest"},
		"offers of an old serial": {func(w *world) { w.announce(1, w.today()+20) }, "should be above 1"},
		"activation moved":        {func(w *world) { w.change(w.today()); w.change(w.today() + 1) }, "should stay so"},
	} {
		w := newWorld(t, timing)
		relive(w)
		c.lie(w)
		w.blocks(2)
		if _, _, err := w.verify(w.statement(0, false), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

// TestWithheld: who gives no proof is out until the next day, unless a second of three falls out.
func TestWithheld(t *testing.T) {
	for name, c := range map[string]struct {
		out  func(uint64) int
		want string
	}{
		"a day":            {func(drop uint64) int { return map[bool]int{true: 1, false: -1}[drop == 4 || drop == 5] }, ""},
		"back":             {func(drop uint64) int { return map[bool]int{true: 1, false: -1}[drop == 4] }, "should be out until the next day"},
		"too few are left": {func(drop uint64) int { return map[uint64]int{4: 1, 5: 2}[drop] - 1 }, ""},
		"in the end":       {func(drop uint64) int { return map[bool]int{true: 1, false: -1}[drop == 5] }, ""},
	} {
		w := newWorld(t, timing)
		w.out = c.out
		w.bind()
		w.credit(40)
		w.blocks(8)
		if _, _, err := w.verify(w.statement(0, false), nil); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", name, err, c.want)
		}
	}
}

// TestWitness: validators change by a change that the root signed and the blocks chain, and not otherwise.
func TestWitness(t *testing.T) {
	made := func(change func(*ledger.Witness)) *world {
		w := newWorld(t, timing)
		w.document(ledger.TypePolicy, []byte("policy"))
		w.bind()
		w.credit(40)
		w.others(2, 5)
		w.blocks(3)
		c := &ledger.Witness{Version: wire.Version, Program: w.id, Serial: 1, FromDay: w.today() + 1}
		var keys []*ledger.ValidatorKey
		for _, name := range []string{"new-0", "new-1", "new-2"} {
			keys = append(keys, validator(name))
			c.Validators = append(c.Validators, validator(name).Public())
		}
		change(c)
		w.document(ledger.TypeWitness, must(ledger.SealWitness(w.root, c)))
		w.until(c.FromDay)
		w.validators = keys
		w.blocks(4)
		return w
	}
	w := made(func(*ledger.Witness) {})
	if _, _, err := w.verify(w.statement(0, false), nil); err != nil {
		t.Fatal(err)
	}
	records := w.statement(0, false)
	i := find(records, 1, func(r *Record) bool { return r.Document != nil })
	if _, _, err := w.verify(slices.Delete(records, i, i+1), nil); err == nil || !strings.Contains(err.Error(), "chain of policies") {
		t.Errorf("a change left out: %v", err)
	}
	w = made(func(c *ledger.Witness) { c.FromDay-- })
	if _, _, err := w.verify(w.statement(0, false), nil); err == nil || !strings.Contains(err.Error(), "at the earliest") {
		t.Errorf("a change without notice: %v", err)
	}
}
