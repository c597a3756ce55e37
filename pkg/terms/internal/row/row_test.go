package row

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// TestCheck compares with unbounded integers: a row is refused exactly where no growth, or every growth, meets it.
func TestCheck(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := rapid.SliceOfN(rapid.OneOf(rapid.Int32(), rapid.SampledFrom([]int32{0, 1, -1, math.MinInt32, math.MaxInt32})), 7, 7).Draw(rt, "coefficients")
		b := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, 1, -1, 1 << 62, 1<<62 + 1, -1 << 62, math.MinInt64, math.MaxUint32, -math.MaxUint32})).Draw(rt, "bound")
		least, most := new(big.Int), new(big.Int)
		for _, c := range a {
			p := new(big.Int).Mul(big.NewInt(int64(c)), big.NewInt(math.MaxUint32))
			if c < 0 {
				least.Add(least, p)
			} else {
				most.Add(most, p)
			}
		}
		bound := big.NewInt(b)
		want := b <= 1<<62 && b >= -1<<62 && most.Cmp(bound) >= 0 && least.Cmp(bound) < 0
		if err := Check(a, b); (err == nil) != want {
			rt.Fatalf("%v, %d: %v, want allowed %t", a, b, err, want)
		}
	})
}
