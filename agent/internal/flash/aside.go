package flash

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"rawstone/pkg/durable"
)

// Bounds of what is kept of stores that were set aside. One beyond the bound in bytes is kept all the same while it is the newest.
const (
	maxAside      = 3
	maxAsideBytes = 64 << 20
	asideInfix    = ".damaged-"
)

// setAside renames the store in dir and returns its new name. The oldest ones beyond the bounds are removed.
func setAside(dir string, now time.Time) (name string, err error) {
	base := dir + asideInfix + now.UTC().Format("20060102T150405.000000000Z")
	name = base
	for n := 2; ; n++ { // a clock that stands
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", err
		}
		name = fmt.Sprintf("%s-%d", base, n)
	}
	if err := os.Rename(dir, name); err != nil {
		return "", err
	}
	if err := durable.SyncDir(filepath.Dir(dir)); err != nil {
		return "", err
	}
	// Not by the clock's word alone: the one set aside now stays, whatever its name sorts as.
	return name, prune(dir, name, maxAside, maxAsideBytes)
}

// asides returns the stores of dir that were set aside, oldest first by name.
func asides(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	var list []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(dir)+asideInfix) {
			list = append(list, filepath.Join(filepath.Dir(dir), e.Name()))
		}
	}
	return list, nil
}

// prune removes what was set aside, oldest first, until at most n stores of at most size bytes on flash are left. keep stays.
func prune(dir, keep string, n int, size int64) error {
	list, err := asides(dir)
	if err != nil {
		return err
	}
	slices.SortStableFunc(list, func(a, b string) int {
		if (a == keep) != (b == keep) {
			if a == keep {
				return 1
			}
			return -1
		}
		return cmp.Compare(a, b)
	})
	var total int64
	sizes := make([]int64, len(list))
	for i, path := range list {
		if sizes[i], err = diskUse(path); err != nil {
			return err
		}
		total += sizes[i]
	}
	for i, path := range list {
		if path == keep || len(list)-i <= n && total <= size {
			break
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		total -= sizes[i]
	}
	return nil
}

// diskUse returns the bytes that a file, or a directory with all it holds, takes on flash.
func diskUse(path string) (total int64, err error) {
	err = filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			total += st.Blocks * 512
		}
		return nil
	})
	return total, err
}

// space returns the bytes that may still be written to the file system of path.
func space(path string) (uint64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, err
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// circumstantial reports whether an error lies in the machine's moment and not in the store: it goes by itself, and what was
// stored is still there. Badger's errors carry their causes as text.
func circumstantial(err error) bool {
	for _, no := range []syscall.Errno{
		syscall.EWOULDBLOCK, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EROFS,
		syscall.EACCES, syscall.EPERM, // another user's run has left files: the store is whole
	} {
		if errors.Is(err, no) || strings.Contains(err.Error(), no.Error()) {
			return true
		}
	}
	return false
}
