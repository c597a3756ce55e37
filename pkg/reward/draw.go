package reward

import (
	"errors"
	"fmt"
	"math/bits"
	"sort"

	"rawstone/pkg/wire"
)

// A Draw places the units of one drop by systematic sampling: unit k of K falls at ⌊(r + k·W)/K⌋, with r = seed mod W. As r is uniform,
// an interval's expected share is exactly proportional to its length (the bias of the reduction is below 2^-192).
type Draw struct{ units, weight, r uint64 }

// NewDraw prepares the draw of units over a total weight. The seed is read as a 256-bit big-endian number. A total of 0 is refused: such
// a drop issues nothing and is not drawn.
func NewDraw(seed wire.Hash, units, weight uint64) (Draw, error) {
	if weight == 0 {
		return Draw{}, errors.New("cannot draw: no account has weight")
	}
	if units > MinedSupply/Unit {
		return Draw{}, fmt.Errorf("cannot draw: %d units exceed the whole supply", units)
	}
	return Draw{units, weight, Reduce(seed, weight)}, nil
}

// Share returns the units that fall on the interval: ⌈(end·K − r)/W⌉ − ⌈(begin·K − r)/W⌉. Unit k falls at or after position x when
// (r + k·W)/K ≥ x, that is from k = ⌈(x·K − r)/W⌉ on, so the difference counts the units in between. Because 0 ≤ r < W the term is 0 at
// x = 0 and K at x = W: the shares of a partition of [0, W) add up to exactly K. An interval that is empty or outside is refused.
func (d Draw) Share(i Interval) (uint64, error) {
	if i.Begin >= i.End || i.End > d.weight {
		return 0, fmt.Errorf("cannot compute share: [%d, %d) is not an interval within [0, %d)", i.Begin, i.End, d.weight)
	}
	return d.first(i.End) - d.first(i.Begin), nil
}

// A Win is what falls on one leaf: Units, at least 1, on the leaf at Index in the order of the draw.
type Win struct {
	Index int
	Units uint64
}

// Wins returns the leaves on which units fall, in the order of the draw. It finds each unit's place by binary search instead of visiting
// every leaf: min(K, leaves) searches. A line whose total is not the draw's is refused.
func (d Draw) Wins(l Line) ([]Win, error) {
	if l.Total() != d.weight {
		return nil, fmt.Errorf("cannot draw: leaves weigh %d km, want %d", l.Total(), d.weight)
	}
	wins := make([]Win, 0, min(d.units, uint64(l.Len())))
	for k, from := uint64(0), 0; k < d.units; {
		x := d.place(k)
		i := from + sort.Search(l.Len()-from, func(i int) bool { return l.ends[from+i] > x })
		next := d.first(l.ends[i])
		wins = append(wins, Win{i, next - k})
		k, from = next, i+1
	}
	return wins, nil
}

// Shares returns the units of each leaf, in the order of the draw. Leaves whose weights do not add up to the draw's total are refused.
func (d Draw) Shares(ordered []Leaf) ([]uint64, error) {
	l, err := NewLine(ordered)
	if err != nil {
		return nil, err
	}
	wins, err := d.Wins(l)
	if err != nil {
		return nil, err
	}
	shares := make([]uint64, len(ordered))
	for _, w := range wins {
		shares[w.Index] = w.Units
	}
	return shares, nil
}

// place is ⌊(r + k·W)/K⌋, where unit k < K falls: below W, because r + k·W < K·W.
func (d Draw) place(k uint64) uint64 {
	hi, lo := bits.Mul64(k, d.weight)
	lo, carry := bits.Add64(lo, d.r, 0)
	q, _ := bits.Div64(hi+carry, lo, d.units)
	return q
}

// first is ⌈(x·K − r)/W⌉ for x ≤ W, in 128 bits. When x·K ≤ r the fraction lies in (−1, 0], because r < W, and its ceiling is 0.
func (d Draw) first(x uint64) uint64 {
	hi, lo := bits.Mul64(x, d.units)
	lo, borrow := bits.Sub64(lo, d.r, 0)
	hi, borrow = bits.Sub64(hi, 0, borrow)
	if borrow != 0 || hi|lo == 0 {
		return 0
	}
	// ⌈n/W⌉ = ⌊(n−1)/W⌋ + 1 for n > 0. As n ≤ W·K the quotient fits 64 bits, which is what Div64 asks (hi < W).
	lo, borrow = bits.Sub64(lo, 1, 0)
	q, _ := bits.Div64(hi-borrow, lo, d.weight)
	return q + 1
}

// Reduce returns a 256-bit big-endian number modulo m > 0, by long division of 64-bit digits.
func Reduce(h wire.Hash, m uint64) (r uint64) {
	for i := 0; i < len(h); i += 8 {
		var digit uint64
		for _, b := range h[i : i+8] {
			digit = digit<<8 | uint64(b)
		}
		_, r = bits.Div64(r, digit, m)
	}
	return r
}
