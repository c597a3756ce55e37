package reward

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/bits"

	"rawstone/pkg/wire"
)

const (
	tagEmpty = "rawstone/tree/empty/v1"
	tagLeaf  = "rawstone/tree/leaf/v1"
	tagNode  = "rawstone/tree/node/v1"
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

// node is a subtree: its hash and the sum of its leaves' weights.
type node struct {
	hash wire.Hash
	sum  uint64
}

func (l *Leaf) node() node {
	var b [len(tagLeaf) + len(l.Pseudonym) + 8]byte
	n := copy(b[:], tagLeaf)
	n += copy(b[n:], l.Pseudonym[:])
	binary.BigEndian.PutUint64(b[n:], l.Weight)
	return node{sha256.Sum256(b[:]), l.Weight}
}

// join is node = H(tag ‖ sum_L ‖ h_L ‖ sum_R ‖ h_R), for sums that together fit 64 bits. Hashing both sums, not only their total, is what
// stops a prover from moving weight between siblings.
func join(l, r *node) node {
	var b [len(tagNode) + 2*(8+len(l.hash))]byte
	n := copy(b[:], tagNode)
	for _, s := range [2]*node{l, r} {
		binary.BigEndian.PutUint64(b[n:], s.sum)
		n += 8 + copy(b[n+8:], s.hash[:])
	}
	return node{sha256.Sum256(b[:]), l.sum + r.sum}
}

// A Tree is the Merkle-sum tree over ordered leaves. Its shape is that of RFC 6962 §2.1: the left subtree has the largest power of two
// below the number of leaves, so that index and count fix the shape of every path.
type Tree struct {
	line   Line
	levels [][]node // levels[0] are the leaves; a node without a sibling is carried up as it is
}

// NewTree builds the tree over leaves in the order of the draw. It refuses a leaf without weight and a total beyond 64 bits. No leaves
// make the empty tree: hash of a tag of its own, sum 0.
func NewTree(ordered []Leaf) (*Tree, error) {
	line, err := NewLine(ordered)
	if err != nil {
		return nil, err
	}
	level := make([]node, len(ordered))
	spread(len(level), func(from, to int) {
		for i := from; i < to; i++ {
			level[i] = ordered[i].node()
		}
	})
	t := &Tree{line: line}
	// The line's total fits 64 bits, so each node's sum does.
	for t.levels = append(t.levels, level); len(level) > 1; t.levels = append(t.levels, level) {
		below, next := level, make([]node, (len(level)+1)/2)
		spread(len(below)/2, func(from, to int) {
			for i := from; i < to; i++ {
				next[i] = join(&below[2*i], &below[2*i+1])
			}
		})
		if len(below)%2 == 1 {
			next[len(next)-1] = below[len(below)-1]
		}
		level = next
	}
	return t, nil
}

// Root returns what the day's cosignatures commit to.
func (t *Tree) Root() Root {
	if t.line.Len() == 0 {
		return Root{Hash: sha256.Sum256([]byte(tagEmpty))}
	}
	top := t.levels[len(t.levels)-1][0]
	return Root{Hash: top.hash, Sum: top.sum, Count: uint64(t.line.Len())}
}

// Line returns the leaves' intervals.
func (t *Tree) Line() Line { return t.line }

// Interval returns the interval of the leaf at index.
func (t *Tree) Interval(index int) Interval { return t.line.Interval(index) }

func add(a, b uint64) (uint64, error) {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return 0, errors.New("cannot add weights: the sum exceeds 64 bits")
	}
	return sum, nil
}
