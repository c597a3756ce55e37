package reward

import "errors"

// A Line is the leaves of a day laid one after the other from 0 to W: the prefix sums of their weights, in kilometres. The zero Line has
// no leaves.
type Line struct{ ends []uint64 }

// NewLine lays out leaves in the order of the draw. It refuses what Append does.
func NewLine(ordered []Leaf) (Line, error) {
	l := Line{make([]uint64, 0, len(ordered))}
	for i := range ordered {
		if err := l.Append(ordered[i].Weight); err != nil {
			return Line{}, err
		}
	}
	return l, nil
}

// Append lays out one more leaf, after all others. It refuses a leaf without weight and a total beyond 64 bits.
func (l *Line) Append(weight uint64) error {
	if weight == 0 {
		return errors.New("cannot lay out leaves: one has no weight")
	}
	sum, err := add(l.Total(), weight)
	if err != nil {
		return err
	}
	l.ends = append(l.ends, sum)
	return nil
}

// Reset takes all leaves away and keeps the memory.
func (l *Line) Reset() { l.ends = l.ends[:0] }

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
