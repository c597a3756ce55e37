package dbc

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name string, size int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, size := range []int{0, 1, MaxFile} {
		if text, err := ReadFile(write("fits", size)); err != nil || len(text) != size {
			t.Errorf("%d bytes: %d, %v", size, len(text), err)
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{write("large", MaxFile+1), dir, pipe, "/dev/zero"} {
		if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), path+": it is no regular file of at most 16777216 bytes") {
			t.Errorf("%s: %v", path, err)
		}
	}
	absent := filepath.Join(dir, "absent")
	if _, err := ReadFile(absent); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "cannot read DBC file: open "+absent) {
		t.Error(err)
	}
}
