package offering

import (
	"fmt"

	"rawstone/pkg/config"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// A Source is the readable form of offers, as configs/offers/*.yaml hold it. What it lacks is the program's identifier.
type Source struct {
	// Serial rises with each new document, 1 to 65535.
	Serial uint16 `yaml:"serial"`
	// FromDay is the first program day on which they are in force; 0 leaves it to whoever builds them.
	FromDay   uint32 `yaml:"from_day"`
	Tasks     []Task `yaml:"tasks"`
	Boxes     []Box  `yaml:"boxes"`
	Catalogue []Item `yaml:"catalogue"`
}

// A Task is a cultivation.Task.
type Task struct {
	ID       string `yaml:"id" json:"id"`
	Title    string `yaml:"title" json:"title"`
	Crystals uint32 `yaml:"crystals" json:"crystals"`
	Daily    uint64 `yaml:"daily" json:"daily"`
	Total    uint64 `yaml:"total" json:"total"`
	Kind     string `yaml:"kind" json:"kind,omitempty"`
}

// A Box is a cultivation.OfferedBox.
type Box struct {
	ID     string `yaml:"id"`
	Title  string `yaml:"title"`
	Cost   uint32 `yaml:"cost"`
	Owners []Odds `yaml:"owners"`
	Others []Odds `yaml:"others"`
}

// Odds are cultivation.Odds. A prize of none of the three kinds is nothing.
type Odds struct {
	Parts    uint32 `yaml:"parts"`
	Milli    uint64 `yaml:"milli"`
	Crystals uint32 `yaml:"crystals"`
	Goods    string `yaml:"goods"`
}

// An Item is a cultivation.Item.
type Item struct {
	ID    string `yaml:"id" json:"id"`
	Title string `yaml:"title" json:"title"`
	Milli uint64 `yaml:"milli" json:"milli"`
	Fen   uint64 `yaml:"fen" json:"fen"`
	Limit uint32 `yaml:"limit" json:"limit"`
}

func odds(from []Odds) (out []cultivation.Odds) {
	for _, o := range from {
		out = append(out, cultivation.Odds{Parts: o.Parts, Prize: cultivation.Prize{Milli: o.Milli, Crystals: o.Crystals, Goods: o.Goods}})
	}
	return out
}

// Offers returns the document of a program, in force from a program day on.
func (s *Source) Offers(program wire.Hash, fromDay uint32) *cultivation.Offers {
	o := &cultivation.Offers{Version: wire.Version, Program: program, Serial: s.Serial, FromDay: fromDay}
	for _, t := range s.Tasks {
		o.Tasks = append(o.Tasks, cultivation.Task(t))
	}
	for _, b := range s.Boxes {
		o.Boxes = append(o.Boxes, cultivation.OfferedBox{ID: b.ID, Title: b.Title, Cost: b.Cost, Owners: odds(b.Owners), Others: odds(b.Others)})
	}
	for _, i := range s.Catalogue {
		o.Catalogue = append(o.Catalogue, cultivation.Item(i))
	}
	return o
}

// Validate implements config.Config. Every part is held by itself to the document's own rules, so that each fault stands at its place.
func (s *Source) Validate(f *config.Faults) {
	sound := true
	fault := func(path string, err error) {
		if err != nil {
			sound = false
			f.Add(path, "%v", err)
		}
	}
	some := wire.Hash{1}
	alone := func(part Source) error {
		part.Serial = 1
		return part.Offers(some, 1).Validate()
	}
	if s.Serial == 0 {
		fault("$.serial", fmt.Errorf("must be 1 to 65535"))
	}
	twice := func(seen map[string]bool, path, what, id string) {
		if seen[id] {
			fault(path+".id", fmt.Errorf("%s %q stands twice", what, id))
		}
		seen[id] = true
	}
	tasks, boxes, items, kinds := make(map[string]bool), make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for i, t := range s.Tasks {
		path := fmt.Sprintf("$.tasks[%d]", i)
		fault(path, alone(Source{Tasks: []Task{t}}))
		twice(tasks, path, "task", t.ID)
		if t.Kind != "" && kinds[t.Kind] {
			fault(path+".kind", fmt.Errorf("kind %q proves another task already: one credit would pay twice", t.Kind))
		}
		kinds[t.Kind] = true
	}
	for i, item := range s.Catalogue {
		path := fmt.Sprintf("$.catalogue[%d]", i)
		fault(path, alone(Source{Catalogue: []Item{item}}))
		twice(items, path, "item", item.ID)
	}
	for i, b := range s.Boxes {
		s.box(fmt.Sprintf("$.boxes[%d]", i), b, items, alone, fault)
		twice(boxes, fmt.Sprintf("$.boxes[%d]", i), "box", b.ID)
	}
	if sound {
		fault("$", s.Offers(some, max(s.FromDay, 1)).Validate())
	}
}

// box checks a box at a path: its parts by themselves and, when they are sound, what it is as a whole.
func (s *Source) box(path string, b Box, items map[string]bool, alone func(Source) error, fault func(string, error)) {
	certain := []Odds{{Parts: cultivation.Certain}}
	sound := true
	check := func(path string, err error) {
		sound = sound && err == nil
		fault(path, err)
	}
	check(path, alone(Source{Boxes: []Box{{b.ID, b.Title, b.Cost, certain, certain}}}))
	goods := make(map[string]bool)
	for _, table := range []struct {
		key            string
		odds           []Odds
		owners, others []Odds
	}{{"owners", b.Owners, b.Owners, certain}, {"others", b.Others, certain, b.Others}} {
		_, err := cultivation.NewBox(1, odds(table.owners), odds(table.others))
		check(path+"."+table.key, err)
		for j, o := range table.odds {
			if o.Goods != "" && !items[o.Goods] {
				check(fmt.Sprintf("%s.%s[%d].goods", path, table.key, j), fmt.Errorf("the catalogue has no item %q", o.Goods))
			}
			goods[o.Goods] = true
		}
	}
	if !sound {
		return
	}
	whole := Source{Boxes: []Box{b}}
	for _, item := range s.Catalogue {
		if goods[item.ID] {
			whole.Catalogue = append(whole.Catalogue, Item{ID: item.ID, Title: "some"})
			goods[item.ID] = false // an item that stands twice is a fault of its own
		}
	}
	fault(path, alone(whole))
}
