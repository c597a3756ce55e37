package cultivation

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

func newKey(t testing.TB) (*ecdsa.PrivateKey, wire.PublicKey) {
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

func offers() *Offers {
	return &Offers{Version: wire.Version, Program: wire.Hash{1}, Serial: 2, FromDay: 30,
		Tasks: []Task{{ID: "survey", Title: "Survey", Crystals: 10, Daily: 20, Total: 100}, {ID: "assist", Title: "Assist", Crystals: 5, Daily: 5, Total: 50, Kind: "feature/assist"}},
		Boxes: []OfferedBox{{ID: "small", Title: "Small box", Cost: 10,
			Owners: []Odds{{Certain / 2, Prize{Milli: 100}}, {Certain / 4, Prize{Crystals: 3}}, {Certain / 4, Prize{Goods: "mug"}}},
			Others: []Odds{{Certain, Prize{}}}}},
		Catalogue: []Item{{ID: "mug", Title: "Mug", Milli: 1000, Fen: 990, Limit: 2}, {ID: "medal", Title: "Medal"}}}
}

// TestOffers seals and opens offers, finds what is in them, and refuses what breaks a bound.
func TestOffers(t *testing.T) {
	k, key := newKey(t)
	_, other := newKey(t)
	o := offers()
	b, err := SealOffers(k, o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := OpenOffers(wire.KeySet{other, key}, wire.Hash{1}, b)
	if diff := cmp.Diff(o, got); err != nil || diff != "" {
		t.Fatal(err, diff)
	}
	if got.Task("assist") != &got.Tasks[1] || got.Box("small") != &got.Boxes[0] || got.Item("medal") != &got.Catalogue[1] || got.Task("small") != nil || got.Box("mug") != nil || got.Item("survey") != nil {
		t.Error("names find something else")
	}
	if got.Tasks[0].Limit() != (Limit{20, 100}) {
		t.Errorf("limit is %+v", got.Tasks[0].Limit())
	}
	if _, err := OpenOffers(wire.KeySet{other}, wire.Hash{1}, b); err == nil {
		t.Error("offers of a stranger are accepted")
	}
	if _, err := OpenOffers(wire.KeySet{key}, wire.Hash{2}, b); err == nil {
		t.Error("offers of another program are accepted")
	}
	for name, spoil := range map[string]func(o *Offers){
		"version":               func(o *Offers) { o.Version++ },
		"program":               func(o *Offers) { o.Program = wire.Hash{} },
		"serial":                func(o *Offers) { o.Serial = 0 },
		"two tasks of one kind": func(o *Offers) { o.Tasks[0].Kind = o.Tasks[1].Kind },
		"box pays for itself":   func(o *Offers) { o.Boxes[0].Owners[1] = Odds{Certain / 4, Prize{Crystals: 40}} },
		"box pays others":       func(o *Offers) { o.Boxes[0].Others[0].Prize.Crystals = 10 },
		"title turned around":   func(o *Offers) { o.Boxes[0].Title = "Small \u202exob" },
		"title in two lines":    func(o *Offers) { o.Boxes[0].Title = "Small\nbox" },
		"day":                   func(o *Offers) { o.FromDay = terms.MaxDay + 1 },
		"too many tasks":        func(o *Offers) { o.Tasks = make([]Task, MaxOffered+1) },
		"two tasks of one name": func(o *Offers) { o.Tasks[1].ID = "survey" },
		"two items of one name": func(o *Offers) { o.Catalogue[1].ID = "mug" },
		"two boxes of one name": func(o *Offers) { o.Boxes = append(o.Boxes, o.Boxes[0]) },
		"capital letters":       func(o *Offers) { o.Tasks[0].ID = "Survey" },
		"no name":               func(o *Offers) { o.Boxes[0].ID = "" },
		"long name":             func(o *Offers) { o.Boxes[0].ID = strings.Repeat("x", 65) },
		"no title":              func(o *Offers) { o.Catalogue[0].Title = "" },
		"long title":            func(o *Offers) { o.Catalogue[0].Title = strings.Repeat("x", MaxTitleLen+1) },
		"title of no text":      func(o *Offers) { o.Catalogue[0].Title = "\xff" },
		"task for nothing":      func(o *Offers) { o.Tasks[0].Crystals = 0 },
		"task above its day":    func(o *Offers) { o.Tasks[0].Daily = 9 },
		"day above all":         func(o *Offers) { o.Tasks[0].Total = 19 },
		"all above the bound":   func(o *Offers) { o.Tasks[0].Total = uint64(MaxCrystals) + 1 },
		"mileage as a feature":  func(o *Offers) { o.Tasks[1].Kind = terms.KindMileage },
		"feature of no name":    func(o *Offers) { o.Tasks[1].Kind = terms.KindFeature },
		"odds":                  func(o *Offers) { o.Boxes[0].Owners[0].Parts++ },
		"crystals without end":  func(o *Offers) { o.Boxes[0].Cost = 1 << 31; o.Boxes[0].Owners[1].Prize.Crystals = MaxPrizeCrystals + 1 },
		"stones for others":     func(o *Offers) { o.Boxes[0].Others[0].Prize.Milli = 1 },
		"free box":              func(o *Offers) { o.Boxes[0].Cost = 0 },
		"goods nobody has":      func(o *Offers) { o.Boxes[0].Owners[2].Prize.Goods = "cup" },
		"price":                 func(o *Offers) { o.Catalogue[0].Milli = reward.Supply + 1 },
		"money":                 func(o *Offers) { o.Catalogue[0].Fen = MaxFen + 1 },
	} {
		o := offers()
		spoil(o)
		if _, err := SealOffers(k, o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestInForce holds which offers are in force: of those that have begun the last, whatever their days.
func TestInForce(t *testing.T) {
	a, b, c := &Offers{Serial: 1, FromDay: 20}, &Offers{Serial: 2, FromDay: 40}, &Offers{Serial: 3, FromDay: 30}
	for _, x := range []struct {
		day  uint32
		want *Offers
	}{{0, nil}, {19, nil}, {20, a}, {29, a}, {30, c}, {40, c}, {1 << 31, c}} {
		if got := InForce([]*Offers{a, b, c}, x.day); got != x.want {
			t.Errorf("on day %d: %+v, want %+v", x.day, got, x.want)
		}
	}
	if got := InForce([]*Offers{a, b}, 40); got != b {
		t.Errorf("on day 40: %+v, want the second", got)
	}
}

// FuzzOffers feeds the decoder; what it accepts must encode to the same bytes, and every box in it can be opened.
func FuzzOffers(f *testing.F) {
	b, err := wire.Marshal(offers())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	k, key := newKey(f)
	if b, err = SealOffers(k, offers()); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := DecodeOffers(b)
		if err == nil {
			if again, err := wire.Marshal(o); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%x is accepted and encodes to %x, %v", b, again, err)
			}
			for i := range o.Boxes {
				box, err := o.Boxes[i].Box()
				if err != nil {
					t.Errorf("box %q: %v", o.Boxes[i].ID, err)
				}
				for _, owner := range []bool{false, true} {
					if p := box.Open(wire.Hash{}, 1, owner); p.Milli > box.Worst(owner) || !owner && p.Milli > 0 {
						t.Errorf("box %q holds %+v", o.Boxes[i].ID, p)
					}
				}
			}
		}
		if o, err := OpenOffers(wire.KeySet{key}, wire.Hash{1}, b); err == nil && !cmp.Equal(o, offers()) {
			t.Errorf("%+v are accepted, which nobody signed", o)
		}
	})
}
