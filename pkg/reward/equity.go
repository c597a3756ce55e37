package reward

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"
)

const (
	// RedeemAfterDays is how many program days after an account's activation its stones may first be redeemed.
	RedeemAfterDays = 90
	// EquityPerMille is the part of the founding-round equity value that the equity statement splits.
	EquityPerMille = 49
)

// Redeemable reports whether an account that was activated on a program day, or never where that is 0, may redeem stones on day.
func Redeemable(activated, day uint32) bool {
	return activated != 0 && uint64(day) >= uint64(activated)+RedeemAfterDays
}

// A Holding is an account's stones, in milli-stones.
type Holding struct {
	Account string
	Milli   uint64
}

// A Portion is what the equity statement gives to an account, in cents.
type Portion struct {
	Account string
	Cents   uint64
}

// Equity splits EquityPerMille of a value in cents, rounded down to the cent, pro rata among holdings and returns the portions by account
// in ascending order. It uses the method of the largest remainder (Hamilton): everybody gets the whole cents of their exact portion, and
// the cents that are left, fewer than accounts with a remainder, go one each to the largest remainders, among equal ones to the lower
// account. So the portions add up exactly, each is within a cent of the exact one, and the order of the input changes nothing.
//
// It refuses an account that stands twice, more stones than there can be, and no stones at all.
func Equity(value uint64, holdings []Holding) ([]Portion, error) {
	// ⌊value·49/1000⌋ is below value, so it fits.
	hi, lo := bits.Mul64(value, EquityPerMille)
	total, _ := bits.Div64(hi, lo, 1000)

	sorted := slices.SortedFunc(slices.Values(holdings), func(a, b Holding) int { return cmp.Compare(a.Account, b.Account) })
	stones := uint64(0)
	for i, h := range sorted {
		if i > 0 && h.Account == sorted[i-1].Account {
			return nil, errors.New("cannot split equity: an account stands twice")
		}
		if h.Milli > Supply-stones {
			return nil, fmt.Errorf("cannot split equity: the holdings exceed the supply of %d milli-stones", uint64(Supply))
		}
		stones += h.Milli
	}
	if stones == 0 {
		return nil, errors.New("cannot split equity: nobody holds a stone")
	}

	portions := make([]Portion, len(sorted))
	remainders := make([]uint64, len(sorted)) // of total·milli/stones
	byRemainder := make([]int, len(sorted))
	left := total
	for i, h := range sorted {
		hi, lo := bits.Mul64(total, h.Milli)
		var cents uint64
		cents, remainders[i] = bits.Div64(hi, lo, stones) // at most total, as milli ≤ stones
		portions[i], byRemainder[i] = Portion{h.Account, cents}, i
		left -= cents
	}
	slices.SortFunc(byRemainder, func(a, b int) int { return cmp.Or(cmp.Compare(remainders[b], remainders[a]), cmp.Compare(a, b)) })
	for _, i := range byRemainder[:left] {
		portions[i].Cents++
	}
	return portions, nil
}
