package dp

import (
	"fmt"

	"rawstone/pkg/dp/internal/sums"
)

// Limits of what is pooled: inside them every sum is exact.
const (
	// MaxValue bounds the magnitude of a released coordinate, in scaled units. No accepted mechanism reaches it (Gaussian.Bound).
	MaxValue = sums.MaxValue
	// MaxReleases bounds the number of releases in one Moments.
	MaxReleases = sums.MaxVectors
)

// Moments accumulates releases of one dimension in exact integers, so that adding and merging in any order and grouping gives
// the same bits. It is not safe for concurrent use.
type Moments struct{ sums sums.Sums }

// NewMoments returns empty moments of dim coordinates, 1 to MaxDim.
func NewMoments(dim int) (*Moments, error) {
	s, err := sums.New(dim)
	if err != nil {
		return nil, fmt.Errorf("cannot make moments: %w", err)
	}
	return &Moments{sums: *s}, nil
}

// N returns the number of releases added.
func (m *Moments) N() uint64 { return m.sums.N() }

// Dim returns the number of coordinates.
func (m *Moments) Dim() int { return m.sums.Dim() }

// Add takes one release in. It never clips: clipping noised values before pooling would bias the mean. A wrong length, a value
// beyond MaxValue, which no release holds, and a release beyond MaxReleases are errors, after which m is unchanged.
func (m *Moments) Add(x []int64) error {
	if err := m.sums.Add(x); err != nil {
		return fmt.Errorf("cannot add release: %w", err)
	}
	return nil
}

// Merge adds o's releases to m and leaves o alone. A different dimension and more than MaxReleases together are errors, after
// which m is unchanged.
func (m *Moments) Merge(o *Moments) error {
	if err := m.sums.Merge(&o.sums); err != nil {
		return fmt.Errorf("cannot merge moments: %w", err)
	}
	return nil
}

// AppendBinary appends m's encoding, 11 + 48·Dim() bytes, which equal moments share. The error is always nil.
func (m *Moments) AppendBinary(b []byte) ([]byte, error) { return m.sums.AppendBinary(b) }

// UnmarshalBinary replaces m by what AppendBinary encoded. Another version or length, and sums that no releases within the
// limits have, are errors, after which m is unchanged. It is no checksum: that is the caller's.
func (m *Moments) UnmarshalBinary(b []byte) error {
	if err := m.sums.UnmarshalBinary(b); err != nil {
		return fmt.Errorf("cannot decode moments: %w", err)
	}
	return nil
}

// Total returns the sum of coordinate i over all releases in scaled units, whatever its error: for counting, and for
// post-processing of means whose cohort is published. It is exact below 2⁵³. An index out of range is an error.
func (m *Moments) Total(i int) (float64, error) {
	if i < 0 || i >= m.Dim() {
		return 0, fmt.Errorf("cannot sum: coordinate %d of %d", i, m.Dim())
	}
	return float(m.sums.First(i)), nil
}
