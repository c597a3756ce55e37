package subset

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestExpFloor compares with ⌊e^ε·2¹²⁸⌋ of the float64 nearest to ε, from 600-bit arithmetic (mpmath, exp).
func TestExpFloor(t *testing.T) {
	for _, c := range []struct {
		epsilon float64
		want    string
	}{
		{0, "100000000000000000000000000000000"},
		{0.001, "10041919b7ee33ce87ab67871f5e78b3f"},
		{0.1, "11aec7b35a00d3a20ad9d3c71f58f0e8c"},
		{1, "2b7e151628aed2a6abf7158809cf4f3c7"},
		{2.5, "c2eb7ec98f05d8ea6f61a6f424fca73b0"},
		{10, "560a773e54157e7c1faa3015b44d322ea985"},
		{50, "119103e4080b45664d7740cf8c5d8b4f40a43a0e9fa5a50dc2e"},
	} {
		if got := fmt.Sprintf("%x", expFloor(c.epsilon)); got != c.want {
			t.Errorf("e^%g is %s·2⁻¹²⁸, want %s", c.epsilon, got, c.want)
		}
	}
}

// TestBest: no size estimates better than the one chosen.
func TestBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k, epsilon := rapid.IntRange(2, MaxCategories).Draw(t, "k"), rapid.Float64Range(1e-3, 50).Draw(t, "epsilon")
		best := Best(k, epsilon)
		for _, d := range []int{1, best.Size - 1, best.Size + 1, rapid.IntRange(1, k-1).Draw(t, "size")} {
			if d >= 1 && d < k && Size(k, d, epsilon).loss.Cmp(best.loss) < 0 {
				t.Fatalf("answers of %d would estimate better than those of %d", d, best.Size)
			}
		}
	})
}

// TestBestOfAll tries every size of small mechanisms.
func TestBestOfAll(t *testing.T) {
	for k := 2; k <= 40; k++ {
		for _, epsilon := range []float64{1e-3, 0.1, 0.5, 0.9, 1, 1.7, 2.5, 4} {
			best := Best(k, epsilon)
			for d := 1; d < k; d++ {
				if Size(k, d, epsilon).loss.Cmp(best.loss) < 0 {
					t.Errorf("k = %d, ε = %g: answers of %d would estimate better than those of %d", k, epsilon, d, best.Size)
				}
			}
		}
	}
}
