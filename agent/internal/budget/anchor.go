package budget

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rawstone/pkg/durable"
)

const (
	anchorDomain = "rawstone/budget/anchor/v1\x00"
	// The file has two slots a page apart, written in turn, so that a torn write spoils the one being written only.
	slotStride = 4096
	slotSize   = 8 + sha256.Size + sha256.Size
	anchorSize = 2 * slotStride
)

// anchor is the file that holds the length and the head of the chain, outside the store.
type anchor struct{ file *os.File }

// reconcile opens the anchor at path and compares it with the chain's last charge. A chain one ahead is what a crash within
// Charge leaves: the anchor catches up. Anything else but equality is ErrCorrupt.
func reconcile(path string, last charge) (*anchor, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if last.index > 0 {
			return nil, corrupt("the anchor file %s is missing while the ledger holds %d charges", path, last.index)
		}
		if err := create(path); err != nil {
			return nil, fmt.Errorf("cannot make anchor: %w", err)
		}
		file, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open anchor: %w", err)
	}
	a := &anchor{file}
	if err := a.check(last); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

func (a *anchor) check(last charge) error {
	index, head, err := a.read()
	switch {
	case err != nil:
		return err
	case last.index == index && last.hash == head:
		return nil
	case last.index == index+1 && last.prev == head:
		return a.set(last)
	case last.index < index:
		return corrupt("the ledger holds %d charges and its anchor has seen %d: it was truncated or rolled back", last.index, index)
	}
	return corrupt("the anchor stands at charge %d of another history than the ledger's %d", index, last.index)
}

// read returns the newer of the valid slots.
func (a *anchor) read() (index uint64, head [sha256.Size]byte, err error) {
	info, err := a.file.Stat()
	if err != nil {
		return 0, head, fmt.Errorf("cannot read anchor: %w", err)
	}
	if info.Size() != anchorSize {
		return 0, head, corrupt("the anchor file has %d bytes, want %d", info.Size(), anchorSize)
	}
	valid := false
	for slot := range int64(2) {
		var b [slotSize]byte
		if _, err := a.file.ReadAt(b[:], slot*slotStride); err != nil {
			return 0, head, fmt.Errorf("cannot read anchor: %w", err)
		}
		n := binary.BigEndian.Uint64(b[:])
		if digest(anchorDomain, b[:slotSize-sha256.Size]) != [sha256.Size]byte(b[slotSize-sha256.Size:]) {
			continue
		}
		if !valid || n > index {
			valid, index, head = true, n, [sha256.Size]byte(b[8:])
		}
	}
	if !valid {
		return 0, head, corrupt("neither slot of the anchor file matches its hash")
	}
	return index, head, nil
}

// set writes c's place in the chain over the older slot and syncs.
func (a *anchor) set(c charge) error {
	if _, err := a.file.WriteAt(slot(c), int64(c.index%2)*slotStride); err != nil {
		return fmt.Errorf("cannot write anchor: %w", err)
	}
	if err := a.file.Sync(); err != nil {
		return fmt.Errorf("cannot sync anchor: %w", err)
	}
	return nil
}

func (a *anchor) close() error { return a.file.Close() }

func slot(c charge) []byte {
	b := make([]byte, 0, slotSize)
	b = binary.BigEndian.AppendUint64(b, c.index)
	b = append(b, c.hash[:]...)
	sum := digest(anchorDomain, b)
	return append(b, sum[:]...)
}

// create makes the anchor of an empty chain, whole or not at all.
func create(path string) error {
	b := make([]byte, anchorSize)
	copy(b, slot(charge{}))
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	if err == nil {
		err = file.Sync()
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
