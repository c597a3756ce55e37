package tlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"

	"rawstone/pkg/wire"
)

const (
	maxBundleLen = layout.EntryBundleWidth * (2 + MaxEntryLen)
	maxTileLen   = layout.TileWidth * len(wire.Hash{})
)

// A Reader reads a log, which a Log may write to at the same time, as of the checkpoint at its opening.
type Reader struct {
	source     Source
	checkpoint Checkpoint
}

// OpenReader is NewReader on a Dir.
func OpenReader(dir, verifier string) (*Reader, error) {
	return NewReader(context.Background(), Dir(dir), verifier)
}

// NewReader opens a log and checks that its checkpoint is signed by the verifier key, a note verifier text as the program document names it.
func NewReader(ctx context.Context, s Source, verifier string) (*Reader, error) {
	v, err := note.NewVerifier(verifier)
	if err != nil {
		return nil, fmt.Errorf("cannot use log key: %w", err)
	}
	c, err := readCheckpoint(ctx, s, v)
	if err != nil {
		return nil, err
	}
	return &Reader{s, c}, nil
}

// ErrEmpty says that a directory holds no log, or one without an entry.
var ErrEmpty = errors.New("it holds no entry")

// Checkpoint returns the checkpoint that the reader checks against.
func (r *Reader) Checkpoint() Checkpoint { return r.checkpoint }

// Entries iterates over all entries in order. It recomputes the whole Merkle tree from them and compares every stored tile, and at the
// end the root: a flipped bit or a missing file ends the iteration with an error that names it. That the entries are those of the
// checkpoint is proven only when the iteration ends without one.
func (r *Reader) Entries(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if err := r.each(ctx, func(e []byte) bool { return yield(e, nil) }); err != nil && !errors.Is(err, errStop) {
			yield(nil, err)
		}
	}
}

var errStop = errors.New("stopped")

func (r *Reader) each(ctx context.Context, yield func([]byte) bool) error {
	size := r.checkpoint.Size
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	read := func(path func(uint8) string, partial uint8, limit int) ([]byte, error) {
		return readTile(ctx, r.source, path, partial, limit)
	}
	check := checker{read: read, size: size}
	for bundle := uint64(0); bundle*layout.EntryBundleWidth < size; bundle++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := func(p uint8) string { return layout.EntriesPath(bundle, p) }
		partial := layout.PartialTileSize(0, bundle, size)
		rest, err := read(path, partial, maxBundleLen)
		if err != nil {
			return err
		}
		var entry []byte
		for number := bundle * layout.EntryBundleWidth; number < min(size, (bundle+1)*layout.EntryBundleWidth); number++ {
			if entry, rest, err = split(rest); err != nil {
				return fmt.Errorf("cannot read entry %d in %s: %w", number, path(partial), err)
			}
			if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(entry), check.node); err != nil {
				return fmt.Errorf("cannot hash entry %d: %w", number, err)
			}
			if check.err != nil {
				return check.err
			}
			if !yield(entry) {
				return errStop
			}
		}
	}
	root := rfc6962.DefaultHasher.EmptyRoot()
	if size > 0 {
		var err error
		if root, err = tree.GetRootHash(nil); err != nil {
			return fmt.Errorf("cannot hash log %s: %w", r.source, err)
		}
	}
	if !bytes.Equal(root, r.checkpoint.Root[:]) {
		return fmt.Errorf("cannot accept log %s: its %d entries have root %x, its checkpoint says %s", r.source, size, root, r.checkpoint.Root)
	}
	return nil
}

// checker compares the nodes that tiles store, those on every eighth level, with the recomputed ones.
type checker struct {
	read func(path func(uint8) string, partial uint8, limit int) ([]byte, error)
	size uint64
	now  []storedTile // by tile level, the tile that is being filled
	err  error
}

type storedTile struct {
	index  uint64
	name   string
	hashes []byte // nil before the first
}

// node implements compact.VisitFn; it keeps the first error.
func (c *checker) node(id compact.NodeID, hash []byte) {
	if c.err != nil || id.Level%layout.TileHeight != 0 {
		return
	}
	level, index, at := uint64(id.Level/layout.TileHeight), id.Index/layout.TileWidth, int(id.Index%layout.TileWidth)
	for uint64(len(c.now)) <= level {
		c.now = append(c.now, storedTile{})
	}
	t := &c.now[level]
	if t.hashes == nil || t.index != index {
		path := func(p uint8) string { return layout.TilePath(level, index, p) }
		partial := layout.PartialTileSize(level, index, c.size)
		b, err := c.read(path, partial, maxTileLen)
		if err != nil {
			c.err = err
			return
		}
		*t = storedTile{index, path(partial), b}
	}
	from := at * len(hash)
	switch {
	case from+len(hash) > len(t.hashes):
		c.err = fmt.Errorf("cannot accept log file %s: it ends before hash %d", t.name, at)
	case bytes.Equal(t.hashes[from:from+len(hash)], hash):
	case level == 0:
		c.err = fmt.Errorf("cannot accept entry %d: its hash is not the one in log file %s", id.Index, t.name)
	default:
		c.err = fmt.Errorf("cannot accept log file %s: its hash %d is not that of the entries below it", t.name, at)
	}
}

// split takes one entry off a bundle: its length in two bytes, then its bytes.
func split(bundle []byte) (entry, rest []byte, err error) {
	if len(bundle) < 2 {
		return nil, nil, errors.New("the file ends before it")
	}
	n := int(binary.BigEndian.Uint16(bundle))
	if len(bundle) < 2+n {
		return nil, nil, errors.New("the file ends in the middle of it")
	}
	return bundle[2 : 2+n], bundle[2+n:], nil
}
