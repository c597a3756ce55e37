// Package simulation runs the rules of stones over a fleet that does not exist, to show what they do to owners who join sooner or later
// and drive more or less.
//
// The rules are the real ones: emission, window, draw, mine boxes, crystals and the pool from pkg/reward, tiers and cap from a policy. What
// stands in for the world is a profile: how the fleet grows and drives. Drops are drawn over prefix sums of the weights instead of a
// Merkle-sum tree, and seeds are hashes of the profile's instead of VRF outputs; leaves lie in the order in which their owners joined. That
// changes no owner's chances, because every drop draws its offset anew; a test draws the same drops through tree and paths.
//
// Invariants: a profile, a number of vehicles and a number of years give one result, whatever the number of cores; what the accounts
// hold in the end is exactly what was issued, or the run fails.
//
// The package proves, signs and logs nothing, and forecasts nothing: it shows what follows from a profile's assumptions.
package simulation

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// A Config says what to simulate. Profile is required, from LoadProfile.
type Config struct {
	Profile *Profile
	// Vehicles is the fleet's size when all have joined, 1 to MaxVehicles; each has an owner of its own.
	Vehicles int
	// Years of 365 program days, 1 to MaxYears.
	Years int
	// Progress is called after each day with the days that are done and all there are; nil for nobody.
	Progress func(done, all uint32)
}

const tagSeed = "rawstone/simulation/v1"

// A run is a simulation between two days.
type run struct {
	Config
	fleet *fleet
	// height counts drops with weight; carry is what the last left over.
	height, carry uint64
	pool          cultivation.Pool
	// requests counts boxes, goods those that held goods.
	requests, goods uint64
	line            reward.Line
	who             []uint32 // the account of each leaf
	// order, when set, changes the order of the day's leaves.
	order func(day uint32, who []uint32)
}

func newRun(c Config) (*run, error) {
	switch {
	case c.Profile == nil || c.Profile.policy == nil:
		return nil, errors.New("cannot simulate: no profile is loaded")
	case c.Vehicles < 1 || c.Vehicles > MaxVehicles:
		return nil, fmt.Errorf("cannot simulate %d vehicles: give 1 to %d", c.Vehicles, MaxVehicles)
	case c.Years < 1 || c.Years > MaxYears:
		return nil, fmt.Errorf("cannot simulate %d years: give 1 to %d", c.Years, MaxYears)
	}
	r := &run{Config: c, who: make([]uint32, 0, c.Vehicles)}
	digest := r.seed(1<<64 - 1)
	r.fleet = newFleet(c.Profile, c.Vehicles, binary.BigEndian.Uint64(digest[:]))
	return r, nil
}

// Run simulates until the last day. It ends early only when ctx does.
func Run(ctx context.Context, c Config) (*Result, error) {
	r, err := newRun(c)
	if err != nil {
		return nil, err
	}
	days := uint32(c.Years) * YearDays
	result := r.begin()
	for day, n := uint32(0), 0; day < days; day++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if n, err = r.day(day, n); err != nil {
			return nil, err
		}
		// A month's last day.
		if (day+1)*12/YearDays != day*12/YearDays {
			result.sample(r, day+1, n)
		}
		if c.Progress != nil {
			c.Progress(day+1, days)
		}
	}
	return result, result.end(r, days)
}

// seed is what the drop of that number is drawn with.
func (r *run) seed(drop uint64) wire.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(tagSeed+r.Profile.Seed), drop))
}

// day runs a day before which so many had joined, and returns how many have on it.
func (r *run) day(day uint32, before int) (n int, err error) {
	f := r.fleet
	n = r.Profile.joined(r.Vehicles, day)
	for v := before; v < n; v++ {
		f.claimed[v] = day
	}
	ready := f.drive(day, n)
	if err := r.lay(day, n); err != nil {
		return n, err
	}
	if err := r.drops(day); err != nil {
		return n, err
	}
	return n, r.boxes(day, ready)
}

// lay makes the day's line.
func (r *run) lay(day uint32, n int) error {
	r.who = r.who[:0]
	for v, w := range r.fleet.weight[:n] {
		if w > 0 {
			r.who = append(r.who, uint32(v))
		}
	}
	if r.order != nil {
		r.order(day, r.who)
	}
	r.line.Reset()
	for _, v := range r.who {
		if err := r.line.Append(uint64(r.fleet.weight[v])); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) drops(day uint32) error {
	if r.line.Total() == 0 {
		return nil // such drops issue nothing and do not advance the height
	}
	per := int(r.Profile.DropsPerDay)
	draws := make([]reward.Draw, per)
	for i := range draws {
		units, carry, err := reward.Units(r.height, r.carry)
		if err != nil {
			return err
		}
		r.height, r.carry = r.height+1, carry
		if draws[i], err = reward.NewDraw(r.seed(uint64(day)*uint64(per)+uint64(i)), units, r.line.Total()); err != nil {
			return err
		}
	}
	wins, failed := make([][]reward.Win, per), make([]error, per)
	each(per, func(i int) { wins[i], failed[i] = draws[i].Wins(r.line) })
	if err := errors.Join(failed...); err != nil {
		return err
	}
	for _, list := range wins {
		for _, w := range list {
			r.fleet.mined[r.who[w.Index]] += w.Units * reward.Unit
		}
	}
	return nil
}

// boxes lets accounts open a box each, evenly over the day's drops. All requests before a drop are reserved before its seed resolves them;
// one whose worst case does not fit is refused, and its crystals stay.
func (r *run) boxes(day uint32, ready []uint32) error {
	box, per := r.Profile.box, int(r.Profile.DropsPerDay)
	worst := box.Worst(true)
	type request struct {
		account uint32
		number  uint64
	}
	var open []request
	for i := range per {
		open = open[:0]
		for _, v := range ready[len(ready)*i/per : len(ready)*(i+1)/per] {
			pool, err := r.pool.Reserve(worst)
			if err != nil {
				break // it is the same for all that follow
			}
			if r.fleet.crystals[v], err = r.fleet.crystals[v].Spend(box.Cost()); err != nil {
				return err
			}
			r.pool = pool
			open = append(open, request{v, r.requests})
			r.requests++
		}
		seed := r.seed(uint64(day)*uint64(per) + uint64(i))
		for _, q := range open {
			prize := box.Open(seed, q.number, true)
			var err error
			if r.pool, err = r.pool.Resolve(worst, prize.Milli); err != nil {
				return err
			}
			r.fleet.cultivated[q.account] += prize.Milli
			if prize.Goods != "" {
				r.goods++
			}
			if prize.Crystals > 0 {
				// Beyond the bound they are lost to the account, which a ledger would refuse.
				if c, err := r.fleet.crystals[q.account].Grant(prize.Crystals); err == nil {
					r.fleet.crystals[q.account] = c
				}
			}
		}
	}
	return nil
}
