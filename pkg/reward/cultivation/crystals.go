package cultivation

import (
	"fmt"
	"math/bits"
)

// Crystals is an account's balance of points, which tasks give and mine boxes cost. At most MaxCrystals.
type Crystals uint64

// MaxCrystals bounds an account's crystals, so that those of 2^32 accounts add up within 64 bits.
const MaxCrystals Crystals = 1<<32 - 1

// Grant returns the balance with n, at least 1, more crystals.
func (c Crystals) Grant(n uint32) (Crystals, error) {
	if n == 0 || c > MaxCrystals || Crystals(n) > MaxCrystals-c {
		return c, fmt.Errorf("cannot grant crystals: %d on top of %d, want at least 1 and at most %d altogether", n, c, MaxCrystals)
	}
	return c + Crystals(n), nil
}

// Spend returns the balance less n crystals. What is not there cannot be spent.
func (c Crystals) Spend(n uint32) (Crystals, error) {
	if Crystals(n) > c {
		return c, fmt.Errorf("cannot spend crystals: %d asked, the account has %d", n, c)
	}
	return c - Crystals(n), nil
}

// A Limit bounds the crystals that one account may be granted for one task, on a program day and altogether. The zero Limit allows none.
type Limit struct{ Daily, Total uint64 }

// Allow refuses a grant of n crystals to an account that was granted today crystals for the task on this day and total, today's
// included, so far.
func (l Limit) Allow(today, total uint64, n uint32) error {
	day, carry1 := bits.Add64(today, uint64(n), 0)
	all, carry2 := bits.Add64(total, uint64(n), 0)
	if carry1 != 0 || day > l.Daily {
		return fmt.Errorf("cannot grant crystals: %d on top of today's %d exceed the task's daily limit of %d; ask on another day", n, today, l.Daily)
	}
	if carry2 != 0 || all > l.Total {
		return fmt.Errorf("cannot grant crystals: %d on top of %d exceed the task's limit of %d", n, total, l.Total)
	}
	return nil
}
