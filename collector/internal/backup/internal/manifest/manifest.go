// Package manifest is the list of a backup's files with their lengths and SHA-256, in manifest.json, and that file's own in
// manifest.sha256, in the form of sha256sum. What is written only its owner can read.
//
// The manifest is written when all files are on disk, and its sum last: a directory without one holds no backup.
package manifest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rawstone/pkg/durable"
)

// Names of the manifest and of its sum.
const (
	File    = "manifest.json"
	SumFile = "manifest.sha256"
)

const (
	version     = 1
	maxManifest = 256 << 20 // a ledger of 100 million entries
)

// A Manifest says what a backup holds.
type Manifest struct {
	Version int       `json:"version"`
	Time    time.Time `json:"time"`
	// Program is the identifier of the program document.
	Program string `json:"program"`
	// Engine is where the records were.
	Engine string `json:"engine"`
	// Entries and Root are the ledger's; Records counts the numbered entries among the records, which are Entries or more.
	Entries uint64 `json:"entries"`
	Root    string `json:"root"`
	Records uint64 `json:"records"`
	// Files are all files, by their paths in the backup.
	Files []Sum `json:"files"`
}

// A Sum is a file's length in bytes and SHA-256.
type Sum struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Copy copies a file into the backup under a name.
func (m *Manifest) Copy(dir, name, from string) error {
	s, err := CopyFile(from, filepath.Join(dir, name))
	if err != nil {
		return err
	}
	s.Name = name
	m.Files = append(m.Files, s)
	return nil
}

// Add puts a file that is in the backup into the manifest.
func (m *Manifest) Add(dir, name string) error {
	s, err := SumOf(filepath.Join(dir, name), io.Discard)
	if err != nil {
		return err
	}
	s.Name = name
	m.Files = append(m.Files, s)
	return nil
}

// SumOf returns what a file holds, and copies it to w.
func SumOf(path string, w io.Writer) (s Sum, err error) {
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return s, err
	} else if !info.Mode().IsRegular() {
		return s, fmt.Errorf("%s is no regular file", path)
	}
	h := sha256.New()
	s.Size, err = io.Copy(io.MultiWriter(h, w), f)
	s.SHA256 = hex.EncodeToString(h.Sum(nil))
	return s, err
}

// CopyFile copies a file to one that only its owner can read, with the directories above it. It is the caller's to sync.
func CopyFile(from, to string) (s Sum, err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return s, err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return s, err
	}
	s, err = SumOf(from, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return s, errors.Join(err, os.Remove(to))
	}
	return s, nil
}

// SyncAll puts on disk all that a directory's file system holds.
func SyncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// Write ends the backup: all files, then the manifest, and last its sum are on disk.
func (m *Manifest) Write(dir string) error {
	m.Version = version
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	if err := SyncAll(dir); err != nil {
		return err
	}
	b = append(b, '\n')
	if err := WriteFile(filepath.Join(dir, File), b); err != nil {
		return err
	}
	if err := WriteFile(filepath.Join(dir, SumFile), fmt.Appendf(nil, "%x  %s\n", sha256.Sum256(b), File)); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// WriteFile writes a file that only its owner can read, and has it on disk.
func WriteFile(path string, b []byte) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// Open reads the manifest of the backup in a directory, checks every file, and names the first that is not right. It also returns the
// manifest's own SHA-256 in hexadecimal.
func Open(ctx context.Context, dir string) (m *Manifest, own string, err error) {
	line, err := os.ReadFile(filepath.Join(dir, SumFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", fmt.Errorf("it has no %s: either this is no backup or it was cut short; take another", SumFile)
	} else if err != nil {
		return nil, "", err
	}
	path := filepath.Join(dir, File)
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", err
	}
	if info.Size() > maxManifest {
		return nil, "", fmt.Errorf("%s has %d bytes, at most %d allowed", File, info.Size(), maxManifest)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	own = fmt.Sprintf("%x", sha256.Sum256(text))
	if string(line) != own+"  "+File+"\n" {
		return nil, "", fmt.Errorf("%s is not the one that %s belongs to: one of them was changed; take another backup", File, SumFile)
	}
	m = new(Manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, "", fmt.Errorf("cannot read %s: %w", File, err)
	}
	if m.Version != version {
		return nil, "", fmt.Errorf("%s has version %d, this program knows %d: use the program that wrote it", File, m.Version, version)
	}
	for _, want := range m.Files {
		if err := ctx.Err(); err != nil {
			return nil, "", err
		}
		if err := want.check(dir); err != nil {
			return nil, "", err
		}
	}
	return m, own, nil
}

// check compares a file with its sum.
func (s *Sum) check(dir string) error {
	if !filepath.IsLocal(s.Name) || filepath.Clean(s.Name) != s.Name {
		return fmt.Errorf("%s names %q, which is not inside", File, s.Name)
	}
	switch have, err := SumOf(filepath.Join(dir, s.Name), io.Discard); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is missing; take another backup", s.Name)
	case err != nil:
		return err
	case have.Size != s.Size:
		return fmt.Errorf("%s has %d bytes, the manifest says %d; take another backup", s.Name, have.Size, s.Size)
	case have.SHA256 != s.SHA256:
		return fmt.Errorf("%s was changed: its SHA-256 is not the manifest's; take another backup", s.Name)
	}
	return nil
}

// Below returns the files below a directory, by their names there.
func (m *Manifest) Below(dir string) map[string]Sum {
	out := make(map[string]Sum)
	for _, s := range m.Files {
		if rest, ok := strings.CutPrefix(s.Name, dir+"/"); ok {
			out[rest] = s
		}
	}
	return out
}
