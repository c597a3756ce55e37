package cultivation

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/pkg/codec"
	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

type octets = vectortest.Octets

// offersVectors is testdata/offers.json; the README beside it says what the fields are.
type offersVectors struct {
	Comment  string          `json:"comment"`
	Secret   octets          `json:"private_key"`
	Key      octets          `json:"public_key"`
	Program  octets          `json:"program"`
	Offers   []offersVector  `json:"offers"`
	Refused  []refusedOffers `json:"refused"`
	Openings []openVector    `json:"openings"`
}

type offersVector struct {
	Version   uint8        `json:"version"`
	Serial    uint16       `json:"serial"`
	FromDay   uint32       `json:"from_day"`
	Tasks     []taskVector `json:"tasks"`
	Boxes     []boxVector  `json:"boxes"`
	Catalogue []itemVector `json:"catalogue"`
	Payload   octets       `json:"payload"`
	Bytes     octets       `json:"bytes"`
}

type taskVector struct {
	ID       string `json:"id"`
	Title    string `json:"title"`
	Crystals uint32 `json:"crystals"`
	Daily    uint64 `json:"daily"`
	Total    uint64 `json:"total"`
	Kind     string `json:"kind"`
}

type boxVector struct {
	ID     string       `json:"id"`
	Title  string       `json:"title"`
	Cost   uint32       `json:"cost"`
	Owners []oddsVector `json:"owners"`
	Others []oddsVector `json:"others"`
}

type oddsVector struct {
	Parts    uint32 `json:"parts"`
	Milli    uint64 `json:"milli"`
	Crystals uint32 `json:"crystals"`
	Goods    string `json:"goods"`
}

type itemVector struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Milli uint64 `json:"milli"`
	Fen   uint64 `json:"fen"`
	Limit uint32 `json:"limit"`
}

type refusedOffers struct {
	Why   string `json:"why"`
	Bytes octets `json:"bytes"`
}

// openVector is what a request for a box of the first offers gives.
type openVector struct {
	Box    string     `json:"box"`
	Seed   octets     `json:"seed"`
	Number uint64     `json:"number"`
	Owner  bool       `json:"owner"`
	Prize  oddsVector `json:"prize"` // without parts
}

func oddsOf(list []oddsVector) (odds []Odds) {
	for _, o := range list {
		odds = append(odds, Odds{o.Parts, Prize{o.Milli, o.Crystals, o.Goods}})
	}
	return odds
}

func (v offersVector) offers(program wire.Hash) *Offers {
	o := &Offers{Version: v.Version, Program: program, Serial: v.Serial, FromDay: v.FromDay}
	for _, t := range v.Tasks {
		o.Tasks = append(o.Tasks, Task(t))
	}
	for _, b := range v.Boxes {
		o.Boxes = append(o.Boxes, OfferedBox{b.ID, b.Title, b.Cost, oddsOf(b.Owners), oddsOf(b.Others)})
	}
	for _, i := range v.Catalogue {
		o.Catalogue = append(o.Catalogue, Item(i))
	}
	return o
}

// inputs returns offers without any bytes that are made of them.
func inputs() []offersVector {
	full := offersVector{
		Version: 1, Serial: 7, FromDay: 20_800,
		Tasks: []taskVector{
			{"survey", "Answer a survey", 20, 40, 2000, ""},
			{"assist", "使用驾驶辅助", 10, 10, 1<<32 - 1, "feature/lane"},
		},
		Boxes: []boxVector{{"jade-1", "Jade box", 300,
			[]oddsVector{{500_000, 0, 0, ""}, {299_999, 0, 100, ""}, {200_000, 1500, 0, ""}, {1, 0, 0, "model-car"}},
			[]oddsVector{{999_999, 0, 299, ""}, {1, 0, 0, "model-car"}},
		}, {"sure", "Sure thing", 1<<32 - 1, []oddsVector{{1_000_000, reward.CultivatedSupply, 0, ""}}, []oddsVector{{1_000_000, 0, 0, ""}}}},
		Catalogue: []itemVector{{"model-car", "Model car, 1:18", 120_000, 19_900, 2}, {"0-9", "Everything", reward.Supply, MaxFen, 0}, {"sticker", "Sticker", 0, 0, 1<<32 - 1}},
	}
	empty := offersVector{Version: 1, Serial: 65_535, FromDay: terms.MaxDay}
	return []offersVector{full, empty}
}

func makeOffersVectors(t *testing.T) offersVectors {
	t.Helper()
	key, program := vectortest.Key(t, "policy"), wire.Hash(vectortest.Hash("program"))
	public := must(wire.NewPublicKey(key.Public()))
	v := offersVectors{
		Comment: "Signed offers of version 1: inputs and their exact bytes, and what boxes give. See README.md.",
		Secret:  key.Secret, Key: public[:], Program: program[:],
	}
	for _, in := range inputs() {
		o := in.offers(program)
		in.Payload, in.Bytes = must(wire.Marshal(o)), must(SealOffers(key, o))
		v.Offers = append(v.Offers, in)
	}

	// Signed by the right key, and still to be refused.
	refused := func(why string, spoil func(*Offers)) {
		o := inputs()[0].offers(program)
		spoil(o)
		v.Refused = append(v.Refused, refusedOffers{why, must(wire.Seal(key, contextOffers, must(codec.Encode(o))))})
	}
	refused("version 2", func(o *Offers) { o.Version = 2 })
	refused("another program", func(o *Offers) { o.Program[0] ^= 1 })
	refused("no program", func(o *Offers) { o.Program = wire.Hash{} })
	refused("a day beyond 2^31 - 1", func(o *Offers) { o.FromDay = terms.MaxDay + 1 })
	refused("33 tasks", func(o *Offers) {
		for i := range 33 {
			o.Tasks = append(o.Tasks[:i:i], Task{ID: string(rune('a'+i/9)) + string(rune('0'+i%9)), Title: "t", Crystals: 1, Daily: 1, Total: 1})
		}
	})
	refused("a task twice", func(o *Offers) { o.Tasks[1].ID = o.Tasks[0].ID })
	refused("a task with a capital", func(o *Offers) { o.Tasks[0].ID = "Survey" })
	refused("a task without title", func(o *Offers) { o.Tasks[0].Title = "" })
	refused("a title of 121 bytes", func(o *Offers) { o.Tasks[0].Title = string(bytes.Repeat([]byte("x"), 121)) })
	refused("a task that gives nothing", func(o *Offers) { o.Tasks[0].Crystals = 0 })
	refused("a daily bound below one grant", func(o *Offers) { o.Tasks[0].Daily = 19 })
	refused("a total below the daily bound", func(o *Offers) { o.Tasks[0].Total = 39 })
	refused("a total of 2^32", func(o *Offers) { o.Tasks[1].Total = 1 << 32 })
	refused("a task proven by mileage", func(o *Offers) { o.Tasks[1].Kind = terms.KindMileage })
	refused("serial 0", func(o *Offers) { o.Serial = 0 })
	refused("a title with a directional override", func(o *Offers) { o.Tasks[0].Title = "a\u202eb" })
	refused("two tasks proven by one kind", func(o *Offers) { o.Tasks[0].Kind = o.Tasks[1].Kind })
	refused("a box that gives back its cost on average", func(o *Offers) { o.Boxes[0].Others = []Odds{{Certain, Prize{Crystals: 300}}} })
	refused("a box that costs nothing", func(o *Offers) { o.Boxes[0].Cost = 0 })
	refused("odds one part short", func(o *Offers) { o.Boxes[0].Owners[0].Parts-- })
	refused("odds one part over", func(o *Offers) { o.Boxes[0].Others[1].Parts++ })
	refused("a prize that nobody can win", func(o *Offers) { o.Boxes[0].Owners[3].Parts, o.Boxes[0].Owners[0].Parts = 0, 500_001 })
	refused("a prize of two kinds", func(o *Offers) { o.Boxes[0].Owners[2].Prize.Crystals = 1 })
	refused("a prize above the pool", func(o *Offers) { o.Boxes[1].Owners[0].Prize.Milli++ })
	refused("a prize of 1,000,001 crystals", func(o *Offers) { o.Boxes[0].Cost, o.Boxes[0].Owners[1].Prize.Crystals = 1<<32-1, 1_000_001 })
	refused("stones for those without a car", func(o *Offers) { o.Boxes[0].Others[0].Prize = Prize{Milli: 1} })
	refused("no odds", func(o *Offers) { o.Boxes[0].Others = nil })
	refused("goods that the catalogue lacks", func(o *Offers) { o.Boxes[0].Owners[3].Prize.Goods = "modelcar" })
	refused("an item above the supply", func(o *Offers) { o.Catalogue[1].Milli++ })
	refused("an item for more than 2^40 fen", func(o *Offers) { o.Catalogue[1].Fen++ })
	refused("an item twice", func(o *Offers) { o.Catalogue[1].ID = "model-car" })
	payload, good := []byte(v.Offers[0].Payload), v.Offers[0].Bytes
	v.Refused = append(v.Refused,
		refusedOffers{"trailing byte", append(slices.Clone(good), 0)},
		refusedOffers{"trailing byte in the payload, signed", must(wire.Seal(key, contextOffers, append(slices.Clone(payload), 0)))},
		refusedOffers{"signed as a policy", must(wire.Seal(key, "rawstone/policy/v1", payload))},
		refusedOffers{"signed by another key", must(wire.Seal(vectortest.Key(t, "receipt"), contextOffers, payload))},
	)

	for i := range uint64(8) {
		seed := wire.Hash(vectortest.Hash("seed " + string(rune('0'+i/2))))
		offered := v.Offers[0].offers(program).Box("jade-1")
		number := i << (8 * i)
		p := must(offered.Box()).Open(seed, number, i%2 == 0)
		v.Openings = append(v.Openings, openVector{offered.ID, seed[:], number, i%2 == 0, oddsVector{0, p.Milli, p.Crystals, p.Goods}})
	}
	return v
}

// TestOffersVectors holds the stored vectors to what this package makes of their inputs, and opens the stored bytes.
func TestOffersVectors(t *testing.T) {
	path := filepath.Join("testdata", "offers.json")
	if vectortest.Update() {
		vectortest.Write(t, path, makeOffersVectors(t))
	}
	var want offersVectors
	vectortest.Read(t, path, &want)
	if d := cmp.Diff(want, makeOffersVectors(t)); d != "" {
		t.Errorf("vectors differ (-stored +made):\n%s", d)
	}

	// From here on nothing but the stored inputs and bytes.
	keys, program := wire.KeySet{wire.PublicKey(want.Key)}, wire.Hash(want.Program)
	for _, v := range want.Offers {
		o, err := OpenOffers(keys, program, v.Bytes)
		if err != nil {
			t.Errorf("%d: %v", v.Serial, err)
			continue
		}
		if d := cmp.Diff(v.offers(program), o); d != "" {
			t.Errorf("%d (-inputs +opened):\n%s", v.Serial, d)
		}
		if !bytes.Contains(v.Bytes, v.Payload) {
			t.Errorf("%d: another payload", v.Serial)
		}
	}
	for _, v := range want.Refused {
		if _, err := OpenOffers(keys, program, v.Bytes); err == nil {
			t.Errorf("%s: accepted", v.Why)
		} else {
			t.Logf("%s: %v", v.Why, err)
		}
	}
	prizes := make(map[oddsVector]bool)
	for _, v := range want.Openings {
		box := must(want.Offers[0].offers(program).Box(v.Box).Box())
		if p := box.Open(wire.Hash(v.Seed), v.Number, v.Owner); p != (Prize{v.Prize.Milli, v.Prize.Crystals, v.Prize.Goods}) {
			t.Errorf("request %d gives %+v, want %+v", v.Number, p, v.Prize)
		}
		prizes[v.Prize] = true
	}
	if len(prizes) < 3 {
		t.Errorf("the openings show %d prizes only", len(prizes))
	}
}
