package reward

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rawstone/pkg/wire"
)

// cumulative is the emission after h drops as the design writes it: era totals 105M, 52.5M, … spread evenly over 210,000 drops.
func cumulative(h uint64) *big.Rat {
	sum := new(big.Rat)
	total := new(big.Rat).SetInt64(105_000_000_000)
	for ; h >= 210_000; h -= 210_000 {
		sum.Add(sum, total)
		total.Mul(total, big.NewRat(1, 2))
	}
	return sum.Add(sum, total.Mul(total, big.NewRat(int64(h), 210_000)))
}

func TestEmissionExact(t *testing.T) {
	for _, c := range []struct{ h, want uint64 }{
		{0, 0}, {1, 500_000}, {210_000, 105_000_000_000}, {210_001, 105_000_250_000}, {420_000, 157_500_000_000},
	} {
		if got := Emission(c.h); got != c.want {
			t.Errorf("S(%d) = %d, want %d", c.h, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		h := rapid.Uint64Range(0, 80*EraDrops).Draw(t, "h")
		c := cumulative(h)
		want := new(big.Int).Quo(c.Num(), c.Denom())
		if got := Emission(h); got != want.Uint64() {
			t.Fatalf("S(%d) = %d, want %v", h, got, want)
		}
	})
	for _, h := range []uint64{100 * EraDrops, math.MaxUint64} {
		if got := Emission(h); got != MinedSupply-1 {
			t.Errorf("S(%d) = %d, want %d", h, got, uint64(MinedSupply-1))
		}
	}
}

func TestUnitsConserveSupply(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := rapid.Uint64Range(0, 70*EraDrops).Draw(t, "from")
		n := rapid.Uint64Range(1, 3000).Draw(t, "n")
		issued, carry := uint64(0), uint64(0)
		for h := from; h < from+n; h++ {
			k, rest, err := Units(h, carry)
			if err != nil {
				t.Fatal(err)
			}
			issued, carry = issued+k*Unit, rest
		}
		if issued+carry != Emission(from+n)-Emission(from) || carry >= Unit {
			t.Fatalf("drops %d to %d issued %d and carry %d, want together %d", from, from+n, issued, carry, Emission(from+n)-Emission(from))
		}
	})
	if _, _, err := Units(0, Unit); err == nil {
		t.Error("a carry of a whole unit is accepted")
	}
	if _, _, err := Units(math.MaxUint64, 0); err == nil {
		t.Error("the height after the last is accepted")
	}
}

func TestWindow(t *testing.T) {
	for _, c := range []struct {
		day, effective uint32
		want           bool
	}{
		{0, 0, false}, {1, 0, true}, {1, 1, false}, {30, 0, true}, {31, 0, false}, {31, 1, true}, {31, 30, true}, {31, 31, false},
		{math.MaxUint32, math.MaxUint32 - 30, true}, {math.MaxUint32, math.MaxUint32 - 31, false}, {5, math.MaxUint32, false},
	} {
		if got := Counts(c.day, c.effective); got != c.want {
			t.Errorf("credit effective on day %d counts on day %d: %t, want %t", c.effective, c.day, got, c.want)
		}
	}
}

func TestExpired(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		day, effective := rapid.Uint32Range(0, 100).Draw(t, "day"), rapid.Uint32Range(0, 100).Draw(t, "effective")
		counts := false
		for d := day; d <= 200; d++ {
			counts = counts || Counts(d, effective)
		}
		if Expired(day, effective) == counts {
			t.Fatalf("effective on day %d is expired on day %d: %t", effective, day, !counts)
		}
	})
	if Expired(math.MaxUint32, math.MaxUint32) || !Expired(math.MaxUint32, math.MaxUint32-31) {
		t.Error("days near the last are wrong")
	}
}

func leaves(t *rapid.T, maxWeight uint64) []Leaf {
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Leaf {
		id := rapid.Uint64().Draw(t, "id")
		return Leaf{sha256.Sum256(binary.BigEndian.AppendUint64(nil, id)), rapid.Uint64Range(1, maxWeight).Draw(t, "weight")}
	}), 1, 40, func(l Leaf) wire.Hash { return l.Pseudonym }).Draw(t, "leaves")
}

func hashOf(t *rapid.T, label string) wire.Hash {
	return wire.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, label))
}

// TestDraw holds the laws of the draw: every unit is placed, each share is what placing the units one by one gives and within one unit of
// K·w/W, and neither depends on the order in which the leaves came.
func TestDraw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxWeight := rapid.SampledFrom([]uint64{1, 3, 1000, math.MaxUint64 / 41}).Draw(t, "max weight")
		set := leaves(t, maxWeight)
		seed, order := hashOf(t, "seed"), hashOf(t, "order")
		units := rapid.Uint64Range(0, 2000).Draw(t, "units")

		ordered := Order(order, set)
		tree, err := NewTree(ordered)
		if err != nil {
			t.Fatal(err)
		}
		root := tree.Root()
		d, err := NewDraw(seed, units, root.Sum)
		if err != nil {
			t.Fatal(err)
		}
		total := uint64(0)
		w, k := new(big.Int).SetUint64(root.Sum), new(big.Int).SetUint64(units)
		r := new(big.Int).Mod(new(big.Int).SetBytes(seed[:]), w)
		for i, l := range ordered {
			path, err := tree.Path(i)
			if err != nil {
				t.Fatal(err)
			}
			in, err := path.Verify(root, l)
			if err != nil || in != tree.Interval(i) {
				t.Fatalf("leaf %d: interval %v, %v, want %v", i, in, err, tree.Interval(i))
			}
			share, err := d.Share(in)
			if err != nil {
				t.Fatal(err)
			}
			total += share
			placed := uint64(0)
			for u := range units {
				at := new(big.Int).Mul(new(big.Int).SetUint64(u), w)
				at.Add(at, r).Quo(at, k)
				if x := at.Uint64(); in.Begin <= x && x < in.End {
					placed++
				}
			}
			if share != placed {
				t.Fatalf("leaf %d gets %d units, placing them gives %d", i, share, placed)
			}
			// |share·W − K·w| < W
			diff := new(big.Int).Mul(new(big.Int).SetUint64(share), w)
			diff.Sub(diff, new(big.Int).Mul(k, new(big.Int).SetUint64(l.Weight)))
			if diff.CmpAbs(w) >= 0 {
				t.Fatalf("leaf %d gets %d units, more than one from its fair share", i, share)
			}
		}
		shares, err := d.Shares(ordered)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range shares {
			if one, err := d.Share(tree.Interval(i)); err != nil || s != one {
				t.Fatalf("leaf %d gets %d units among all and %d, %v, by itself", i, s, one, err)
			}
		}
		if _, err := d.Shares(ordered[1:]); err == nil {
			t.Fatal("leaves that lack one are accepted")
		}
		if total != units {
			t.Fatalf("shares add up to %d units, want %d", total, units)
		}

		shuffled := slices.Clone(set)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		h1, w1, err1 := SetHash(set)
		h2, w2, err2 := SetHash(shuffled)
		if err1 != nil || err2 != nil || h1 != h2 || w1 != w2 || w1 != root.Sum {
			t.Fatalf("hash or weight of the set depends on the order: %v %d %v, %v %d %v", h1, w1, err1, h2, w2, err2)
		}
		if !slices.Equal(ordered, Order(order, shuffled)) {
			t.Fatal("the order of the draw depends on the order of the input")
		}
	})
}

// TestDrawExpectation counts over every r that an interval's share averages to exactly K·w/W.
func TestDrawExpectation(t *testing.T) {
	const units, weight = 7, 11
	for begin := uint64(0); begin < weight; begin++ {
		for end := begin + 1; end <= weight; end++ {
			sum := uint64(0)
			for r := uint64(0); r < weight; r++ {
				var seed wire.Hash
				binary.BigEndian.PutUint64(seed[24:], r)
				d, err := NewDraw(seed, units, weight)
				if err != nil {
					t.Fatal(err)
				}
				s, err := d.Share(Interval{begin, end})
				if err != nil {
					t.Fatal(err)
				}
				sum += s
			}
			if sum != units*(end-begin) {
				t.Errorf("[%d, %d) gets %d units over all r, want %d", begin, end, sum, units*(end-begin))
			}
		}
	}
}

func TestDrawRefuses(t *testing.T) {
	if _, err := NewDraw(wire.Hash{1}, 1, 0); err == nil {
		t.Error("a draw without weight is accepted")
	}
	if _, err := NewDraw(wire.Hash{1}, MinedSupply, 1); err == nil {
		t.Error("more units than there are is accepted")
	}
	d, err := NewDraw(wire.Hash{1}, 10, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []Interval{{0, 0}, {5, 4}, {0, 101}} {
		if _, err := d.Share(i); err == nil {
			t.Errorf("interval %v is accepted", i)
		}
	}
}

func TestReduce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, m := hashOf(t, "h"), rapid.Uint64Min(1).Draw(t, "m")
		want := new(big.Int).Mod(new(big.Int).SetBytes(h[:]), new(big.Int).SetUint64(m)).Uint64()
		if got := Reduce(h, m); got != want {
			t.Fatalf("%v mod %d = %d, want %d", h, m, got, want)
		}
	})
}

// TestPathRefuses changes everything a path is made of, one at a time.
func TestPathRefuses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := leaves(t, 1000)
		tree, err := NewTree(set)
		if err != nil {
			t.Fatal(err)
		}
		i := rapid.IntRange(0, len(set)-1).Draw(t, "i")
		root, leaf := tree.Root(), set[i]
		path, err := tree.Path(i)
		if err != nil {
			t.Fatal(err)
		}
		refuse := func(what string, p Path, r Root, l Leaf) {
			if _, err := p.Verify(r, l); err == nil {
				t.Fatalf("%s is accepted", what)
			}
		}
		heavier := leaf
		heavier.Weight++
		refuse("another weight", path, root, heavier)
		refuse("another total", path, Root{root.Hash, root.Sum + 1, root.Count}, leaf)
		refuse("an index beyond", Path{root.Count, path.Steps}, root, leaf)
		refuse("a longer path", Path{path.Index, append(slices.Clone(path.Steps), Step{})}, root, leaf)
		if n := len(path.Steps); n > 0 {
			refuse("a shorter path", Path{path.Index, path.Steps[:n-1]}, root, leaf)
			refuse("another index", Path{path.Index ^ 1, path.Steps}, root, leaf)
			s := slices.Clone(path.Steps)
			k := rapid.IntRange(0, n-1).Draw(t, "k")
			// Weight moved between siblings: the total stays, the intervals would not.
			s[k].Sum--
			refuse("weight moved from a sibling", Path{path.Index, s}, root, heavier)
			s[k].Sum = math.MaxUint64
			refuse("an overflowing sum", Path{path.Index, s}, root, leaf)
		}
	})
}

func TestTreeEdges(t *testing.T) {
	empty, err := NewTree(nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := empty.Root(); r.Sum != 0 || r.Count != 0 || r.Hash != sha256.Sum256([]byte(tagEmpty)) {
		t.Errorf("empty tree has root %+v", r)
	}
	if _, err := empty.Path(0); err == nil {
		t.Error("the empty tree has a path")
	}
	if _, err := (Path{}).Verify(empty.Root(), Leaf{Weight: 1}); err == nil {
		t.Error("a leaf stands in the empty tree")
	}
	a, b := Leaf{wire.Hash{1}, math.MaxUint64}, Leaf{wire.Hash{2}, 1}
	if _, err := NewTree([]Leaf{a, b}); err == nil {
		t.Error("a sum beyond 64 bits is accepted by the tree")
	}
	if _, _, err := SetHash([]Leaf{a, b}); err == nil {
		t.Error("a sum beyond 64 bits is accepted by the set")
	}
	if _, _, err := SetHash([]Leaf{b, b}); err == nil {
		t.Error("one pseudonym twice is accepted")
	}
	if _, _, err := SetHash([]Leaf{{wire.Hash{3}, 0}}); err == nil {
		t.Error("a leaf without weight is accepted by the set")
	}
	if _, err := NewTree([]Leaf{{wire.Hash{3}, 0}}); err == nil {
		t.Error("a leaf without weight is accepted by the tree")
	}
}

// TestTreeHashes writes the hashes of a tree of three leaves and their order out by hand.
func TestTreeHashes(t *testing.T) {
	u64 := func(v uint64) string { return string(binary.BigEndian.AppendUint64(nil, v)) }
	sum := func(s string) string { h := sha256.Sum256([]byte(s)); return string(h[:]) }
	set := []Leaf{{wire.Hash{1}, 5}, {wire.Hash{2}, 7}, {wire.Hash{3}, 1 << 40}}
	var h []string
	for _, l := range set {
		h = append(h, sum("rawstone/tree/leaf/v1"+string(l.Pseudonym[:])+u64(l.Weight)))
	}
	tree, err := NewTree(set)
	if err != nil {
		t.Fatal(err)
	}
	left := sum("rawstone/tree/node/v1" + u64(5) + h[0] + u64(7) + h[1])
	root := sum("rawstone/tree/node/v1" + u64(12) + left + u64(1<<40) + h[2])
	if got := tree.Root(); string(got.Hash[:]) != root || got.Sum != 12+1<<40 || got.Count != 3 {
		t.Errorf("root is %+v, want %x", got, root)
	}
	orders := make(map[string]bool)
	for seed := range byte(50) {
		ordered := Order(wire.Hash{seed}, set)
		var names string
		for i, l := range ordered {
			names += string(l.Pseudonym[:1])
			if i > 0 {
				before := ordered[i-1].Pseudonym
				if sum("rawstone/order/v1"+string([]byte{seed})+string(make([]byte, 31))+string(before[:])) >
					sum("rawstone/order/v1"+string([]byte{seed})+string(make([]byte, 31))+string(l.Pseudonym[:])) {
					t.Errorf("order of seed %d is wrong", seed)
				}
			}
		}
		orders[names] = true
	}
	if len(orders) != 6 {
		t.Errorf("50 seeds give %d orders of three leaves, want all 6", len(orders))
	}
	h1, _, err := SetHash([]Leaf{set[2], set[0]})
	if want := sum("rawstone/leaves/v1" + u64(2) + string(set[0].Pseudonym[:]) + u64(5) + string(set[2].Pseudonym[:]) + u64(1<<40)); err != nil || string(h1[:]) != want {
		t.Errorf("hash of the set is %s, %v, want %x", h1, err, want)
	}
}

func TestPseudonym(t *testing.T) {
	a := Pseudonym([32]byte{1}, 5)
	if a == Pseudonym([32]byte{1}, 6) || a == Pseudonym([32]byte{2}, 5) || a != Pseudonym([32]byte{1}, 5) {
		t.Error("a pseudonym does not follow from secret and day")
	}
}
