package reward

import "fmt"

// A Line is the leaves of a day laid one after the other from 0 to W: the prefix sums of their weights, in kilometres.
type Line struct{ ends []uint64 }

// NewLine lays out leaves in the order of the draw. It refuses a leaf without weight and a total beyond 64 bits.
func NewLine(ordered []Leaf) (Line, error) {
	ends, sum := make([]uint64, len(ordered)), uint64(0)
	for i := range ordered {
		w := ordered[i].Weight
		if w == 0 {
			return Line{}, fmt.Errorf("cannot lay out leaves: leaf %d has no weight", i)
		}
		var err error
		if sum, err = add(sum, w); err != nil {
			return Line{}, err
		}
		ends[i] = sum
	}
	return Line{ends}, nil
}

// Len returns the number of leaves.
func (l Line) Len() int { return len(l.ends) }

// Total returns W; 0 without leaves.
func (l Line) Total() uint64 {
	if len(l.ends) == 0 {
		return 0
	}
	return l.ends[len(l.ends)-1]
}

// Interval returns the interval of the leaf at index.
func (l Line) Interval(index int) Interval {
	i := Interval{End: l.ends[index]}
	if index > 0 {
		i.Begin = l.ends[index-1]
	}
	return i
}
