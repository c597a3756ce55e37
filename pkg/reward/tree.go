package reward

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"rawstone/pkg/wire"
)

const (
	tagEmpty = "rawstone/tree/empty/v1"
	tagLeaf  = "rawstone/tree/leaf/v1"
	tagNode  = "rawstone/tree/node/v1"
	// maxDepth bounds a path: no tree of 2^40 leaves is built.
	maxDepth = 40
)

// A Leaf is an account among a day's leaves.
type Leaf struct {
	// Pseudonym is the account's name of the day.
	Pseudonym wire.Hash
	// Weight is in kilometres, at least 1: an account without weight has no leaf.
	Weight uint64
}

// A Root commits to the leaves of a day, their order and their total weight.
type Root struct {
	Hash wire.Hash
	// Sum is W, the total weight in kilometres.
	Sum uint64
	// Count is the number of leaves.
	Count uint64
}

// An Interval [Begin, End) is an account's part of the line from 0 to W.
type Interval struct{ Begin, End uint64 }

// SetHash returns the hash and total weight of a set of leaves whatever their order: SHA-256 over a tag, the number of leaves and each
// leaf in ascending order of pseudonyms. It refuses a leaf without weight, two of one pseudonym, and a total beyond 64 bits.
func SetHash(leaves []Leaf) (h wire.Hash, sum uint64, err error) {
	sorted := slices.SortedFunc(slices.Values(leaves), func(a, b Leaf) int { return bytes.Compare(a.Pseudonym[:], b.Pseudonym[:]) })
	buf := append([]byte(tagSet), number(uint64(len(sorted)))...)
	for i, l := range sorted {
		if l.Weight == 0 {
			return h, 0, errors.New("cannot use leaves: one has no weight")
		}
		if i > 0 && l.Pseudonym == sorted[i-1].Pseudonym {
			return h, 0, errors.New("cannot use leaves: two have the same pseudonym")
		}
		if sum, err = add(sum, l.Weight); err != nil {
			return h, 0, err
		}
		buf = append(append(buf, l.Pseudonym[:]...), number(l.Weight)...)
	}
	return hash(buf), sum, nil
}

// Order returns the leaves in the order of the day's draw: ascending H(tag ‖ seed ‖ pseudonym). The seed must be later than the set of
// leaves, so that nobody can place an account.
func Order(seed wire.Hash, leaves []Leaf) []Leaf {
	type placed struct {
		key  wire.Hash
		leaf Leaf
	}
	all := make([]placed, len(leaves))
	for i, l := range leaves {
		all[i] = placed{hash([]byte(tagOrder), seed[:], l.Pseudonym[:]), l}
	}
	slices.SortFunc(all, func(a, b placed) int {
		return cmp.Or(bytes.Compare(a.key[:], b.key[:]), bytes.Compare(a.leaf.Pseudonym[:], b.leaf.Pseudonym[:]))
	})
	ordered := make([]Leaf, len(all))
	for i, p := range all {
		ordered[i] = p.leaf
	}
	return ordered
}

// node is a subtree: its hash and the sum of its leaves' weights.
type node struct {
	hash wire.Hash
	sum  uint64
}

func (l Leaf) node() node {
	return node{hash([]byte(tagLeaf), l.Pseudonym[:], number(l.Weight)), l.Weight}
}

// join is node = H(tag ‖ sum_L ‖ h_L ‖ sum_R ‖ h_R). Hashing both sums, not only their total, is what stops a prover from moving weight
// between siblings.
func join(l, r node) (node, error) {
	sum, err := add(l.sum, r.sum)
	if err != nil {
		return node{}, err
	}
	return node{hash([]byte(tagNode), number(l.sum), l.hash[:], number(r.sum), r.hash[:]), sum}, nil
}

// A Tree is the Merkle-sum tree over ordered leaves. Its shape is that of RFC 6962 §2.1: the left subtree has the largest power of two
// below the number of leaves, so that index and count fix the shape of every path.
type Tree struct {
	leaves []Leaf
	begins []uint64
	levels [][]node // levels[0] are the leaves; a node without a sibling is carried up as it is
}

// NewTree builds the tree over leaves in the order of the draw. It refuses a leaf without weight and a total beyond 64 bits. No leaves
// make the empty tree: hash of a tag of its own, sum 0.
func NewTree(ordered []Leaf) (*Tree, error) {
	t := &Tree{leaves: ordered, begins: make([]uint64, len(ordered))}
	level := make([]node, len(ordered))
	var sum uint64
	for i, l := range ordered {
		if l.Weight == 0 {
			return nil, fmt.Errorf("cannot build tree: leaf %d has no weight", i)
		}
		t.begins[i], level[i] = sum, l.node()
		var err error
		if sum, err = add(sum, l.Weight); err != nil {
			return nil, err
		}
	}
	for t.levels = append(t.levels, level); len(level) > 1; t.levels = append(t.levels, level) {
		next := make([]node, 0, (len(level)+1)/2)
		for i := 0; i+1 < len(level); i += 2 {
			n, err := join(level[i], level[i+1])
			if err != nil {
				return nil, err
			}
			next = append(next, n)
		}
		if len(level)%2 == 1 {
			next = append(next, level[len(level)-1])
		}
		level = next
	}
	return t, nil
}

// Root returns what the day's cosignatures commit to.
func (t *Tree) Root() Root {
	if len(t.leaves) == 0 {
		return Root{Hash: hash([]byte(tagEmpty))}
	}
	top := t.levels[len(t.levels)-1][0]
	return Root{Hash: top.hash, Sum: top.sum, Count: uint64(len(t.leaves))}
}

// Interval returns the interval of the leaf at index.
func (t *Tree) Interval(index int) Interval {
	return Interval{t.begins[index], t.begins[index] + t.leaves[index].Weight}
}

// A Step is a sibling on the way from a leaf to the root.
type Step struct {
	Hash wire.Hash
	Sum  uint64
}

// A Path shows one owner where their leaf lies, and the sums of its siblings, but no other leaf.
type Path struct {
	// Index is the leaf's place in the order, from 0.
	Index uint64
	// Steps are the siblings, from the leaf's up.
	Steps []Step
}

// Path returns the path of the leaf at index.
func (t *Tree) Path(index int) (Path, error) {
	if index < 0 || index >= len(t.leaves) {
		return Path{}, fmt.Errorf("cannot make path: no leaf %d among %d", index, len(t.leaves))
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
		var err error
		if index%2 == 1 {
			// join below refuses a sum that overflows, and begin is at most that sum.
			begin += s.sum
			n, err = join(s, n)
		} else {
			n, err = join(n, s)
		}
		if err != nil {
			return Interval{}, err
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

func add(a, b uint64) (uint64, error) {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return 0, errors.New("cannot add weights: the sum exceeds 64 bits")
	}
	return sum, nil
}
