package cultivation

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

const (
	// Certain is the odds, in parts, of what is sure to happen: those of a mine box add up to it.
	Certain = 1_000_000
	// MaxOdds bounds the prizes of one box.
	MaxOdds = 64
	// MaxPrizeCrystals bounds the crystals of one prize: it takes thousands of boxes to come near MaxCrystals, beyond which crystals are lost.
	MaxPrizeCrystals = 1_000_000

	tagBox = "rawstone/box/v1"
)

// A Prize is what a mine box holds: at most one of the three; the zero Prize is nothing.
type Prize struct {
	// Milli is in milli-stones, at most reward.CultivatedSupply.
	Milli uint64 `cbor:"0,keyasint,omitempty"`
	// Crystals come back to the account, at most MaxPrizeCrystals.
	Crystals uint32 `cbor:"1,keyasint,omitempty"`
	// Goods is the identifier of an item of the catalogue.
	Goods string `cbor:"2,keyasint,omitempty"`
}

func (p Prize) validate() error {
	kinds := 0
	for _, set := range []bool{p.Milli > 0, p.Crystals > 0, p.Goods != ""} {
		if set {
			kinds++
		}
	}
	if kinds > 1 {
		return errors.New("a prize is of more than one kind: give it stones, crystals or goods")
	}
	if p.Milli > reward.CultivatedSupply {
		return fmt.Errorf("a prize of %d milli-stones exceeds the whole pool of %d", p.Milli, uint64(reward.CultivatedSupply))
	}
	if p.Crystals > MaxPrizeCrystals {
		return fmt.Errorf("a prize of %d crystals exceeds %d", p.Crystals, MaxPrizeCrystals)
	}
	return nil
}

// Odds are the chance of a prize, in parts of Certain; at least 1.
type Odds struct {
	Parts uint32 `cbor:"0,keyasint"`
	Prize Prize  `cbor:"1,keyasint"`
}

// A Box is a mine box: what opening it costs and holds, for owners and for everybody else. NewBox makes one; the zero Box holds nothing.
type Box struct {
	cost           uint32
	owners, others []Odds
}

// NewBox returns a box that costs crystals, at least 1. It refuses odds that do not add up to Certain exactly, a prize of two kinds or beyond its bound, and
// stones for those who are not owners.
func NewBox(cost uint32, owners, others []Odds) (Box, error) {
	if cost == 0 {
		return Box{}, errors.New("cannot use box: it costs no crystals")
	}
	for _, table := range []struct {
		name   string
		odds   []Odds
		stones bool
	}{{"owners", owners, true}, {"others", others, false}} {
		if len(table.odds) > MaxOdds {
			return Box{}, fmt.Errorf("cannot use box: its table for %s has %d prizes, at most %d allowed", table.name, len(table.odds), MaxOdds)
		}
		sum := uint64(0) // of at most MaxOdds 32-bit numbers
		for _, o := range table.odds {
			if o.Parts == 0 {
				return Box{}, fmt.Errorf("cannot use box: its table for %s has a prize that nobody can win", table.name)
			}
			if err := o.Prize.validate(); err != nil {
				return Box{}, fmt.Errorf("cannot use box: in its table for %s %w", table.name, err)
			}
			if o.Prize.Milli > 0 && !table.stones {
				return Box{}, fmt.Errorf("cannot use box: its table for %s gives stones, which only owners can win", table.name)
			}
			sum += uint64(o.Parts)
		}
		if sum != Certain {
			return Box{}, fmt.Errorf("cannot use box: its odds for %s add up to %d parts, want %d", table.name, sum, uint64(Certain))
		}
	}
	return Box{cost, slices.Clone(owners), slices.Clone(others)}, nil
}

// Cost returns what opening the box costs, in crystals.
func (b Box) Cost() uint32 { return b.cost }

func (b Box) table(owner bool) []Odds {
	if owner {
		return b.owners
	}
	return b.others
}

// Worst returns the most that the box may give, in milli-stones: what the pool reserves from the request until the result.
func (b Box) Worst(owner bool) (milli uint64) {
	for _, o := range b.table(owner) {
		milli = max(milli, o.Prize.Milli)
	}
	return milli
}

// Open returns what the request that is the log's entry of that number holds. The seed is that of the second block after it. The first has
// fixed the request's number before anybody knows the second's seed, whose proofs may be known before it is final; a box opened by the
// first could be logged, or moved to another number, by whoever holds them. H(tag ‖ seed ‖ number) is read as a 256-bit big-endian number modulo Certain (bias below 2^-236), and falls
// into one of the table's parts, laid out in the table's order.
func (b Box) Open(seed wire.Hash, number uint64, owner bool) Prize {
	var text [len(tagBox) + len(seed) + 8]byte
	n := copy(text[:], tagBox)
	n += copy(text[n:], seed[:])
	binary.BigEndian.PutUint64(text[n:], number)
	return b.at(reward.Reduce(sha256.Sum256(text[:]), Certain), owner)
}

// at returns the prize whose parts hold the place, which is below Certain.
func (b Box) at(place uint64, owner bool) Prize {
	for _, o := range b.table(owner) {
		if place < uint64(o.Parts) {
			return o.Prize
		}
		place -= uint64(o.Parts)
	}
	return Prize{}
}
