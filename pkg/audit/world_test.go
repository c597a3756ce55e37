package audit

import (
	"crypto/ecdsa"
	"strings"
	"testing"

	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// A world is an author beside a stranger who replays the same log, and the keys of accounts.
type world struct {
	*author
	public *Replay
	keys   map[string]*ecdsa.PrivateKey
}

func newWorld(t testing.TB, validators int, quorum uint8) *world {
	t.Helper()
	return newWorldOn(t, validators, quorum, timing)
}

func newWorldOn(t testing.TB, validators int, quorum uint8, timing terms.Timing) *world {
	t.Helper()
	w := &world{author: newAuthorOn(t, validators, quorum, timing), keys: make(map[string]*ecdsa.PrivateKey)}
	var err error
	w.public, err = NewReplay(w.rootKey(), nil)
	w.must(err)
	w.meet()
	return w
}

// meet shows the stranger what the author has written since.
func (w *world) meet() {
	w.t.Helper()
	for w.public.Next() < w.replay.Next() {
		w.must(w.public.Apply(w.entries[w.public.Next()]))
	}
}

// accept has both replays take an entry.
func (w *world) accept(e *ledger.Entry) {
	w.t.Helper()
	w.append(e)
	w.meet()
}

// jump leaves out the drops until a day, as no log may, for tests that need what lies far apart and nothing in between.
func (w *world) jump(day uint32) {
	w.meet()
	for _, r := range []*Replay{w.replay, w.public} {
		for ; r.today() < day; r.drop++ {
			r.leaves, r.day = nil, nil
		}
	}
}

// block seals the next block, whose payload a lie may change, with what comes before it.
func (w *world) block() *ledger.Block {
	w.t.Helper()
	w.until(ledger.TypeBlock, w.replay.Due().Drop)
	b := w.nextBlock()
	payload, err := ledger.EncodePayload(b)
	w.must(err)
	w.append(w.seal(ledger.TypeBlock, payload, w.all()...))
	w.pay(b)
	w.meet()
	return b
}

// A lie is an entry that is refused; public says that a stranger refuses it too.
type lie struct {
	name   string
	public bool
	entry  func() *ledger.Entry
	want   string
}

func (w *world) refuse(t *testing.T, lies ...lie) {
	t.Helper()
	w.meet()
	for _, l := range lies {
		e := l.entry()
		before := w.replay.Report().String()
		if err := w.replay.Apply(e); err == nil || !strings.Contains(err.Error(), l.want) {
			t.Errorf("%s: got %v, want %s", l.name, err, l.want)
		}
		if after := w.replay.Report().String(); after != before || w.replay.Next() != e.Number {
			t.Errorf("%s: refused, and changed the replay from %s to %s", l.name, before, after)
		}
		if _, err := w.public.entry(e); (err == nil) == l.public {
			t.Errorf("%s: a stranger's answer is %v", l.name, err)
		}
	}
}

// assist is what offers call the task that the use of a feature proves.
func assist(serial uint16) string { return []string{"assist", "helped"}[min(serial-1, 1)] }

// offers are tasks, boxes and goods; a later serial asks more for the mug, and has another name for the use of the same feature.
func (w *world) offers(serial uint16, from uint32) *cultivation.Offers {
	const all = cultivation.Certain
	return &cultivation.Offers{Version: wire.Version, Program: w.programID, Serial: serial, FromDay: from,
		Tasks: []cultivation.Task{
			{ID: "walk", Title: "Walk", Crystals: 10, Daily: 30, Total: 70},
			{ID: assist(serial), Title: "Assist", Crystals: 25, Daily: 50, Total: 1000, Kind: "feature/assist"},
			{ID: "flood", Title: "Flood", Crystals: uint32(cultivation.MaxCrystals), Daily: uint64(cultivation.MaxCrystals), Total: uint64(cultivation.MaxCrystals)},
		},
		Boxes: []cultivation.OfferedBox{
			{ID: "small", Title: "Small", Cost: 10,
				Owners: []cultivation.Odds{{Parts: 500_000, Prize: cultivation.Prize{Milli: 2000}}, {Parts: 300_000, Prize: cultivation.Prize{Crystals: 7}}, {Parts: 100_000, Prize: cultivation.Prize{Goods: "mug"}}, {Parts: 100_000}},
				Others: []cultivation.Odds{{Parts: 600_000, Prize: cultivation.Prize{Crystals: 7}}, {Parts: 400_000}}},
			{ID: "sure", Title: "Sure", Cost: 5, Owners: []cultivation.Odds{{Parts: all, Prize: cultivation.Prize{Milli: 3000}}}, Others: []cultivation.Odds{{Parts: all, Prize: cultivation.Prize{Crystals: 4}}}},
			{ID: "jackpot", Title: "Jackpot", Cost: 1, Owners: []cultivation.Odds{{Parts: 1, Prize: cultivation.Prize{Milli: reward.CultivatedSupply/2 + 1}}, {Parts: all - 1}}, Others: []cultivation.Odds{{Parts: all}}},
		},
		Catalogue: []cultivation.Item{
			{ID: "mug", Title: "Mug", Milli: 1000 + 1000*uint64(serial), Fen: 990, Limit: 2},
			{ID: "pen", Title: "Pen", Milli: 1, Fen: 0},
			{ID: "house", Title: "House", Milli: reward.Supply},
			{ID: "medal", Title: "Medal"},
		}}
}

func (w *world) sealOffers(o *cultivation.Offers) *ledger.Entry {
	b, err := cultivation.SealOffers(w.policy, o)
	w.must(err)
	return w.entry(ledger.TypeOffers, b)
}

// open makes an account that needs no car, with its key.
func (w *world) open(name string) {
	w.accounts[name] = [32]byte([]byte("secret of somebody named " + name + "       ")[:32])
	w.openings.AddAccount(name, w.accounts[name])
	w.weights[name] = make(map[uint32]uint64)
}

func (w *world) rekey(name string) wire.PublicKey {
	k, pub := newKey(w.t)
	w.keys[name] = k
	return pub
}

func (w *world) publicKey(name string) wire.PublicKey {
	p, err := wire.NewPublicKey(w.keys[name].Public())
	w.must(err)
	return p
}

// change returns the entry of the change of an account.
func (w *world) change(name string, key wire.PublicKey, activated uint32) *ledger.Entry {
	o := account.ChangeOpening{Salt: [32]byte{9}, Account: name, Key: key, Activated: activated}
	blind, err := o.Blind()
	w.must(err)
	w.openings.AddChange(w.replay.Next(), o)
	return w.entry(ledger.TypeAccount, w.encode(account.Change{Blind: blind}))
}

// give returns the entry of a grant.
func (w *world) give(name, task string, reference wire.Hash, crystals, day uint32) *ledger.Entry {
	o := account.GrantOpening{Salt: [32]byte{10}, Account: name, Task: task, Reference: reference}
	blind, err := o.Blind()
	w.must(err)
	w.openings.AddGrant(w.replay.Next(), o)
	return w.entry(ledger.TypeGrant, w.encode(account.Grant{Blind: blind, Crystals: crystals, Day: day}))
}

// feature credits the use of a feature and returns the credit's blind.
func (w *world) feature(name, kind string) wire.Hash {
	o := w.opening(name)
	o.Kind = kind
	e := w.creditEntry(o, 0, w.replay.today())
	w.accept(e)
	c, err := e.Credit()
	w.must(err)
	return c.Blind
}

// A purchase is a request for a box or an item and the entry that says so.
type purchase struct {
	program wire.Hash
	account string // the request's
	opened  string // the opening's, account when empty
	key     *ecdsa.PrivateKey
	nonce   byte
	offers  uint16 // the request's
	entered uint16 // the entry's, that of the request when zero
	name    string // of box or item in the request
	given   string // the box of the entry, that of the request when empty
	day     uint32
	until   uint32 // that day when zero
	owner   bool
	milli   uint64 // of the request
	used    uint64 // of the entry, that of the request when zero
	fen     uint64
	typ     ledger.Type // of the request, which other than the entry's is a lie
}

func (w *world) purchase(name, box string) purchase {
	return purchase{program: w.programID, account: name, key: w.keys[name], offers: 1, name: box, day: w.replay.today()}
}

func (w *world) request(p purchase) []byte {
	var b []byte
	var err error
	nonce := [16]byte{p.nonce, 1}
	if p.until == 0 {
		p.until = max(1, min(p.day, account.MaxUntil))
	}
	if p.typ == ledger.TypeBox {
		b, err = account.SealBoxRequest(p.key, &account.BoxRequest{Program: p.program, Account: p.account, Nonce: nonce, Offers: p.offers, Box: p.name, Until: p.until})
	} else {
		b, err = account.SealRedemptionRequest(p.key, &account.RedemptionRequest{Program: p.program, Account: p.account, Nonce: nonce, Offers: p.offers, Item: p.name, Milli: p.milli, Fen: p.fen, Until: p.until})
	}
	w.must(err)
	return b
}

func (w *world) hide(p purchase) wire.Hash {
	o := account.RequestOpening{Salt: [32]byte{11}, Account: p.account, Request: w.request(p)}
	if p.opened != "" {
		o.Account = p.opened
	}
	blind, err := o.Blind()
	w.must(err)
	w.openings.AddRequest(w.replay.Next(), o)
	return blind
}

// box returns the entry of a box.
func (w *world) box(p purchase) *ledger.Entry {
	if p.typ == 0 {
		p.typ = ledger.TypeBox
	}
	b := account.Box{Blind: w.hide(p), Day: p.day, Offers: p.entered, Box: p.given, Owner: p.owner}
	if b.Offers == 0 {
		b.Offers = p.offers
	}
	if b.Box == "" {
		b.Box = p.name
	}
	return w.entry(ledger.TypeBox, w.encode(b))
}

// redeem returns the entry of a redemption.
func (w *world) redeem(p purchase) *ledger.Entry {
	if p.typ == 0 {
		p.typ = ledger.TypeRedemption
	}
	r := account.Redemption{Blind: w.hide(p), Day: p.day, Milli: p.used}
	if r.Milli == 0 {
		r.Milli = p.milli
	}
	return w.entry(ledger.TypeRedemption, w.encode(r))
}

// witness returns a change of the validators to those of the keys.
func (w *world) witness(serial uint16, from uint32, keys ...*ledger.ValidatorKey) *ledger.Witness {
	c := &ledger.Witness{Version: wire.Version, Program: w.programID, Serial: serial, FromDay: from}
	for _, k := range keys {
		c.Validators = append(c.Validators, k.Public())
	}
	return c
}

func (w *world) sealWitness(c *ledger.Witness) *ledger.Entry {
	b, err := ledger.SealWitness(w.root, c)
	w.must(err)
	return w.entry(ledger.TypeWitness, b)
}

func (w *world) validator(name string) *ledger.ValidatorKey {
	k, err := ledger.GenerateValidatorKey(name)
	w.must(err)
	return k
}
