// Package file reads and writes the files of a setup: whole, bounded, checked against the hash that they are known by. It never
// replaces a file, and refuses to read one without knowing its hash or its bound.
package file

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"rawstone/pkg/durable"
)

// ReadHashed returns the content of dir's file name, of at most limit bytes, whose SHA-256 must be want.
func ReadHashed(dir, name string, want [sha256.Size]byte, limit int64) ([]byte, error) {
	if want == ([sha256.Size]byte{}) {
		return nil, fmt.Errorf("cannot use %s: no hash wanted of it", name)
	}
	b, err := Read(dir, name, limit)
	if err != nil {
		return nil, err
	}
	if got := sha256.Sum256(b); got != want {
		return nil, fmt.Errorf("cannot use %s: its SHA-256 is %x, want %x: fetch the file that the policy names",
			filepath.Join(dir, name), got, want)
	}
	return b, nil
}

// Read returns the content of dir's file name, which must be a regular one of at most limit bytes.
func Read(dir, name string, limit int64) ([]byte, error) {
	path := filepath.Join(dir, name)
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("cannot read %s: not a regular file of at most %d bytes", path, limit)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return b, nil
}

// WriteNew writes dir's file name whole or not at all, on disk when it returns. A file of that name is never replaced: a link,
// unlike a rename, refuses to.
func WriteNew(dir, name string, b []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %s: %w", filepath.Join(dir, name), err)
		}
	}()
	f, err := os.CreateTemp(dir, "."+name+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(b); err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return durable.SyncDir(dir)
}
