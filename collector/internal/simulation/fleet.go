package simulation

import (
	"runtime"
	"sync"
	"sync/atomic"

	"rawstone/pkg/reward"
	"rawstone/pkg/reward/cultivation"
)

// slots is how many effective days the credits are kept: the window, the day that leaves it and the day after today.
const slots = reward.WindowDays + 2

// A fleet is all vehicles and their owners' accounts, each an index into every list, in the order in which they join.
type fleet struct {
	profile *Profile
	random  uint64
	// tier is the policy's for a claim over as many whole kilometres, or −1; the last holds for more.
	tier []int16

	// What does not change: metres of a mean driving day, and how likely a day has a drive, in parts of 2^32.
	mean, drives []uint32
	// driven is the distance in metres since the claim whose last snapshot was on the day claimed; metres is all distance.
	driven, claimed []uint32
	metres          []uint64
	// credits holds the kilometres of each effective day, modulo slots; weight is their sum over the window.
	credits [slots][]uint16
	weight  []uint32
	// crystals and what the task has granted altogether.
	crystals []cultivation.Crystals
	granted  []uint32
	// mined and cultivated are milli-stones.
	mined, cultivated []uint64
}

func newFleet(p *Profile, n int, random uint64) *fleet {
	f := &fleet{
		profile: p, random: random, mean: make([]uint32, n), drives: make([]uint32, n), driven: make([]uint32, n), claimed: make([]uint32, n),
		metres: make([]uint64, n), weight: make([]uint32, n), crystals: make([]cultivation.Crystals, n), granted: make([]uint32, n),
		mined: make([]uint64, n), cultivated: make([]uint64, n),
	}
	for i := range f.credits {
		f.credits[i] = make([]uint16, n)
	}
	tiers := p.policy.Tiers
	f.tier = make([]int16, tiers[len(tiers)-1].Km+1)
	for km, tier := 0, -1; km < len(f.tier); km++ {
		for tier+1 < len(tiers) && int(tiers[tier+1].Km) <= km {
			tier++
		}
		f.tier[km] = int16(tier)
	}
	for v := range n {
		g, r := f.group(v), mix(f.random, uint64(v), 1<<32+1)
		year := g.KmYearFrom + uint32(r>>32*uint64(g.KmYearTo-g.KmYearFrom+1)>>32)
		f.mean[v] = uint32(uint64(year) * 1000 * 7 / (YearDays * uint64(g.DaysPerWeek)))
		f.drives[v] = uint32((uint64(g.DaysPerWeek)<<32 - 1) / 7)
	}
	return f
}

func (f *fleet) group(v int) Group {
	at := uint32(mix(f.random, uint64(v), 1<<32) >> 32 * 100 >> 32)
	for _, g := range f.profile.Owners {
		if at < g.Percent {
			return g
		}
		at -= g.Percent
	}
	return f.profile.Owners[0] // unreachable: shares add up to 100
}

// chunk is how many vehicles one core takes at a time.
const chunk = 1 << 13

// drive lets n vehicles drive for a day, make the claims that are due, and brings the weights up to date. It returns the accounts that
// can pay for a box, in their order.
func (f *fleet) drive(day uint32, n int) (ready []uint32) {
	lists := make([][]uint32, (n+chunk-1)/chunk)
	each(len(lists), func(c int) { lists[c] = f.part(day, c*chunk, min((c+1)*chunk, n)) })
	for _, l := range lists {
		ready = append(ready, l...)
	}
	return ready
}

func (f *fleet) part(day uint32, begin, end int) (ready []uint32) {
	from, to, counts := reward.Window(day)
	tomorrow := f.credits[(day+1)%slots]
	period, cost, limit := f.profile.ClaimDays, cultivation.Crystals(f.profile.box.Cost()), f.profile.limit()
	for v := begin; v < end; v++ {
		if counts {
			f.weight[v] += uint32(f.credits[to%slots][v])
			if from > 0 {
				f.weight[v] -= uint32(f.credits[(from-1)%slots][v])
			}
		}
		tomorrow[v] = 0
		r := mix(f.random, uint64(v), uint64(day))
		if uint32(r) >= f.drives[v] {
			continue
		}
		// The snapshot at the first powered instant ends a claim over what was driven before. Vehicles dispatch on different days.
		if phase := uint32(v) % period; (day+phase)/period != (f.claimed[v]+phase)/period {
			if tier := f.tier[min(int(f.driven[v]/1000), len(f.tier)-1)]; tier >= 0 {
				tomorrow[v] = uint16(f.profile.policy.Credit(int(tier), day-f.claimed[v])) // at most terms.MaxTierKm
				f.driven[v], f.claimed[v] = 0, day
				// One claim is made a day, so nothing was granted today.
				if n := f.profile.Task.Crystals; limit.Allow(0, uint64(f.granted[v]), n) == nil {
					if c, err := f.crystals[v].Grant(n); err == nil {
						f.crystals[v] = c
						f.granted[v] += n
					}
				}
			}
		}
		distance := f.mean[v]/2 + uint32(uint64(f.mean[v])*(r>>32)>>32)
		f.driven[v] += distance
		f.metres[v] += uint64(distance)
		if f.crystals[v] >= cost {
			ready = append(ready, uint32(v))
		}
	}
	return ready
}

// mix is a well spread number for every vehicle and day: the finaliser of SplitMix64 (Steele, Lea, Flood 2014), twice.
func mix(seed, v, day uint64) uint64 {
	z := seed
	for _, step := range [2]uint64{v + 1, day + 1} {
		z += step * 0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		z ^= z >> 31
	}
	return z
}

// each calls work for 0 to n−1 on all cores and returns when all have returned.
func each(n int, work func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				work(i)
			}
		})
	}
	wg.Wait()
}
