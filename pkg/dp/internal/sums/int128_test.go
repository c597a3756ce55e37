package sums

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// value draws from the whole of int64, its ends and small numbers.
func value() *rapid.Generator[int64] {
	return rapid.OneOf(rapid.Int64(), rapid.Int64Range(-2, 2), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64}))
}

// TestAgainstBig compares sums of products with arbitrary precision.
func TestAgainstBig(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sum int128
		want := new(big.Int)
		for range rapid.IntRange(1, 4).Draw(t, "terms") {
			// Four products of 2¹²⁴ at most, and four single numbers, fit.
			a, b, c := value().Draw(t, "a"), value().Draw(t, "b"), value().Draw(t, "c")
			sum = sum.add(mul(a/2, b/2)).add(of(c))
			want.Add(want, new(big.Int).Mul(big.NewInt(a/2), big.NewInt(b/2))).Add(want, big.NewInt(c))
		}
		if got := sum.big(); got.Cmp(want) != 0 {
			t.Fatalf("got %s, want %s", got, want)
		}
		if back := decode(sum.append(nil)); back != sum {
			t.Fatalf("decoded %s, want %s", back.big(), want)
		}
	})
}

func TestMulEnds(t *testing.T) {
	for _, c := range [][2]int64{{math.MinInt64, math.MinInt64}, {math.MinInt64, math.MaxInt64}, {math.MinInt64, -1}, {-1, -1}, {0, math.MinInt64}} {
		want := new(big.Int).Mul(big.NewInt(c[0]), big.NewInt(c[1]))
		if got := mul(c[0], c[1]).big(); got.Cmp(want) != 0 {
			t.Errorf("%d · %d = %s, want %s", c[0], c[1], got, want)
		}
	}
}
