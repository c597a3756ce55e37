// Package tiles hands out the ledger to whoever asks: the paths of C2SP tlog-tiles from the log's directory, and nothing else.
//
// Only what the log's own published checkpoint covers is served: it never changes and may be kept by caches for good, while the checkpoint may
// not be kept at all. The checkpoint that is served may be an older one, whose partial tiles full ones have replaced since. Everything served is public. The package checks no signature and no hash: whoever reads a log does.
package tiles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/transparency-dev/tessera/api/layout"

	"rawstone/pkg/tlog"
)

// Config says what is served.
type Config struct {
	// Dir is the log's directory.
	Dir string
	// Checkpoint returns the checkpoint to serve, such as one that validators have cosigned; that of Dir when nil.
	Checkpoint func(context.Context) ([]byte, error)
}

// A Handler serves checkpoint and tile/… below the path that it is mounted on with http.StripPrefix, by GET and HEAD.
type Handler struct{ c Config }

// New returns a handler.
func New(c Config) (*Handler, error) {
	if c.Dir == "" {
		return nil, errors.New("cannot serve log: its directory is missing")
	}
	h := &Handler{c}
	if c.Checkpoint == nil {
		h.c.Checkpoint = h.own
	}
	return h, nil
}

// own reads the log's own checkpoint.
func (h *Handler) own(ctx context.Context) ([]byte, error) {
	return tlog.Dir(h.c.Dir).Read(ctx, layout.CheckpointPath, tlog.MaxCheckpointLen)
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the log is read by GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	read := h.own
	if name == layout.CheckpointPath {
		read = h.c.Checkpoint
	}
	checkpoint, err := read(r.Context())
	var size uint64
	if err == nil {
		size, err = sizeOf(checkpoint)
	}
	if err != nil {
		http.Error(w, "the log has no checkpoint yet", http.StatusServiceUnavailable)
		return
	}
	if name == layout.CheckpointPath {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(checkpoint))
		return
	}
	if !covered(name, size) {
		http.Error(w, "the log has no such file", http.StatusNotFound)
		return
	}
	f, err := os.OpenInRoot(h.c.Dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		http.Error(w, "the log has no such file", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, "the log cannot be read", http.StatusInternalServerError)
		return
	}
	defer f.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, f)
}

// sizeOf reads the number of entries in a checkpoint (C2SP tlog-checkpoint).
func sizeOf(checkpoint []byte) (uint64, error) {
	lines := bytes.SplitN(checkpoint, []byte("\n"), 3)
	if len(lines) < 3 {
		return 0, fmt.Errorf("cannot read checkpoint: it ends early")
	}
	return strconv.ParseUint(string(lines[1]), 10, 64)
}

// covered says whether a path is, letter by letter, that of a tile or an entry bundle in a log of a size.
func covered(name string, size uint64) bool {
	rest, ok := strings.CutPrefix(name, "tile/")
	if !ok {
		return false
	}
	first, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return false
	}
	var level, index uint64
	var partial uint8
	var err error
	var again string
	if first == "entries" {
		index, partial, err = layout.ParseTileIndexPartial(rest)
		again = layout.EntriesPath(index, partial)
	} else {
		level, index, partial, err = layout.ParseTileLevelIndexPartial(first, rest)
		again = layout.TilePath(level, index, partial)
	}
	if err != nil || again != name {
		return false
	}
	width := uint64(partial)
	if width == 0 {
		width = layout.TileWidth
	}
	// The tile ends with the subtree of that number, of 256^level entries each.
	over, subtrees := bits.Mul64(index, layout.TileWidth)
	subtrees, carry := bits.Add64(subtrees, width, 0)
	return over == 0 && carry == 0 && subtrees <= size>>(level*layout.TileHeight)
}
