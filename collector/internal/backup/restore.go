package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/backup/internal/holding"
	"rawstone/collector/internal/backup/internal/manifest"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/pkg/audit"
	"rawstone/pkg/durable"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

const (
	// readyDir holds, below the state directory, what is made ready; with a manifest in it that is complete, and being put in place.
	readyDir = "restoring"
	doneDir  = ".restored"
	suffix   = ".restoring" // of files that are made ready beside their places
	lostDir  = "lost+found" // of a file system that was just made
)

// Unfinished returns an error for a state directory in which Restore was cut short: nothing may use it.
func Unfinished(state string) error {
	if _, err := os.Stat(filepath.Join(state, readyDir)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(state, readyDir, manifest.File)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot use %s: a restore was cut short before it changed anything, or is under way; run the same `collector restore` again, or remove %s", state, filepath.Join(state, readyDir))
	}
	return fmt.Errorf("cannot use %s: a restore was cut short, or is under way; run the same `collector restore` again", state)
}

// Target configures Restore.
type Target struct {
	// Place is where things go. Its state directory may hold nothing, files that are there must be the backup's, and
	// a PostgreSQL database must be empty.
	Place Place
	// Program, Root, Log and LogKey are the program's: the signer of the log's checkpoints and its verifier are the last two.
	Program wire.Hash
	Root    wire.PublicKey
	Log     note.Signer
	LogKey  string
	// Documents are the program, the charter and all policies.
	Documents []ledger.Entry
	// Checkpoint names a file with a checkpoint of the ledger that somebody else has seen; may be empty.
	Checkpoint string
	// Migrate brings the records in PostgreSQL up to date with their logins and rights; nil for SQLite.
	Migrate func(context.Context) error
	Logger  *slog.Logger
}

// Restore checks the backup as a whole and puts it in place. After an error nothing is in place, unless Unfinished says otherwise.
func (b *Backup) Restore(ctx context.Context, t Target) (err error) {
	p := t.Place
	made, unlock, err := lockState(p.State)
	if err != nil {
		return fmt.Errorf("cannot restore: %w", err)
	}
	defer func() {
		if err != nil && made {
			_ = os.Remove(p.State) // unless something is in it
		}
		if err = errors.Join(err, unlock()); err != nil {
			err = fmt.Errorf("cannot restore: %w", err)
		}
	}()
	targets, err := b.targets(p)
	if err != nil {
		return err
	}
	ready := filepath.Join(p.State, readyDir)
	began, err := os.ReadFile(filepath.Join(ready, manifest.File))
	same := err == nil && wire.ID(began).String() == b.sum
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := b.vacant(ctx, p); err != nil {
			return err
		}
		if err := b.prepare(ctx, t, ready); err != nil {
			return errors.Join(err, os.RemoveAll(ready))
		}
	case err != nil:
		return err
	case !same:
		return fmt.Errorf("another backup than %s was being restored to %s when that was cut short; restore that one again, or empty %s",
			b.dir, p.State, p.State)
	}
	if err := errors.Join(b.put(ctx, t, ready, targets), durable.SyncDir(filepath.Dir(p.State))); err != nil {
		return fmt.Errorf("%w; what is in place is not all of it: mend that and run the same `collector restore` again", err)
	}
	return nil
}

// lockState makes a state directory unless it is there, and keeps other restores away.
func lockState(state string) (made bool, unlock func() error, err error) {
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
		made = true
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return false, nil, err
	}
	d, err := os.Open(state)
	if err != nil {
		return false, nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return false, nil, errors.Join(fmt.Errorf("another restore to %s is under way", state), d.Close())
	}
	return made, d.Close, nil
}

// vacant refuses a place in which something is.
func (b *Backup) vacant(ctx context.Context, p Place) error {
	found, err := os.ReadDir(p.State)
	if err != nil {
		return err
	}
	for _, e := range found {
		switch name := filepath.Join(p.State, e.Name()); {
		case e.Name() == readyDir, e.Name() == lostDir:
		default:
			return fmt.Errorf("%s exists; stop the collector if one runs and move away what %s holds", name, p.State)
		}
	}
	if b.Engine != p.engine() {
		return fmt.Errorf("the backup's records are of %s and the configuration names %s; correct `records` in it", b.Engine, p.engine())
	}
	if p.engine() == PostgreSQL {
		switch n, err := p.server().Tables(ctx); {
		case err != nil:
			return err
		case n > 0:
			return fmt.Errorf("the database holds %d tables; stop every collector that uses it and give an empty database", n)
		}
	}
	return os.RemoveAll(filepath.Join(p.State, readyDir))
}

// targets returns where each file goes, by its name in the backup, and refuses places in which another one is.
func (b *Backup) targets(p Place) (map[string]string, error) {
	paths := make(map[string]string)
	for _, f := range p.Files {
		paths[f.Key] = f.Path
	}
	out, sums := make(map[string]string), make(map[string]string)
	files := b.Below(filesDir)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		key, rest, inside := strings.Cut(name, "/")
		path, ok := paths[key]
		if !ok {
			return nil, fmt.Errorf("the backup holds %s and the configuration does not name it; set it to where that is to be", name)
		}
		if inside {
			if !filepath.IsLocal(rest) {
				return nil, fmt.Errorf("the backup's %s would lie outside %s", name, path)
			}
			path = filepath.Join(path, rest)
		}
		want := files[name].SHA256
		if other, twice := sums[path]; twice && other != want {
			return nil, fmt.Errorf("the configuration has %s where it has another file of the backup; give each its own", name)
		}
		sums[path], out[name] = want, path
		switch have, err := manifest.SumOf(path, io.Discard); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case have.SHA256 != want:
			return nil, fmt.Errorf("%s exists and is not the backup's; move it away", path)
		}
	}
	return out, nil
}

// prepare checks everything and makes ready what the state directory is to hold. The manifest comes last.
func (b *Backup) prepare(ctx context.Context, t Target, ready string) error {
	if b.Program != t.Program.String() {
		return fmt.Errorf("its documents are of program %s, its manifest says %s", t.Program, b.Program)
	}
	if err := os.Mkdir(ready, 0o700); err != nil {
		return err
	}
	check := func(h *holding.Holding, openings audit.Opener) error {
		if err := h.Follow(ctx, t.Root, b.ledger(), openings, t.Documents); err != nil {
			return err
		}
		if t.Checkpoint != "" {
			if err := h.Seen(t.Checkpoint, t.LogKey); err != nil {
				return err
			}
		}
		return nil
	}
	if b.Engine == SQLite {
		path := filepath.Join(ready, filepath.Base(t.Place.Records))
		if _, err := manifest.CopyFile(filepath.Join(b.dir, recordsFile), path); err != nil {
			return err
		}
		if _, err := holding.ReadFile(ctx, path, func(h *holding.Holding, db *store.DB) error { return check(h, stones.Opener{DB: db}) }); err != nil {
			return err
		}
	} else {
		h := new(holding.Holding)
		if err := errors.Join(t.Place.server().Read(ctx, filepath.Join(b.dir, dumpFile), h), h.Whole()); err != nil {
			return err
		}
		if err := check(h, nil); err != nil {
			return err
		}
	}
	if err := b.rebuild(ctx, filepath.Join(ready, filepath.Base(t.Place.Ledger)), t.Log, t.LogKey, t.Logger); err != nil {
		return err
	}
	if err := manifest.SyncAll(ready); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(b.dir, manifest.File))
	if err != nil {
		return err
	}
	return errors.Join(manifest.WriteFile(filepath.Join(ready, manifest.File+suffix), text),
		os.Rename(filepath.Join(ready, manifest.File+suffix), filepath.Join(ready, manifest.File)), durable.SyncDir(ready), durable.SyncDir(t.Place.State))
}

// put puts in place what was made ready, in an order in which the collector starts from no part of it: the ledger, without which the
// collector would begin a new one, before the records. What an earlier attempt has put in place stays.
func (b *Backup) put(ctx context.Context, t Target, ready string, targets map[string]string) error {
	p := t.Place
	move := func(to string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := os.Rename(filepath.Join(ready, filepath.Base(to)), to)
		if errors.Is(err, fs.ErrNotExist) {
			_, err = os.Stat(to)
		}
		return errors.Join(err, durable.SyncDir(p.State))
	}
	if err := move(p.Ledger); err != nil {
		return err
	}
	if p.engine() == SQLite {
		if err := move(p.Records); err != nil {
			return err
		}
	} else {
		n, err := p.server().Tables(ctx)
		if err != nil {
			return err
		}
		if n == 0 { // one transaction: all are there or none
			if err := p.server().Load(ctx, filepath.Join(b.dir, dumpFile)); err != nil {
				return err
			}
		}
		if err := t.Migrate(ctx); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := place(filepath.Join(b.dir, filesDir, name), targets[name]); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	done := filepath.Join(p.State, doneDir)
	if err := errors.Join(os.RemoveAll(done), os.Rename(ready, done), durable.SyncDir(p.State)); err != nil {
		return err
	}
	return os.RemoveAll(done)
}

// place puts a file where none is; one that is there is the backup's.
func place(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return nil
	}
	if _, err := manifest.CopyFile(from, to+suffix); err != nil {
		return err
	}
	f, err := os.Open(to + suffix)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return errors.Join(os.Rename(to+suffix, to), durable.SyncDir(filepath.Dir(to)))
}
