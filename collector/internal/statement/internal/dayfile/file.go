package dayfile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"slices"
	"sort"

	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

// A file is a header and chunks of one length. A chunk holds chunkLeaves leaves that follow each other, a power of two, and the siblings on the way
// from their subtree's top to the root: with the leaves, all that the path of each of them needs. Numbers are big-endian.
const (
	magic       = "rawstone/day/v1\n"
	headerLen   = len(magic) + 4 + 2*8 + 2*32
	chunkLeaves = 256
	leafLen     = 32 + 8
	stepLen     = 32 + 8
)

// errDamaged is for a file that is not what was written for the day.
var errDamaged = errors.New("the file is damaged, or of other records")

// header returns the header of a day's file; there is one for each day.
func header(d *Day) []byte {
	h := append(make([]byte, 0, headerLen), magic...)
	h = binary.BigEndian.AppendUint32(h, d.Number)
	h = binary.BigEndian.AppendUint64(h, d.Root.Count)
	h = binary.BigEndian.AppendUint64(h, d.Root.Sum)
	return slices.Concat(h, d.Root.Hash[:], d.Order[:])
}

// A shape is what follows from the number of leaves.
type shape struct{ chunks, steps, chunkLen int }

func shapeOf(count uint64) shape {
	n := int((count + chunkLeaves - 1) / chunkLeaves)
	s := shape{chunks: n, steps: bits.Len(uint(n - 1))}
	s.chunkLen = 4 + 1 + s.steps*stepLen + chunkLeaves*leafLen
	return s
}

// seal returns the checksum of a chunk, which is that of no other day's and no other place.
func seal(header []byte, index int, content []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Checksum(header, table)
	sum = crc32.Update(sum, table, binary.BigEndian.AppendUint64(nil, uint64(index)))
	return crc32.Update(sum, table, content)
}

// write writes a day's file from its leaves in the order of the draw.
func write(w io.Writer, d *Day, ordered []reward.Leaf, tree *reward.Tree) error {
	b := bufio.NewWriterSize(w, 1<<20)
	h, s := header(d), shapeOf(d.Root.Count)
	b.Write(h) // the error comes with Flush
	for j := range s.chunks {
		leaves := ordered[j*chunkLeaves : min((j+1)*chunkLeaves, len(ordered))]
		path, err := tree.Path(j * chunkLeaves)
		if err != nil {
			return err
		}
		above := path.Steps[bits.Len(uint(len(leaves)-1)):] // the first leaf has a sibling on each level of its chunk
		content := append(make([]byte, 0, s.chunkLen-4), byte(len(above)))
		for _, step := range above {
			content = binary.BigEndian.AppendUint64(append(content, step.Hash[:]...), step.Sum)
		}
		content = content[:1+s.steps*stepLen]
		for i := range leaves {
			content = binary.BigEndian.AppendUint64(append(content, leaves[i].Pseudonym[:]...), leaves[i].Weight)
		}
		content = content[:s.chunkLen-4]
		b.Write(binary.BigEndian.AppendUint32(nil, seal(h, j, content)))
		b.Write(content)
	}
	return b.Flush()
}

// A chunk is one that was read.
type chunk struct {
	first  int // the place of its first leaf
	above  []reward.Step
	leaves []reward.Leaf
}

func readChunk(f io.ReaderAt, h []byte, s shape, count uint64, index int) (*chunk, error) {
	b := make([]byte, s.chunkLen)
	if _, err := f.ReadAt(b, int64(len(h))+int64(index)*int64(s.chunkLen)); errors.Is(err, io.EOF) {
		return nil, errDamaged
	} else if err != nil {
		return nil, err
	}
	content := b[4:]
	if binary.BigEndian.Uint32(b) != seal(h, index, content) || int(content[0]) > s.steps {
		return nil, errDamaged
	}
	c := &chunk{first: index * chunkLeaves, above: make([]reward.Step, content[0])}
	for i := range c.above {
		at := content[1+i*stepLen:]
		copy(c.above[i].Hash[:], at)
		c.above[i].Sum = binary.BigEndian.Uint64(at[32:])
	}
	c.leaves = make([]reward.Leaf, min(chunkLeaves, count-uint64(c.first)))
	for i := range c.leaves {
		at := content[1+s.steps*stepLen+i*leafLen:]
		copy(c.leaves[i].Pseudonym[:], at)
		c.leaves[i].Weight = binary.BigEndian.Uint64(at[32:])
	}
	return c, nil
}

// find looks a pseudonym up in a day's file; nil when the day has no leaf of it. What it says is proven against the day's root.
func find(f io.ReaderAt, d *Day, pseudonym wire.Hash) (*Place, error) {
	want, got := header(d), make([]byte, headerLen)
	if _, err := f.ReadAt(got, 0); errors.Is(err, io.EOF) || err == nil && !bytes.Equal(got, want) {
		return nil, errDamaged
	} else if err != nil {
		return nil, err
	}
	s := shapeOf(d.Root.Count)
	var failed error
	after := sort.Search(s.chunks, func(j int) bool { // the first chunk that begins after the pseudonym
		c, err := readChunk(f, want, s, d.Root.Count, j)
		if err != nil {
			failed = errors.Join(failed, err)
			return true
		}
		first := c.leaves[0].Pseudonym
		return first != pseudonym && reward.Order(d.Order, []reward.Leaf{{Pseudonym: first}, {Pseudonym: pseudonym}})[0].Pseudonym == pseudonym
	})
	if failed != nil {
		return nil, failed
	}
	c, err := readChunk(f, want, s, d.Root.Count, max(after-1, 0))
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(c.leaves, func(l reward.Leaf) bool { return l.Pseudonym == pseudonym })
	tree, err := reward.NewTree(c.leaves)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	shown := max(at, 0) // which proves the whole chunk
	path, err := tree.Path(shown)
	if err != nil {
		return nil, err
	}
	path.Index += uint64(c.first)
	path.Steps = append(path.Steps, c.above...)
	interval, err := path.Verify(d.Root, c.leaves[shown])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if at < 0 {
		return nil, nil
	}
	return &Place{Weight: c.leaves[at].Weight, Interval: interval, Path: path}, nil
}
