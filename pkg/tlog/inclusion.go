package tlog

import (
	"context"
	"fmt"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api/layout"

	"rawstone/pkg/wire"
)

// Inclusion returns the proof (RFC 6962 §2.1.1) that entry number is in the tree of the log's first size entries, which may be fewer
// than the reader's checkpoint covers. It reads as many tiles as the tree is high, and believes them: whether they are right is for
// whoever has the root of that tree to check.
func (r *Reader) Inclusion(number, size uint64) ([]wire.Hash, error) {
	return r.InclusionContext(context.Background(), number, size)
}

// InclusionContext is Inclusion for a log that is not at hand.
func (r *Reader) InclusionContext(ctx context.Context, number, size uint64) ([]wire.Hash, error) {
	if number >= size || size > r.checkpoint.Size {
		return nil, fmt.Errorf("cannot prove entry %d in a tree of %d: the log holds %d", number, size, r.checkpoint.Size)
	}
	nodes, err := proof.Inclusion(number, size)
	if err != nil {
		return nil, fmt.Errorf("cannot prove entry %d: %w", number, err)
	}
	hashes := make([][]byte, len(nodes.IDs))
	for i, id := range nodes.IDs {
		if hashes[i], err = r.node(ctx, id); err != nil {
			return nil, err
		}
	}
	if hashes, err = nodes.Rehash(hashes, rfc6962.DefaultHasher.HashChildren); err != nil {
		return nil, fmt.Errorf("cannot prove entry %d: %w", number, err)
	}
	path := make([]wire.Hash, len(hashes))
	for i, h := range hashes {
		path[i] = wire.Hash(h)
	}
	return path, nil
}

// node returns the hash of a perfect subtree from the tile that holds the nodes at or beneath it.
func (r *Reader) node(ctx context.Context, id compact.NodeID) ([]byte, error) {
	level, height := uint64(id.Level/layout.TileHeight), id.Level%layout.TileHeight
	first := id.Index << height // on the tile's own level
	index := first / layout.TileWidth
	path := func(p uint8) string { return layout.TilePath(level, index, p) }
	partial := layout.PartialTileSize(level, index, r.checkpoint.Size)
	tile, err := readTile(ctx, r.source, path, partial, maxTileLen)
	if err != nil {
		return nil, err
	}
	const hash = len(wire.Hash{})
	from, n := int(first%layout.TileWidth)*hash, hash<<height
	if from+n > len(tile) {
		return nil, fmt.Errorf("cannot read log file %s: it ends early", path(partial))
	}
	row := make([][]byte, 0, n/hash)
	for at := from; at < from+n; at += hash {
		row = append(row, tile[at:at+hash])
	}
	for len(row) > 1 {
		for i := range len(row) / 2 {
			row[i] = rfc6962.DefaultHasher.HashChildren(row[2*i], row[2*i+1])
		}
		row = row[:len(row)/2]
	}
	return row[0], nil
}
