package cultivation

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func others() []Odds { return []Odds{{Certain, Prize{Crystals: 1}}} }

// TestOpen computes results by the published rule, with the standard library's numbers.
func TestOpen(t *testing.T) {
	owners := []Odds{{700_000, Prize{}}, {250_000, Prize{Crystals: 5}}, {49_999, Prize{Milli: 2500}}, {1, Prize{Goods: "model car"}}}
	box := must(NewBox(10, owners, []Odds{{999_999, Prize{}}, {1, Prize{Goods: "sticker"}}}))
	if box.Cost() != 10 || box.Worst(true) != 2500 || box.Worst(false) != 0 {
		t.Errorf("box costs %d, gives at most %d and %d", box.Cost(), box.Worst(true), box.Worst(false))
	}
	won := make(map[Prize]int)
	for number := range uint64(20_000) {
		seed := wire.Hash{byte(number), 9}
		digest := sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte("rawstone/box/v1"), seed[:]...), number))
		at := new(big.Int).Mod(new(big.Int).SetBytes(digest[:]), big.NewInt(1_000_000)).Int64()
		want := Prize{Goods: "model car"}
		switch {
		case at < 700_000:
			want = Prize{}
		case at < 950_000:
			want = Prize{Crystals: 5}
		case at < 999_999:
			want = Prize{Milli: 2500}
		}
		got := box.Open(seed, number, true)
		if got != want {
			t.Fatalf("request %d at %d gives %+v, want %+v", number, at, got, want)
		}
		won[got]++
		if box.Open(seed, number, false).Milli != 0 {
			t.Fatal("somebody who is not an owner wins stones")
		}
	}
	// Four standard deviations.
	for p, n := range map[Prize]float64{{}: 14_000, {Crystals: 5}: 5_000, {Milli: 2500}: 1_000} {
		if d := float64(won[p]) - n; math.Abs(d) > 4*math.Sqrt(n*(1-n/20_000)) {
			t.Errorf("%+v is won %d times of 20,000, expected %.0f", p, won[p], n)
		}
	}
	if (Box{}).Open(wire.Hash{}, 0, true) != (Prize{}) {
		t.Error("the zero box holds something")
	}
	// A box keeps its odds whatever happens to the caller's list.
	clear(owners)
	if box.Worst(true) != 2500 {
		t.Error("a box shares its caller's list")
	}
}

// TestOddsExact walks through every part: each prize has exactly as many as its odds say.
func TestOddsExact(t *testing.T) {
	odds := []Odds{{1, Prize{Milli: 9}}, {333_333, Prize{Crystals: 1}}, {666_665, Prize{}}, {1, Prize{Goods: "a"}}}
	box := must(NewBox(1, odds, others()))
	count := make(map[Prize]uint32)
	for at := range uint64(Certain) {
		count[box.at(at, true)]++
	}
	for _, o := range odds {
		if count[o.Prize] != o.Parts {
			t.Errorf("%+v has %d parts, want %d", o.Prize, count[o.Prize], o.Parts)
		}
	}
}

func TestNewBoxRefuses(t *testing.T) {
	nothing := []Odds{{Certain, Prize{}}}
	wrap := make([]Odds, 0, MaxOdds) // adds up to Certain in 32 bits
	wrap = append(wrap, Odds{math.MaxUint32, Prize{}}, Odds{Certain + 1, Prize{Crystals: 1}})
	for name, c := range map[string]struct {
		cost           uint32
		owners, others []Odds
	}{
		"free":               {0, nothing, nothing},
		"too little":         {1, []Odds{{Certain - 1, Prize{}}}, nothing},
		"too much":           {1, []Odds{{Certain, Prize{}}, {1, Prize{Milli: 1}}}, nothing},
		"wrapped":            {1, wrap, nothing},
		"nobody":             {1, []Odds{{Certain, Prize{}}, {0, Prize{Milli: 1}}}, nothing},
		"two kinds":          {1, []Odds{{Certain, Prize{Milli: 1, Crystals: 1}}}, nothing},
		"stones and goods":   {1, []Odds{{Certain, Prize{Milli: 1, Goods: "a"}}}, nothing},
		"stones for others":  {1, nothing, []Odds{{Certain - 1, Prize{}}, {1, Prize{Milli: 1}}}},
		"more than the pool": {1, []Odds{{Certain, Prize{Milli: reward.CultivatedSupply + 1}}}, nothing},
		"no table":           {1, nothing, nil},
		"many prizes":        {1, slices.Repeat([]Odds{{Certain / 100, Prize{}}}, 100), nothing},
	} {
		if _, err := NewBox(c.cost, c.owners, c.others); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewBox(1, nothing, nothing); err != nil {
		t.Error(err)
	}
}

// TestPool opens boxes in any order: the pool's parts always add up, it is never below zero, and nothing that fits is refused.
func TestPool(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := Pool{}
		if rapid.Bool().Draw(t, "nearly empty") {
			pool = must(NewPool(reward.CultivatedSupply-rapid.Uint64Range(0, 5000).Draw(t, "left"), 0))
		}
		issued, open := pool.Issued(), []uint64{}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			if len(open) > 0 && rapid.Bool().Draw(t, "resolve") {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				milli := rapid.Uint64Range(0, open[i]).Draw(t, "milli")
				next, err := pool.Resolve(open[i], milli)
				if err != nil {
					t.Fatal(err)
				}
				pool, open = next, slices.Delete(open, i, i+1)
				issued += milli
			} else {
				worst := rapid.OneOf(rapid.Uint64Range(0, 2000), rapid.Uint64()).Draw(t, "worst")
				next, err := pool.Reserve(worst)
				if (err == nil) != (worst <= pool.Left()) {
					t.Fatalf("worst case of %d with %d left: %v", worst, pool.Left(), err)
				}
				if pool = next; err == nil {
					open = append(open, worst)
				}
			}
			reserved := uint64(0)
			for _, w := range open {
				reserved += w
			}
			if pool.Issued() != issued || pool.Reserved() != reserved || pool.Left() > reward.CultivatedSupply ||
				issued+reserved+pool.Left() != reward.CultivatedSupply {
				t.Fatalf("pool has issued %d and reserved %d, has %d left; want %d and %d", pool.Issued(), pool.Reserved(), pool.Left(), issued, reserved)
			}
		}
	})
	if _, err := NewPool(reward.CultivatedSupply, 1); err == nil {
		t.Error("more than the pool is accepted")
	}
	if _, err := NewPool(1, math.MaxUint64); err == nil {
		t.Error("a sum beyond 64 bits is accepted")
	}
	p := must(must(NewPool(0, 0)).Reserve(10))
	for _, c := range [][2]uint64{{10, 11}, {11, 0}} {
		if got, err := p.Resolve(c[0], c[1]); err == nil || got != p {
			t.Errorf("worst case %d giving %d is accepted: %+v, %v", c[0], c[1], got, err)
		}
	}
}

func TestCrystals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, want := Crystals(0), new(big.Int)
		for range 30 {
			n := rapid.Uint32().Draw(t, "n")
			if rapid.Bool().Draw(t, "grant") {
				next, err := c.Grant(n)
				fits := n > 0 && new(big.Int).Add(want, big.NewInt(int64(n))).Cmp(big.NewInt(int64(MaxCrystals))) <= 0
				if (err == nil) != fits {
					t.Fatalf("%d on top of %d: %v", n, c, err)
				}
				if c = next; fits {
					want.Add(want, big.NewInt(int64(n)))
				}
			} else {
				next, err := c.Spend(n)
				if (err == nil) != (want.Cmp(big.NewInt(int64(n))) >= 0) {
					t.Fatalf("%d of %d: %v", n, c, err)
				}
				if c = next; err == nil {
					want.Sub(want, big.NewInt(int64(n)))
				}
			}
			if uint64(c) != want.Uint64() {
				t.Fatalf("balance is %d, want %v", c, want)
			}
		}
	})
	if c, err := (MaxCrystals - 5).Grant(5); err != nil || c != MaxCrystals {
		t.Errorf("the bound itself is refused: %d, %v", c, err)
	}
	if _, err := MaxCrystals.Grant(1); err == nil {
		t.Error("one beyond the bound is accepted")
	}
	if _, err := Crystals(math.MaxUint64).Grant(1); err == nil {
		t.Error("a balance beyond the bound is accepted")
	}
}

func TestLimit(t *testing.T) {
	l := Limit{Daily: 10, Total: 100}
	for _, c := range []struct {
		today, total uint64
		n            uint32
		want         bool
	}{
		{0, 0, 10, true}, {0, 0, 11, false}, {9, 9, 1, true}, {10, 10, 1, false}, {0, 99, 1, true}, {0, 100, 1, false}, {0, 95, 6, false},
		{math.MaxUint64, 0, 1, false}, {0, math.MaxUint64, 1, false},
	} {
		if err := l.Allow(c.today, c.total, c.n); (err == nil) != c.want {
			t.Errorf("%d after %d today and %d: %v", c.n, c.today, c.total, err)
		}
	}
	if (Limit{}).Allow(0, 0, 1) == nil {
		t.Error("the zero limit allows something")
	}
}
