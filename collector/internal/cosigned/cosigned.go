// Package cosigned keeps the newest checkpoint of the ledger that a quorum of validators has cosigned (C2SP tlog-cosignature), in a file of
// the ledger's directory, where the process that settles puts it and those that serve the ledger find it.
//
// Invariants: what is kept carries the ledger's signature and, when it was written, cosignatures of a quorum of the validators in force; the
// file is replaced as a whole, and by no smaller tree. It can be lost: the validators cosign again what they are shown.
//
// A line that is not one valid cosignature by a validator in force is dropped. The package does not compare trees with each other: that the
// validators do.
package cosigned

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/note"

	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
)

const (
	// File is the checkpoint's name in the ledger's directory.
	File = "checkpoint.cosigned"
	// maxWaiting bounds the checkpoints that wait for a quorum.
	maxWaiting = 8
)

// Config configures a Keeper. All is required.
type Config struct {
	// Dir is the ledger's directory, which must hold a checkpoint; LogKey is the ledger's key (C2SP signed-note).
	Dir    string
	LogKey string
	// Program returns the program with the validators that are in force: InForce makes it.
	Program func(context.Context) (*terms.Program, error)
	Logger  *slog.Logger
}

// A Keeper collects cosignatures. It may be used from several goroutines.
type Keeper struct {
	c Config

	mu      sync.Mutex
	kept    candidate
	waiting []candidate
}

// A candidate is a checkpoint with the cosignatures so far.
type candidate struct {
	size uint64
	text []byte
	by   []string
}

// body is what all signatures of a checkpoint are over.
func body(text []byte) string {
	b, _, _ := bytes.Cut(text, []byte("\n\n"))
	return string(b)
}

// Open reads what is kept. A file that is damaged, or belongs to a longer log than the one that is there, is removed.
func Open(ctx context.Context, c Config) (*Keeper, error) {
	if c.Dir == "" || c.LogKey == "" || c.Program == nil || c.Logger == nil {
		return nil, errors.New("cannot keep cosigned checkpoint: the ledger's directory, its key, validators or logger are missing")
	}
	k := &Keeper{c: c}
	r, err := tlog.OpenReader(c.Dir, c.LogKey)
	if err != nil {
		return nil, err
	}
	text, err := tlog.Dir(c.Dir).Read(ctx, File, tlog.MaxCheckpointLen)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err == nil {
		p, failed := c.Program(ctx)
		if failed != nil {
			return nil, failed
		}
		var kept tlog.Checkpoint
		var by []tlog.Cosigned
		kept, by, err = tlog.VerifyCosignatures(c.LogKey, cosigners(p), text)
		if size := r.Checkpoint().Size; err == nil && kept.Size > size {
			err = fmt.Errorf("it has %d entries, the ledger %d", kept.Size, size)
		}
		if err == nil {
			k.kept = candidate{kept.Size, text, names(by)}
			return k, nil
		}
	}
	c.Logger.Warn("cosigned checkpoint is removed", "error", err)
	if err := os.Remove(filepath.Join(c.Dir, File)); err != nil {
		return nil, fmt.Errorf("cannot remove cosigned checkpoint: %w", err)
	}
	return k, nil
}

func cosigners(p *terms.Program) (out []tlog.Cosigner) {
	for _, v := range p.Validators {
		out = append(out, tlog.Cosigner{Name: v.Name, Key: v.Key})
	}
	return out
}

func names(by []tlog.Cosigned) (out []string) {
	for _, c := range by {
		out = append(out, c.Name)
	}
	return out
}

// Take takes the line with which somebody cosigned a checkpoint of the ledger. What it drops or cannot keep it says in the log.
func (k *Keeper) Take(ctx context.Context, checkpoint, line []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.take(ctx, checkpoint, line); err != nil && ctx.Err() == nil {
		k.c.Logger.Warn("cosignature of checkpoint is dropped", "error", err)
	}
}

func (k *Keeper) take(ctx context.Context, checkpoint, line []byte) error {
	if bytes.IndexByte(line, '\n') != len(line)-1 || len(line) == 0 {
		return errors.New("it is not one line")
	}
	p, err := k.c.Program(ctx)
	if err != nil {
		return err
	}
	c, by, err := tlog.VerifyCosignatures(k.c.LogKey, cosigners(p), tlog.AddCosignatures(checkpoint, line))
	if err != nil {
		return err
	}
	if len(by) != 1 {
		return errors.New("it is not by a validator in force")
	}
	if body(checkpoint) == body(k.kept.text) {
		return k.add(p, k.kept, line, by[0].Name)
	}
	if c.Size <= k.kept.size {
		return nil // a larger one is kept
	}
	for i, w := range k.waiting {
		if body(checkpoint) == body(w.text) {
			k.waiting = slices.Delete(k.waiting, i, i+1)
			return k.add(p, w, line, by[0].Name)
		}
	}
	return k.add(p, candidate{size: c.Size, text: checkpoint}, line, by[0].Name)
}

// add adds a verified line to a checkpoint that is kept or larger, once for each validator, and keeps it when it has a quorum.
func (k *Keeper) add(p *terms.Program, c candidate, line []byte, name string) error {
	if !slices.Contains(c.by, name) {
		c.text, c.by = tlog.AddCosignatures(c.text, line), append(slices.Clone(c.by), name)
	} else if c.size == k.kept.size {
		return nil // on disk
	}
	quorum := 0
	for _, v := range p.Validators {
		if slices.Contains(c.by, v.Name) {
			quorum++
		}
	}
	if quorum < int(p.Quorum) && c.size != k.kept.size { // the kept one had its quorum, when others were in force
		k.waiting = append(k.waiting, c)
		slices.SortFunc(k.waiting, func(a, b candidate) int { return cmp.Compare(b.size, a.size) })
		k.waiting = k.waiting[:min(len(k.waiting), maxWaiting)]
		return nil
	}
	return k.keep(c)
}

// keep replaces the file. It need not outlast a power cut, but it must not be torn.
func (k *Keeper) keep(c candidate) error {
	name := filepath.Join(k.c.Dir, File)
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err == nil {
		_, err = f.Write(c.text)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return fmt.Errorf("cannot keep cosigned checkpoint: %w", err)
	}
	k.kept = c
	k.waiting = slices.DeleteFunc(k.waiting, func(w candidate) bool { return w.size <= c.size })
	return nil
}

// Newest returns what reads the checkpoint to serve from the ledger's directory: the one that is kept, or the ledger's own while none is kept
// that it signed and that its log is long enough for.
func Newest(dir, logKey string) (func(context.Context) ([]byte, error), error) {
	if _, err := note.NewVerifier(logKey); err != nil {
		return nil, fmt.Errorf("cannot use log key: %w", err)
	}
	n := &newest{dir: tlog.Dir(dir), logKey: logKey}
	return n.read, nil
}

type newest struct {
	dir    tlog.Dir
	logKey string

	mu   sync.Mutex
	text []byte // verified last
	size uint64 // 0 when it is not valid
}

func (n *newest) read(ctx context.Context) ([]byte, error) {
	own, err := n.dir.Read(ctx, layout.CheckpointPath, tlog.MaxCheckpointLen)
	if err != nil {
		return nil, err
	}
	kept, err := n.dir.Read(ctx, File, tlog.MaxCheckpointLen)
	if err != nil {
		return own, nil // none yet
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !bytes.Equal(kept, n.text) {
		c, _, err := tlog.VerifyCosignatures(n.logKey, nil, kept)
		if err != nil {
			c.Size = 0
		}
		n.text, n.size = kept, c.Size
	}
	c, _, err := tlog.VerifyCosignatures(n.logKey, nil, own)
	if err != nil || n.size == 0 || n.size > c.Size {
		return own, nil
	}
	return kept, nil
}
