// Package anchor keeps the last two charges of a budget ledger in a file of their own, outside of the store that holds all.
//
// Invariants: when Set returns, the charge is on flash, on two pages, after one sync; a write that is torn by a power cut leaves the
// charge before it; a page that goes bad takes nothing away. The package refuses a file of another size, and one in which no copy
// matches its hash. It never makes a file where charges say that there must have been one.
package anchor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"rawstone/agent/internal/budget/internal/charge"
	"rawstone/pkg/durable"
)

// PageSize is the distance of copies in bytes.
const PageSize = 4096

// The file has two slots, written in turn, so that a torn write spoils the one being written only. A slot is two copies, a page apart,
// so that one page that goes bad later spoils none.
const (
	copies = 2
	size   = 2 * copies * PageSize
)

// File is what an anchor needs of its file on flash.
type File interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Stat() (fs.FileInfo, error)
	Close() error
}

// Anchor is the file that takes each charge before anything else does and keeps the last two.
type Anchor struct{ file File }

// Open opens the anchor at path, or makes it where the chain's last charge says that there is none yet.
func Open(path string, last charge.Charge) (*Anchor, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if last.Index > 0 {
			return nil, charge.Corrupt("the anchor file %s is missing while the ledger holds %d charges", path, last.Index)
		}
		if err := create(path); err != nil {
			return nil, fmt.Errorf("cannot make anchor: %w", err)
		}
		file, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open anchor: %w", err)
	}
	return On(file), nil
}

// On returns the anchor of an open file, which Close closes.
func On(file File) *Anchor { return &Anchor{file} }

// Reconcile holds the anchor against the chain's last charge and returns the charge that the chain is to end with. An anchor one ahead
// is what a crash after Set leaves, or a store that lost its last transaction: the chain is to take that charge. A chain one ahead is
// what a damaged slot leaves: the anchor takes its charge. Anything else but equality is charge.ErrCorrupt.
func (a *Anchor) Reconcile(last charge.Charge) (charge.Charge, error) {
	c, err := a.newest()
	switch {
	case err != nil:
		return charge.Charge{}, err
	case c.Index == last.Index && c.Hash == last.Hash:
		return last, nil
	case c.Index == last.Index+1 && c.Prev == last.Hash && (last.Index == 0 || c.Epoch > last.Epoch):
		return c, nil
	case last.Index == c.Index+1 && last.Prev == c.Hash:
		return last, a.Set(last)
	case last.Index < c.Index:
		return charge.Charge{}, charge.Corrupt("the ledger holds %d charges and its anchor has seen %d: it was truncated or rolled back", last.Index, c.Index)
	}
	return charge.Charge{}, charge.Corrupt("the anchor stands at charge %d of another history than the ledger's %d", c.Index, last.Index)
}

// newest returns the newest charge of the valid copies.
func (a *Anchor) newest() (newest charge.Charge, err error) {
	info, err := a.file.Stat()
	if err != nil {
		return charge.Charge{}, fmt.Errorf("cannot read anchor: %w", err)
	}
	if info.Size() != size {
		return charge.Charge{}, charge.Corrupt("the anchor file has %d bytes, want %d", info.Size(), size)
	}
	valid := false
	for page := range int64(2 * copies) {
		var b [charge.Size]byte
		if _, err := a.file.ReadAt(b[:], page*PageSize); err != nil {
			return charge.Charge{}, fmt.Errorf("cannot read anchor: %w", err)
		}
		c, err := decode(b[:])
		if err != nil {
			continue // a torn write, or damage: the other copies are asked
		}
		if !valid || c.Index > newest.Index {
			valid, newest = true, c
		}
	}
	if !valid {
		return charge.Charge{}, charge.Corrupt("no copy in the anchor file matches its hash")
	}
	return newest, nil
}

// Set writes c over the older slot and syncs, once.
func (a *Anchor) Set(c charge.Charge) error {
	b := c.Encode()
	for i := range int64(copies) {
		if _, err := a.file.WriteAt(b, (int64(c.Index%2)*copies+i)*PageSize); err != nil {
			return fmt.Errorf("cannot write anchor: %w", err)
		}
	}
	if err := a.file.Sync(); err != nil {
		return fmt.Errorf("cannot sync anchor: %w", err)
	}
	return nil
}

// Close closes the file.
func (a *Anchor) Close() error { return a.file.Close() }

// decode reads a slot, which is a charge's record, or what the chain's beginning encodes to.
func decode(b []byte) (charge.Charge, error) {
	if string(b) == string(charge.Charge{}.Encode()) {
		return charge.Charge{}, nil
	}
	return charge.Decode(b)
}

// create makes the anchor of an empty chain, whole or not at all.
func create(path string) error {
	b := make([]byte, size)
	for i := range copies {
		copy(b[i*PageSize:], charge.Charge{}.Encode())
	}
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
