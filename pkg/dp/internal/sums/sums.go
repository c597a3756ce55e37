// Package sums keeps exact power sums of integer vectors, so that adding and merging in any order and grouping gives the same bits.
//
// For each coordinate x it holds Σx, Σx² and Σx·T, where T is the sum of a vector's coordinates. Inside the package's limits no sum
// leaves 128 bits: |x| ≤ 2⁴¹, |T| ≤ 2⁵³ and n ≤ 2³² make Σx² ≤ 2¹¹⁴ and |Σx·T| ≤ 2¹²⁶. It refuses whatever is beyond, and never
// rounds.
package sums

import (
	"encoding/binary"
	"fmt"
	"math/big"
)

// Limits of what is added.
const (
	// MaxDim bounds the number of coordinates.
	MaxDim = 1 << 12
	// MaxValue bounds the magnitude of a coordinate.
	MaxValue = 1 << 41
	// MaxVectors bounds the number of vectors.
	MaxVectors = 1 << 32
)

// cell holds Σx, Σx² and Σx·T of one coordinate.
type cell struct{ first, square, cross int128 }

// Sums are the power sums of vectors of one dimension. They are not safe for concurrent use.
type Sums struct {
	n     uint64
	cells []cell
}

// New returns the empty sums of dim coordinates, 1 to MaxDim.
func New(dim int) (*Sums, error) {
	if dim < 1 || dim > MaxDim {
		return nil, fmt.Errorf("dimension %d is outside [1, %d]", dim, MaxDim)
	}
	return &Sums{cells: make([]cell, dim)}, nil
}

// N returns the number of vectors added.
func (s *Sums) N() uint64 { return s.n }

// Dim returns the number of coordinates.
func (s *Sums) Dim() int { return len(s.cells) }

// Add adds one vector. A wrong length, a magnitude beyond MaxValue and a vector beyond MaxVectors are errors, after which s is
// unchanged.
func (s *Sums) Add(x []int64) error {
	if len(x) != len(s.cells) {
		return fmt.Errorf("%d coordinates, want %d", len(x), len(s.cells))
	}
	if s.n >= MaxVectors {
		return fmt.Errorf("%d are added already; begin another window", s.n)
	}
	var total int64
	for i, v := range x {
		if v < -MaxValue || v > MaxValue {
			return fmt.Errorf("coordinate %d is %d, of magnitude above %d", i, v, int64(MaxValue))
		}
		total += v
	}
	s.n++
	for i, v := range x {
		c := &s.cells[i]
		c.first = c.first.add(of(v))
		c.square = c.square.add(mul(v, v))
		c.cross = c.cross.add(mul(v, total))
	}
	return nil
}

// Merge adds o's vectors to s and leaves o alone. A different dimension and more than MaxVectors together are errors, after
// which s is unchanged.
func (s *Sums) Merge(o *Sums) error {
	if len(o.cells) != len(s.cells) {
		return fmt.Errorf("%d coordinates, want %d", len(o.cells), len(s.cells))
	}
	if s.n+o.n > MaxVectors {
		return fmt.Errorf("%d and %d vectors are more than %d; take a shorter window", s.n, o.n, int64(MaxVectors))
	}
	s.n += o.n
	for i := range s.cells {
		c, p := &s.cells[i], &o.cells[i]
		c.first, c.square, c.cross = c.first.add(p.first), c.square.add(p.square), c.cross.add(p.cross)
	}
	return nil
}

// The encoding: version, dimension in 2 bytes, number of vectors in 8, then Σx, Σx² and Σx·T of each coordinate in 16 bytes
// each, all big-endian. Every field has one encoding, so equal sums have equal bytes.
const (
	version = 1
	header  = 1 + 2 + 8
	width   = 3 * size
)

// AppendBinary appends s's encoding, 11 + 48·Dim() bytes. The error is always nil.
func (s *Sums) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, version)
	b = binary.BigEndian.AppendUint16(b, uint16(len(s.cells)))
	b = binary.BigEndian.AppendUint64(b, s.n)
	for _, c := range s.cells {
		b = c.cross.append(c.square.append(c.first.append(b)))
	}
	return b, nil
}

// UnmarshalBinary replaces s by what AppendBinary encoded. Anything else is an error, after which s is unchanged: another
// version or length, and sums that no vectors within the limits have. It is no checksum: that is the caller's.
func (s *Sums) UnmarshalBinary(b []byte) error {
	if len(b) < header {
		return fmt.Errorf("%d bytes, want at least %d", len(b), header)
	}
	if b[0] != version {
		return fmt.Errorf("version %d, want %d", b[0], version)
	}
	dim, n := int(binary.BigEndian.Uint16(b[1:])), binary.BigEndian.Uint64(b[3:])
	if dim < 1 || dim > MaxDim || n > MaxVectors || len(b) != header+dim*width {
		return fmt.Errorf("%d bytes for %d coordinates of %d vectors", len(b), dim, n)
	}
	d := Sums{n: n, cells: make([]cell, dim)}
	for i := range d.cells {
		c := b[header+i*width:]
		d.cells[i] = cell{decode(c), decode(c[size:]), decode(c[2*size:])}
	}
	if !d.possible() {
		return fmt.Errorf("no %d vectors have these sums", n)
	}
	*s = d
	return nil
}

// possible reports what must hold of any vectors within the limits: n·Σx² ≥ (Σx)² for each coordinate and for T, (Σx·T)² ≤
// Σx²·ΣT², and Σx² within n·MaxValue². Together they keep |Σx·T| within dim·n·MaxValue², because ΣT² is at most dim times the
// largest Σx·T: what was decoded overflows no sooner than what was added. Without vectors every sum is 0.
func (s *Sums) possible() bool {
	n := new(big.Int).SetUint64(s.n)
	most := new(big.Int).Lsh(n, 82)
	total, totalSquare := s.Total()
	if !bounded(n, total, totalSquare) {
		return false
	}
	for _, c := range s.cells {
		square, cross := c.square.big(), c.cross.big()
		if square.Cmp(most) > 0 || !bounded(n, c.first.big(), square) || !bounded(square, cross, totalSquare) {
			return false
		}
	}
	return true
}

// bounded reports a ≥ 0, c ≥ 0 and b² ≤ a·c, which is Cauchy's inequality for a = Σu², b = Σu·v and c = Σv².
func bounded(a, b, c *big.Int) bool {
	return a.Sign() >= 0 && c.Sign() >= 0 && new(big.Int).Mul(b, b).Cmp(new(big.Int).Mul(a, c)) <= 0
}

// First returns Σx of coordinate i, which is in range.
func (s *Sums) First(i int) *big.Int { return s.cells[i].first.big() }

// Square returns Σx² of coordinate i.
func (s *Sums) Square(i int) *big.Int { return s.cells[i].square.big() }

// Cross returns Σx·T of coordinate i.
func (s *Sums) Cross(i int) *big.Int { return s.cells[i].cross.big() }

// Total returns ΣT and ΣT². The second is Σᵢ Σxᵢ·T, which is why no sum of its own is kept.
func (s *Sums) Total() (first, square *big.Int) {
	first, square = new(big.Int), new(big.Int)
	for _, c := range s.cells {
		first.Add(first, c.first.big())
		square.Add(square, c.cross.big())
	}
	return first, square
}
