package offering

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rawstone/collector/internal/policy"
	"rawstone/pkg/config"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/vectortest"
	"rawstone/pkg/wire"
)

const launch = "../../../configs/offers/launch.yaml"

var testProgram = wire.Hash{1}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// again shows offers and builds what is shown.
func again(t interface{ Fatalf(string, ...any) }, d *Document) *cultivation.Offers {
	var b strings.Builder
	if err := d.WriteYAML(&b); err != nil {
		t.Fatalf("%v", err)
	}
	var s Source
	if err := config.Decode("shown", []byte(b.String()), &s); err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	return s.Offers(d.Program, s.FromDay)
}

func TestShippedSource(t *testing.T) {
	var s Source
	if err := config.Load(launch, &s); err != nil {
		t.Fatal(err)
	}
	o := s.Offers(testProgram, 20_000)
	if len(o.Tasks) < 3 || len(o.Boxes) != 3 || len(o.Catalogue) < 3 {
		t.Errorf("%d tasks, %d boxes, %d items", len(o.Tasks), len(o.Boxes), len(o.Catalogue))
	}
	if a, b := must(wire.Marshal(o)), must(wire.Marshal(again(t, &Document{Offers: o}))); !bytes.Equal(a, b) {
		t.Error("built, shown and built again they are other offers")
	}
	// Exact odds, averages and worst cases, by hand.
	var b strings.Builder
	if err := (&Document{Offers: o}).WriteYAML(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Not signed.\n", "at most 1,330 crystals a day.", "a credit of kind feature/assist proves it.", "the operator grants it.",
		"# Owners, on average: 770 milli-stones and 35 crystals.", // 0.3·1000 + 0.045·5000 + 0.0049·50000; 0.35·100
		"# Others, on average: 0 milli-stones and 44 crystals.",
		"# 349/1,000 (34.9 %): 20 crystals\n", "# 1/100,000 (0.001 %): item track-day\n", "# 9/100,000 (0.009 %): 1,000 stones\n", "# 1/2 (50 %): nothing\n",
		"# Worst case: 50 stones each; the pool of 90,000,000 stones could give that 1,800,000 times. All tasks' crystals spent on it: at most 221.667 stones a day for an account.",
		"# 20 stones and CNY 20.00.\n", "# A prize only.\n", "# 120 stones and CNY 199.00; at most 2 for an account.\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

// TestShowBuildsAgain holds for all offers that package cultivation accepts, whatever their titles.
func TestShowBuildsAgain(t *testing.T) {
	id := rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,8}`)
	title := rapid.StringN(1, 20, cultivation.MaxTitleLen)
	seen := 0
	rapid.Check(t, func(t *rapid.T) {
		o := &cultivation.Offers{Version: wire.Version, Program: testProgram, Serial: rapid.Uint16Min(1).Draw(t, "serial"), FromDay: rapid.Uint32Range(1, terms.MaxDay).Draw(t, "from")}
		for range rapid.IntRange(0, 2).Draw(t, "tasks") {
			n := rapid.Uint32Range(1, 1000).Draw(t, "crystals")
			o.Tasks = append(o.Tasks, cultivation.Task{ID: id.Draw(t, "id"), Title: title.Draw(t, "title"), Crystals: n, Daily: uint64(n) + rapid.Uint64Range(0, 9).Draw(t, "daily"),
				Total: rapid.Uint64Range(1009, uint64(cultivation.MaxCrystals)).Draw(t, "total"), Kind: rapid.SampledFrom([]string{"", "feature/lane"}).Draw(t, "kind")})
		}
		var goods []string
		for range rapid.IntRange(0, 2).Draw(t, "items") {
			i := cultivation.Item{ID: id.Draw(t, "id"), Title: title.Draw(t, "title"), Milli: rapid.Uint64Range(0, reward.Supply).Draw(t, "milli"),
				Fen: rapid.Uint64Range(0, cultivation.MaxFen).Draw(t, "fen"), Limit: rapid.Uint32().Draw(t, "limit")}
			o.Catalogue, goods = append(o.Catalogue, i), append(goods, i.ID)
		}
		table := func(owner bool) (odds []cultivation.Odds) {
			left := uint32(cultivation.Certain)
			for left > 0 {
				parts := left
				if len(odds) < 3 {
					parts = rapid.Uint32Range(1, left).Draw(t, "parts")
				}
				left -= parts
				var p cultivation.Prize
				switch kind := rapid.IntRange(0, 3).Draw(t, "kind"); {
				case kind == 1 && owner:
					p.Milli = rapid.Uint64Range(1, reward.CultivatedSupply).Draw(t, "milli")
				case kind == 2:
					p.Crystals = rapid.Uint32Min(1).Draw(t, "crystals")
				case kind == 3 && len(goods) > 0:
					p.Goods = rapid.SampledFrom(goods).Draw(t, "goods")
				}
				odds = append(odds, cultivation.Odds{Parts: parts, Prize: p})
			}
			return odds
		}
		for range rapid.IntRange(0, 2).Draw(t, "boxes") {
			o.Boxes = append(o.Boxes, cultivation.OfferedBox{ID: id.Draw(t, "id"), Title: title.Draw(t, "title"), Cost: rapid.Uint32Min(1).Draw(t, "cost"), Owners: table(true), Others: table(false)})
		}
		if o.Validate() != nil {
			t.Skip("not offers")
		}
		seen++
		if got := again(t, &Document{Offers: o}); !bytes.Equal(must(wire.Marshal(got)), must(wire.Marshal(o))) {
			t.Fatalf("built again: %s", cmp.Diff(o, got))
		}
	})
	if seen == 0 {
		t.Error("no offers were drawn")
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Fraction(1), "1/1,000,000"}, {Fraction(999_999), "999,999/1,000,000"}, {Fraction(250_000), "1/4"}, {Fraction(cultivation.Certain), "1/1"}, {Fraction(0), "0/1"},
		{Percent(1), "0.0001 %"}, {Percent(333_333), "33.3333 %"}, {Percent(cultivation.Certain), "100 %"},
		{Group(0), "0"}, {Group(999), "999"}, {Group(1000), "1,000"}, {Group(1<<64 - 1), "18,446,744,073,709,551,615"},
		{Decimal(5, 3), "0.005"}, {Decimal(1_200_050, 3), "1,200.05"}, {Decimal(7, 0), "7"},
		{Stones(1000), "1 stone"}, {Stones(1500), "1.5 stones"}, {Stones(0), "0 stones"}, {Yuan(5), "CNY 0.05"}, {Yuan(123_456), "CNY 1,234.56"},
		{Words(cultivation.Prize{}), "nothing"}, {Words(cultivation.Prize{Crystals: 1}), "1 crystal"}, {Words(cultivation.Prize{Milli: 250}), "0.25 stones"}, {Words(cultivation.Prize{Goods: "x"}), "item x"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	// The largest table that there can be still fits.
	m := Expect([]cultivation.Odds{{Parts: cultivation.Certain, Prize: cultivation.Prize{Milli: reward.CultivatedSupply}}})
	if Decimal(m.Milli, 6) != "90,000,000,000" || m.MostMilli != reward.CultivatedSupply {
		t.Errorf("%+v", m)
	}
}

func TestWorst(t *testing.T) {
	box := func(cost uint32, milli uint64, crystals uint32) cultivation.OfferedBox {
		return cultivation.OfferedBox{Cost: cost, Owners: []cultivation.Odds{{Parts: 1, Prize: cultivation.Prize{Milli: milli}}, {Parts: 999_999, Prize: cultivation.Prize{Crystals: crystals}}}}
	}
	for _, c := range []struct {
		daily uint64
		boxes []cultivation.OfferedBox
		want  uint64
		ok    bool
	}{
		{10, []cultivation.OfferedBox{box(3, 1000, 3)}, 3334, true},
		{9, []cultivation.OfferedBox{box(3, 1000, 0)}, 3000, true},
		{0, []cultivation.OfferedBox{box(3, 1000, 0)}, 0, true},
		{10, []cultivation.OfferedBox{box(3, 1000, 4)}, 0, false},
		{10, []cultivation.OfferedBox{box(3, 1000, 0), box(1, 0, 2)}, 0, false},
		{1 << 32, []cultivation.OfferedBox{box(1, reward.CultivatedSupply, 0)}, reward.CultivatedSupply, true},
	} {
		o := &cultivation.Offers{Tasks: []cultivation.Task{{Daily: c.daily}}, Boxes: c.boxes}
		if got, ok := Worst(o, &o.Boxes[0]); got != c.want || ok != c.ok {
			t.Errorf("%+v: %d, %t", c, got, ok)
		}
	}
}

// TestSourceRefuses names each fault at its line and column.
func TestSourceRefuses(t *testing.T) {
	text := string(must(os.ReadFile(launch)))
	for name, c := range map[string]struct{ old, new, want string }{
		"serial":       {"serial: 1", "serial: 0", "serial: must be 1 to 65535"},
		"day":          {"from_day: 0", "from_day: 2147483648", "a day within bounds"},
		"unknown key":  {"crystals: 100, daily: 100", "crystal: 100, daily: 100", "tasks[0].crystal: unknown key"},
		"no crystals":  {"crystals: 100, daily: 100", "crystals: 0, daily: 100", `tasks[0]: task "welcome" gives 0 crystals`},
		"kind":         {"kind: feature/assist", "kind: mileage", `tasks[1]: task "assist" is proven by kind "mileage", want feature/NAME`},
		"title":        {"title: Answer a product survey", "title: ''", `tasks[2]: task "survey" has no title`},
		"task twice":   {"id: survey", "id: assist", `tasks[2].id: task "assist" stands twice`},
		"box twice":    {"id: jade", "id: quartz", `boxes[1].id: box "quartz" stands twice`},
		"item twice":   {"id: car-care", "id: sticker-set", `catalogue[2].id: item "sticker-set" stands twice`},
		"cost":         {"cost: 300", "cost: 0", `boxes[1]: box "jade": cannot use box: it costs no crystals`},
		"name":         {"id: diamond", "id: Diamond", `boxes[2]: box is called "Diamond"`},
		"sum":          {"{parts: 300000}", "{parts: 300001}", "boxes[1].owners: cannot use box: its odds for owners add up to 1000001 parts, want 1000000"},
		"two prizes":   {"{parts: 150000, milli: 100}", "{parts: 150000, milli: 100, crystals: 1}", "boxes[0].owners: cannot use box: in its table for owners a prize is of more than one kind"},
		"no owner":     {"{parts: 449000, crystals: 20}", "{parts: 449000, milli: 20}", "boxes[0].others: cannot use box: its table for others gives stones"},
		"goods":        {"{parts: 10, goods: track-day}", "{parts: 10, goods: trackday}", `boxes[2].owners[6].goods: the catalogue has no item "trackday"`},
		"kind twice":   {"total: 2000}", "total: 2000, kind: feature/assist}", `tasks[2].kind: kind "feature/assist" proves another task already`},
		"for ever":     {"{parts: 350000, crystals: 100}", "{parts: 350000, crystals: 858}", `boxes[1]: box "jade" gives back 300.3 crystals on average`},
		"steering":     {"title: Answer a product survey", `title: "a\u202eb"`, `tasks[2]: task "survey" has no title of 1 to 120 bytes without control characters`},
		"price":        {"milli: 2500000", "milli: 300000000001", `catalogue[5]: item "track-day" costs more than there is`},
		"negative":     {"milli: 2500000", "milli: -1", "catalogue[5].milli: "},
		"overflow":     {"cost: 300", "cost: 4294967296", "boxes[1].cost: "},
		"fraction":     {"cost: 300", "cost: 1.5", "boxes[1].cost: "},
		"text as cost": {"cost: 300", "cost: '300'", "boxes[1].cost: "},
	} {
		if !strings.Contains(text, c.old) {
			t.Fatalf("%s: nothing to spoil", name)
		}
		spoilt := strings.Replace(text, c.old, c.new, 1)
		err := config.Decode("f.yaml", []byte(spoilt), new(Source))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.Contains(err.Error(), "f.yaml:") {
			t.Errorf("%s: no line and column: %v", name, err)
		}
		if strings.Count(err.Error(), "\n") != 1 && name != "unknown key" { // a wrong key leaves its own unset
			t.Errorf("%s: one fault is told as several: %v", name, err)
		}
	}
	err := config.Decode("f.yaml", []byte(strings.Replace(text, "cost: 300", "cost: 0", 1)), new(Source))
	line := strings.Count(text[:strings.Index(text, "  - id: jade")], "\n") + 1
	if want := "f.yaml:" + string(must(json.Marshal(line))) + ":5: boxes[1]"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestBuildSignVerify(t *testing.T) {
	dir := t.TempDir()
	key, stranger := vectortest.Key(t, "policy"), vectortest.Key(t, "stranger")
	p := &policy.Program{
		Program: &terms.Program{Policy: wire.KeySet{must(wire.NewPublicKey(key.Public()))}}, ID: testProgram,
		Charter: &terms.Charter{Kinds: []string{"feature/assist"}},
	}
	refused := func(name, want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	_, err := Build(p, launch, 0)
	refused("no day", "no day from which they are in force; give --from-day", err)
	_, err = Build(p, launch, terms.MaxDay+1)
	refused("day", "a day within bounds", err)
	_, err = Build(p, filepath.Join(dir, "none"), 1)
	refused("no file", "cannot read offers source", err)
	o, err := Build(p, launch, 20_000)
	if err != nil {
		t.Fatal(err)
	}
	if o.FromDay != 20_000 || o.Program != testProgram || o.Serial != 1 {
		t.Errorf("%+v", o)
	}
	source := filepath.Join(dir, "s.yaml")
	text := strings.Replace(string(must(os.ReadFile(launch))), "from_day: 0", "from_day: 77", 1)
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := must(Build(p, source, 0)); o.FromDay != 77 {
		t.Errorf("from day %d, want the source's", o.FromDay)
	}
	if o := must(Build(p, source, 78)); o.FromDay != 78 {
		t.Errorf("from day %d, want the builder's", o.FromDay)
	}
	uncovered := *p
	uncovered.Charter = &terms.Charter{}
	_, err = Build(&uncovered, launch, 20_000)
	refused("charter", `task "assist" is proven by kind "feature/assist", which the charter does not allow`, err)
	long := "serial: 1\nboxes:\n"
	for i := range 32 {
		table := strings.Repeat("      - {parts: 15625, crystals: 70000}\n", 64)
		long += "  - id: b" + strings.Repeat("x", i) + "\n    title: t\n    cost: 70001\n    owners:\n" + table + "    others:\n" + table
	}
	if err := os.WriteFile(source, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Build(p, source, 20_000)
	refused("long", "at most 16384 allowed", err)

	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	unsigned := write("u", must(wire.Marshal(o)))
	doc := must(Read(unsigned))
	signed := write("s", must(Sign(p, key, doc)))
	_, err = Sign(p, stranger, doc)
	refused("stranger", "does not name key", err)
	_, err = Sign(p, key, must(Read(signed)))
	refused("signed", "signed them already", err)
	_, err = Sign(&uncovered, key, doc)
	refused("charter", "does not allow", err)
	other := *p
	other.ID = wire.Hash{9}
	_, err = Sign(&other, key, doc)
	refused("program", "offers 1 belong to another program: build them for this one", err)

	if got := must(Verify(p, []string{signed})); len(got) != 1 || !cmp.Equal(got[0], o) {
		t.Errorf("%+v", got)
	}
	_, err = Verify(p, []string{unsigned})
	refused("unsigned", "give the signed ones (`collector offers sign`)", err)
	_, err = Verify(p, []string{signed, signed})
	refused("twice", "have serial 1", err)
	_, err = Verify(&uncovered, []string{signed})
	refused("charter", "does not allow", err)
	_, err = Verify(&other, []string{signed})
	refused("program", "another program", err)
	_, err = Verify(p, []string{write("f", must(cultivation.SealOffers(stranger, o)))})
	refused("stranger", "may not sign this", err)
	_, err = Read(write("x", []byte("serial: 1\n")))
	refused("source", "give what `collector offers build` or `offers sign` wrote", err)

	// JSON says the same, exactly.
	var shown struct {
		Boxes []ShownBox `json:"boxes"`
		By    string     `json:"unverified_signer"`
	}
	if err := json.Unmarshal(must(json.Marshal(must(Read(signed)))), &shown); err != nil {
		t.Fatal(err)
	}
	worst := uint64(221_667)
	want := ShownBox{ID: "jade", Title: "Jade box", Cost: 300, WorstDailyMilli: &worst, Others: shown.Boxes[1].Others}
	want.Owners = ShownTable{ExpectedMilli: "770", ExpectedCrystals: "35", MostMilli: 50_000, Odds: []ShownOdds{
		{300_000, "3/10", "30", 0, 0, ""}, {350_000, "7/20", "35", 0, 100, ""}, {300_000, "3/10", "30", 1000, 0, ""},
		{45_000, "9/200", "4.5", 5000, 0, ""}, {4900, "49/10000", "0.49", 50_000, 0, ""}, {100, "1/10000", "0.01", 0, 0, "model-car"},
	}}
	if d := cmp.Diff(want, shown.Boxes[1]); d != "" || shown.By == "" {
		t.Errorf("%q: %s", shown.By, d)
	}
}
