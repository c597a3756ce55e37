// Package witness knows from outside Badger's files what they held, and examines them before Badger sees them.
//
// A Witness is a file of two slots beside Badger's own, written after each commit: how many there were, how long the manifest was on
// flash, and the oldest log that held any. Examine holds the files against it and verifies every checksum that it finds, because Badger
// ends the process on some damage, takes a bitten log for one that simply ends, and deletes the tables that a shortened manifest no
// longer lists.
//
// Invariants: a witness never says more than is on flash; what it said last outlives a torn write. Examine changes only what Badger would
// misread and what holds nothing. It never panics, and reads one file at a time, of bounded length.
//
// The package refuses to judge what follows: its caller opens the store, or sets it aside.
package witness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"rawstone/pkg/durable"
)

const (
	witnessFile = "WITNESS"
	// The file has two slots a page apart, written in turn: a torn write spoils the one being written only.
	slotStride = 4096
	slotLen    = 5*8 + 4
)

// Last is what the witness knows of the store: how many commits it acknowledged, how long the manifest was on flash and which file it was
// (a manifest is written anew, as another file, after thousands of changes), the oldest write-ahead log that holds commits, 0 for none, and
// how long the manifest was when that log was surely not a table yet.
type Last struct {
	Commits  uint64
	Manifest uint64
	Inode    uint64
	Log      uint64
	Before   uint64
}

// Witness is the file that says from outside Badger's files what they held.
type Witness struct {
	dir  string
	file *os.File
	last Last
	logs []string
	// before holds, for each log that was the newest at some commit, the manifest's length then. A log that is the newest is no table yet;
	// of an older one the manifest may have said that it became one while the log still lies there.
	before map[uint64]uint64
}

// Read returns what the witness in dir says, false where it says nothing.
func Read(dir string) (last Last, ok bool) {
	b, err := os.ReadFile(filepath.Join(dir, witnessFile))
	if err != nil {
		return last, false
	}
	for at := 0; at+slotLen <= len(b) && at <= slotStride; at += slotStride {
		slot := b[at : at+slotLen]
		if crc32.Checksum(slot[:slotLen-4], castagnoli()) != binary.BigEndian.Uint32(slot[slotLen-4:]) {
			continue
		}
		s := Last{
			Commits: binary.BigEndian.Uint64(slot), Manifest: binary.BigEndian.Uint64(slot[8:]),
			Inode: binary.BigEndian.Uint64(slot[16:]), Log: binary.BigEndian.Uint64(slot[24:]), Before: binary.BigEndian.Uint64(slot[32:]),
		}
		if !ok || s.Commits > last.Commits {
			last, ok = s, true
		}
	}
	return last, ok
}

// New begins anew at a count of commits.
func New(dir string, commits uint64) (*Witness, error) {
	file, err := os.OpenFile(filepath.Join(dir, witnessFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	w := &Witness{dir: dir, file: file, before: make(map[uint64]uint64)}
	// Both slots, whatever they held: a count of another life of the store must not outlive this.
	if err := errors.Join(file.Truncate(0), file.Truncate(2*slotStride), w.Set(commits, false), durable.SyncDir(dir)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return w, nil
}

// Set notes that commits are on flash, synced; logged says that the logs hold some of them. Logs of an open store that was not written
// to are empty, and go without a trace.
func (w *Witness) Set(commits uint64, logged bool) error {
	// The manifest first: the newest log is then in none of its entries, and must not seem to have gone without one.
	size, inode, err := w.manifest()
	if err != nil {
		return fmt.Errorf("cannot write witness: %w", err)
	}
	next := Last{Commits: commits, Manifest: size, Inode: inode}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return fmt.Errorf("cannot write witness: %w", err)
	}
	var logs []string
	before := make(map[uint64]uint64)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), logSuffix) {
			logs = append(logs, e.Name())
		}
	}
	if logged {
		for i, name := range logs {
			n := logNumber(name)
			length, known := w.before[n]
			if i == len(logs)-1 {
				length, known = size, true
			}
			if !known {
				continue // another life's, which Badger makes a table of
			}
			before[n] = length
			if next.Log == 0 {
				next.Log, next.Before = n, length
			}
		}
	}
	if !slices.Equal(logs, w.logs) {
		if err := durable.SyncDir(w.dir); err != nil {
			return fmt.Errorf("cannot write witness: %w", err)
		}
	}
	b := make([]byte, 0, slotLen)
	for _, n := range []uint64{next.Commits, next.Manifest, next.Inode, next.Log, next.Before} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	if _, err := w.file.WriteAt(withCRC(b), int64(commits%2)*slotStride); err != nil {
		return fmt.Errorf("cannot write witness: %w", err)
	}
	if err := syscall.Fdatasync(int(w.file.Fd())); err != nil {
		return fmt.Errorf("cannot sync witness: %w", err)
	}
	w.last, w.logs, w.before = next, logs, before
	return nil
}

// manifest returns the manifest's length and identity once that length is on flash.
func (w *Witness) manifest() (size, inode uint64, err error) {
	path := filepath.Join(w.dir, manifestFile)
	size, inode, err = identify(path)
	if err != nil || size == w.last.Manifest && inode == w.last.Inode {
		return size, inode, err
	}
	// It may have been written a moment ago and not be synced yet.
	file, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	info, err := file.Stat()
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return 0, 0, err
	}
	return uint64(info.Size()), inodeOf(info), nil
}

// Close closes the file.
func (w *Witness) Close() error { return w.file.Close() }

// identify returns a file's length and inode.
func identify(path string) (size, inode uint64, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	return uint64(info.Size()), inodeOf(info), nil
}

func inodeOf(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}

func withCRC(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
