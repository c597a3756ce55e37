package view

import (
	"slices"

	"rawstone/pkg/reward/cultivation"
)

type (
	// An Offered is one part of the offers that are in force, and of those that were announced for later.
	Offered[T any] struct {
		Today     uint32       `json:"today"`
		InForce   *Edition[T]  `json:"in_force"`
		Announced []Edition[T] `json:"announced"`
	}
	// An Edition is one part of one document of offers.
	Edition[T any] struct {
		Serial uint16 `json:"serial"`
		// FromDay is the first program day.
		FromDay uint32 `json:"from_day"`
		List    []T    `json:"list"`
	}
	// A Task gives crystals.
	Task struct {
		ID       string `json:"id"`
		Title    string `json:"title"`
		Crystals uint32 `json:"crystals"`
		Daily    uint64 `json:"daily"`
		Total    uint64 `json:"total"`
		Kind     string `json:"kind,omitempty"`
	}
	// A Box is a mine box with its odds.
	Box struct {
		ID     string `json:"id"`
		Title  string `json:"title"`
		Cost   uint32 `json:"cost"`
		Owners []Odds `json:"owners"`
		Others []Odds `json:"others"`
	}
	// Odds are the chance of a prize.
	Odds struct {
		// Parts are of cultivation.Certain.
		Parts uint32 `json:"parts"`
		Prize Prize  `json:"prize"`
	}
	// A Prize is what a mine box holds; the zero Prize is nothing.
	Prize struct {
		Milli    uint64 `json:"milli,omitempty"`
		Crystals uint32 `json:"crystals,omitempty"`
		Goods    string `json:"goods,omitempty"`
	}
	// An Item is what the catalogue holds.
	Item struct {
		ID    string `json:"id"`
		Title string `json:"title"`
		Milli uint64 `json:"milli"`
		Fen   uint64 `json:"fen"`
		Limit uint32 `json:"limit,omitempty"`
	}
)

func newPrize(p cultivation.Prize) Prize { return Prize{p.Milli, p.Crystals, p.Goods} }

func newOdds(table []cultivation.Odds) []Odds {
	out := make([]Odds, len(table))
	for i, o := range table {
		out[i] = Odds{o.Parts, newPrize(o.Prize)}
	}
	return out
}

// Tasks shows the tasks of offers.
func Tasks(o *cultivation.Offers) []Task {
	out := make([]Task, len(o.Tasks))
	for i, t := range o.Tasks {
		out[i] = Task(t)
	}
	return out
}

// Boxes shows the mine boxes of offers.
func Boxes(o *cultivation.Offers) []Box {
	out := make([]Box, len(o.Boxes))
	for i, b := range o.Boxes {
		out[i] = Box{b.ID, b.Title, b.Cost, newOdds(b.Owners), newOdds(b.Others)}
	}
	return out
}

// Catalogue shows the catalogue of offers.
func Catalogue(o *cultivation.Offers) []Item {
	out := make([]Item, len(o.Catalogue))
	for i, t := range o.Catalogue {
		out[i] = Item(t)
	}
	return out
}

// Offer shows one part of the offers in force, nil for none, and of those that come later, the last first.
func Offer[T any](part func(*cultivation.Offers) []T, today uint32, now *cultivation.Offers, later []*cultivation.Offers) Offered[T] {
	edit := func(o *cultivation.Offers) Edition[T] { return Edition[T]{o.Serial, o.FromDay, part(o)} }
	out := Offered[T]{Today: today, Announced: make([]Edition[T], 0, len(later))}
	if now != nil {
		e := edit(now)
		out.InForce = &e
	}
	for _, o := range slices.Backward(later) {
		out.Announced = append(out.Announced, edit(o))
	}
	return out
}
