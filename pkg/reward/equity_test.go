package reward

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestRedeemable(t *testing.T) {
	for _, c := range []struct {
		activated, day uint32
		want           bool
	}{
		{10, 99, false}, {10, 100, true}, {10, 101, true}, {0, 5000, false}, {1, 90, false}, {1, 91, true}, {10, 9, false},
		{math.MaxUint32, math.MaxUint32, false}, {math.MaxUint32 - 10, 80, false}, {math.MaxUint32 - 90, math.MaxUint32, true},
	} {
		if got := Redeemable(c.activated, c.day); got != c.want {
			t.Errorf("activated on day %d, redeemable on day %d: %t, want %t", c.activated, c.day, got, c.want)
		}
	}
}

// TestEquity is a statement worked out by hand: 4.9 % of 1,000.49 is 49.02 (49.02401 rounded down), split among 1, 1, 1 and 4 stones. The
// exact portions in cents are 700.29 three times and 2801.14: the cent that is left goes to the lowest of the three.
func TestEquity(t *testing.T) {
	got, err := Equity(100_049, []Holding{{"d", 4000}, {"b", 1000}, {"c", 1000}, {"a", 1000}, {"e", 0}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Portion{{"a", 701}, {"b", 700}, {"c", 700}, {"d", 2801}, {"e", 0}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for name, list := range map[string][]Holding{
		"nobody": nil, "no stones": {{"a", 0}}, "twice": {{"a", 1}, {"b", 1}, {"a", 1}}, "more than there is": {{"a", Supply}, {"b", 1}},
		"overflow": {{"a", 2}, {"b", math.MaxUint64}},
	} {
		if _, err := Equity(1000, list); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if got, err := Equity(math.MaxUint64, []Holding{{"a", Supply}}); err != nil || got[0].Cents != 903_890_459_611_768_029 {
		t.Errorf("the largest value gives %v, %v", got, err)
	}
}

// TestEquityLaws holds what a largest remainder promises: the sum is exact, each portion is the exact one rounded down or up, a larger
// remainder never loses against a smaller one, and the order of the input changes nothing.
func TestEquityLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.Uint64().Draw(t, "value")
		most := rapid.SampledFrom([]uint64{1, 3, 1000, Supply / 50}).Draw(t, "most")
		held := rapid.SliceOfN(rapid.Uint64Range(0, most), 1, 50).Draw(t, "held")
		list, stones := make([]Holding, len(held)), new(big.Int)
		for i, m := range held {
			list[i] = Holding{fmt.Sprintf("%03d", i), m}
			stones.Add(stones, new(big.Int).SetUint64(m))
		}
		if stones.Sign() == 0 {
			t.Skip("no stones")
		}
		got, err := Equity(value, list)
		if err != nil {
			t.Fatal(err)
		}
		total := new(big.Int).SetUint64(value)
		total.Mul(total, big.NewInt(49)).Quo(total, big.NewInt(1000))
		sum, up, down := new(big.Int), []*big.Int{}, []*big.Int{}
		for i, p := range got {
			if p.Account != list[i].Account {
				t.Fatalf("portion %d is of %s", i, p.Account)
			}
			cents := new(big.Int).SetUint64(p.Cents)
			sum.Add(sum, cents)
			exact, rest := new(big.Int).QuoRem(new(big.Int).Mul(total, new(big.Int).SetUint64(held[i])), stones, new(big.Int))
			switch cents.Sub(cents, exact).Int64() {
			case 0:
				down = append(down, rest)
			case 1:
				up = append(up, rest)
			default:
				t.Fatalf("portion of %d milli-stones is %d cents, exactly it is %v and %v/%v", held[i], p.Cents, exact, rest, stones)
			}
		}
		if sum.Cmp(total) != 0 {
			t.Fatalf("portions add up to %v cents, want %v", sum, total)
		}
		for _, u := range up {
			for _, d := range down {
				if u.Cmp(d) < 0 {
					t.Fatalf("a remainder of %v got a cent, one of %v did not", u, d)
				}
			}
		}
		rand.New(rand.NewPCG(value, most)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		if again, err := Equity(value, list); err != nil || !slices.Equal(got, again) {
			t.Fatal("the statement depends on the order of the holdings")
		}
	})
}
