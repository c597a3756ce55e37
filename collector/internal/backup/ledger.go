package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/backup/internal/manifest"
	"rawstone/pkg/tlog"
)

const rebuildBatch = 8192 // entries appended at once

// copyLedger copies the log's directory as of its checkpoint, which comes first: what it needs is never changed. A part of a tile may be
// removed while the log grows, when there is the whole of it, which serves as well.
func copyLedger(ctx context.Context, m *manifest.Manifest, c Config) error {
	to := filepath.Join(c.Dir, ledgerDir)
	if err := m.Copy(c.Dir, filepath.Join(ledgerDir, layout.CheckpointPath), filepath.Join(c.Place.Ledger, layout.CheckpointPath)); err != nil {
		return fmt.Errorf("cannot copy ledger: %w; a collector that never ran has nothing to back up", err)
	}
	r, err := tlog.OpenReader(to, c.LogKey)
	if err != nil {
		return err
	}
	size := r.Checkpoint().Size
	if size == 0 {
		return errors.New("the ledger holds no entry yet; start the collector")
	}
	m.Entries, m.Root = size, r.Checkpoint().Root.String()
	take := func(path func(partial uint8) string, partial uint8) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path(partial)
		err := m.Copy(c.Dir, filepath.Join(ledgerDir, name), filepath.Join(c.Place.Ledger, name))
		if partial != 0 && errors.Is(err, fs.ErrNotExist) {
			name = path(0)
			err = m.Copy(c.Dir, filepath.Join(ledgerDir, name), filepath.Join(c.Place.Ledger, name))
		}
		return err
	}
	for level, nodes := uint64(0), size; nodes > 0; level, nodes = level+1, nodes/layout.TileWidth {
		for index := uint64(0); index*layout.TileWidth < nodes; index++ {
			partial := layout.PartialTileSize(level, index, size)
			if err := take(func(p uint8) string { return layout.TilePath(level, index, p) }, partial); err != nil {
				return fmt.Errorf("cannot copy ledger: %w", err)
			}
			if level > 0 {
				continue
			}
			if err := take(func(p uint8) string { return layout.EntriesPath(index, p) }, partial); err != nil {
				return fmt.Errorf("cannot copy ledger: %w", err)
			}
		}
	}
	return nil
}

// rebuild makes a log anew in a directory from the entries of the backup. What Tessera keeps beside the tiles is its own business.
func (b *Backup) rebuild(ctx context.Context, dir string, key note.Signer, verifier string, logger *slog.Logger) (err error) {
	from, err := tlog.OpenReader(filepath.Join(b.dir, ledgerDir), verifier)
	if err != nil {
		return err
	}
	l, err := tlog.Open(ctx, tlog.Config{Dir: dir, Signer: key, Verifier: verifier, Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var waiting [][]byte
	flush := func() error {
		err := l.Append(ctx, l.Size(), waiting...)
		waiting = waiting[:0]
		return err
	}
	for e, err := range from.Entries(ctx) {
		if err != nil {
			return err
		}
		if waiting = append(waiting, bytes.Clone(e)); len(waiting) == rebuildBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	switch made, err := l.Checkpoint(); {
	case err != nil:
		return err
	case made != from.Checkpoint():
		return fmt.Errorf("the rebuilt ledger has %d entries and root %s, its backup %d and %s", made.Size, made.Root, b.Entries, b.Root)
	}
	return nil
}
