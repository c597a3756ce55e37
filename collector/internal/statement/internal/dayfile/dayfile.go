// Package dayfile keeps the Merkle-sum trees of program days (package reward) as files, out of which an account's leaf, its path and its
// interval are read in a few small reads, however many leaves there are.
//
// A file is some 42 bytes for each leaf. It is written beside its place and moved there when it is whole and on disk. What is read of it is checked
// by its checksums and then against the day's root, so that a file that is damaged, or of other records, is found out and made anew. The files hold
// nothing that cannot be made again: the oldest days go when there are too many, and who asks for such a day pays for its tree each time.
//
// One tree is made at a time, for it takes memory in proportion to the fleet; reading waits for nobody.
package dayfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rawstone/pkg/durable"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

// The bounds where a configuration has none.
const (
	DefaultDays  = 400
	DefaultBytes = 20 << 30
)

const (
	suffix  = ".tree"
	partial = ".tmp"
)

// A Day is a program day whose draw has begun.
type Day struct {
	Number uint32
	// Order is the seed of the order of the leaves, Root what the day's blocks commit to; it has leaves.
	Order wire.Hash
	Root  reward.Root
}

// A Place is an account's among a day's leaves.
type Place struct {
	Weight   uint64 // km
	Interval reward.Interval
	Path     reward.Path
}

// Config says where files are kept and how many.
type Config struct {
	// Dir is the directory, for this alone; it is made when missing. Required.
	Dir string
	// Days and Bytes bound the files; DefaultDays and DefaultBytes when zero.
	Days  int
	Bytes int64
	// Logger takes what was damaged. Required.
	Logger *slog.Logger
}

// A Shelf is the files. It may be used from several goroutines, and several processes may share a directory.
type Shelf struct {
	cfg    Config
	making chan struct{}
}

// Open makes the directory when it is missing and removes what was not finished.
func Open(cfg Config) (*Shelf, error) {
	if cfg.Dir == "" || cfg.Logger == nil || cfg.Days < 0 || cfg.Bytes < 0 {
		return nil, errors.New("cannot keep days' trees: a directory and a logger are required, and bounds that are not negative")
	}
	cfg.Days, cfg.Bytes = cmp.Or(cfg.Days, DefaultDays), cmp.Or(cfg.Bytes, DefaultBytes)
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot keep days' trees: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(cfg.Dir, "*"+partial))
	if err != nil {
		return nil, fmt.Errorf("cannot keep days' trees: %w", err)
	}
	for _, name := range left {
		if err := remove(name); err != nil {
			return nil, fmt.Errorf("cannot keep days' trees: %w", err)
		}
	}
	return &Shelf{cfg, make(chan struct{}, 1)}, nil
}

// Find returns the place of a pseudonym on a day, nil when it has none. A tree that is missing is made of leaves, in any order. What was begun
// is finished even when ctx ends, so that who asks again finds it.
func (s *Shelf) Find(ctx context.Context, d Day, pseudonym wire.Hash, leaves func(context.Context) ([]reward.Leaf, error)) (*Place, error) {
	if d.Root.Count == 0 {
		return nil, nil
	}
	if p, err := s.read(&d, pseudonym); err == nil {
		return p, nil
	}
	select {
	case s.making <- struct{}{}:
		defer func() { <-s.making }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p, err := s.read(&d, pseudonym) // which somebody may have made meanwhile
	if err == nil {
		return p, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		s.cfg.Logger.WarnContext(ctx, "tree of a day cannot be read and is made anew", "day", d.Number, "error", err)
	}
	list, err := leaves(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	ordered := reward.Order(d.Order, list)
	tree, err := reward.NewTree(ordered)
	if err != nil {
		return nil, err
	}
	if tree.Root() != d.Root {
		return nil, fmt.Errorf("weights root of day %d in the log is not that of the records' credits: restore the records that belong to this log", d.Number)
	}
	if p, err = s.keep(&d, ordered, tree, pseudonym); err != nil {
		return nil, fmt.Errorf("cannot keep tree of day %d: %w", d.Number, err)
	}
	return p, nil
}

func (s *Shelf) path(day uint32) string {
	return filepath.Join(s.cfg.Dir, strconv.FormatUint(uint64(day), 10)+suffix)
}

func (s *Shelf) read(d *Day, pseudonym wire.Hash) (*Place, error) {
	f, err := os.Open(s.path(d.Number))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return find(f, d, pseudonym)
}

// keep writes a day's file, looks up in it, and makes room, which may be its own.
func (s *Shelf) keep(d *Day, ordered []reward.Leaf, tree *reward.Tree, pseudonym wire.Hash) (_ *Place, err error) {
	f, err := os.CreateTemp(s.cfg.Dir, "*"+partial) // readable by its owner alone
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, remove(f.Name()))
		}
	}()
	if err := write(f, d, ordered, tree); err != nil {
		return nil, err
	}
	if err := f.Sync(); err != nil {
		return nil, err
	}
	// Another process that opened the directory may have taken the file away: it is good all the same.
	if err := os.Rename(f.Name(), s.path(d.Number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := errors.Join(durable.SyncDir(s.cfg.Dir), s.prune()); err != nil {
		return nil, err
	}
	return find(f, d, pseudonym)
}

// prune removes the files of the oldest days until the others are within bounds; the newest stays.
func (s *Shelf) prune() error {
	list, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	type kept struct {
		day  uint64
		size int64
	}
	var days []kept
	for _, e := range list {
		name, ours := strings.CutSuffix(e.Name(), suffix)
		day, err := strconv.ParseUint(name, 10, 32)
		if !ours || err != nil {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		days = append(days, kept{day, info.Size()})
	}
	slices.SortFunc(days, func(a, b kept) int { return cmp.Compare(b.day, a.day) })
	total := int64(0)
	for i, k := range days {
		if total += k.size; i == 0 || i < s.cfg.Days && total <= s.cfg.Bytes {
			continue
		}
		if err := remove(s.path(uint32(k.day))); err != nil {
			return err
		}
	}
	return nil
}

func remove(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
