package reward

import (
	"crypto/sha256"
	"fmt"
	"math"
	"testing"
	"time"

	"rawstone/pkg/wire"
)

// owners returns n leaves of 1 to 900 km.
func owners(n int) []Leaf {
	set := make([]Leaf, n)
	for i := range set {
		set[i] = Leaf{sha256.Sum256(number(uint64(i))), uint64(i%900 + 1)}
	}
	return set
}

// BenchmarkDraw measures what a day and each of its drops cost: the set's hash; order and tree; one drop of the first era, 1,000 units;
// an owner's check from the encoded path.
func BenchmarkDraw(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000, 4_000_000} {
		set := owners(n)
		seed := wire.Hash{1}
		var tree *Tree
		build := func(b *testing.B) {
			var err error
			if tree, err = NewTree(Order(seed, set)); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprintf("owners=%d/set", n), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := SetHash(set); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("owners=%d/tree", n), func(b *testing.B) {
			for b.Loop() {
				build(b)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/owner")
		})
		if tree == nil || tree.Line().Len() != n {
			build(b)
		}
		root := tree.Root()
		b.Run(fmt.Sprintf("owners=%d/drop", n), func(b *testing.B) {
			for b.Loop() {
				d, err := NewDraw(seed, 1000, root.Sum)
				if err != nil {
					b.Fatal(err)
				}
				wins, err := d.Wins(tree.Line())
				if err != nil || len(wins) == 0 {
					b.Fatal(wins, err)
				}
				seed = sha256.Sum256(seed[:])
			}
		})
		b.Run(fmt.Sprintf("owners=%d/check", n), func(b *testing.B) {
			leaf := Order(wire.Hash{1}, set)[n/3]
			path, err := tree.Path(n / 3)
			if err != nil {
				b.Fatal(err)
			}
			encoded, err := path.Encode()
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				p, err := DecodePath(encoded)
				if err != nil {
					b.Fatal(err)
				}
				in, err := p.Verify(root, leaf)
				if err != nil {
					b.Fatal(err)
				}
				d, err := NewDraw(seed, 1000, root.Sum)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := d.Share(in); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(encoded)), "bytes")
		})
	}
}

// BenchmarkDrawGrowth reports how much more order and tree cost per owner and logarithm of the owners among 4,000,000 than among 10,000,
// measured in turns: the fastest of several, as disturbance only ever adds.
func BenchmarkDrawGrowth(b *testing.B) {
	const small, large = 10_000, 4_000_000
	measure := func(set []Leaf, times int) float64 {
		start := time.Now()
		for range times {
			if _, err := NewTree(Order(wire.Hash{1}, set)); err != nil {
				b.Fatal(err)
			}
		}
		n := float64(len(set))
		return time.Since(start).Seconds() / float64(times) / (n * math.Log2(n))
	}
	few, many := owners(small), owners(large)
	least, most := math.Inf(1), math.Inf(1)
	for b.Loop() {
		least = min(least, measure(few, large/small))
		most = min(most, measure(many, 1))
	}
	b.ReportMetric(most/least, "x-growth")
}
