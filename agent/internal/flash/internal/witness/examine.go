package witness

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
)

// The names of Badger's files.
const (
	manifestFile = "MANIFEST"
	discardFile  = "DISCARD"
	logSuffix    = ".mem"
	vlogSuffix   = ".vlog"
	tableSuffix  = ".sst"

	// logHead is the length of a log's head: the number of its key, 0 without encryption, and 12 random bytes.
	logHead = 20
	// maxFileLen bounds what is read of one file into memory: logs have 4 MiB, tables 2 MiB, twice that with each level below.
	maxFileLen = 32 << 20
)

// Examination is what Examine found in a store that may be opened.
type Examination struct {
	// Strays counts tables that the manifest does not list; Badger removes them. An interrupted flush or compaction leaves some, and
	// holds what they held elsewhere.
	Strays int
	// Lost says that a write-ahead log has gone that held acknowledged commits.
	Lost bool
}

// Examine looks at a store's files before Badger does. An error says why they cannot be trusted. It changes what Badger would
// misread: a log's damaged end is cut, and the statistics of the value log, which holds nothing, are removed.
func Examine(dir string, last Last, witnessed bool) (found Examination, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return found, err
	}
	files := make(map[string][]string) // names by suffix
	for _, e := range entries {
		files[filepath.Ext(e.Name())] = append(files[filepath.Ext(e.Name())], e.Name())
		if !e.Type().IsRegular() && e.Name() != "LOCK" {
			return found, fmt.Errorf("%s is no file", e.Name())
		}
	}
	listed, manifest, inode, err := readManifest(filepath.Join(dir, manifestFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && !witnessed && len(files[tableSuffix])+len(files[logSuffix]) == 0:
		return found, nil // a new store
	case err != nil:
		return found, err
	case witnessed && inode == last.Inode && manifest < last.Manifest:
		return found, fmt.Errorf("the manifest holds %d bytes and had %d", manifest, last.Manifest)
	}
	for id := range listed {
		if err := verifyTable(table.NewFilename(id, dir), id); err != nil {
			return found, err
		}
	}
	for _, name := range files[tableSuffix] {
		id, ok := table.ParseFileID(name)
		if _, known := listed[id]; !ok || !known {
			found.Strays++
		}
	}
	oldest := last.Log == 0
	for _, name := range files[logSuffix] {
		oldest = oldest || logNumber(name) == last.Log
	}
	// A log goes when it has become a table, which the manifest says.
	found.Lost = witnessed && !oldest && inode == last.Inode && manifest == last.Before
	for _, name := range files[logSuffix] {
		if _, err := cutLog(filepath.Join(dir, name)); err != nil {
			return found, err
		}
	}
	return found, shed(dir, files[vlogSuffix])
}

// shed removes what holds nothing, and would keep Badger from opening where it is damaged: statistics of the value log, value logs without
// a single value, and a registry of encryption keys that does not open, since nothing is encrypted. Badger makes them anew.
func shed(dir string, vlogs []string) error {
	useless := []string{discardFile}
	for _, name := range vlogs {
		if entries, err := cutLog(filepath.Join(dir, name)); err != nil {
			return err
		} else if entries == 0 {
			useless = append(useless, name)
		}
	}
	err := Contain(func() error {
		_, err := badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: dir, ReadOnly: true})
		return err
	})
	if err != nil {
		useless = append(useless, badger.KeyRegistryFileName)
	}
	for _, name := range useless {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// readManifest returns the tables that a manifest lists, the length of what is whole in it, and its inode.
func readManifest(path string) (tables map[uint64]badger.TableManifest, size, inode uint64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, 0, err
	}
	if info.Size() > maxFileLen {
		return nil, 0, 0, fmt.Errorf("the manifest has %d bytes", info.Size())
	}
	err = Contain(func() error {
		m, whole, err := badger.ReplayManifestFile(file, 0, badger.DefaultOptions("").WithLogger(nil))
		tables, size = m.Tables, uint64(whole)
		return err
	})
	if err != nil {
		return nil, 0, 0, fmt.Errorf("cannot read manifest: %w", err)
	}
	return tables, size, inodeOf(info), nil
}

// verifyTable checks every checksum of a table. Badger reads lengths from a table's end without looking whether they fit, and panics
// where they do not: when it opens a store, in a goroutine where nobody can catch it.
func verifyTable(path string, id uint64) error {
	b, err := readFile(path)
	if err != nil {
		return err
	}
	err = Contain(func() error {
		t, err := table.OpenInMemoryTable(b, id, &table.Options{BlockSize: 4 << 10, ChkMode: options.OnTableAndBlockRead})
		if err != nil {
			return err
		}
		return t.VerifyChecksum()
	})
	if err != nil {
		return fmt.Errorf("table %s is damaged: %w", filepath.Base(path), err)
	}
	return nil
}

// cutLog writes zeros where a log's entries end and returns their number: there Badger stops reading. What stands there may be an entry
// that the power cut in two, or damage, whose lengths Badger would believe.
func cutLog(path string) (entries int, err error) {
	b, err := readFile(path)
	if err != nil || len(b) <= logHead {
		return 0, err // Open heals a log of 0 bytes and refuses one without a head
	}
	at := logHead
	for n := entryLen(b[at:]); n > 0; n = entryLen(b[at:]) {
		entries++
		at += n
	}
	head := b[at:min(len(b), at+entryHead)]
	if len(bytes.Trim(head, "\x00")) == 0 {
		return entries, nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return entries, err
	}
	_, err = file.WriteAt(make([]byte, len(head)), int64(at))
	if err == nil {
		err = file.Sync()
	}
	return entries, errors.Join(err, file.Close())
}

// entryHead is the longest head of a log's entry: two bytes of flags, two lengths and a time.
const entryHead = 2 + 5 + 5 + 10

// entryLen returns the length of the entry with which b begins, 0 where there is no whole one.
func entryLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	at := 2
	var lens [3]uint64
	for i := range lens {
		v, n := binary.Uvarint(b[at:])
		if n <= 0 {
			return 0
		}
		lens[i] = v
		at += n
	}
	if lens[0] == 0 || lens[0] > 1<<16 || lens[1] > maxFileLen {
		return 0
	}
	end := at + int(lens[0]) + int(lens[1])
	if len(b) < end+4 || crc32.Checksum(b[:end], castagnoli()) != binary.BigEndian.Uint32(b[end:]) {
		return 0
	}
	return end + 4
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFileLen {
		return nil, fmt.Errorf("%s has %d bytes", filepath.Base(path), info.Size())
	}
	return os.ReadFile(path)
}

// logNumber returns the number in the name of a write-ahead log.
func logNumber(name string) uint64 {
	n, err := strconv.ParseUint(strings.TrimSuffix(name, logSuffix), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Contain turns a panic over damaged bytes into an error. What the panic says stays out of it: Badger puts the bytes there.
func Contain(f func() error) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the bytes make no sense")
		}
	}()
	return f()
}
