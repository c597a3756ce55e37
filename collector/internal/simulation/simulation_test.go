package simulation

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rawstone/pkg/reward"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const configs = "../../../configs/simulation"

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func launch(t *testing.T) *Profile {
	p, err := LoadProfile(configs + "/launch.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestProfiles loads every profile that is delivered.
func TestProfiles(t *testing.T) {
	paths := must(filepath.Glob(configs + "/*.yaml"))
	if len(paths) == 0 {
		t.Fatal("no profile found")
	}
	for _, path := range paths {
		if _, err := LoadProfile(path); err != nil {
			t.Error(err)
		}
	}
}

func TestProfileRefuses(t *testing.T) {
	good := string(must(os.ReadFile(configs + "/launch.yaml")))
	dir := t.TempDir()
	policies := must(filepath.Abs(configs + "/../policies"))
	good = strings.Replace(good, "../policies", policies, 1)
	for _, c := range []struct{ old, new, want string }{
		{"", "", ""},
		{"parts: 500000", "parts: 500001", "box: "},
		{"- {parts: 299900, crystals: 20}\n    - {parts: 100, goods", "- {parts: 299900, milli: 20}\n    - {parts: 100, goods", "only owners"},
		{"percent: 25, km", "percent: 26, km", "add up to 100"},
		{"month: 0, percent: 1", "month: 1, percent: 1", "growth[0]"},
		{"month: 24, percent: 16", "month: 12, percent: 16", "growth[2]"},
		{"month: 108, percent: 100", "month: 108, percent: 99", "must end with 100"},
		{"km_year_from: 2000", "km_year_from: 8000", "km_year_to"},
		{"days_per_week: 2", "days_per_week: 8", "days_per_week"},
		{"drops_per_day: 144", "drops_per_day: 0", "drops_per_day: must"},
		{"claim_days: 7", "claim_days: 31", "claim_days: must"},
		{"crystals: 10, daily: 10", "crystals: 11, daily: 10", "task: must"},
		{"name: launch", "nome: launch", "nome"},
		{"mileage.yaml", "safe.yaml", "kind is safe"},
		{"mileage.yaml", "none.yaml", "cannot read policy source"},
	} {
		path := filepath.Join(dir, "profile.yaml")
		text := strings.Replace(good, c.old, c.new, 1)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadProfile(path)
		if c.want == "" {
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		if text == good || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: %v", c.new, c.old, err)
		}
	}
}

// TestGrowth walks through all days of a fleet.
func TestGrowth(t *testing.T) {
	p := launch(t)
	before := 0
	for day := range uint32(3650) {
		n := p.joined(1_000_000, day)
		if n < before {
			t.Fatalf("the fleet shrinks from %d to %d on day %d", before, n, day)
		}
		before = n
	}
	for day, want := range map[uint32]int{0: 10_000, 365: 60_000, 547: 109_863, 730: 160_000, 3285: 1_000_000, 9999: 1_000_000} {
		if got := p.joined(1_000_000, day); got != want {
			t.Errorf("on day %d %d have joined, want %d", day, got, want)
		}
	}
}

// TestEqualsHashedDraw simulates 10,000 vehicles whose leaves lie in the order of the real draw, and draws the same drops the way an owner
// checks them: pseudonyms, the order by a seed, the Merkle-sum tree, each owner's path as it is handed out, and the interval's share.
func TestEqualsHashedDraw(t *testing.T) {
	const days, vehicles = 24, 10_000
	p := launch(t)
	p.Growth = []Growth{{0, 60}, {1, 100}}
	p.DropsPerDay = 24
	r := must(newRun(Config{Profile: p, Vehicles: vehicles, Years: 1}))
	want := make([]uint64, vehicles)
	height, carry, leavesSeen := uint64(0), uint64(0), 0
	r.order = func(day uint32, who []uint32) {
		leaves, owner := make([]reward.Leaf, len(who)), make(map[wire.Hash]uint32, len(who))
		for i, v := range who {
			var secret [32]byte
			binary.BigEndian.PutUint32(secret[:], v)
			leaves[i] = reward.Leaf{Pseudonym: reward.Pseudonym(secret, day), Weight: uint64(r.fleet.weight[v])}
			owner[leaves[i].Pseudonym] = v
		}
		ordered := reward.Order(wire.Hash{byte(day), 1}, leaves)
		tree := must(reward.NewTree(ordered))
		root := tree.Root()
		intervals := make([]reward.Interval, len(ordered))
		for i, l := range ordered {
			who[i] = owner[l.Pseudonym]
			path := must(reward.DecodePath(must(must(tree.Path(i)).Encode())))
			intervals[i] = must(path.Verify(root, l))
		}
		if len(who) == 0 {
			return
		}
		leavesSeen += len(who)
		for i := range p.DropsPerDay {
			units, rest, err := reward.Units(height, carry)
			if err != nil {
				t.Fatal(err)
			}
			height, carry = height+1, rest
			d := must(reward.NewDraw(r.seed(uint64(day)*uint64(p.DropsPerDay)+uint64(i)), units, root.Sum))
			for k, in := range intervals {
				want[who[k]] += must(d.Share(in)) * reward.Unit
			}
		}
	}
	n := 0
	for day := range uint32(days) {
		var err error
		if n, err = r.day(day, n); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(r.fleet.mined, want) {
		t.Error("the simulation gives other balances than the hashed draw")
	}
	if leavesSeen < days/2*vehicles/2 || height == 0 {
		t.Errorf("only %d leaves in %d drops were drawn", leavesSeen, height)
	}
}

// TestOrderGivesNoAdvantage holds the result with leaves in joining order against one with a new order each day: what owners of a kind get
// differs by chance alone.
func TestOrderGivesNoAdvantage(t *testing.T) {
	const days, vehicles = 120, 2_000
	p := launch(t)
	p.Growth = []Growth{{0, 100}}
	sums := func(order func(uint32, []uint32)) (by [4]float64) {
		r := must(newRun(Config{Profile: p, Vehicles: vehicles, Years: 1}))
		r.order = order
		n := 0
		for day := range uint32(days) {
			n = must(r.day(day, n))
		}
		for v, m := range r.fleet.mined {
			by[v*4/vehicles] += float64(m)
		}
		return by
	}
	a := sums(nil)
	b := sums(func(day uint32, who []uint32) {
		slices.SortFunc(who, func(x, y uint32) int {
			if mix(9, uint64(x), uint64(day)) < mix(9, uint64(y), uint64(day)) {
				return -1
			}
			return 1
		})
	})
	for i := range a {
		if a[i] == 0 || math.Abs(a[i]/b[i]-1) > 0.002 {
			t.Errorf("quarter %d of the owners gets %.0f milli-stones in joining order and %.0f in another", i, a[i], b[i])
		}
	}
}

// TestWeights holds the running weights against the sum over the credits that count, for a fleet whose claims are all kept.
func TestWeights(t *testing.T) {
	p := launch(t)
	const vehicles = 300
	r := must(newRun(Config{Profile: p, Vehicles: vehicles, Years: 1}))
	type credit struct {
		account   int
		effective uint32
		km        uint64
	}
	var all []credit
	n := 0
	for day := range uint32(200) {
		n = must(r.day(day, n))
		want := make([]uint64, vehicles)
		for _, c := range all {
			if reward.Counts(day, c.effective) {
				want[c.account] += c.km
			}
		}
		for v, w := range r.fleet.weight {
			if uint64(w) != want[v] {
				t.Fatalf("on day %d account %d weighs %d km, want %d", day, v, w, want[v])
			}
		}
		for v, km := range r.fleet.credits[(day+1)%slots][:n] {
			if km > 0 {
				all = append(all, credit{v, day + 1, uint64(km)})
				tier := slices.IndexFunc(p.policy.Tiers, func(tier terms.Tier) bool { return tier.Km == uint32(km) })
				if tier < 0 {
					t.Fatalf("a credit of %d km is no tier's", km)
				}
			}
		}
	}
	credited, driven := uint64(0), uint64(0)
	for _, c := range all {
		credited += c.km
	}
	for _, m := range r.fleet.metres {
		driven += m / 1000
	}
	// Tiers are 1.25 apart, so that on average about a tenth is lost, and the last days are not yet claimed.
	if credited > driven || credited < driven*7/10 {
		t.Errorf("%d km of %d are credited", credited, driven)
	}
}

// TestRun holds a result's sums, that it is the same on one core and on several, and what its figures are made of.
func TestRun(t *testing.T) {
	p := launch(t)
	p.DropsPerDay = 24
	steps := uint32(0)
	c := Config{Profile: p, Vehicles: 20_000, Years: 2, Progress: func(done, all uint32) {
		if steps++; done != steps || all != 730 {
			t.Errorf("progress %d of %d after %d days", done, all, steps)
		}
	}}
	got, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.GOMAXPROCS(1)
	steps = 0
	again, err := Run(t.Context(), c)
	runtime.GOMAXPROCS(before)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, again); d != "" {
		t.Errorf("the result depends on the number of cores: %s", d)
	}
	if len(got.Months) != 24 || got.Drops == 0 || got.Boxes == 0 || got.Cultivated == 0 {
		t.Errorf("%d months, %d drops, %d boxes, %d cultivated", len(got.Months), got.Drops, got.Boxes, got.Cultivated)
	}
	last := got.Months[23]
	if last.MinedLeft != reward.MinedSupply-got.Mined || last.CultivatedLeft != reward.CultivatedSupply-got.Cultivated || last.Owners != p.joined(20_000, 729) {
		t.Errorf("the last month is %+v", last)
	}
	owners := 0
	for _, j := range got.Joining {
		owners += j.Owners
	}
	if owners != last.Owners {
		t.Errorf("%d owners joined in some quarter, want %d", owners, last.Owners)
	}
	if first, end := got.Joining[0], got.Joining[len(got.Joining)-1]; first.Median <= end.Median || first.P10 > first.Median || first.Median > first.P90 {
		t.Errorf("who joins first has %+v, who joins last has %+v", first, end)
	}
	few := slices.IndexFunc(got.Distance, func(d Driven) bool { return d.Year == 1 && d.FromKm == 0 })
	many := slices.IndexFunc(got.Distance, func(d Driven) bool { return d.Year == 1 && d.FromKm == 20_000 })
	if few < 0 || many < 0 || got.Distance[many].Median < 4*got.Distance[few].Median {
		t.Errorf("stones do not rise with distance: %+v", got.Distance)
	}
}

// TestCarry runs in an era whose drops are no whole number of units: what a drop leaves over comes with the next.
func TestCarry(t *testing.T) {
	p := launch(t)
	p.DropsPerDay = 7
	const start = 4 * reward.EraDrops
	r := must(newRun(Config{Profile: p, Vehicles: 5000, Years: 1}))
	r.height = start
	n := 0
	for day := range uint32(31) {
		n = must(r.day(day, n))
	}
	mined := uint64(0)
	for _, m := range r.fleet.mined {
		mined += m
	}
	if want := reward.Emission(r.height) - reward.Emission(start); r.height == start || mined+r.carry != want || mined+reward.Unit <= want {
		t.Errorf("drops %d to %d give %d and carry %d, want together %d", start, r.height, mined, r.carry, want)
	}
}

// TestPoolEnds empties the pool: boxes are refused then, and crystals stay.
func TestPoolEnds(t *testing.T) {
	p := launch(t)
	p.Growth = []Growth{{0, 100}}
	r := must(newRun(Config{Profile: p, Vehicles: 3000, Years: 1}))
	const left = 2_000_000
	r.pool = must(r.pool.Reserve(reward.CultivatedSupply - left))
	r.pool = must(r.pool.Resolve(reward.CultivatedSupply-left, reward.CultivatedSupply-left))
	n := 0
	for day := range uint32(360) {
		n = must(r.day(day, n))
	}
	if worst := p.box.Worst(true); r.pool.Left() >= worst || r.pool.Reserved() != 0 {
		t.Errorf("the pool has %d left", r.pool.Left())
	}
	for v, c := range r.fleet.crystals {
		if c > 60*10 {
			t.Fatalf("account %d has %d crystals", v, c)
		}
		if r.fleet.granted[v] > uint32(p.Task.Total) {
			t.Fatalf("account %d was granted %d crystals", v, r.fleet.granted[v])
		}
	}
}

func TestRefuses(t *testing.T) {
	p := launch(t)
	for _, c := range []Config{
		{}, {Profile: new(Profile), Vehicles: 1, Years: 1}, {Profile: p, Years: 1}, {Profile: p, Vehicles: 1}, {Profile: p, Vehicles: MaxVehicles + 1, Years: 1},
		{Profile: p, Vehicles: 1, Years: MaxYears + 1},
	} {
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Config{Profile: p, Vehicles: 1, Years: 1}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestGini holds the formula against its definition, the mean difference of all pairs over twice the mean.
func TestGini(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Uint64Range(0, 1000), 1, 30).Draw(t, "list")
		diff, sum := 0.0, 0.0
		for _, a := range list {
			sum += float64(a)
			for _, b := range list {
				diff += math.Abs(float64(a) - float64(b))
			}
		}
		want := 0.0
		if sum > 0 {
			want = diff / (2 * float64(len(list)) * sum)
		}
		if got := gini(list); math.Abs(got-want) > 1e-4 {
			t.Fatalf("%v has %f, want %f", list, got, want)
		}
	})
}
