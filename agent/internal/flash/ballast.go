package flash

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// BallastSuffix follows a store's directory in the name of its ballast.
const BallastSuffix = ".ballast"

// spare sees to the room that a commit needs, a quarter of the reserve, on the file system of at. Where others have left less, the ballast
// of the store in dir is given up; where there is plenty, it is taken in again.
func spare(dir, at string, reserve uint64) error {
	free, err := space(at)
	if err != nil {
		return err
	}
	size := reserve / 2
	if free < reserve/4 {
		if err := os.Remove(dir + BallastSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if free, err = space(at); err != nil {
			return err
		}
	} else if free-min(free, size) > reserve {
		takeBallast(dir+BallastSuffix, int64(size))
	}
	if free < reserve/4 {
		return fmt.Errorf("%w: %d bytes are left, want %d", ErrNoRoom, free, reserve/4)
	}
	return nil
}

// takeBallast has the file system set room aside, unless it did. One that cannot goes without.
func takeBallast(path string, size int64) {
	if size == 0 {
		return
	}
	if info, err := os.Stat(path); err == nil && info.Size() == size {
		return
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		os.Remove(path)
	}
}
