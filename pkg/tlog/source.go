package tlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/transparency-dev/tessera/api/layout"
)

// MaxCheckpointLen bounds a checkpoint with its signatures in bytes.
const MaxCheckpointLen = 16 << 10

// A Source is where a log's files are: a directory, or a server that hands them out (package remote).
type Source interface {
	// Read returns the file of that path of C2SP tlog-tiles, at most limit bytes; its error is an fs.ErrNotExist when there is none, and
	// names the file.
	Read(ctx context.Context, path string, limit int) ([]byte, error)
	// String names the log in messages.
	String() string
}

// Dir is a log directory.
type Dir string

// String is the directory's name.
func (d Dir) String() string { return string(d) }

// Read implements Source.
func (d Dir) Read(_ context.Context, name string, limit int) ([]byte, error) {
	path := filepath.Join(string(d), filepath.FromSlash(name))
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read log file %s: %w", name, err)
	}
	if info.Size() > int64(limit) {
		return nil, fmt.Errorf("cannot read log file %s: %d bytes, at most %d allowed", name, info.Size(), limit)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read log file %s: %w", name, err)
	}
	return b, nil
}

// FirstOf returns the first entry of a log without any check but the form of its checkpoint: a document that carries its own signature and
// names the key that NewReader needs. A log without a checkpoint or an entry is an ErrEmpty.
func FirstOf(ctx context.Context, s Source) ([]byte, error) {
	b, err := s.Read(ctx, layout.CheckpointPath, MaxCheckpointLen)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read log %s: it has no file checkpoint; name a log's directory, or the URL below which a server hands it out, which ends in /log/: %w", s, ErrEmpty)
	}
	if err != nil {
		return nil, err
	}
	lines := bytes.SplitN(b, []byte("\n"), 3)
	if len(lines) < 3 {
		return nil, fmt.Errorf("cannot read checkpoint of log %s: it ends early", s)
	}
	size, err := strconv.ParseUint(string(lines[1]), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("cannot read checkpoint of log %s: %q is no number of entries", s, lines[1])
	}
	if size == 0 {
		return nil, fmt.Errorf("cannot read log %s: %w", s, ErrEmpty)
	}
	path := func(p uint8) string { return layout.EntriesPath(0, p) }
	bundle, err := readTile(ctx, s, path, layout.PartialTileSize(0, 0, size), maxBundleLen)
	if err != nil {
		return nil, fmt.Errorf("cannot read first of the %d entries that the checkpoint of log %s names: %w", size, s, err)
	}
	e, _, err := split(bundle)
	if err != nil {
		return nil, fmt.Errorf("cannot read first entry of log %s: %w", s, err)
	}
	return e, nil
}

// readTile reads a partial file, or the full one that has replaced it when the log has grown since.
func readTile(ctx context.Context, s Source, path func(uint8) string, partial uint8, limit int) ([]byte, error) {
	b, err := s.Read(ctx, path(partial), limit)
	if partial != 0 && errors.Is(err, fs.ErrNotExist) {
		if full, err := s.Read(ctx, path(0), limit); err == nil {
			return full, nil
		}
	}
	return b, err
}
