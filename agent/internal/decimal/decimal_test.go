package decimal

import (
	"math"
	"math/big"
	"strings"
	"testing"
)

func TestRat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text     Number
		num, den int64
	}{{"", 7, 1}, {"0", 0, 1}, {"0.1", 1, 10}, {"-40", -40, 1}, {"-0.125", -1, 8}, {"123456789012345.123456789012345", 0, 0}} {
		got, err := c.text.Rat(7)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
		} else if c.den != 0 && got.Cmp(big.NewRat(c.num, c.den)) != 0 {
			t.Errorf("%q is %v", c.text, got)
		}
	}
	for _, text := range []Number{"-", ".", ".5", "5.", "1e9", "+1", "0x10", "--1", "1_000", "one", "1/3", "1.2.3", "1234567890123456", "Inf", Number(strings.Repeat("9", 1000))} {
		if got, err := text.Rat(1); err == nil {
			t.Errorf("%q is %v", text, got)
		} else if len(err.Error()) > 200 {
			t.Errorf("%d bytes of message", len(err.Error()))
		}
	}
}

func TestExact(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]*big.Rat{0.1: big.NewRat(1, 10), 1e-6: big.NewRat(1, 1_000_000), -40: big.NewRat(-40, 1), math.Inf(1): new(big.Rat), 0.00390625: big.NewRat(1, 256)} {
		if got := Exact(v); got.Cmp(want) != 0 {
			t.Errorf("%v is %v", v, got)
		}
	}
	if Exact(math.NaN()).Sign() != 0 {
		t.Error("not a number is one")
	}
}
