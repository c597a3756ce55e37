package witness

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
)

// fill makes a closed store of thirty commits and returns it with its tables.
func fill(t *testing.T) (dir string, tables []string) {
	t.Helper()
	dir = t.TempDir()
	db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil).WithCompression(options.None).WithMemTableSize(1 << 20).WithValueThreshold(1 << 10))
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range byte(30) {
		if err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte{i}, bytes.Repeat([]byte{i}, 900)) }); err != nil {
			t.Fatal(err)
		}
		if err := w.Set(uint64(i)+1, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(db.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	tables, err = filepath.Glob(filepath.Join(dir, "*"+tableSuffix))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	return dir, tables
}

// Every bit of a table's end, where its lengths are, and every length just short of the whole.
func TestTableEnds(t *testing.T) {
	_, tables := fill(t)
	b, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	id, _ := table.ParseFileID(tables[0])
	path := filepath.Join(t.TempDir(), filepath.Base(tables[0]))
	judge := func(c []byte) error {
		if err := os.WriteFile(path, c, 0o600); err != nil {
			t.Fatal(err)
		}
		return verifyTable(path, id)
	}
	if err := judge(b); err != nil {
		t.Fatalf("a whole table is refused: %v", err)
	}
	for at := len(b) - 24; at < len(b); at++ {
		for bit := range 8 {
			c := bytes.Clone(b)
			c[at] ^= 1 << bit
			if judge(c) == nil {
				t.Errorf("bit %d of byte %d from the end may flip", bit, len(b)-at)
			}
		}
	}
	for cut := 1; cut < 40; cut++ {
		if judge(b[:len(b)-cut]) == nil {
			t.Errorf("%d bytes may be missing", cut)
		}
	}
	for _, c := range [][]byte{nil, {0}, make([]byte, 100), bytes.Repeat([]byte{0xff}, 100)} {
		if judge(c) == nil {
			t.Errorf("%d bytes pass for a table", len(c))
		}
	}
}

// A log that held commits may go only with an entry in the manifest.
func TestLogThatWent(t *testing.T) {
	dir, _ := fill(t)
	last, ok := Read(dir)
	if !ok {
		t.Fatal("no witness")
	}
	size, inode, err := identify(filepath.Join(dir, manifestFile))
	if err != nil {
		t.Fatal(err)
	}
	last.Manifest, last.Inode = size, inode
	for _, c := range []struct {
		name string
		last Last
		lost bool
	}{
		{"none held any", Last{last.Commits, size, inode, 0, 0}, false},
		{"one went without a trace", Last{last.Commits, size, inode, 99, size}, true},
		{"one became a table", Last{last.Commits, size - 1, inode, 99, size - 1}, false},
		{"one became a table before it was removed", Last{last.Commits, size, inode, 99, size - 1}, false},
		{"another manifest", Last{last.Commits, size, inode + 1, 99, size}, false},
	} {
		if found, err := Examine(dir, c.last, true); err != nil || found.Lost != c.lost {
			t.Errorf("%s: %+v %v", c.name, found, err)
		}
	}
	if found, err := Examine(dir, Last{last.Commits, size, inode, 99, size}, false); err != nil || found.Lost {
		t.Errorf("without a witness: %+v %v", found, err)
	}
	if _, err := Examine(dir, Last{last.Commits, size + 1, inode + 1, 0, 0}, true); err != nil {
		t.Errorf("a manifest written anew is refused: %v", err)
	}
	if _, err := Examine(dir, Last{last.Commits, size + 1, inode, 0, 0}, true); err == nil {
		t.Error("a manifest that was cut passes")
	}
}

// A log lies beside its table for a moment, after the manifest has said so; a process killed then has lost nothing.
func TestLogBesideItsTable(t *testing.T) {
	dir := t.TempDir()
	put := func(name string, n int) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(manifestFile, 100)
	put("00001.mem", 50) // another life's
	put("00002.mem", 50)
	w, err := New(dir, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_, inode, err := identify(filepath.Join(dir, manifestFile))
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		change func()
		want   Last
	}{
		{func() {}, Last{8, 100, inode, 2, 100}},
		{func() { put(manifestFile, 110) }, Last{9, 110, inode, 2, 110}},
		{func() { put("00003.mem", 50); put(manifestFile, 120) }, Last{10, 120, inode, 2, 110}},
		{func() { os.Remove(filepath.Join(dir, "00001.mem")) }, Last{11, 120, inode, 2, 110}},
		{func() { os.Remove(filepath.Join(dir, "00002.mem")) }, Last{12, 120, inode, 3, 120}},
	} {
		c.change()
		if err := w.Set(8+uint64(i), true); err != nil {
			t.Fatal(err)
		}
		if last, ok := Read(dir); !ok || last != c.want {
			t.Errorf("%d: %+v, want %+v", i, last, c.want)
		}
	}
}

// What stands after a log's last whole entry is gone before Badger reads it: a length there may ask for gigabytes.
func TestLogIsCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "00001.mem")
	entry := []byte{0, 0, 1, 2, 0, 'k', 'v', 'w'}
	entry = withCRC(entry)
	whole := append(make([]byte, logHead), append(bytes.Clone(entry), entry...)...)
	hostile := append(bytes.Clone(whole), 0, 0, 3, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 'a', 'b', 'c', 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)
	for _, c := range []struct{ in, want []byte }{
		{whole, whole},
		{append(bytes.Clone(whole), make([]byte, 50)...), append(bytes.Clone(whole), make([]byte, 50)...)},
		{hostile, append(append(bytes.Clone(whole), make([]byte, entryHead)...), hostile[len(whole)+entryHead:]...)},
		{make([]byte, 3), make([]byte, 3)},
	} {
		if err := os.WriteFile(path, c.in, 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := cutLog(path)
		got, _ := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, c.want) || (len(c.in) > logHead) != (n == 2) {
			t.Errorf("%x became %x, %d entries, %v", c.in, got, n, err)
		}
	}
}

func FuzzEntryLen(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 0, 'k', 'v', 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := entryLen(b); n < 0 || n > len(b) {
			t.Errorf("%d of %d bytes", n, len(b))
		}
	})
}

// A slot that was torn leaves the other; a witness that is gone says nothing.
func TestTornWitness(t *testing.T) {
	dir, _ := fill(t)
	path := filepath.Join(dir, witnessFile)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if last, ok := Read(dir); !ok || last.Commits != 30 || last.Manifest == 0 || last.Inode == 0 || last.Log == 0 {
		t.Fatalf("%+v %v", last, ok)
	}
	for at := range slotLen {
		for slot, want := range []uint64{29, 30} {
			c := bytes.Clone(b)
			c[slot*slotStride+at] ^= 1
			if err := os.WriteFile(path, c, 0o600); err != nil {
				t.Fatal(err)
			}
			if last, ok := Read(dir); !ok || last.Commits != want {
				t.Errorf("byte %d of slot %d flipped: %+v %v", at, slot, last, ok)
			}
		}
	}
	for _, c := range [][]byte{nil, b[:10], make([]byte, len(b))} {
		if err := os.WriteFile(path, c, 0o600); err != nil {
			t.Fatal(err)
		}
		if last, ok := Read(dir); ok && last.Commits != 0 {
			t.Errorf("%d bytes say %+v", len(c), last)
		}
	}
}
