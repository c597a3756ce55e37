// Package cultivation holds the rules by which crystals become stones: what tasks may grant, mine boxes with published odds, the pool
// that boxes are paid from, and the signed offers that announce them all. Section 7 of the design is its specification.
//
// Everything is a pure function of integers and bytes. The invariants, held by tests: the odds of a box add up exactly, and a result
// follows from them, a later block's seed and the request's number alone; those who are not owners never win stones; what the pool has
// issued, reserved and left adds up to its supply, whatever the order of boxes, so that it is never below zero. An amount that is not
// there, or that exceeds its bound, is refused.
//
// The package reads no clock and no log, and does not know who asks: that an account is an owner's, and that a request is signed and logged
// before the seed exists, is for its callers.
package cultivation

import (
	"fmt"

	"rawstone/pkg/reward"
)

// A Pool is what mine boxes are paid from. A request reserves its worst case, and its result gives back what it does not take, so that no
// order of requests and results can ask for what is not there: issued, reserved and left always add up to reward.CultivatedSupply. The zero
// Pool is full.
type Pool struct{ issued, reserved uint64 }

// NewPool returns the pool of which so many milli-stones are issued and reserved.
func NewPool(issued, reserved uint64) (Pool, error) {
	if issued > reward.CultivatedSupply || reserved > reward.CultivatedSupply-issued {
		return Pool{}, fmt.Errorf("cannot use pool: %d milli-stones issued and %d reserved exceed %d", issued, reserved, uint64(reward.CultivatedSupply))
	}
	return Pool{issued, reserved}, nil
}

// Issued returns the milli-stones that boxes have given.
func (p Pool) Issued() uint64 { return p.issued }

// Reserved returns the milli-stones that unresolved requests may take at most.
func (p Pool) Reserved() uint64 { return p.reserved }

// Left returns the milli-stones that are neither issued nor reserved.
func (p Pool) Left() uint64 { return reward.CultivatedSupply - p.issued - p.reserved }

// Reserve returns the pool with the worst case of one more request set aside. A worst case that does not fit is refused: the request is
// not to be logged.
func (p Pool) Reserve(worst uint64) (Pool, error) {
	if worst > p.Left() {
		return p, fmt.Errorf("cannot open box: it may give %d milli-stones, the pool has %d left", worst, p.Left())
	}
	p.reserved += worst
	return p, nil
}

// Resolve returns the pool after a request whose worst case was reserved has given milli milli-stones.
func (p Pool) Resolve(worst, milli uint64) (Pool, error) {
	if worst > p.reserved || milli > worst {
		return p, fmt.Errorf("cannot resolve box: it gives %d of at most %d milli-stones, of which %d are reserved", milli, worst, p.reserved)
	}
	p.reserved -= worst
	p.issued += milli
	return p, nil
}
