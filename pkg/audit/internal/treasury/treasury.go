// Package treasury is the public part of an audit that follows stones outside the draw: mine boxes asked for and opened, the pool that pays
// them, and what was redeemed. Anybody can compute it; whose a box is, and whether they may ask, needs the openings.
//
// A Treasury is a value: each method returns the one after, and an error leaves the one before as it was. Its invariants, by its checks:
// what boxes have given and may still give never exceeds reward.CultivatedSupply, and what was redeemed never what exists; a box is opened by
// the second block after it, whose seed nobody knows before the first has fixed the box's place.
package treasury

import (
	"errors"
	"fmt"

	"rawstone/pkg/account"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// A Treasury is the state after a prefix of a log. The zero value is before the first entry. Of two that come of one, only one may go on.
type Treasury struct {
	pool     cultivation.Pool
	boxes    uint64 // opened so far
	redeemed uint64
	// Both in order of numbers: ready are the boxes that stand before the last block, which the next one opens, and asked those since.
	ready, asked []asked
	opened       []Opened
}

// asked is a mine box that waits for its block.
type asked struct {
	number, worst uint64
	box           cultivation.Box
	owner         bool
}

// An Opened says what the request that is the log's entry of that number held.
type Opened struct {
	Number uint64
	Prize  cultivation.Prize
}

// Pool returns the pool of the boxes.
func (t Treasury) Pool() cultivation.Pool { return t.pool }

// Boxes returns how many boxes were opened, and Redeemed the milli-stones that were redeemed.
func (t Treasury) Boxes() uint64 { return t.boxes }

// Redeemed returns the milli-stones that were redeemed.
func (t Treasury) Redeemed() uint64 { return t.redeemed }

// Opened returns what the last block opened, in order of numbers.
func (t Treasury) Opened() []Opened { return t.opened }

// Grant checks what anybody can check of a grant, on the log's day today.
func Grant(g account.Grant, today uint32) error {
	if g.Crystals == 0 {
		return errors.New("grant gives no crystals")
	}
	return checkDay("grant", g.Day, today)
}

// checkDay checks that what was decided on a day may be logged today: on that day, or after the one change of day that may fall between.
func checkDay(what string, day, today uint32) error {
	if day > today || today-day > 1 {
		return fmt.Errorf("%s is of day %d, should be of the log's day %d or the one before", what, day, today)
	}
	return nil
}

// Box takes in a request for a mine box on the log's day today. The offers are those in force on the request's day, nil for none. It
// returns also what the box costs in crystals.
func (t Treasury) Box(number uint64, b account.Box, offers *cultivation.Offers, today uint32) (after Treasury, cost uint32, err error) {
	if err := checkDay("box", b.Day, today); err != nil {
		return t, 0, err
	}
	if offers == nil {
		return t, 0, fmt.Errorf("box is of day %d, on which no offers are in force", b.Day)
	}
	if b.Offers != offers.Serial {
		return t, 0, fmt.Errorf("box is of offers %d, should be of %d, which are in force on day %d", b.Offers, offers.Serial, b.Day)
	}
	offered := offers.Box(b.Box)
	if offered == nil {
		return t, 0, fmt.Errorf("box %q is not in offers %d", b.Box, offers.Serial)
	}
	box, err := offered.Box()
	if err != nil {
		return t, 0, err
	}
	a := asked{number, box.Worst(b.Owner), box, b.Owner}
	if t.pool, err = t.pool.Reserve(a.worst); err != nil {
		return t, 0, err
	}
	t.asked = append(t.asked, a)
	return t, box.Cost(), nil
}

// Redemption takes in the use of stones on the log's day today, when so many milli-stones were mined.
func (t Treasury) Redemption(r account.Redemption, mined uint64, today uint32) (Treasury, error) {
	if err := checkDay("redemption", r.Day, today); err != nil {
		return t, err
	}
	if r.Milli == 0 {
		return t, errors.New("redemption uses no stones")
	}
	if left := mined + t.pool.Issued() - t.redeemed; r.Milli > left {
		return t, fmt.Errorf("redemption uses %d milli-stones, only %d exist that were not redeemed", r.Milli, left)
	}
	t.redeemed += r.Milli
	return t, nil
}

// Open opens the boxes that stand before the last block, by the seed of the block that comes next. Those since wait for the one after: who
// put them into the log may have known the seed.
func (t Treasury) Open(seed wire.Hash) (Treasury, error) {
	opened := make([]Opened, len(t.ready))
	for i, a := range t.ready {
		opened[i] = Opened{a.number, a.box.Open(seed, a.number, a.owner)}
		var err error
		if t.pool, err = t.pool.Resolve(a.worst, opened[i].Prize.Milli); err != nil {
			return t, err
		}
	}
	t.boxes += uint64(len(opened))
	t.ready, t.asked, t.opened = t.asked, nil, opened
	return t, nil
}
