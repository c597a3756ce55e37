// Package row checks the rows of a policy by themselves: what the circuit can hold, and that a row says something.
//
// It is arithmetic: the growth of seven counters, none of which shrinks or grows by more than 2^32 − 1, against coefficients of 32 bits and a
// bound. It refuses to guess what a row is for.
package row

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// maxBound bounds the magnitude of a row's bound, so that the slack of 32-bit counters and coefficients fits the circuit's 66 bits.
const maxBound = 1 << 62

// Check refuses a bound b that the circuit cannot hold and a row that says nothing: one that every car meets, or none. a are the
// coefficients.
func Check(a []int32, b int64) error {
	if b > maxBound || b < -maxBound {
		return fmt.Errorf("bound %d is beyond 2^62", b)
	}
	var up, down uint64 // below 2^34 each
	for _, c := range a {
		if c > 0 {
			up += uint64(c)
		} else {
			down += uint64(-int64(c))
		}
	}
	switch {
	case b > 0 && compare(up, uint64(b)) < 0:
		return fmt.Errorf("no growth of the counters reaches the bound %d", b)
	case b <= 0 && compare(down, uint64(-b)) <= 0:
		return errors.New("a row asks nothing: every growth of the counters meets it")
	}
	return nil
}

// compare compares a sum of coefficients times the largest growth with a bound.
func compare(coefficients, bound uint64) int {
	hi, lo := bits.Mul64(coefficients, math.MaxUint32)
	return cmp.Or(cmp.Compare(hi, 0), cmp.Compare(lo, bound))
}
