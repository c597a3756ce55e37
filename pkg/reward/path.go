package reward

import (
	"errors"
	"fmt"

	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

const (
	// maxDepth bounds a path: no tree of 2^40 leaves is built.
	maxDepth = 40
	// MaxPathLen bounds an encoded path in bytes: index and steps take at most 46 each. One among 4,000,000 leaves takes about 1,000.
	MaxPathLen = 16 + 46*maxDepth
)

// A Step is a sibling on the way from a leaf to the root.
type Step struct {
	Hash wire.Hash `cbor:"0,keyasint"`
	Sum  uint64    `cbor:"1,keyasint"`
}

// A Path shows one owner where their leaf lies, and the sums of its siblings, but no other leaf.
type Path struct {
	// Index is the leaf's place in the order, from 0.
	Index uint64 `cbor:"0,keyasint"`
	// Steps are the siblings, from the leaf's up.
	Steps []Step `cbor:"1,keyasint,omitempty"`
}

// Path returns the path of the leaf at index.
func (t *Tree) Path(index int) (Path, error) {
	if index < 0 || index >= t.line.Len() {
		return Path{}, fmt.Errorf("cannot make path: no leaf %d among %d", index, t.line.Len())
	}
	p := Path{Index: uint64(index)}
	for _, level := range t.levels[:len(t.levels)-1] {
		if s := index ^ 1; s < len(level) {
			p.Steps = append(p.Steps, Step{level[s].hash, level[s].sum})
		}
		index /= 2
	}
	return p, nil
}

// Verify checks that the leaf stands under root at the path's index and returns its interval. The root's sum is the total weight W that
// the day's cosignatures cover: a path whose sums do not lead to it is refused.
func (p Path) Verify(root Root, leaf Leaf) (Interval, error) {
	if p.Index >= root.Count || len(p.Steps) > maxDepth {
		return Interval{}, fmt.Errorf("cannot verify path: index %d with %d steps does not fit %d leaves", p.Index, len(p.Steps), root.Count)
	}
	n, begin, steps := leaf.node(), uint64(0), p.Steps
	// index and last walk up: a node that is last and even has no sibling.
	for index, last := p.Index, root.Count-1; last > 0; index, last = index/2, last/2 {
		if index == last && index%2 == 0 {
			continue
		}
		if len(steps) == 0 {
			return Interval{}, errors.New("cannot verify path: it is too short")
		}
		s := node{steps[0].Hash, steps[0].Sum}
		steps = steps[1:]
		if _, err := add(n.sum, s.sum); err != nil {
			return Interval{}, err
		}
		if index%2 == 1 {
			begin += s.sum // at most the sum of the node that is joined
			n = join(&s, &n)
		} else {
			n = join(&n, &s)
		}
	}
	switch {
	case len(steps) != 0:
		return Interval{}, errors.New("cannot verify path: it is too long")
	case leaf.Weight == 0:
		return Interval{}, errors.New("cannot verify path: the leaf has no weight")
	case n.hash != root.Hash || n.sum != root.Sum:
		return Interval{}, errors.New("cannot verify path: it does not lead to the root")
	}
	return Interval{begin, begin + leaf.Weight}, nil
}

// Encode returns the path in deterministic CBOR: {0: index, 1: [{0: hash, 1: sum}, …]}, without key 1 where the leaf is the only one.
func (p Path) Encode() ([]byte, error) {
	if len(p.Steps) > maxDepth {
		return nil, fmt.Errorf("cannot encode path: %d steps, at most %d allowed", len(p.Steps), maxDepth)
	}
	return codec.Encode(&p)
}

// DecodePath reads what Encode returns. Whether it leads anywhere is for Verify.
func DecodePath(b []byte) (p Path, err error) {
	if err := codec.Decode(b, &p, MaxPathLen); err != nil {
		return Path{}, err
	}
	if len(p.Steps) > maxDepth {
		return Path{}, fmt.Errorf("cannot decode path: %d steps, at most %d allowed", len(p.Steps), maxDepth)
	}
	return p, nil
}
