package estate_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/collector/internal/answer"
	"rawstone/collector/internal/database"
	"rawstone/collector/internal/database/postgrestest"
	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/firewall"
	"rawstone/collector/internal/history"
	"rawstone/collector/internal/store"
	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

var server postgrestest.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

const every = store.Ingest | store.Settle | store.Web | store.Audit | store.Admin | store.Account

// A desk is records with a program, whose drops the test makes up.
type desk struct {
	t      *testing.T
	db     *store.DB // for every role
	asked  *store.DB // for the role account alone
	admin  *store.DB // for the role admin alone
	rules  estate.Rules
	policy *ecdsa.PrivateKey
	key    *ecdsa.PrivateKey // of account A
	drop   uint64            // the next
	seq    uint64
}

// engines runs a test with new records on each engine.
func engines(t *testing.T, test func(*desk)) {
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "records.db")
		test(newDesk(t, func(r store.Role) store.Config { return store.Config{Path: path, Role: r} }))
	})
	t.Run("postgres", func(t *testing.T) {
		pg := server.New(t, firewall.Owner)
		if err := store.Migrate(t.Context(), pg.URL()); err != nil {
			t.Fatal(err)
		}
		var logins []string
		for _, role := range every.Each() {
			logins = append(logins, role.Login())
		}
		pg.Join(t, every.Login(), logins...)
		test(newDesk(t, func(r store.Role) store.Config { return store.Config{URL: pg.URL(), Role: r} }))
	})
}

func newKey(t *testing.T) (*ecdsa.PrivateKey, wire.PublicKey) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := wire.NewPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k, p
}

// newDesk makes accounts A, which has a car and a key, and B, which has neither. Days have two drops.
func newDesk(t *testing.T, config func(store.Role) store.Config) *desk {
	t.Helper()
	d := &desk{t: t}
	open := func(r store.Role) *store.DB {
		db, err := store.Open(t.Context(), config(r))
		d.must(err)
		t.Cleanup(func() { db.Close() })
		return db
	}
	d.db, d.asked, d.admin = open(every), open(store.Account), open(store.Admin)
	var policy wire.PublicKey
	d.policy, policy = newKey(t)
	d.rules = estate.Rules{ID: wire.Hash{9}, Program: &terms.Program{Timing: terms.Timing{DayS: 20, DropS: 10}, Policy: wire.KeySet{policy}}}
	_, ecu := newKey(t)
	d.update(func(tx *store.Tx) error {
		return errors.Join(tx.AddAccount(t.Context(), "A"), tx.AddAccount(t.Context(), "B"),
			tx.AddVehicle(t.Context(), store.Vehicle{ID: "V", Account: "A"}), tx.AddECU(t.Context(), ecu, nil),
			tx.AddBinding(t.Context(), ledger.BindingOpening{Vehicle: "V", Account: "A", ECU: ecu}))
	})
	var key wire.PublicKey
	d.key, key = newKey(t)
	d.must(d.ask(func(e store.Estate) error { _, err := e.Change(t.Context(), "A", &key, false); return err }))
	return d
}

func (d *desk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) update(fn func(*store.Tx) error) {
	d.t.Helper()
	d.must(d.db.Update(d.t.Context(), fn))
}

// ask runs fn as the API does.
func (d *desk) ask(fn func(store.Estate) error) error {
	return d.asked.Update(d.t.Context(), func(tx *store.Tx) error { return fn(tx.Estate(d.rules)) })
}

// is checks an error's sentinel.
func (d *desk) is(err, want error) {
	d.t.Helper()
	if !errors.Is(err, want) {
		d.t.Errorf("error is %v, want %v", err, want)
	}
}

// offer numbers offers from a day on.
func (d *desk) offer(o *cultivation.Offers) {
	d.t.Helper()
	o.Version, o.Program = wire.Version, d.rules.ID
	b, err := cultivation.SealOffers(d.policy, o)
	d.must(err)
	d.update(func(tx *store.Tx) error {
		id, err := tx.AddEntry(d.t.Context(), ledger.TypeOffers, b)
		if err != nil {
			return err
		}
		return tx.NumberEntry(d.t.Context(), id)
	})
}

// offers are some from day 0 on.
func offers() *cultivation.Offers {
	certain := func(p cultivation.Prize) []cultivation.Odds {
		return []cultivation.Odds{{Parts: cultivation.Certain, Prize: p}}
	}
	none := certain(cultivation.Prize{})
	return &cultivation.Offers{Serial: 1, Tasks: []cultivation.Task{
		{ID: "survey", Title: "s", Crystals: 100, Daily: 200, Total: 1 << 31}, {ID: "rich", Title: "r", Crystals: 1<<32 - 1, Daily: 1<<32 - 1, Total: 1<<32 - 1},
		{ID: "assist", Title: "a", Crystals: 3, Daily: 100, Total: 100, Kind: "feature/assist"},
	}, Boxes: []cultivation.OfferedBox{
		{ID: "stones", Title: "b", Cost: 5, Owners: certain(cultivation.Prize{Milli: 700}), Others: certain(cultivation.Prize{Goods: "mug"})},
		{ID: "back", Title: "b", Cost: 51, Owners: certain(cultivation.Prize{Crystals: 50}), Others: none},
		{ID: "luck", Title: "b", Cost: 2, Owners: []cultivation.Odds{{Parts: cultivation.Certain / 100, Prize: cultivation.Prize{Crystals: 150}}, {Parts: cultivation.Certain / 100 * 99}}, Others: none},
		{ID: "pool", Title: "b", Cost: 1, Owners: certain(cultivation.Prize{Milli: reward.CultivatedSupply}), Others: none},
	}, Catalogue: []cultivation.Item{{ID: "mug", Title: "m"}, {ID: "wash", Title: "w", Milli: 300, Fen: 7, Limit: 2}, {ID: "car", Title: "c", Milli: 1 << 36}}}
}

// block numbers what waits and then the block of the next drop, as the settler does, with the given sum for the pool.
func (d *desk) block(cultivated uint64) error {
	d.t.Helper()
	b := &ledger.Block{Drop: d.drop, Seed: wire.Hash{byte(d.drop)}, Proofs: []ledger.Proof{{}}, Cultivated: cultivated}
	payload, err := ledger.EncodePayload(b)
	d.must(err)
	body, err := (&ledger.Sealed{Payload: payload, Cosignatures: []ledger.Cosignature{{}}}).Encode()
	d.must(err)
	err = d.db.Update(d.t.Context(), func(tx *store.Tx) error {
		if err := tx.NumberEntries(d.t.Context(), 10000); err != nil {
			return err
		}
		n, err := tx.NextNumber(d.t.Context())
		if err != nil {
			return err
		}
		id, err := tx.AddEntry(d.t.Context(), ledger.TypeBlock, body)
		if err != nil {
			return err
		}
		return errors.Join(tx.NumberEntry(d.t.Context(), id), tx.OpenBoxes(d.t.Context(), d.rules.Program, d.rules.ID, b, n))
	})
	if err == nil {
		d.drop++
	}
	return err
}

func (d *desk) grant(id, task string, reference byte) (g estate.Granted, err error) {
	return g, d.ask(func(e store.Estate) (err error) {
		g, err = e.Grant(d.t.Context(), estate.GrantRequest{Account: id, Task: task, Reference: wire.Hash{reference}})
		return err
	})
}

func (d *desk) profile(id string) (p estate.Profile) {
	d.t.Helper()
	d.must(d.asked.View(d.t.Context(), func(tx *store.Tx) (err error) {
		p, err = tx.Estate(d.rules).Profile(d.t.Context(), id)
		return err
	}))
	return p
}

func (d *desk) boxRequest(box string) []byte { return d.boxOf(1, box) }

func (d *desk) boxOf(serial uint16, box string) []byte {
	d.t.Helper()
	r := &account.BoxRequest{Program: d.rules.ID, Account: "A", Offers: serial, Box: box, Until: max(1, uint32(d.drop/2))}
	rand.Read(r.Nonce[:])
	b, err := account.SealBoxRequest(d.key, r)
	d.must(err)
	return b
}

func (d *desk) open(id string, request []byte) (box int64, err error) {
	return box, d.ask(func(e store.Estate) (err error) { box, err = e.OpenBox(d.t.Context(), id, request); return err })
}

func (d *desk) useRequest(item string, milli, fen uint64) []byte {
	d.t.Helper()
	r := &account.RedemptionRequest{Program: d.rules.ID, Account: "A", Offers: 1, Item: item, Milli: milli, Fen: fen, Until: max(1, uint32(d.drop/2))}
	rand.Read(r.Nonce[:])
	b, err := account.SealRedemptionRequest(d.key, r)
	d.must(err)
	return b
}

func (d *desk) redeem(id string, request []byte) (entry int64, err error) {
	return entry, d.ask(func(e store.Estate) (err error) { entry, err = e.Redeem(d.t.Context(), id, request); return err })
}

// entries counts the outbox's entries of a type once all are numbered.
func (d *desk) entries(typ ledger.Type) (n int) {
	d.t.Helper()
	d.update(func(tx *store.Tx) error { return tx.NumberEntries(d.t.Context(), 10000) })
	d.must(d.db.View(d.t.Context(), func(tx *store.Tx) error {
		list, err := tx.LastEntries(d.t.Context(), typ, 10000)
		n = len(list)
		return err
	}))
	return n
}

func (d *desk) pool() (p cultivation.Pool) {
	d.t.Helper()
	d.must(d.asked.View(d.t.Context(), func(tx *store.Tx) (err error) { p, err = tx.Estate(d.rules).Pool(d.t.Context()); return err }))
	return p
}

func TestChange(t *testing.T) { engines(t, testChange) }

func testChange(d *desk) {
	ctx := d.t.Context()
	change := func(id string, key *wire.PublicKey, activate bool) (p estate.Profile, err error) {
		return p, d.ask(func(e store.Estate) (err error) { p, err = e.Change(ctx, id, key, activate); return err })
	}
	_, err := change("C", nil, true)
	d.is(err, estate.ErrNoAccount)
	_, err = change("B", nil, true)
	d.is(err, estate.ErrNoKey)
	_, err = change("B", &wire.PublicKey{5}, false)
	d.is(err, estate.ErrKey)
	own := d.profile("A")
	if !own.Owner || own.Activated != 0 || own.Key == (wire.PublicKey{}) {
		d.t.Errorf("%+v", own)
	}
	p, err := change("A", nil, true)
	d.must(err)
	if p.Activated != 1 { // day 0 is written as 1
		d.t.Errorf("activated on day %d", p.Activated)
	}
	for range 5 {
		d.must(d.block(0))
	}
	again, err := change("A", &own.Key, true)
	if d.must(err); again != p {
		d.t.Error(cmp.Diff(p, again))
	}
	if n := d.entries(ledger.TypeAccount); n != 2 {
		d.t.Errorf("%d changes are logged, want 2: the first key, the activation", n)
	}
	_, other := newKey(d.t)
	p, err = change("B", &other, true)
	if d.must(err); p.Activated != 2 || p.Owner || p.Key != other { // the next drop is number 5
		d.t.Errorf("%+v", p)
	}
	p, err = change("A", &other, false)
	if d.must(err); p.Key != other || p.Activated != 1 {
		d.t.Errorf("%+v", p)
	}
	// Every entry is that of its opening.
	d.entries(ledger.TypeAccount)
	d.must(d.db.View(ctx, func(tx *store.Tx) error {
		all, err := tx.Openings(ctx)
		if err != nil || len(all.Changes) != 4 {
			d.t.Fatalf("%d changes, %v", len(all.Changes), err)
		}
		for _, c := range all.Changes {
			var body account.Change
			blind, err := c.Opening.Blind()
			list, err2 := tx.Entries(ctx, c.Number, 1)
			one, err3 := tx.ChangeOpening(ctx, c.Number)
			if err := errors.Join(err, err2, err3, list[0].DecodeBody(ledger.TypeAccount, &body)); err != nil || body.Blind != blind || one != c.Opening {
				d.t.Errorf("change %d: %v %s %s", c.Number, err, body.Blind, blind)
			}
		}
		return nil
	}))
	open, err := d.open("A", d.boxRequest("stones")) // under the key before
	if d.is(err, estate.ErrRequest); open != 0 {
		d.t.Error("opened under the key before")
	}
}

func TestGrant(t *testing.T) { engines(t, testGrant) }

func testGrant(d *desk) {
	_, err := d.grant("A", "survey", 1)
	d.is(err, estate.ErrOffers)
	d.offer(offers())
	later := offers()
	later.Serial, later.FromDay, later.Tasks = 2, 1, nil
	d.offer(later)
	_, err = d.grant("C", "survey", 1)
	d.is(err, estate.ErrNoAccount)
	_, err = d.grant("A", "none", 1)
	d.is(err, estate.ErrNoTask)
	_, err = d.grant("A", "survey", 0)
	d.is(err, estate.ErrUnproven)
	g, err := d.grant("A", "survey", 1)
	if d.must(err); g.Crystals != 100 || g.Day != 0 || g.ID == 0 {
		d.t.Errorf("%+v", g)
	}
	again, err := d.grant("A", "survey", 1)
	if d.is(err, estate.ErrSeen); again != g {
		d.t.Error(cmp.Diff(g, again))
	}
	_, err = d.grant("A", "survey", 2)
	d.must(err)
	_, err = d.grant("A", "survey", 3)
	d.is(err, estate.ErrLimit)
	_, err = d.grant("B", "survey", 3)
	d.is(err, estate.ErrNoKey)
	_, err = d.grant("A", "rich", 3)
	d.is(err, estate.ErrFull)
	if p := d.profile("A"); p.Crystals != 200 {
		d.t.Errorf("%+v", p)
	}
	d.must(d.block(0))
	_, err = d.grant("A", "survey", 3) // day 0 still: the next drop is number 1
	d.is(err, estate.ErrLimit)
	d.must(d.block(0))
	_, err = d.grant("A", "survey", 3) // the later offers have no tasks
	d.is(err, estate.ErrNoTask)
	back := offers()
	back.Serial, back.FromDay = 3, 1
	d.offer(back)
	_, err = d.grant("A", "survey", 3)
	d.must(err)
	if n := d.entries(ledger.TypeGrant); n != 3 {
		d.t.Errorf("%d grants are logged", n)
	}
}

// credit adds a credit of a feature to account A.
func (d *desk) credit(kind string) (blind wire.Hash) {
	d.t.Helper()
	ctx := d.t.Context()
	d.update(func(tx *store.Tx) error {
		b, err := tx.OpenBinding(ctx, "V")
		if err != nil {
			return err
		}
		d.seq++
		s := store.Span{ECU: b.ECU.ID(), From: b.Head, To: wire.Head{Seq: d.seq}, Vehicle: "V", Submission: wire.Hash{byte(d.seq)}}
		c := store.Credit{Account: "A", Vehicle: "V", ECU: b.ECU.ID(), ToSeq: d.seq, Policy: 2, Kind: kind, Submission: s.Submission}
		return tx.AddSpan(ctx, s, b.Entry, b.Head.Seq, []store.Credit{c})
	})
	d.entries(ledger.TypeCredit)
	d.must(d.db.View(ctx, func(tx *store.Tx) error {
		list, err := tx.LastEntries(ctx, ledger.TypeCredit, 1)
		if err != nil {
			return err
		}
		c, err := list[0].Credit()
		blind = c.Blind
		return err
	}))
	return blind
}

func TestFeature(t *testing.T) { engines(t, testFeature) }

func testFeature(d *desk) {
	d.offer(offers())
	claim := func(id string, reference wire.Hash) (g estate.Granted, err error) {
		return g, d.ask(func(e store.Estate) (err error) {
			g, err = e.Grant(d.t.Context(), estate.GrantRequest{Account: id, Task: "assist", Reference: reference})
			return err
		})
	}
	_, err := claim("A", wire.Hash{})
	d.is(err, estate.ErrUnproven)
	other := d.credit("feature/other")
	first, second := d.credit("feature/assist"), d.credit("feature/assist")
	_, err = claim("A", other)
	d.is(err, estate.ErrUnproven)
	_, err = claim("B", first)
	d.is(err, estate.ErrNoKey)
	g, err := claim("A", second)
	if d.must(err); g.Reference != second || g.Crystals != 3 {
		d.t.Errorf("%+v", g)
	}
	_, err = claim("A", second)
	d.is(err, estate.ErrSeen)
	g, err = claim("A", wire.Hash{})
	if d.must(err); g.Reference != first {
		d.t.Errorf("%+v", g)
	}
	_, err = claim("A", wire.Hash{})
	d.is(err, estate.ErrUnproven)
}

func TestBox(t *testing.T) { engines(t, testBox) }

func testBox(d *desk) {
	ctx := d.t.Context()
	request := d.boxRequest("stones")
	_, err := d.open("B", request)
	d.is(err, estate.ErrNoKey)
	_, err = d.open("A", request)
	d.is(err, estate.ErrOffers)
	d.offer(offers())
	_, err = d.open("A", request)
	d.is(err, estate.ErrCrystals)
	_, err = d.grant("A", "survey", 1)
	d.must(err)
	_, err = d.open("A", d.boxRequest("none"))
	d.is(err, estate.ErrNoBox)
	_, err = d.open("A", request[1:])
	d.is(err, estate.ErrRequest)
	_, err = d.open("A", d.useRequest("wash", 300, 7))
	d.is(err, estate.ErrRequest)
	first, err := d.open("A", request)
	d.must(err)
	again, err := d.open("A", request)
	if d.is(err, estate.ErrSeen); again != first || d.profile("A").Crystals != 95 {
		d.t.Errorf("box %d again is %d, %d crystals left", first, again, d.profile("A").Crystals)
	}
	_, err = d.open("A", d.boxRequest("pool"))
	if d.is(err, estate.ErrPool); d.profile("A").Crystals != 95 || d.pool().Reserved() != 700 {
		d.t.Errorf("a refused box cost something: %+v %+v", d.profile("A"), d.pool())
	}
	second, err := d.open("A", d.boxRequest("back"))
	d.must(err)
	box := func(id int64) (e history.Event) {
		d.must(d.asked.View(ctx, func(tx *store.Tx) (err error) { e, err = tx.Estate(d.rules).Box(ctx, "A", id); return err }))
		return e
	}
	if e := box(first); e.Opened || e.Number != -1 || e.Name != "stones" || e.Cost != 5 {
		d.t.Errorf("%+v", e)
	}
	d.must(d.block(0)) // which fixes their places
	if box(first).Opened {
		d.t.Error("opened by the block whose seed the asker may know")
	}
	// A block that says something else of the pool opens nothing.
	if err := d.block(699); err == nil || box(first).Opened || d.pool().Reserved() != 700 || d.profile("A").Milli != 0 {
		d.t.Errorf("opened with another sum: %v", err)
	}
	d.must(d.block(700))
	if e := box(first); !e.Opened || e.Milli != 700 || e.Number < 0 || e.Drop != 1 {
		d.t.Errorf("%+v", e)
	}
	if e := box(second); !e.Opened || e.Crystals != 50 || e.Milli != 0 {
		d.t.Errorf("%+v", e)
	}
	if p := d.profile("A"); p.Milli != 700 || p.Crystals != 94 || d.pool().Issued() != 700 || d.pool().Reserved() != 0 {
		d.t.Errorf("%+v %+v", p, d.pool())
	}
	// Once more nothing is opened.
	d.update(func(tx *store.Tx) error {
		return tx.OpenBoxes(ctx, d.rules.Program, d.rules.ID, &ledger.Block{Drop: 9, Cultivated: 5}, 10000)
	})
	d.must(d.block(700))
	if p := d.profile("A"); p.Milli != 700 || p.Crystals != 94 {
		d.t.Errorf("%+v", p)
	}
	var missing error
	d.must(d.asked.View(ctx, func(tx *store.Tx) error { _, missing = tx.Estate(d.rules).Box(ctx, "B", first); return nil }))
	d.is(missing, database.ErrNotFound)
	// What an entry says is what its opening says, which is the owner's request.
	d.must(d.db.View(ctx, func(tx *store.Tx) error {
		list, err := tx.LastEntries(ctx, ledger.TypeBox, 9)
		if err != nil || len(list) != 2 {
			d.t.Fatal(list, err)
		}
		var body account.Box
		o, err := tx.RequestOpening(ctx, list[1].Number)
		blind, err2 := o.Blind()
		if err := errors.Join(err, err2, list[1].DecodeBody(ledger.TypeBox, &body)); err != nil {
			d.t.Fatal(err)
		}
		want := account.Box{Blind: blind, Offers: 1, Box: "stones", Owner: true}
		if body != want || o.Account != "A" || string(o.Request) != string(request) {
			d.t.Error(cmp.Diff(want, body), o)
		}
		return nil
	}))
}

// TestOffersInForce asks under the offers in force, however many others are logged, and opens boxes by those under which they were asked for.
func TestOffersInForce(t *testing.T) { engines(t, testOffersInForce) }

func testOffersInForce(d *desk) {
	d.offer(offers())
	d.must(d.ask(func(e store.Estate) error { _, err := e.Change(d.t.Context(), "A", nil, true); return err }))
	_, err := d.grant("A", "survey", 1)
	d.must(err)
	_, err = d.open("A", d.boxOf(2, "back"))
	d.is(err, estate.ErrOffers)
	_, err = d.open("A", d.boxOf(1, "stones"))
	d.must(err)
	for serial := uint16(2); serial < 40; serial++ {
		o := offers()
		o.Serial, o.FromDay = serial, 1000
		if serial == 2 {
			o.FromDay, o.Boxes = 1, o.Boxes[1:]
		}
		d.offer(o)
	}
	_, err = d.open("A", d.boxOf(1, "back"))
	d.must(err)
	d.must(d.block(700))
	d.must(d.block(700)) // the next drop is of day 1
	if p := d.profile("A"); p.Milli != 700 || p.Crystals != 94 {
		d.t.Errorf("%+v", p)
	}
	_, err = d.open("A", d.boxOf(1, "back"))
	d.is(err, estate.ErrOffers)
	_, err = d.open("A", d.boxOf(2, "back"))
	d.must(err)
	_, err = d.redeem("A", d.useRequest("wash", 300, 7))
	d.is(err, estate.ErrOffers)
}

// TestOthersBox is of an account without a car, which wins goods and no stones.
func TestOthersBox(t *testing.T) { engines(t, testOthersBox) }

func testOthersBox(d *desk) {
	ctx := d.t.Context()
	d.offer(offers())
	own, public := newKey(d.t)
	d.must(d.ask(func(e store.Estate) error { _, err := e.Change(ctx, "B", &public, false); return err }))
	_, err := d.grant("B", "survey", 1)
	d.must(err)
	r := &account.BoxRequest{Program: d.rules.ID, Account: "B", Offers: 1, Box: "stones", Nonce: [16]byte{1}, Until: 1}
	b, err := account.SealBoxRequest(own, r)
	d.must(err)
	_, err = d.open("A", b)
	d.is(err, estate.ErrRequest)
	_, err = d.open("B", b)
	d.must(err)
	if d.pool().Reserved() != 0 {
		d.t.Errorf("%+v", d.pool())
	}
	d.must(d.block(0))
	d.must(d.block(0))
	d.must(d.asked.View(ctx, func(tx *store.Tx) error {
		goods, err := tx.Estate(d.rules).Goods(ctx, "B")
		if len(goods) != 1 || goods[0].Goods != "mug" || goods[0].Milli != 0 {
			d.t.Errorf("%+v", goods)
		}
		return err
	}))
}

// TestFullAccount holds what package estate promises of crystals that come back: whatever is decided between a request and its block, the
// account never has more than the ledger finds.
func TestFullAccount(t *testing.T) { engines(t, testFullAccount) }

func testFullAccount(d *desk) {
	d.offer(offers())
	_, err := d.grant("A", "rich", 1)
	d.must(err)
	const full = 1<<32 - 1
	var first int64
	for range 60 {
		if first, err = d.open("A", d.boxRequest("luck")); err != nil { // costs 2, may give 150
			d.t.Fatal(err)
		}
	}
	d.entries(ledger.TypeBox) // numbered, and wait for their block
	_, err = d.grant("A", "survey", 1)
	d.is(err, estate.ErrFull) // 100 would fit, but for what the boxes may give
	d.must(d.block(0))
	// Spent before the block that opens them, but numbered after it: in the ledger the boxes are opened while the account is full but for 120.
	for range 3 {
		_, err = d.open("A", d.boxRequest("stones"))
		d.must(err)
	}
	luck, err := offers().Box("luck").Box()
	d.must(err)
	b := &ledger.Block{Proofs: []ledger.Proof{{}}}
	d.update(func(tx *store.Tx) error {
		e, err := tx.Estate(d.rules).Box(d.t.Context(), "A", first)
		n, err2 := tx.NextNumber(d.t.Context())
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		for luck.Open(b.Seed, uint64(e.Number), true).Crystals == 0 {
			rand.Read(b.Seed[:])
		}
		return tx.OpenBoxes(d.t.Context(), d.rules.Program, d.rules.ID, b, n)
	})
	if p := d.profile("A"); p.Crystals != full-15 {
		d.t.Errorf("%d crystals, want %d", p.Crystals, full-15)
	}
}

func TestRedeem(t *testing.T) { engines(t, testRedeem) }

func testRedeem(d *desk) {
	ctx := d.t.Context()
	d.offer(offers())
	d.must(d.ask(func(e store.Estate) error { _, err := e.Change(ctx, "A", nil, true); return err }))
	_, err := d.redeem("B", d.useRequest("wash", 300, 7))
	d.is(err, estate.ErrNoKey)
	_, err = d.redeem("A", d.useRequest("wash", 300, 7))
	d.is(err, estate.ErrNotRedeemable)
	for d.drop < 2*91 { // activated on day 1
		_, err = d.redeem("A", d.useRequest("wash", 300, 7))
		d.is(err, estate.ErrNotRedeemable)
		d.must(d.block(0))
	}
	_, err = d.redeem("A", d.useRequest("wash", 300, 7))
	d.is(err, estate.ErrStones)
	d.update(func(tx *store.Tx) error { return tx.Settle(ctx, 0, 5, map[string]uint64{"A": 1000}) })
	for item, want := range map[string]error{"none": estate.ErrNoItem, "mug": estate.ErrNoItem} {
		_, err = d.redeem("A", d.useRequest(item, 300, 7))
		d.is(err, want)
	}
	_, err = d.redeem("A", d.useRequest("wash", 299, 7))
	d.is(err, estate.ErrPrice)
	_, err = d.redeem("A", d.useRequest("wash", 300, 8))
	d.is(err, estate.ErrPrice)
	_, err = d.redeem("A", d.useRequest("car", 1<<36, 0))
	d.is(err, estate.ErrStones)
	_, err = d.redeem("A", d.boxRequest("stones"))
	d.is(err, estate.ErrRequest)
	request := d.useRequest("wash", 300, 7)
	first, err := d.redeem("A", request)
	d.must(err)
	again, err := d.redeem("A", request)
	if d.is(err, estate.ErrSeen); again != first || d.profile("A").Milli != 700 {
		d.t.Errorf("%d, %d, %+v", first, again, d.profile("A"))
	}
	_, err = d.redeem("A", d.useRequest("wash", 300, 7))
	d.must(err)
	_, err = d.redeem("A", d.useRequest("wash", 300, 7))
	d.is(err, estate.ErrLimit)
	if p := d.profile("A"); p.Milli != 400 {
		d.t.Errorf("%+v", p)
	}
	d.entries(ledger.TypeRedemption)
	d.must(d.asked.View(ctx, func(tx *store.Tx) error {
		e, err := tx.Estate(d.rules).Redemption(ctx, "A", first)
		if e.Milli != 300 || e.Fen != 7 || e.Day != 91 || e.Name != "wash" || e.Number < 0 || string(e.Request) != string(request) {
			d.t.Errorf("%+v", e)
		}
		return err
	}))
}

// TestAtOnce has a thousand spend one balance: exactly as many succeed as it allows.
func TestAtOnce(t *testing.T) { engines(t, testAtOnce) }

func testAtOnce(d *desk) {
	d.offer(offers())
	for i := range byte(2) {
		_, err := d.grant("A", "survey", i+1)
		d.must(err)
	}
	// One request counts once, however often it is sent at once.
	one := d.boxRequest("stones")
	var done, refused atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if _, err := d.open("A", one); err == nil {
				done.Add(1)
			} else if !errors.Is(err, estate.ErrSeen) {
				d.t.Error(err)
			}
		})
	}
	all.Wait()
	if done.Load() != 1 || d.profile("A").Crystals != 195 {
		d.t.Errorf("%d counted, %+v", done.Load(), d.profile("A"))
	}
	requests := make([][]byte, 1000)
	for i := range requests {
		requests[i] = d.boxRequest("stones")
	}
	done.Store(0)
	for _, r := range requests {
		all.Go(func() {
			_, err := d.open("A", r)
			switch {
			case err == nil:
				done.Add(1)
			case errors.Is(err, estate.ErrCrystals):
				refused.Add(1)
			default:
				d.t.Error(err)
			}
		})
	}
	all.Wait()
	if done.Load() != 39 || refused.Load() != 961 || d.profile("A").Crystals != 0 || d.entries(ledger.TypeBox) != 40 || d.pool().Reserved() != 40*700 {
		d.t.Errorf("%d spent, %d refused, %+v, %+v", done.Load(), refused.Load(), d.profile("A"), d.pool())
	}
}

func TestRekey(t *testing.T) { engines(t, testRekey) }

// testRekey: the operator gives accounts other keys, as changes that their histories show, and does nothing else to them.
func testRekey(d *desk) {
	ctx := d.t.Context()
	rekey := func(id string, key wire.PublicKey) (before, after estate.Profile, err error) {
		err = d.admin.Update(ctx, func(tx *store.Tx) error {
			before, after, err = tx.Estate(d.rules).Rekey(ctx, id, key)
			return err
		})
		return before, after, err
	}
	first := d.profile("A").Key
	d.must(d.ask(func(e store.Estate) error { _, err := e.Change(ctx, "A", nil, true); return err }))
	for range 5 {
		d.must(d.block(0))
	}
	_, second := newKey(d.t)
	_, _, err := rekey("C", second)
	d.is(err, estate.ErrNoAccount)
	_, _, err = rekey("A", wire.PublicKey{5})
	d.is(err, estate.ErrKey)
	before, after, err := rekey("A", second)
	if d.must(err); before.Key != first || after.Key != second || after.Activated != 1 {
		d.t.Errorf("%+v, %+v", before, after)
	}
	if before, after, err = rekey("A", second); err != nil || before != after {
		d.t.Errorf("%+v, %+v, %v", before, after, err)
	}
	if p := d.profile("A"); p.Key != second || p.Activated != 1 {
		d.t.Errorf("%+v", p)
	}
	if before, after, err = rekey("B", second); err != nil || before.Key != (wire.PublicKey{}) || after.Key != second || after.Activated != 0 {
		d.t.Errorf("%+v, %+v, %v", before, after, err)
	}
	if n := d.entries(ledger.TypeAccount); n != 4 {
		d.t.Errorf("%d changes are logged, want 4: a key, the activation, two other keys", n)
	}
	type change struct {
		Day, Activated uint32
		Key            wire.PublicKey
	}
	var got []change
	d.must(d.asked.View(ctx, func(tx *store.Tx) error {
		list, err := tx.Estate(d.rules).History(ctx, "A", 0, 9)
		for _, e := range list {
			if e.Kind != history.KindChange || e.Number < 0 {
				d.t.Errorf("%+v", e)
			}
			got = append(got, change{e.Day, e.Activated, e.Key})
		}
		return err
	}))
	if diff := cmp.Diff([]change{{2, 1, second}, {0, 1, first}, {0, 0, first}}, got); diff != "" {
		d.t.Error(diff)
	}
	if err := d.admin.Update(ctx, func(tx *store.Tx) error { _, err := tx.Estate(d.rules).Change(ctx, "A", nil, true); return err }); !errors.Is(err, store.ErrRefused) {
		d.t.Errorf("the operator reads what an account holds: %v", err)
	}
}

func TestHistory(t *testing.T) { engines(t, testHistory) }

func testHistory(d *desk) {
	ctx := d.t.Context()
	d.offer(offers())
	d.credit("feature/assist")
	for i := range byte(2) {
		_, err := d.grant("A", "survey", i+1)
		d.must(err)
	}
	_, err := d.open("A", d.boxRequest("stones"))
	d.must(err)
	d.must(d.block(0))
	d.must(d.block(700))
	_, err = d.open("A", d.boxRequest("back"))
	d.must(err)
	read := func(before int64, limit int) (list []history.Event) {
		d.t.Helper()
		d.must(d.asked.View(ctx, func(tx *store.Tx) (err error) {
			list, err = tx.Estate(d.rules).History(ctx, "A", before, limit)
			return err
		}))
		return list
	}
	var got []string
	all := read(0, 100)
	for _, e := range all {
		got = append(got, string(e.Kind)+" "+e.Name)
	}
	if diff := cmp.Diff([]string{"box back", "box stones", "grant survey", "grant survey", "credit feature/assist", "change "}, got); diff != "" {
		d.t.Fatal(diff)
	}
	if all[0].Number != -1 || all[1].Milli != 700 || all[1].Number < 0 || all[2].Crystals != 100 || all[2].Number < 0 {
		d.t.Errorf("%+v", all)
	}
	if diff := cmp.Diff(all[1:3], read(all[0].ID, 2)); diff != "" {
		d.t.Error(diff)
	}
	if list := read(all[5].ID, 2); len(list) != 0 {
		d.t.Errorf("%+v", list)
	}
	for _, limit := range []int{0, -1} {
		if err := d.ask(func(e store.Estate) error { _, err := e.History(ctx, "A", 0, limit); return err }); err == nil {
			d.t.Errorf("limit %d is accepted", limit)
		}
	}
}

func TestAnswer(t *testing.T) { engines(t, testAnswer) }

func testAnswer(d *desk) {
	ctx := d.t.Context()
	remember := func(client, key string, request wire.Hash) (a *answer.Answer, err error) {
		return a, d.ask(func(e store.Estate) (err error) { a, err = e.Remember(ctx, client, key, request); return err })
	}
	keep := func(client, key string, a answer.Answer, today uint32) error {
		return d.ask(func(e store.Estate) error { return e.Answer(ctx, client, key, wire.Hash{1}, a, today) })
	}
	if a, err := remember("app", "k", wire.Hash{1}); a != nil || err != nil {
		d.t.Error(a, err)
	}
	d.must(keep("app", "k", answer.Answer{Status: 201, Body: []byte("yes")}, 7))
	if a, err := remember("app", "k", wire.Hash{1}); err != nil || a == nil || a.Status != 201 || string(a.Body) != "yes" {
		d.t.Error(a, err)
	}
	_, err := remember("app", "k", wire.Hash{2})
	d.is(err, answer.ErrReused)
	if a, err := remember("other", "k", wire.Hash{2}); a != nil || err != nil {
		d.t.Error(a, err)
	}
	if keep("app", "k", answer.Answer{}, 7) == nil || keep("", "k", answer.Answer{}, 7) == nil || keep("app", "", answer.Answer{}, 7) == nil ||
		keep("app", "l", answer.Answer{Body: make([]byte, answer.MaxBodyLen+1)}, 7) == nil {
		d.t.Error("a second answer, or one without client or key, or without bounds, is kept")
	}
	d.must(keep("app", "later", answer.Answer{}, 7+answer.Days))
	if a, err := remember("app", "k", wire.Hash{1}); err != nil || a == nil {
		d.t.Error("dropped early:", err)
	}
	d.must(keep("app", "latest", answer.Answer{}, 8+answer.Days))
	if a, err := remember("app", "k", wire.Hash{1}); err != nil || a != nil {
		d.t.Error("not dropped:", a, err)
	}
	// What is too old goes a few at a time, the oldest first.
	for i := range answer.Bite + 2 {
		d.must(keep("old", strconv.Itoa(i), answer.Answer{Status: 201}, uint32(200+i/answer.Bite)))
	}
	kept := func() (n int) {
		for i := range answer.Bite + 2 {
			if a, err := remember("old", strconv.Itoa(i), wire.Hash{1}); err != nil {
				d.t.Fatal(err)
			} else if a != nil {
				n++
			}
		}
		return n
	}
	d.must(keep("app", "400", answer.Answer{}, 400))
	if n := kept(); n != 2 {
		d.t.Errorf("%d old answers left, want 2", n)
	}
	if newest, err := remember("old", strconv.Itoa(answer.Bite+1), wire.Hash{1}); err != nil || newest == nil {
		d.t.Error("the newest of what is too old goes first:", err)
	}
	d.must(keep("app", "401", answer.Answer{}, 400))
	if n := kept(); n != 0 {
		d.t.Errorf("%d old answers left", n)
	}
	// Of refusals so many are kept of a client and a day, and of nothing else.
	for i := range answer.RefusalsPerDay + 1 {
		d.must(keep("loud", strconv.Itoa(i), answer.Answer{Status: 400}, 401))
	}
	last := strconv.Itoa(answer.RefusalsPerDay)
	for _, c := range []struct {
		client, key string
		status      int
		today       uint32
		want        bool
	}{
		{"loud", "0", 0, 0, true}, {"loud", strconv.Itoa(answer.RefusalsPerDay - 1), 0, 0, true}, {"loud", last, 0, 0, false},
		{"loud", "done", 399, 401, true}, {"loud", "again", 599, 401, false}, {"quiet", "k", 409, 401, true}, {"loud", last, 409, 402, true},
	} {
		if c.status != 0 {
			d.must(keep(c.client, c.key, answer.Answer{Status: c.status}, c.today))
		}
		if a, err := remember(c.client, c.key, wire.Hash{1}); err != nil || (a != nil) != c.want {
			d.t.Errorf("%+v: %v, %v", c, a, err)
		}
	}
	// An answer that was not committed is none.
	failed := errors.New("failed")
	d.is(d.ask(func(e store.Estate) error {
		return errors.Join(e.Answer(ctx, "app", "m", wire.Hash{1}, answer.Answer{}, 9), failed)
	}), failed)
	if a, err := remember("app", "m", wire.Hash{1}); err != nil || a != nil {
		d.t.Error(a, err)
	}
}

// TestRulesAreRequired refuses to decide anything without a program.
func TestRulesAreRequired(t *testing.T) {
	engines(t, func(d *desk) {
		d.rules = estate.Rules{}
		if _, err := d.grant("A", "survey", 1); err == nil {
			d.t.Error("granted without rules")
		}
	})
}
