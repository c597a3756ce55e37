package reward

import (
	"bytes"
	"crypto/sha256"
	"math"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rawstone/pkg/wire"
)

// TestWins holds placing units by search against asking for each leaf's share, with fewer and more units than leaves.
func TestWins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxWeight := rapid.SampledFrom([]uint64{1, 3, 1000, math.MaxUint64 / 41}).Draw(t, "max weight")
		set := leaves(t, maxWeight)
		line, err := NewLine(set)
		if err != nil {
			t.Fatal(err)
		}
		units := rapid.SampledFrom([]uint64{0, 1, 2, 40, 5000, MinedSupply / Unit}).Draw(t, "units")
		d, err := NewDraw(hashOf(t, "seed"), units, line.Total())
		if err != nil {
			t.Fatal(err)
		}
		wins, err := d.Wins(line)
		if err != nil {
			t.Fatal(err)
		}
		next := 0
		for i := range set {
			want, err := d.Share(line.Interval(i))
			if err != nil {
				t.Fatal(err)
			}
			got := uint64(0)
			if next < len(wins) && wins[next].Index == i {
				got = wins[next].Units
				if next++; got == 0 {
					t.Fatalf("leaf %d wins nothing and is listed", i)
				}
			}
			if got != want {
				t.Fatalf("leaf %d wins %d units, its share is %d", i, got, want)
			}
		}
		if next != len(wins) {
			t.Fatalf("%d wins are out of order: %v", len(wins)-next, wins)
		}
		if _, err := d.Wins(Line{line.ends[:len(set)-1]}); err == nil {
			t.Fatal("a line that lacks a leaf is accepted")
		}
	})
}

// TestArrange sorts by prefixes that are anything but a hash's digits, and by the tie where they are equal.
func TestArrange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		prefix := rapid.SampledFrom([]*rapid.Generator[uint64]{
			rapid.Uint64Range(0, 3), rapid.Uint64(), rapid.Uint64Range(math.MaxUint64-2, math.MaxUint64), rapid.Just(uint64(7)),
		}).Draw(t, "kind")
		list := rapid.SliceOfN(prefix, 0, 300).Draw(t, "prefixes")
		// The later goes first, which no stable sort would do by itself.
		got := arrange(len(list), func(i int) uint64 { return list[i] }, func(a, b int) int { return b - a })
		seen := make([]bool, len(list))
		for i, at := range got {
			seen[at] = true
			if i > 0 && (list[got[i-1]] > list[at] || list[got[i-1]] == list[at] && got[i-1] < at) {
				t.Fatalf("%v is no order of %v", got, list)
			}
		}
		if len(got) != len(list) || slices.Contains(seen, false) {
			t.Fatalf("%v does not hold each of %d once", got, len(list))
		}
	})
}

// TestParallel holds order and tree of more leaves than one core takes against the plain definition, on one core and on several.
func TestParallel(t *testing.T) {
	const n = 5*grain + 3
	set, seed := owners(n), wire.Hash{5}
	want := slices.Clone(set)
	key := func(l Leaf) []byte {
		k := sha256.Sum256(slices.Concat([]byte(tagOrder), seed[:], l.Pseudonym[:]))
		return k[:]
	}
	slices.SortFunc(want, func(a, b Leaf) int { return bytes.Compare(key(a), key(b)) })
	level := make([][]byte, n)
	sums := make([]uint64, n)
	for i, l := range want {
		h := sha256.Sum256(slices.Concat([]byte(tagLeaf), l.Pseudonym[:], number(l.Weight)))
		level[i], sums[i] = h[:], l.Weight
	}
	for len(level) > 1 {
		var above [][]byte
		var sumsAbove []uint64
		for i := 0; i < len(level); i += 2 {
			if i+1 == len(level) {
				above, sumsAbove = append(above, level[i]), append(sumsAbove, sums[i])
				continue
			}
			h := sha256.Sum256(slices.Concat([]byte(tagNode), number(sums[i]), level[i], number(sums[i+1]), level[i+1]))
			above, sumsAbove = append(above, h[:]), append(sumsAbove, sums[i]+sums[i+1])
		}
		level, sums = above, sumsAbove
	}
	for _, cores := range []int{1, 2, 7} {
		before := runtime.GOMAXPROCS(cores)
		ordered := Order(seed, set)
		tree, err := NewTree(ordered)
		runtime.GOMAXPROCS(before)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(ordered, want) {
			t.Fatalf("the order on %d cores is wrong", cores)
		}
		if r := tree.Root(); !bytes.Equal(r.Hash[:], level[0]) || r.Sum != sums[0] || r.Count != n {
			t.Fatalf("the root on %d cores is %+v, want %x, %d", cores, r, level[0], sums[0])
		}
	}
}

// TestPathEncoding encodes a path of the largest tree that is drawn and refuses what no encoder writes.
func TestPathEncoding(t *testing.T) {
	p := Path{Index: math.MaxUint64, Steps: make([]Step, 22)} // 4,194,304 leaves
	for i := range p.Steps {
		p.Steps[i] = Step{sha256.Sum256(number(uint64(i))), math.MaxUint64}
	}
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 1200 {
		t.Errorf("path takes %d bytes, want at most 1,200", len(b))
	}
	got, err := DecodePath(b)
	if err != nil || got.Index != p.Index || !slices.Equal(got.Steps, p.Steps) {
		t.Fatalf("%v, %v", got, err)
	}
	p.Steps = make([]Step, maxDepth)
	for i := range p.Steps {
		p.Steps[i].Sum = math.MaxUint64
	}
	if b, err = p.Encode(); err != nil || len(b) > MaxPathLen {
		t.Fatalf("the longest path takes %d bytes, %v", len(b), err)
	}
	if _, err := DecodePath(b); err != nil {
		t.Error(err)
	}
	if _, err := (Path{Steps: make([]Step, maxDepth+1)}).Encode(); err == nil {
		t.Error("a path that is too long is encoded")
	}
	// The same text with one more step, none of which has a sum above 0, stays below the limit in bytes.
	long := []byte{0xa2, 0, 0, 1, 0x98, maxDepth + 1}
	for range maxDepth + 1 {
		long = append(append(long, 0xa2, 0, 0x58, 32), make([]byte, 32)...)
		long = append(long, 1, 0)
	}
	if _, err := DecodePath(long); err == nil {
		t.Error("a path that is too long is decoded")
	}
}

func FuzzDecodePath(f *testing.F) {
	for _, n := range []int{0, 1, 20} {
		b, err := Path{Index: 3, Steps: make([]Step, n)}.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePath(b)
		if err != nil {
			return
		}
		if again, err := p.Encode(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x encodes to %x, %v", b, again, err)
		}
		if _, err := p.Verify(Root{Count: p.Index}, Leaf{Weight: 1}); err == nil {
			t.Fatal("a leaf beyond the last stands in a tree")
		}
	})
}
