package offering

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
)

// WriteYAML writes the document as a source with what it promises in comments. Built again for the same program, the text gives the same
// offers.
func (d *Document) WriteYAML(w io.Writer) error {
	var b strings.Builder
	o := d.Offers
	if d.Signer != nil {
		fmt.Fprintf(&b, "# Signed, it says, by key %s: `collector offers verify` checks that.\n", d.Signer)
	} else {
		b.WriteString("# Not signed.\n")
	}
	fmt.Fprintf(&b, "# program: %s\nserial: %d\nfrom_day: %d\n", o.Program, o.Serial, o.FromDay)
	if len(o.Tasks) > 0 {
		fmt.Fprintf(&b, "# All tasks together give an account at most %s crystals a day.\ntasks:\n", Group(Daily(o)))
	}
	for _, t := range o.Tasks {
		by := "the operator grants it"
		if t.Kind != "" {
			by = "a credit of kind " + t.Kind + " proves it"
		}
		fmt.Fprintf(&b, "  # %s crystals each time, at most %s a day and %s altogether; %s.\n", Group(uint64(t.Crystals)), Group(t.Daily), Group(t.Total), by)
		fmt.Fprintf(&b, "  - {id: %q, title: %s, crystals: %d, daily: %d, total: %d", t.ID, strconv.Quote(t.Title), t.Crystals, t.Daily, t.Total)
		if t.Kind != "" {
			fmt.Fprintf(&b, ", kind: %q", t.Kind)
		}
		b.WriteString("}\n")
	}
	if len(o.Boxes) > 0 {
		b.WriteString("boxes:\n")
	}
	for i := range o.Boxes {
		box := &o.Boxes[i]
		fmt.Fprintf(&b, "  # %s\n", worst(o, box))
		fmt.Fprintf(&b, "  - id: %q\n    title: %s\n    cost: %d\n", box.ID, strconv.Quote(box.Title), box.Cost)
		writeOdds(&b, "owners", box.Owners)
		writeOdds(&b, "others", box.Others)
	}
	if len(o.Catalogue) > 0 {
		b.WriteString("catalogue:\n")
	}
	for _, i := range o.Catalogue {
		fmt.Fprintf(&b, "  # %s\n  - {id: %q, title: %s, milli: %d, fen: %d, limit: %d}\n", price(i), i.ID, strconv.Quote(i.Title), i.Milli, i.Fen, i.Limit)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// worst says what a box may take from the pool.
func worst(o *cultivation.Offers, box *cultivation.OfferedBox) string {
	most := Expect(box.Owners).MostMilli
	if most == 0 {
		return "Never gives stones."
	}
	s := fmt.Sprintf("Worst case: %s each; the pool of %s could give that %s times.", Stones(most), Stones(reward.CultivatedSupply), Group(reward.CultivatedSupply/most))
	if milli, ok := Worst(o, box); ok {
		return s + fmt.Sprintf(" All tasks' crystals spent on it: at most %s a day for an account.", Stones(milli))
	}
	return s + " A box can give back more crystals than it costs: nothing bounds what an account may win in a day."
}

func writeOdds(b *strings.Builder, key string, table []cultivation.Odds) {
	m := Expect(table)
	fmt.Fprintf(b, "    # %s, on average: %s milli-stones and %s crystals.\n    %s:\n", strings.ToUpper(key[:1])+key[1:], Decimal(m.Milli, 6), Decimal(m.Crystals, 6), key)
	for _, o := range table {
		prize := ""
		switch p := o.Prize; {
		case p.Milli > 0:
			prize = fmt.Sprintf(", milli: %d", p.Milli)
		case p.Crystals > 0:
			prize = fmt.Sprintf(", crystals: %d", p.Crystals)
		case p.Goods != "":
			prize = fmt.Sprintf(", goods: %q", p.Goods)
		}
		fmt.Fprintf(b, "      - {parts: %d%s} # %s (%s): %s\n", o.Parts, prize, Fraction(o.Parts), Percent(o.Parts), Words(o.Prize))
	}
}

// price says what an item costs.
func price(i cultivation.Item) string {
	if i.Milli == 0 && i.Fen == 0 {
		return "A prize only."
	}
	s := Stones(i.Milli)
	switch {
	case i.Milli == 0:
		s = "A prize only; to be paid with it: " + Yuan(i.Fen)
	case i.Fen > 0:
		s += " and " + Yuan(i.Fen)
	}
	if i.Limit > 0 {
		s += fmt.Sprintf("; at most %s for an account", Group(uint64(i.Limit)))
	}
	return s + "."
}

// The JSON form spells the source's keys, with the exact odds and averages beside them.
type (
	shown struct {
		Program   string     `json:"program"`
		Serial    uint16     `json:"serial"`
		FromDay   uint32     `json:"from_day"`
		Tasks     []Task     `json:"tasks"`
		Boxes     []ShownBox `json:"boxes"`
		Catalogue []Item     `json:"catalogue"`
		// Signer is who the file says signed it.
		Signer string `json:"unverified_signer,omitempty"`
	}
	// A ShownBox is a box with what its odds amount to.
	ShownBox struct {
		ID     string     `json:"id"`
		Title  string     `json:"title"`
		Cost   uint32     `json:"cost"`
		Owners ShownTable `json:"owners"`
		Others ShownTable `json:"others"`
		// WorstDailyMilli is Worst in milli-stones, absent when there is no bound.
		WorstDailyMilli *uint64 `json:"worst_daily_milli,omitempty"`
	}
	// A ShownTable is a table of odds. The averages are exact decimals, in milli-stones and in crystals.
	ShownTable struct {
		Odds             []ShownOdds `json:"odds"`
		ExpectedMilli    string      `json:"expected_milli"`
		ExpectedCrystals string      `json:"expected_crystals"`
		MostMilli        uint64      `json:"most_milli"`
	}
	// ShownOdds are the chance of a prize in parts of a million, as a fraction in lowest terms and in percent, exactly.
	ShownOdds struct {
		Parts    uint32 `json:"parts"`
		Fraction string `json:"fraction"`
		Percent  string `json:"percent"`
		Milli    uint64 `json:"milli,omitempty"`
		Crystals uint32 `json:"crystals,omitempty"`
		Goods    string `json:"goods,omitempty"`
	}
)

func table(from []cultivation.Odds) ShownTable {
	m := Expect(from)
	t := ShownTable{
		Odds: make([]ShownOdds, 0, len(from)), ExpectedMilli: strings.ReplaceAll(Decimal(m.Milli, 6), ",", ""),
		ExpectedCrystals: strings.ReplaceAll(Decimal(m.Crystals, 6), ",", ""), MostMilli: m.MostMilli,
	}
	for _, o := range from {
		t.Odds = append(t.Odds, ShownOdds{
			Parts: o.Parts, Fraction: strings.ReplaceAll(Fraction(o.Parts), ",", ""), Percent: strings.TrimSuffix(Percent(o.Parts), " %"),
			Milli: o.Prize.Milli, Crystals: o.Prize.Crystals, Goods: o.Prize.Goods,
		})
	}
	return t
}

// ShowBoxes spells out the boxes of offers.
func ShowBoxes(o *cultivation.Offers) []ShownBox {
	boxes := make([]ShownBox, 0, len(o.Boxes)) // an empty list in JSON too
	for i := range o.Boxes {
		b := &o.Boxes[i]
		s := ShownBox{ID: b.ID, Title: b.Title, Cost: b.Cost, Owners: table(b.Owners), Others: table(b.Others)}
		if milli, ok := Worst(o, b); ok {
			s.WorstDailyMilli = &milli
		}
		boxes = append(boxes, s)
	}
	return boxes
}

// ShowTasks spells out the tasks of offers.
func ShowTasks(o *cultivation.Offers) []Task {
	tasks := make([]Task, 0, len(o.Tasks))
	for _, t := range o.Tasks {
		tasks = append(tasks, Task(t))
	}
	return tasks
}

// ShowCatalogue spells out the catalogue of offers.
func ShowCatalogue(o *cultivation.Offers) []Item {
	items := make([]Item, 0, len(o.Catalogue))
	for _, i := range o.Catalogue {
		items = append(items, Item(i))
	}
	return items
}

// MarshalJSON spells out everything that the document holds.
func (d *Document) MarshalJSON() ([]byte, error) {
	o := d.Offers
	s := shown{Program: o.Program.String(), Serial: o.Serial, FromDay: o.FromDay, Tasks: ShowTasks(o), Boxes: ShowBoxes(o), Catalogue: ShowCatalogue(o)}
	if d.Signer != nil {
		s.Signer = d.Signer.String()
	}
	return json.Marshal(s)
}
