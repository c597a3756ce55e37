// Package holding is what one account has by its own entries of the ledger alone: the kilometres that count, its part of each day's line,
// stones, crystals and goods.
//
// It is given the account's own entries in the log's order, each with its opening, and every block. An entry that hides something else than
// its opening says, that is another account's, that stands on a day on which it may not, or that takes what is not there is refused.
//
// It checks what the owner is owed, not what others are: that a grant keeps within its task's limits or that a box fits the pool is for
// those who hold all openings. Whether an entry is in the log is for the caller.
package holding

import (
	"errors"
	"fmt"
	"slices"

	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	maxOpening = 1 << 10
	// maxAhead is how many days after the log's day a credit may take effect or an account be activated at most, as in package audit.
	maxAhead = 2
	// requestLen is what one request takes in State.Requests.
	requestLen = 2 + len(wire.Hash{})
)

// A State is what is remembered of an account.
type State struct {
	Account string   `cbor:"0,keyasint"`
	Secret  [32]byte `cbor:"1,keyasint"`
	// Live are the kilometres that count or will, by the day from which they do.
	Live []Effective `cbor:"2,keyasint,omitempty"`
	// Interval is the account's part of the line of the last block's day, empty for none.
	Interval Interval `cbor:"3,keyasint"`
	// Milli are stones, drawn and from boxes, less those redeemed, in milli-stones.
	Milli    uint64               `cbor:"4,keyasint"`
	Crystals cultivation.Crystals `cbor:"5,keyasint"`
	Goods    []Goods              `cbor:"6,keyasint,omitempty"`
	// Key signs requests; zeros before there is one. Activated is the program day, 0 for not yet.
	Key       wire.PublicKey `cbor:"7,keyasint"`
	Activated uint32         `cbor:"8,keyasint"`
	Bindings  []Binding      `cbor:"9,keyasint,omitempty"`
	// Offers are the signed offers in force, and later ones.
	Offers [][]byte `cbor:"10,keyasint,omitempty"`
	// Requests are the requests under those offers, so that none counts twice: the serial in 2 bytes, big-endian, and the identifier of each.
	Requests []byte `cbor:"11,keyasint,omitempty"`
	// Closed are the boxes that stand before the last block, which the next one opens.
	Closed []Box `cbor:"12,keyasint,omitempty"`
}

// Effective are kilometres that count from a program day on.
type Effective struct {
	_   struct{} `cbor:",toarray"`
	Day uint32
	Km  uint64
}

// An Interval is reward.Interval.
type Interval struct {
	_          struct{} `cbor:",toarray"`
	Begin, End uint64
}

// Goods are how many of an item boxes have given.
type Goods struct {
	_     struct{} `cbor:",toarray"`
	Item  string
	Count uint64
}

// A Binding is a time in which a key counted for the account: for its sequence numbers above From, and when it is closed, up to Cut.
type Binding struct {
	_               struct{} `cbor:",toarray"`
	Vehicle         string
	ECU             wire.KeyID
	From, Cut       uint64
	Closed, Revoked bool
}

// A Box is one that is not open yet.
type Box struct {
	_      struct{} `cbor:",toarray"`
	Number uint64
	Offers uint16
	Box    string
	Owner  bool
}

// A Gain is what an entry or a block has changed.
type Gain struct {
	// Km are credited kilometres. Drawn, Won and Redeemed are in milli-stones; Units are those of the draw.
	Km, Units, Drawn, Won, Redeemed uint64
	// Granted and Back are crystals, Spent those that boxes cost.
	Granted, Back, Spent uint64
	// Goods are items that boxes gave.
	Goods []string
}

// A Holding is a State under a program. It is used by one goroutine at a time.
type Holding struct {
	State
	program *terms.Program
	id      wire.Hash
	offers  []*cultivation.Offers // of State.Offers
	asked   []Box                 // since the last block: the next fixes their places, and the one after it opens them
}

// New goes on from a state, of which Account and Secret are required.
func New(program *terms.Program, id wire.Hash, s State) (*Holding, error) {
	h := &Holding{State: s, program: program, id: id}
	if len(s.Requests)%requestLen != 0 {
		return nil, errors.New("identifiers of requests are not whole")
	}
	for _, b := range s.Offers {
		o, err := cultivation.OpenOffers(program.Policy, id, b)
		if err != nil {
			return nil, err
		}
		h.offers = append(h.offers, o)
	}
	return h, nil
}

// Announce takes in the next signed offers. When begun, the log's day is known to be today.
func (h *Holding) Announce(body []byte, begun bool, today uint32) error {
	o, err := cultivation.OpenOffers(h.program.Policy, h.id, body)
	if err != nil {
		return err
	}
	if n := len(h.offers); n > 0 && o.Serial <= h.offers[n-1].Serial {
		return fmt.Errorf("offers have serial %d, should be above %d", o.Serial, h.offers[n-1].Serial)
	}
	if begun && uint64(o.FromDay) < uint64(today)+cultivation.NoticeDays {
		return fmt.Errorf("offers are in force from day %d on, should be from day %d on at the earliest", o.FromDay, uint64(today)+cultivation.NoticeDays)
	}
	h.offers, h.Offers = append(h.offers, o), append(h.Offers, body)
	return nil
}

// Entry takes in the account's next entry, of any type but offers, with the opening that its blind hides. Today is the log's day.
func (h *Holding) Entry(e *ledger.Entry, opening []byte, today uint32) (Gain, error) {
	switch e.Type {
	case ledger.TypeCredit:
		return h.credit(e, opening, today)
	case ledger.TypeBinding:
		return Gain{}, h.binding(e, opening)
	case ledger.TypeHandover:
		return Gain{}, h.handover(e, opening)
	case ledger.TypeAccount:
		return Gain{}, h.change(e, opening, today)
	case ledger.TypeGrant:
		return h.grant(e, opening, today)
	case ledger.TypeBox:
		return h.box(e, opening, today)
	case ledger.TypeRedemption:
		return h.redemption(e, opening, today)
	}
	return Gain{}, fmt.Errorf("a %v is no entry of an account", e.Type)
}

// open reads an opening and checks that it is the one that the entry's blind hides.
func open[T any, P interface {
	*T
	Blind() (wire.Hash, error)
}](b []byte, entry wire.Hash) (T, error) {
	var o T
	if err := codec.Decode(b, &o, maxOpening); err != nil {
		return o, err
	}
	blind, err := P(&o).Blind()
	if err != nil {
		return o, err
	}
	if blind != entry {
		return o, fmt.Errorf("its blind is %s, its opening's is %s", entry, blind)
	}
	return o, nil
}

func (h *Holding) mine(account string) error {
	if account != h.Account {
		return errors.New("it is another account's")
	}
	return nil
}

func (h *Holding) credit(e *ledger.Entry, opening []byte, today uint32) (g Gain, err error) {
	c, err := e.Credit()
	if err != nil {
		return g, err
	}
	o, err := open[ledger.CreditOpening](opening, c.Blind)
	if err == nil {
		err = h.mine(o.Account)
	}
	if err != nil {
		return g, err
	}
	if o.Kind != terms.KindMileage && c.Km != 0 {
		return g, fmt.Errorf("credit of kind %q is %d km, should be 0", o.Kind, c.Km)
	}
	if c.Effective < today || c.Effective-today > maxAhead {
		return g, fmt.Errorf("credit takes effect on day %d, should be from %d to %d", c.Effective, today, uint64(today)+maxAhead)
	}
	if !slices.ContainsFunc(h.Bindings, func(b Binding) bool {
		return b.ECU == o.ECU && !b.Revoked && b.From < o.ToSeq && (!b.Closed || o.ToSeq <= b.Cut)
	}) {
		return g, fmt.Errorf("credit's key %s is not bound to the account at its snapshot %d", o.ECU, o.ToSeq)
	}
	g.Km = uint64(c.Km)
	i, found := slices.BinarySearchFunc(h.Live, c.Effective, func(l Effective, day uint32) int { return int(int64(l.Day) - int64(day)) })
	if !found && g.Km > 0 {
		h.Live = slices.Insert(h.Live, i, Effective{Day: c.Effective})
	}
	if g.Km > 0 {
		h.Live[i].Km += g.Km // an entry adds at most 2^32, and no account has 2^32 of them
	}
	return g, nil
}

// Weight returns the account's kilometres that count on a day.
func (h *Holding) Weight(day uint32) (km uint64) {
	for _, l := range h.Live {
		if reward.Counts(day, l.Day) {
			km += l.Km
		}
	}
	return km
}

// Day begins a day under its weights root. The path, nil for none, must show the account's own weight there. What does not count today counts
// on no later day.
func (h *Holding) Day(day uint32, root reward.Root, path *reward.Path) error {
	weight := h.Weight(day)
	h.Interval = Interval{}
	h.Live = slices.DeleteFunc(h.Live, func(l Effective) bool { return reward.Expired(day, l.Day) })
	h.prune(day)
	switch {
	case weight == 0 && path == nil:
		return nil
	case weight == 0:
		return fmt.Errorf("day %d has a path, but no credit counts on it", day)
	case path == nil:
		return fmt.Errorf("day %d has no path, but %d km count on it", day, weight)
	}
	i, err := path.Verify(root, reward.Leaf{Pseudonym: reward.Pseudonym(h.Secret, day), Weight: weight})
	if err != nil {
		return fmt.Errorf("day %d does not weigh the account with its %d km: %w", day, weight, err)
	}
	h.Interval = Interval{Begin: i.Begin, End: i.End}
	return nil
}

// Draw gives the account its share of a block, and opens by the block's seed the boxes that stand before the block before it.
func (h *Holding) Draw(b *ledger.Block) (g Gain, err error) {
	if h.Interval.End > 0 && b.Weight > 0 {
		d, err := reward.NewDraw(b.Seed, b.Units, b.Weight)
		if err != nil {
			return g, err
		}
		if g.Units, err = d.Share(reward.Interval{Begin: h.Interval.Begin, End: h.Interval.End}); err != nil {
			return g, err
		}
		g.Drawn = g.Units * reward.Unit
	}
	for _, c := range h.Closed {
		box, err := h.offered(c.Offers, c.Box)
		if err != nil {
			return g, err
		}
		p := box.Open(b.Seed, c.Number, c.Owner)
		g.Won += p.Milli
		back := min(cultivation.Crystals(p.Crystals), cultivation.MaxCrystals-h.Crystals)
		h.Crystals, g.Back = h.Crystals+back, g.Back+uint64(back)
		if p.Goods != "" {
			g.Goods = append(g.Goods, p.Goods)
			h.give(p.Goods)
		}
	}
	h.Closed, h.asked = h.asked, nil
	h.Milli += g.Drawn + g.Won
	return g, nil
}

func (h *Holding) give(item string) {
	for i := range h.Goods {
		if h.Goods[i].Item == item {
			h.Goods[i].Count++
			return
		}
	}
	h.Goods = append(h.Goods, Goods{Item: item, Count: 1})
}

// offered returns a box of the offers of a serial.
func (h *Holding) offered(serial uint16, name string) (cultivation.Box, error) {
	for _, o := range h.offers {
		if o.Serial == serial {
			if b := o.Box(name); b != nil {
				return b.Box()
			}
		}
	}
	return cultivation.Box{}, fmt.Errorf("offers %d with box %q are not in the statement", serial, name)
}
