package cultivation

import (
	"crypto"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	contextOffers = "rawstone/offers/v1"
	maxOffersLen  = 16 << 10
	// NoticeDays is how many program days lie at least between the log's day on which offers are logged and the first on which they are in
	// force.
	NoticeDays = 14
	// MaxOffered bounds the tasks, the boxes and the items of offers each, MaxTitleLen their titles in bytes.
	MaxOffered  = 32
	MaxTitleLen = 120
)

// A Task is something that gives crystals.
type Task struct {
	ID    string `cbor:"0,keyasint"`
	Title string `cbor:"1,keyasint"`
	// Crystals are given each time, at least 1, within Daily on a program day and Total altogether, for one account.
	Crystals uint32 `cbor:"2,keyasint"`
	Daily    uint64 `cbor:"3,keyasint"`
	Total    uint64 `cbor:"4,keyasint"`
	// Kind is the kind of feature policy a credit of which proves the use, for example feature/assist; empty for a task that the program's
	// operator grants.
	Kind string `cbor:"5,keyasint,omitempty"`
}

// Limit returns the bounds of what an account may be granted for the task.
func (t *Task) Limit() Limit { return Limit{t.Daily, t.Total} }

// An OfferedBox is a mine box under its name.
type OfferedBox struct {
	ID    string `cbor:"0,keyasint"`
	Title string `cbor:"1,keyasint"`
	// Cost is in crystals. Owners and Others are the odds for those who have a car and for those who have none.
	Cost   uint32 `cbor:"2,keyasint"`
	Owners []Odds `cbor:"3,keyasint"`
	Others []Odds `cbor:"4,keyasint"`
}

// Box returns the box itself.
func (b *OfferedBox) Box() (Box, error) { return NewBox(b.Cost, b.Owners, b.Others) }

// An Item is what the catalogue holds: for stones and money together, or as a prize alone.
type Item struct {
	ID    string `cbor:"0,keyasint"`
	Title string `cbor:"1,keyasint"`
	// Milli is the price in milli-stones, 0 for what is a prize only, and Fen what is paid beside them, in fen (0.01 CNY).
	Milli uint64 `cbor:"2,keyasint"`
	Fen   uint64 `cbor:"3,keyasint"`
	// Limit is how many an account may redeem altogether, 0 for any number.
	Limit uint32 `cbor:"4,keyasint"`
}

// MaxFen bounds the money part of a price, so that sums fit.
const MaxFen = 1 << 40

// Offers say what gives crystals, what boxes cost and hold, and what stones are good for, from a program day on until later offers take
// over.
type Offers struct {
	Version uint8     `cbor:"0,keyasint"`
	Program wire.Hash `cbor:"1,keyasint"`
	// Serial rises with each new document.
	Serial uint16 `cbor:"2,keyasint"`
	// FromDay is the first program day on which they are in force.
	FromDay   uint32       `cbor:"3,keyasint"`
	Tasks     []Task       `cbor:"4,keyasint"`
	Boxes     []OfferedBox `cbor:"5,keyasint"`
	Catalogue []Item       `cbor:"6,keyasint"`
}

// Validate checks bounds, odds, that every name stands once and that every prize in goods is in the catalogue.
func (o *Offers) Validate() error {
	if err := wire.CheckVersion(o.Version); err != nil {
		return err
	}
	if o.Serial == 0 || o.FromDay > terms.MaxDay || o.Program.IsZero() {
		return errors.New("offers lack their program, a serial or a day within bounds")
	}
	if len(o.Tasks) > MaxOffered || len(o.Boxes) > MaxOffered || len(o.Catalogue) > MaxOffered {
		return fmt.Errorf("offers have more than %d tasks, boxes or items", MaxOffered)
	}
	items := make(map[string]bool)
	for _, i := range o.Catalogue {
		if err := name(items, "item", i.ID, i.Title); err != nil {
			return err
		}
		if i.Milli > reward.Supply || i.Fen > MaxFen {
			return fmt.Errorf("item %q costs more than there is: %d milli-stones and %d fen", i.ID, i.Milli, i.Fen)
		}
	}
	tasks, kinds := make(map[string]bool), make(map[string]bool)
	for _, t := range o.Tasks {
		if err := name(tasks, "task", t.ID, t.Title); err != nil {
			return err
		}
		if t.Crystals == 0 || t.Daily < uint64(t.Crystals) || t.Total < t.Daily || t.Total > uint64(MaxCrystals) {
			return fmt.Errorf("task %q gives %d crystals, at most %d a day and %d altogether: want at least 1, and rising bounds up to %d", t.ID, t.Crystals, t.Daily, t.Total, MaxCrystals)
		}
		if t.Kind != "" && !strings.HasPrefix(t.Kind, terms.KindFeature) {
			return fmt.Errorf("task %q is proven by kind %q, want feature/NAME", t.ID, t.Kind)
		}
		if err := terms.CheckKind(t.Kind); t.Kind != "" && err != nil {
			return fmt.Errorf("task %q: %w", t.ID, err)
		}
		if t.Kind != "" && kinds[t.Kind] {
			return fmt.Errorf("task %q is proven by kind %q, as another task is: one credit would pay twice", t.ID, t.Kind)
		}
		kinds[t.Kind] = true
	}
	boxes := make(map[string]bool)
	for _, b := range o.Boxes {
		if err := name(boxes, "box", b.ID, b.Title); err != nil {
			return err
		}
		if _, err := b.Box(); err != nil {
			return fmt.Errorf("box %q: %w", b.ID, err)
		}
		for _, odds := range [][]Odds{b.Owners, b.Others} {
			back := uint64(0) // crystals in parts: at most Certain times 2^32
			for _, x := range odds {
				if x.Prize.Goods != "" && !items[x.Prize.Goods] {
					return fmt.Errorf("box %q holds %q, which the catalogue lacks", b.ID, x.Prize.Goods)
				}
				back += uint64(x.Parts) * uint64(x.Prize.Crystals)
			}
			if back >= Certain*uint64(b.Cost) {
				return fmt.Errorf("box %q gives back %s crystals on average, should be fewer than its cost of %d crystals: it would pay for itself for ever", b.ID, decimal(back), b.Cost)
			}
		}
	}
	return nil
}

// name checks an identifier, lower-case letters, digits and hyphens, and a title, and that the identifier is new.
func name(seen map[string]bool, what, id, title string) error {
	switch {
	case id == "" || len(id) > 64 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return fmt.Errorf("%s is called %q, want 1 to 64 lower-case letters, digits and hyphens", what, id)
	case seen[id]:
		return fmt.Errorf("%s %q stands twice", what, id)
	case title == "" || len(title) > MaxTitleLen || !utf8.ValidString(title) || strings.ContainsFunc(title, hidden):
		return fmt.Errorf("%s %q has no title of 1 to %d bytes without control characters", what, id, MaxTitleLen)
	}
	seen[id] = true
	return nil
}

// hidden says whether a character shows nothing itself and may change how others are read, as directional formatting does.
func hidden(r rune) bool {
	return unicode.Is(unicode.C, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
}

// Task returns the task of that name, nil when there is none.
func (o *Offers) Task(id string) *Task {
	for i := range o.Tasks {
		if o.Tasks[i].ID == id {
			return &o.Tasks[i]
		}
	}
	return nil
}

// Box returns the box of that name, nil when there is none.
func (o *Offers) Box(id string) *OfferedBox {
	for i := range o.Boxes {
		if o.Boxes[i].ID == id {
			return &o.Boxes[i]
		}
	}
	return nil
}

// Item returns the item of that name, nil when there is none.
func (o *Offers) Item(id string) *Item {
	for i := range o.Catalogue {
		if o.Catalogue[i].ID == id {
			return &o.Catalogue[i]
		}
	}
	return nil
}

// InForce returns the offers of the highest serial that have begun by a program day, nil when there are none.
func InForce(list []*Offers, day uint32) (newest *Offers) {
	for _, o := range list {
		if o.FromDay <= day && (newest == nil || o.Serial > newest.Serial) {
			newest = o
		}
	}
	return newest
}

// SealOffers signs offers with a policy key of the program.
func SealOffers(key crypto.Signer, o *Offers) ([]byte, error) {
	b, err := wire.Marshal(o)
	if err != nil {
		return nil, err
	}
	signed, err := wire.Seal(key, contextOffers, b)
	if err == nil && len(signed) > maxOffersLen {
		err = fmt.Errorf("cannot sign offers: %d bytes, at most %d allowed: offer less", len(signed), maxOffersLen)
	}
	return signed, err
}

// DecodeOffers reads offers that nobody has signed yet.
func DecodeOffers(b []byte) (*Offers, error) {
	o := new(Offers)
	if err := wire.Unmarshal(b, o, maxOffersLen); err != nil {
		return nil, err
	}
	return o, nil
}

// OpenOffers checks signed offers under the program's policy keys and that they belong to the program.
func OpenOffers(keys wire.KeySet, program wire.Hash, b []byte) (*Offers, error) {
	payload, _, err := wire.Open(keys, contextOffers, b, maxOffersLen)
	if err != nil {
		return nil, err
	}
	o, err := DecodeOffers(payload)
	if err != nil {
		return nil, err
	}
	if o.Program != program {
		return nil, errors.New("cannot accept offers: they belong to another program")
	}
	return o, nil
}

// decimal spells an amount in parts of Certain as a decimal number.
func decimal(parts uint64) string {
	whole := fmt.Sprint(parts / Certain)
	if parts%Certain == 0 {
		return whole
	}
	return whole + "." + strings.TrimRight(fmt.Sprintf("%06d", parts%Certain), "0")
}
