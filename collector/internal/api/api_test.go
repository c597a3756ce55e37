package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"

	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/api/token"
	"rawstone/collector/internal/statement"
	"rawstone/collector/internal/store"
	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

func TestMain(m *testing.M) {
	openapi3filter.RegisterBodyDecoder("application/cbor-seq", openapi3filter.FileBodyDecoder)
	openapi3filter.RegisterBodyDecoder("application/yaml", openapi3filter.FileBodyDecoder)
	os.Exit(m.Run())
}

// TestDocument: the document is valid, and names the operations that there are, their scopes, parameters and idempotency.
func TestDocument(t *testing.T) {
	w := newWorld(t)
	if err := w.document.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := &api{}
	written, real := make(map[string]bool), make(map[string]bool)
	for path, item := range w.document.Paths.Map() {
		for method, o := range item.Operations() {
			written[method+" "+path] = true
			for _, real := range a.operations() {
				if real.method != method || real.path != path {
					continue
				}
				for _, s := range real.scopes {
					if !strings.Contains(o.Description, "Scope "+s) {
						t.Errorf("%s %s does not say that it needs %s", method, path, s)
					}
				}
				if (o.Security != nil) != (real.scopes == nil) {
					t.Errorf("%s %s: does it need a token?", method, path)
				}
				key := o.Parameters.GetByInAndName(openapi3.ParameterInHeader, "Idempotency-Key") != nil
				if key != (real.do != nil) || (o.RequestBody != nil) != (real.do != nil) {
					t.Errorf("%s %s: does it change anything?", method, path)
				}
				var query []string
				for _, p := range o.Parameters {
					if p.Value.In == openapi3.ParameterInQuery {
						query = append(query, p.Value.Name)
					}
				}
				if !slices.Equal(query, real.query) {
					t.Errorf("%s %s: query %v, the document says %v", method, path, real.query, query)
				}
			}
		}
	}
	for _, o := range a.operations() {
		real[o.name()] = true
	}
	if !maps.Equal(written, real) {
		t.Errorf("the document has\n%v\nthe API\n%v", written, real)
	}
}

type account1 struct {
	Account, Program string
	Today            uint32
	Owner            bool
	Key              *struct{ ID, Public string }
	Activated        uint32
	RedeemableFrom   uint32 `json:"redeemable_from"`
	Milli, Crystals  uint64
	Goods            []struct {
		Item    string
		Opening int64
	}
}

type opening1 struct {
	ID     int64
	State  string
	Entry  *uint64
	Day    uint32
	Offers uint16
	Box    string
	Cost   uint32
	Drop   *uint64
	Prize  *cultivation.Prize
	Block  *struct {
		Entry uint64
		Seed  string
	}
}

// register gives an account a new key and returns it.
func (w *world) register(subject string) wire.PublicKey {
	w.t.Helper()
	key, public := newKey(w.t)
	r := &account.KeyRequest{Nonce: [16]byte{1}, Program: w.rules.ID, Account: subject, Key: public}
	var former map[string]any
	if old := w.keys[subject]; old != nil {
		p, err := wire.NewPublicKey(old.Public())
		if err != nil {
			w.t.Fatal(err)
		}
		r.Replaces = p.ID()
		former = signed(account.SealFormer(old, r))
	}
	body := signed(account.SealKeyRequest(key, r))
	if former != nil {
		body["former"] = former["request"]
	}
	got := read[account1](w.do(request{method: http.MethodPut, path: "/v1/account/key", token: w.token(subject, token.Spend), key: w.key(), body: body}), http.StatusOK)
	if got.Key == nil || got.Key.ID != public.ID().String() {
		w.t.Errorf("%+v", got)
	}
	w.keys[subject] = key
	return public
}

// TestOwner goes the way of an owner through every operation of the document.
func TestOwner(t *testing.T) {
	var wrote []string
	w := newWorld(t, func(c *Config) {
		c.Statement = func(_ context.Context, w io.Writer, account string, since uint64) error {
			wrote = append(wrote, fmt.Sprint(account, since))
			_, err := w.Write([]byte{0x41, 0})
			return err
		}
		c.Exchange = func(_ context.Context, account string) (Exchange, error) {
			p, err := reward.Equity(1_000_000, []reward.Holding{{Account: account, Milli: 4500}, {Account: "x", Milli: 4500}})
			return Exchange{Day: 20_000, ValueFen: 1_000_000, Milli: 4500, AllMilli: 9000, PortionFen: p[0].Cents}, err
		}
	})
	first := read[account1](w.get("/v1/account", owner), http.StatusOK)
	today := first.Today
	if first.Account != owner || first.Program != w.rules.ID.String() || !first.Owner || first.Key != nil || first.Activated != 0 || first.RedeemableFrom != 0 || first.Milli != 4500 || first.Crystals != 0 || today != w.offers.FromDay {
		t.Errorf("%+v", first)
	}
	public := w.register(owner)
	active := read[account1](w.post("/v1/account/activation", owner, "{}"), http.StatusOK)
	if active.Activated != today || active.RedeemableFrom != today+90 || active.Key == nil || active.Key.ID != public.ID().String() {
		t.Errorf("%+v", active)
	}

	// Crystals: by the backend, and by a proven use of a feature, once.
	granted := read[struct {
		ID        int64
		Account   string
		Task      string
		Reference string
		Crystals  uint32
		Day       uint32
	}](w.give("survey", owner), http.StatusCreated)
	if granted.Account != owner || granted.Task != "survey" || granted.Crystals != 100 || granted.Day != today {
		t.Errorf("%+v", granted)
	}
	claimed := read[struct{ Crystals uint32 }](w.post("/v1/tasks/assist/claims", owner, "{}"), http.StatusCreated)
	if claimed.Crystals != 30 {
		t.Errorf("%+v", claimed)
	}
	w.post("/v1/tasks/assist/claims", owner, "{}").is(problem.FeatureUnproven())
	if got := read[account1](w.get("/v1/account", owner), http.StatusOK); got.Crystals != 130 {
		t.Errorf("%d crystals", got.Crystals)
	}

	// Boxes, until each kind of prize was there.
	var expected struct{ milli, crystals uint64 }
	var goods, opened int
	expected.milli, expected.crystals = 4500, 130
	kinds := make(map[string]bool)
	for drop := uint64(0); len(kinds) < 4; drop += 2 {
		answer := w.post("/v1/boxes/quartz/openings", owner, w.openRequest(owner, "quartz"))
		o := read[opening1](answer, http.StatusAccepted)
		location := fmt.Sprintf("/v1/openings/%d", o.ID)
		if answer.Header().Get("Location") != location || o.State != "pending" || o.Box != "quartz" || o.Cost != 10 || o.Prize != nil || o.Offers != 1 || o.Day != today {
			t.Fatalf("%s %+v", answer.Header().Get("Location"), o)
		}
		expected.crystals -= 10
		if o := read[opening1](w.get(location, owner), http.StatusOK); o.State != "pending" {
			t.Errorf("%+v", o)
		}
		seed := w.block(drop, waiting{owner, "quartz", o.ID})
		o = read[opening1](w.get(location, owner), http.StatusOK)
		if o.State != "opened" || o.Entry == nil || o.Drop == nil || *o.Drop != w.drop || o.Block == nil || o.Block.Seed != seed.String() || o.Prize == nil {
			t.Fatalf("%+v", o)
		}
		// Anybody recomputes it from what the answer says.
		b, err := w.offers.Box("quartz").Box()
		if err != nil {
			t.Fatal(err)
		}
		said, err := hex.DecodeString(o.Block.Seed)
		if err != nil {
			t.Fatal(err)
		}
		if want := b.Open(wire.Hash(said), *o.Entry, true); *o.Prize != want {
			t.Errorf("%+v, want %+v", o.Prize, want)
		}
		expected.milli += o.Prize.Milli
		expected.crystals += uint64(o.Prize.Crystals)
		switch {
		case o.Prize.Milli > 0:
			kinds["milli"] = true
		case o.Prize.Crystals > 0:
			kinds["crystals"] = true
		case o.Prize.Goods != "":
			kinds["goods"] = true
			goods++
		default:
			kinds["nothing"] = true
		}
		if opened++; expected.crystals < 10 {
			if g := w.give("survey", owner); g.Code == http.StatusCreated {
				expected.crystals += 100
			}
		}
	}
	got := read[account1](w.get("/v1/account", owner), http.StatusOK)
	if got.Milli != expected.milli || got.Crystals != expected.crystals || len(got.Goods) != goods || got.Goods[0].Item != "model" {
		t.Errorf("%+v, want %+v and %d goods", got, expected, goods)
	}

	// Stones, from the 90th day after the activation on.
	later := uint64(90 * 144)
	w.post("/v1/redemptions", owner, w.redeemRequest(owner, "charge", 1000, 0)).is(problem.NotRedeemable())
	w.block(later - 2)
	w.post("/v1/redemptions", owner, w.redeemRequest(owner, "charge", 1000, 0)).is(problem.NotRedeemable())
	w.block(later - 1) // the next drop is the first of the 90th day
	answer := w.post("/v1/redemptions", owner, w.redeemRequest(owner, "model", 2000, 9900))
	r := read[struct {
		ID         int64
		Entry      *uint64
		Item       string
		Milli, Fen uint64
	}](answer, http.StatusCreated)
	if r.Item != "model" || r.Milli != 2000 || r.Fen != 9900 || r.Entry != nil || answer.Header().Get("Location") != fmt.Sprintf("/v1/redemptions/%d", r.ID) {
		t.Errorf("%+v", r)
	}
	w.number()
	r2 := read[struct{ Entry *uint64 }](w.get(answer.Header().Get("Location"), owner), http.StatusOK)
	if r2.Entry == nil {
		t.Error("no number")
	}
	if got := read[account1](w.get("/v1/account", owner), http.StatusOK); got.Milli != expected.milli-2000 {
		t.Errorf("%d milli-stones, want %d", got.Milli, expected.milli-2000)
	}

	// What is offered now and later.
	type edition struct {
		Serial  uint16
		FromDay uint32 `json:"from_day"`
		List    []struct{ ID string }
	}
	for path, want := range map[string]string{"/v1/tasks": "survey", "/v1/boxes": "quartz", "/v1/catalogue": "model"} {
		o := read[struct {
			Today     uint32
			InForce   *edition `json:"in_force"`
			Announced []edition
		}](w.get(path, guest), http.StatusOK)
		if o.InForce == nil || o.InForce.Serial != 1 || o.InForce.List[0].ID != want || len(o.Announced) != 1 || o.Announced[0].Serial != 2 || o.Announced[0].FromDay != today+200 {
			t.Errorf("%s: %+v", path, o)
		}
	}

	if s := w.get("/v1/account/statement?since=7", owner); s.Code != http.StatusOK || s.Header().Get("Content-Type") != "application/cbor-seq" || s.Body.Len() != 2 || !slices.Equal(wrote, []string{owner + "7"}) {
		t.Errorf("%d %v", s.Code, wrote)
	}
	x := read[struct {
		PortionFen uint64 `json:"portion_fen"`
		PerMille   uint64 `json:"per_mille"`
	}](w.get("/v1/exchange", owner), http.StatusOK)
	if x.PortionFen != 24_500 || x.PerMille != 49 {
		t.Errorf("%+v", x)
	}
	if d := w.do(request{method: http.MethodGet, path: "/v1/openapi.yaml"}); d.Body.String() != string(document) {
		t.Error("another document")
	}
	if p := read[struct{ Type string }](w.do(request{method: http.MethodGet, path: problem.TaskLimit().Type()}), http.StatusOK); p.Type != problem.TaskLimit().Type() {
		t.Errorf("%+v", p)
	}

	// The history has it all, page by page.
	counts := w.pages(owner, 7)
	if counts["change"] != 2 || counts["credit"] != 2 || counts["box"] != opened || counts["redemption"] != 1 || counts["grant"] < 2 {
		t.Errorf("%v, %d openings", counts, opened)
	}
	for _, item := range w.document.Paths.Map() {
		for _, o := range item.Operations() {
			if !w.used[o.OperationID] {
				t.Errorf("operation %s was not exercised", o.OperationID)
			}
		}
	}
}

// pages reads the whole history and counts events by type.
func (w *world) pages(subject string, limit int) map[string]int {
	w.t.Helper()
	counts := make(map[string]int)
	last := int64(1) << 60
	for path := fmt.Sprintf("/v1/account/history?limit=%d", limit); path != ""; {
		page := read[struct {
			Events []struct {
				Type string
				ID   int64
			}
			Next int64
		}](w.get(path, subject), http.StatusOK)
		if len(page.Events) > limit {
			w.t.Fatalf("%d events on a page", len(page.Events))
		}
		for _, e := range page.Events {
			if e.ID >= last {
				w.t.Fatalf("event %d after %d", e.ID, last)
			}
			last = e.ID
			counts[e.Type]++
		}
		if path = ""; page.Next != 0 {
			path = fmt.Sprintf("/v1/account/history?limit=%d&before=%d", limit, page.Next)
		}
	}
	return counts
}

// TestRefusals: what the rules refuse has its own problem and changes nothing.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.post("/v1/account/activation", owner, "{}").is(problem.AccountKeyMissing())
	w.keys[owner], _ = newKey(t)
	w.post("/v1/boxes/quartz/openings", owner, w.openRequest(owner, "quartz")).is(problem.AccountKeyMissing())
	delete(w.keys, owner)
	w.register(owner)
	w.register(guest)
	before := read[account1](w.get("/v1/account", owner), http.StatusOK)

	w.post("/v1/boxes/quartz/openings", owner, w.openRequest(owner, "quartz")).is(problem.CrystalsInsufficient())
	w.give("survey", "nobody").is(problem.AccountUnknown())
	w.give("nothing", owner).is(problem.TaskUnknown())
	w.give("assist", owner).is(problem.TaskOtherwise())
	w.post("/v1/tasks/survey/claims", owner, "{}").is(problem.TaskOtherwise())
	w.post("/v1/tasks/nothing/claims", owner, "{}").is(problem.TaskUnknown())
	w.post("/v1/tasks/assist/claims", guest, "{}").is(problem.FeatureUnproven())
	if got := read[account1](w.get("/v1/account", owner), http.StatusOK); got.Crystals != before.Crystals || got.Milli != before.Milli {
		t.Errorf("%+v", got)
	}

	read[struct{}](w.give("rare", owner), http.StatusCreated)
	w.give("rare", owner).is(problem.TaskLimit())
	w.give("huge", owner).is(problem.CrystalsFull())
	reference := strings.Repeat("ab", 32)
	twice := func() response {
		return w.do(request{method: http.MethodPost, path: "/v1/tasks/survey/grants", token: w.token("backend", token.Grant), key: w.key(),
			body: map[string]any{"account": guest, "reference": reference, "crystals": 100}})
	}
	read[struct{}](twice(), http.StatusCreated)
	twice().is(problem.GrantSeen())
	w.do(request{method: http.MethodPost, path: "/v1/tasks/survey/grants", token: w.token("backend", token.Grant), key: w.key(),
		body: map[string]any{"account": guest, "reference": strings.Repeat("cd", 32), "crystals": 99}}).is(problem.AmountDiffers())

	// Requests that are not the owner's, or not for this.
	b := w.openRequest(owner, "quartz")
	asked := read[opening1](w.post("/v1/boxes/quartz/openings", owner, b), http.StatusAccepted)
	w.post("/v1/boxes/quartz/openings", owner, b).is(problem.RequestSeen())
	w.post("/v1/boxes/quartz/openings", guest, w.openRequest(owner, "quartz")).is(problem.RequestInvalid())
	w.post("/v1/boxes/quartz/openings", guest, w.openRequest(guest, "quartz", func(r *account.BoxRequest) { r.Account = owner })).is(problem.RequestInvalid())
	w.post("/v1/boxes/quartz/openings", guest, w.openRequest(guest, "quartz", func(r *account.BoxRequest) { r.Program[0]++ })).is(problem.RequestInvalid())
	w.post("/v1/boxes/quartz/openings", guest, w.openRequest(guest, "world")).is(problem.RequestInvalid())
	w.post("/v1/boxes/quartz/openings", guest, w.openRequest(guest, "quartz", func(r *account.BoxRequest) { r.Offers = 2 })).is(problem.OffersDiffer())
	w.post("/v1/boxes/quartz/openings", guest, w.openRequest(guest, "quartz", func(r *account.BoxRequest) { r.Until = w.offers.FromDay - 1 })).is(problem.RequestInvalid())
	w.post("/v1/redemptions", owner, w.redeemRequest(owner, "model", 2000, 9900, func(r *account.RedemptionRequest) { r.Until = w.offers.FromDay - 1 })).is(problem.RequestInvalid())
	w.post("/v1/boxes/none/openings", guest, w.openRequest(guest, "none")).is(problem.BoxUnknown())
	w.post("/v1/boxes/quartz/openings", guest, w.redeemRequest(guest, "charge", 1000, 0)).is(problem.RequestInvalid())
	w.post("/v1/redemptions", guest, w.openRequest(guest, "quartz")).is(problem.RequestInvalid())
	w.post("/v1/redemptions", owner, w.redeemRequest(owner, "sticker", 1, 0)).is(problem.ItemUnknown())
	w.post("/v1/redemptions", owner, w.redeemRequest(owner, "none", 1, 0)).is(problem.ItemUnknown())
	w.post("/v1/redemptions", owner, w.redeemRequest(owner, "model", 1999, 9900)).is(problem.PriceDiffers())
	w.post("/v1/redemptions", owner, w.redeemRequest(owner, "model", 2000, 0)).is(problem.PriceDiffers())
	w.post("/v1/redemptions", owner, w.redeemRequest(owner, "model", 1<<64-1, 1<<64-1)).is(problem.PriceDiffers())
	w.post("/v1/redemptions", owner, w.redeemRequest(owner, "charge", 1000, 0)).is(problem.NotRedeemable())
	w.post("/v1/account/activation", owner, "{}")
	w.block(91*144, waiting{owner, "quartz", asked.ID})
	w.post("/v1/redemptions", owner, w.redeemRequest(owner, "car", 300_000_000_000, 1)).is(problem.StonesInsufficient())
	read[struct{}](w.post("/v1/redemptions", owner, w.redeemRequest(owner, "model", 2000, 9900)), http.StatusCreated)
	read[struct{}](w.post("/v1/redemptions", owner, w.redeemRequest(owner, "model", 2000, 9900)), http.StatusCreated)
	w.post("/v1/redemptions", owner, w.redeemRequest(owner, "model", 2000, 9900)).is(problem.StonesInsufficient())
	// What is another's is not there.
	o := read[opening1](w.post("/v1/boxes/quartz/openings", guest, w.openRequest(guest, "quartz")), http.StatusAccepted)
	w.get(fmt.Sprintf("/v1/openings/%d", o.ID), owner).is(problem.OpeningUnknown())
	w.get(fmt.Sprintf("/v1/redemptions/%d", o.ID), guest).is(problem.RedemptionUnknown())
	for _, id := range []string{"0", "-1", "x", "99999999999999999999", "1.0", "01", "9007199254740992"} {
		w.get("/v1/openings/"+id, guest).is(problem.OpeningUnknown())
		w.get("/v1/redemptions/"+id, guest).is(problem.RedemptionUnknown())
	}
	for _, path := range []string{"/v1/account", "/v1/account/history", "/v1/account/statement", "/v1/exchange"} {
		w := newWorld(t, func(c *Config) {
			c.Statement = func(context.Context, io.Writer, string, uint64) error { return nil }
		})
		w.get(path, "nobody").is(problem.AccountUnknown())
	}
	w.get("/v1/account/statement", owner).is(problem.StatementUnset())
	w.get("/v1/exchange", owner).is(problem.ExchangeUnset())
}

// TestPool: the worst case of a box is reserved until it is opened.
func TestPool(t *testing.T) {
	w := newWorld(t)
	w.register(owner)
	read[struct{}](w.give("survey", owner), http.StatusCreated)
	o := read[opening1](w.post("/v1/boxes/world/openings", owner, w.openRequest(owner, "world")), http.StatusAccepted)
	w.post("/v1/boxes/world/openings", owner, w.openRequest(owner, "world")).is(problem.PoolExhausted())
	w.post("/v1/boxes/quartz/openings", owner, w.openRequest(owner, "quartz")).is(problem.PoolExhausted())
	w.block(0, waiting{owner, "world", o.ID}) // with odds of one in a million against the next line
	read[struct{}](w.post("/v1/boxes/world/openings", owner, w.openRequest(owner, "world")), http.StatusAccepted)
}

// TestItemLimit: an item with a limit is redeemed as often as it says.
func TestItemLimit(t *testing.T) {
	w := newWorld(t)
	w.register(owner)
	w.post("/v1/account/activation", owner, "{}")
	w.update(func(tx *store.Tx) error { return tx.Settle(t.Context(), 1, 2, map[string]uint64{owner: 100_000}) })
	w.block(91 * 144)
	for range 3 {
		read[struct{}](w.post("/v1/redemptions", owner, w.redeemRequest(owner, "model", 2000, 9900)), http.StatusCreated)
	}
	w.post("/v1/redemptions", owner, w.redeemRequest(owner, "model", 2000, 9900)).is(problem.ItemLimit())
}

// TestKeyChange: a key is registered by who holds it and may change the account, replaced with its own consent, and what the old one signed
// counts no more. The history shows each change.
func TestKeyChange(t *testing.T) {
	w := newWorld(t)
	first, public := newKey(t)
	put := func(subject string, body any) response {
		t.Helper()
		return w.do(request{method: http.MethodPut, path: "/v1/account/key", token: w.token(subject, token.Spend), key: w.key(), body: body})
	}
	of := func(subject string, replaces wire.KeyID) map[string]any {
		return signed(account.SealKeyRequest(first, &account.KeyRequest{Nonce: [16]byte{1}, Program: w.rules.ID, Account: subject, Key: public, Replaces: replaces}))
	}
	put(guest, of(owner, wire.KeyID{})).is(problem.PossessionUnproven())
	put("nobody", of("nobody", wire.KeyID{})).is(problem.AccountUnknown())
	put(owner, of(owner, public.ID())).is(problem.PossessionUnproven())
	read[struct{}](put(owner, of(owner, wire.KeyID{})), http.StatusOK)
	put(owner, of(owner, wire.KeyID{})).is(problem.PossessionUnproven()) // it replaced none
	w.keys[owner] = first
	read[struct{}](w.give("survey", owner), http.StatusCreated)
	old := w.openRequest(owner, "quartz")

	// Whoever has the owner's token alone takes nothing over.
	thief, taken := newKey(t)
	r := &account.KeyRequest{Nonce: [16]byte{2}, Program: w.rules.ID, Account: owner, Key: taken, Replaces: public.ID()}
	theft := func(former any) map[string]any {
		body := signed(account.SealKeyRequest(thief, r))
		if former != nil {
			body["former"] = former
		}
		return body
	}
	put(owner, theft(nil)).is(problem.FormerUnproven())
	put(owner, theft(signed(account.SealFormer(thief, r))["request"])).is(problem.FormerUnproven())
	put(owner, theft(theft(nil)["request"])).is(problem.FormerUnproven())
	other := *r
	other.Nonce[0]++
	put(owner, theft(signed(account.SealFormer(first, &other))["request"])).is(problem.FormerUnproven())
	put(owner, theft(signed(account.SealKeyRequest(first, &other))["request"])).is(problem.FormerUnproven())
	for _, former := range []any{"", "!", 1, old["request"].(string) + "="} {
		put(owner, theft(former)).is(problem.BodyInvalid())
	}
	if got := read[account1](w.get("/v1/account", owner), http.StatusOK); got.Key == nil || got.Key.ID != public.ID().String() {
		t.Fatalf("%+v", got.Key)
	}

	w.block(0) // of the first day
	w.block(2*144 - 1)
	second := w.register(owner)
	w.post("/v1/boxes/quartz/openings", owner, old).is(problem.RequestInvalid())
	read[struct{}](w.post("/v1/boxes/quartz/openings", owner, w.openRequest(owner, "quartz")), http.StatusAccepted)
	active := read[account1](w.post("/v1/account/activation", owner, "{}"), http.StatusOK)
	w.number()

	type event struct {
		Type, Salt string
		Entry      *uint64
		Day        uint32
		Key        struct{ ID, Public string }
		Activated  uint32
	}
	page := read[struct{ Events []event }](w.get("/v1/account/history", owner), http.StatusOK)
	changes := slices.DeleteFunc(page.Events, func(e event) bool { return e.Type != "change" })
	today := w.offers.FromDay
	want := []struct {
		key            wire.PublicKey
		day, activated uint32
	}{{second, today + 2, today + 2}, {second, today + 2, 0}, {public, today, 0}}
	if len(changes) != len(want) || active.Activated != today+2 {
		t.Fatalf("%+v, activated %d", changes, active.Activated)
	}
	for i, e := range changes {
		salt, err := hex.DecodeString(e.Salt)
		if err != nil || e.Entry == nil || e.Key.ID != want[i].key.ID().String() || e.Day != want[i].day || e.Activated != want[i].activated {
			t.Fatalf("%+v, want %+v", e, want[i])
		}
		o := account.ChangeOpening{Salt: [32]byte(salt), Account: owner, Key: want[i].key, Activated: e.Activated}
		blind, err := o.Blind()
		if err != nil {
			t.Fatal(err)
		}
		err = w.db.View(t.Context(), func(tx *store.Tx) error {
			entries, err := tx.Entries(t.Context(), *e.Entry, 1)
			if err != nil {
				return err
			}
			var c account.Change
			if err := entries[0].DecodeBody(ledger.TypeAccount, &c); err != nil || c.Blind != blind {
				t.Errorf("entry %d is not opened by its event: %v", *e.Entry, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestOffersBegin: what was announced comes into force by the log's day, and before the first there is nothing to ask for.
func TestOffersBegin(t *testing.T) {
	w := newWorld(t)
	w.register(owner)
	read[struct{}](w.give("survey", owner), http.StatusCreated)
	w.now.Add(300 * 86400) // the collector's clock decides nothing
	asked := read[opening1](w.post("/v1/boxes/quartz/openings", owner, w.openRequest(owner, "quartz")), http.StatusAccepted)
	w.block(201*144, waiting{owner, "quartz", asked.ID})
	w.post("/v1/boxes/quartz/openings", owner, w.openRequest(owner, "quartz")).is(problem.OffersDiffer())
	read[struct{}](w.post("/v1/boxes/quartz/openings", owner, w.openRequest(owner, "quartz", func(r *account.BoxRequest) { r.Offers = 2 })), http.StatusAccepted)
	w.post("/v1/tasks/assist/claims", owner, "{}").is(problem.TaskUnknown())
	o := read[struct {
		InForce   struct{ Serial uint16 } `json:"in_force"`
		Announced []struct{}
	}](w.get("/v1/tasks", owner), http.StatusOK)
	if o.InForce.Serial != 2 || len(o.Announced) != 0 {
		t.Errorf("%+v", o)
	}
}

// TestOldBlocks: an opening shows its block for a week of drops, and goes on to show its result.
func TestOldBlocks(t *testing.T) {
	w := newWorld(t)
	w.register(guest)
	read[struct{}](w.give("survey", guest), http.StatusCreated)
	o := read[opening1](w.post("/v1/boxes/quartz/openings", guest, w.openRequest(guest, "quartz")), http.StatusAccepted)
	seed := w.block(0, waiting{guest, "quartz", o.ID})
	path := fmt.Sprintf("/v1/openings/%d", o.ID)
	blocks := func(n int) {
		w.update(func(tx *store.Tx) error {
			for range n {
				w.drop++
				payload, err := ledger.EncodePayload(&ledger.Block{Drop: w.drop, Proofs: []ledger.Proof{{}}})
				if err != nil {
					return err
				}
				sealed := ledger.Sealed{Payload: payload}
				body, err := sealed.Encode()
				if err != nil {
					return err
				}
				if _, err := tx.AddEntry(t.Context(), ledger.TypeBlock, body); err != nil {
					return err
				}
			}
			return nil
		})
		w.number()
	}
	blocks(2000)
	o = read[opening1](w.get(path, guest), http.StatusOK)
	if o.Block == nil || o.Block.Seed != seed.String() || *o.Drop != 1 {
		t.Errorf("%+v", o)
	}
}

// TestStatementBreaks: what fails is a problem and never a part, and an account has one statement made at a time.
func TestStatementBreaks(t *testing.T) {
	broken := errors.New("no tile")
	w := newWorld(t, func(c *Config) {
		c.Statement = func(_ context.Context, w io.Writer, _ string, since uint64) error {
			if since > 0 {
				if _, err := w.Write([]byte{1}); err != nil {
					return err
				}
			}
			return broken
		}
	})
	w.get("/v1/account/statement", owner).is(problem.Internal())
	for reason, kind := range map[error]problem.Kind{statement.ErrNotYet: problem.StatementEarly(), statement.ErrAhead: problem.QueryInvalid(), statement.ErrNoAccount: problem.AccountUnknown()} {
		broken = fmt.Errorf("cannot make statement: %w", reason)
		w.get("/v1/account/statement", owner).is(kind)
	}
	broken = errors.New("no tile")
	w.get("/v1/account/statement?since=1", owner).is(problem.Internal()) // though some of it was made

	begun, end := make(chan struct{}), make(chan struct{})
	w = newWorld(t, func(c *Config) {
		c.Statement = func(_ context.Context, out io.Writer, account string, _ uint64) error {
			if account == owner {
				begun <- struct{}{}
				<-end
			}
			_, err := out.Write([]byte{1, 2, 3})
			return err
		}
	})
	done := make(chan response)
	go func() { done <- w.get("/v1/account/statement", owner) }()
	<-begun
	again := w.get("/v1/account/statement", owner)
	again.is(problem.Unavailable())
	if again.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if r := w.get("/v1/account/statement", guest); r.Code != http.StatusOK || r.Body.Len() != 3 {
		t.Errorf("another's: %d %s", r.Code, r.Body)
	}
	close(end)
	if r := <-done; r.Code != http.StatusOK || r.Header().Get("Content-Length") != "3" {
		t.Errorf("%d %s %v", r.Code, r.Body, r.Header())
	}
	if r := w.do(request{method: http.MethodHead, path: "/v1/account/statement", token: w.token(guest, token.Read)}); r.Code != http.StatusOK || r.Header().Get("Content-Length") != "3" || r.Body.Len() != 0 {
		t.Errorf("HEAD: %d %s %v", r.Code, r.Body, r.Header())
	}
}

// TestBusyRecords: records that do not answer within the patience are a problem that says to come again.
func TestBusyRecords(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Patience = time.Nanosecond })
	r := w.get("/v1/account", owner)
	r.is(problem.Unavailable())
	if r.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	r = w.post("/v1/account/activation", owner, "{}")
	r.is(problem.Unavailable())
}

func TestConfig(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*Config){
		"rules": func(c *Config) { c.Rules.Program = nil }, "program": func(c *Config) { c.Rules.ID = wire.Hash{} }, "clock": func(c *Config) { c.Now = nil },
		"store": func(c *Config) { c.Store = nil }, "tokens": func(c *Config) { c.Tokens = nil }, "logger": func(c *Config) { c.Logger = nil },
		"patience": func(c *Config) { c.Patience = -1 }, "owners": func(c *Config) { c.Owners.Burst = -1 }, "backend": func(c *Config) { c.Backend.Every = -1 }, "askers": func(c *Config) { c.Askers = -1 },
	} {
		cfg := w.cfg
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Error(name)
		}
	}
}
