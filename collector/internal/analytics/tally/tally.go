// Package tally pools the usage reports of one charter: exact moments for each program day, model of vehicle and family of values, in
// memory and in a file.
//
// Adding and merging in any order and grouping give the same bits, and equal tallies have equal files. The package keeps no report and
// no vehicle, and decides nothing about what may be shown: sums of few reports are as exact as those of many.
package tally

import (
	"errors"
	"fmt"
	"slices"

	"rawstone/pkg/dp"
	"rawstone/pkg/wire"
)

const (
	// MaxModels bounds the models that are told apart, the unknown one included. Reports of further ones count for Other.
	MaxModels = 64
	// Other stands for the models beyond MaxModels. It is no model's name.
	Other = "*"
	// MaxDays bounds the program days.
	MaxDays = 1500
	// maxModelLen bounds a model's name in bytes.
	maxModelLen = 32
)

// A Part says where a family's values stand in a report's vector: from From up to To.
type Part struct {
	Family   wire.Family
	From, To int
}

// A Cell holds the moments of some reports.
type Cell struct {
	// Moments are in the order of the tally's parts; nil for a family without reports.
	Moments []*dp.Moments
	// Both is the number of reports that hold minutes by hour as well as minutes by speed.
	Both uint64
}

// both are the families that count the same minutes.
const both = wire.FamilyHours | wire.FamilySpeed

// A Tally pools reports. It is not safe for concurrent use, but for reading.
type Tally struct {
	parts  []Part
	days   map[uint32]map[string]*Cell
	models map[string]bool
}

// New returns an empty tally of vectors with these parts, at least one.
func New(parts []Part) (*Tally, error) {
	if len(parts) == 0 || len(parts) > 8 {
		return nil, fmt.Errorf("cannot make tally: %d parts, want 1 to 8", len(parts))
	}
	for _, p := range parts {
		if p.From < 0 || p.To <= p.From || p.To > wire.VectorLen {
			return nil, fmt.Errorf("cannot make tally: a part from %d up to %d of %d values", p.From, p.To, wire.VectorLen)
		}
	}
	return &Tally{parts: parts, days: make(map[uint32]map[string]*Cell), models: make(map[string]bool)}, nil
}

// Empty returns an empty tally of the same parts, which knows the same models.
func (t *Tally) Empty() *Tally {
	e := &Tally{parts: t.parts, days: make(map[uint32]map[string]*Cell), models: make(map[string]bool, len(t.models))}
	for m := range t.models {
		e.models[m] = true
	}
	return e
}

// Add takes a report in, whose vector has wire.VectorLen values. After an error, which no checked report causes, t is not to be used.
func (t *Tally) Add(day uint32, model string, families wire.Family, vector []int64) error {
	if len(vector) != wire.VectorLen {
		return fmt.Errorf("cannot tally report: %d values, want %d", len(vector), wire.VectorLen)
	}
	if !slices.ContainsFunc(t.parts, func(p Part) bool { return families&p.Family != 0 }) {
		return errors.New("cannot tally report: it has none of the families")
	}
	c := t.cell(day, model)
	for i, p := range t.parts {
		if families&p.Family == 0 {
			continue
		}
		if c.Moments[i] == nil {
			var err error
			if c.Moments[i], err = dp.NewMoments(p.To - p.From); err != nil {
				return err
			}
		}
		if err := c.Moments[i].Add(vector[p.From:p.To]); err != nil {
			return err
		}
	}
	if families&both == both {
		c.Both++
	}
	return nil
}

func (t *Tally) cell(day uint32, model string) *Cell {
	if model != Other && !t.models[model] {
		if len(model) > maxModelLen || len(t.models) >= MaxModels {
			model = Other
		} else {
			t.models[model] = true
		}
	}
	of := t.days[day]
	if of == nil {
		of = make(map[string]*Cell)
		t.days[day] = of
	}
	c := of[model]
	if c == nil {
		c = &Cell{Moments: make([]*dp.Moments, len(t.parts))}
		of[model] = c
	}
	return c
}

// Merge adds o's reports to t; o is not to be used afterwards. It fails for tallies of other parts and more reports than dp.MaxReleases.
func (t *Tally) Merge(o *Tally) error {
	if len(o.parts) != len(t.parts) {
		return errors.New("cannot merge tallies of different parts")
	}
	for day, of := range o.days {
		for model, c := range of {
			if err := t.cell(day, model).merge(c, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// merge adds what o holds to c, copying where o goes on to be used.
func (c *Cell) merge(o *Cell, shared bool) (err error) {
	c.Both += o.Both
	for i, m := range o.Moments {
		switch {
		case m == nil:
			continue
		case c.Moments[i] == nil && !shared:
			c.Moments[i] = m
			continue
		case c.Moments[i] == nil:
			if c.Moments[i], err = dp.NewMoments(m.Dim()); err != nil {
				return err
			}
		}
		if err := c.Moments[i].Merge(m); err != nil {
			return err
		}
	}
	return nil
}

// N returns the number of reports with part i.
func (c *Cell) N(i int) uint64 {
	if c.Moments[i] == nil {
		return 0
	}
	return c.Moments[i].N()
}

// Pool returns all reports of the program days from, to and between, of the given models or, when that is nil, of all.
func (t *Tally) Pool(from, to uint32, models map[string]bool) (*Cell, error) {
	pooled := &Cell{Moments: make([]*dp.Moments, len(t.parts))}
	for day, of := range t.days {
		if day < from || day > to {
			continue
		}
		for model, c := range of {
			if models != nil && !models[model] {
				continue
			}
			if err := pooled.merge(c, true); err != nil {
				return nil, err
			}
		}
	}
	return pooled, nil
}

// Counts says how many reports lie in some days.
type Counts struct {
	// Models holds the number of reports of each model, by part; Other and the unknown, empty one among them.
	Models map[string][]uint64
	// Days is the number of days on which there are any.
	Days int
}

// Count counts the reports of the program days from, to and between.
func (t *Tally) Count(from, to uint32) Counts {
	out := Counts{Models: make(map[string][]uint64)}
	for day, of := range t.days {
		if day < from || day > to {
			continue
		}
		out.Days++
		for model, c := range of {
			n := out.Models[model]
			if n == nil {
				n = make([]uint64, len(t.parts))
				out.Models[model] = n
			}
			for i := range t.parts {
				n[i] += c.N(i)
			}
		}
	}
	return out
}

// Forget drops the days before a program day, and the models that have no others.
func (t *Tally) Forget(before uint32) {
	for day := range t.days {
		if day < before {
			delete(t.days, day)
		}
	}
	clear(t.models)
	for _, of := range t.days {
		for model := range of {
			if model != Other {
				t.models[model] = true
			}
		}
	}
}

// Days returns the number of days that have reports.
func (t *Tally) Days() int { return len(t.days) }
