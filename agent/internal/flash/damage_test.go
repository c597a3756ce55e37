package flash

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/flash/internal/witness"
)

func storeConfig(dir string) StoreConfig {
	return StoreConfig{Dir: dir, Reserve: 1, Logger: slog.New(slog.DiscardHandler)}
}

func openAt(t testing.TB, dir string) (*Store, Finding) {
	t.Helper()
	s, f, err := OpenStore(storeConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	return s, f
}

func recordKey(i int) []byte { return binary.BigEndian.AppendUint32([]byte("record/"), uint32(i)) }

// recordValue is what record i holds: bytes that do not compress, of a length of its own.
func recordValue(i int) []byte {
	r := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8)})
	b := make([]byte, 200+i%1700)
	r.Read(b)
	return b
}

func putRecord(s *Store, i int) error {
	return s.Update(func(txn *badger.Txn) error { return txn.Set(recordKey(i), recordValue(i)) })
}

// check returns how many of the first n records are there; what is there must be right, and must be the first ones, without a gap.
func check(t *testing.T, s *Store, n int) (held int) {
	t.Helper()
	gap := -1
	err := s.View(func(txn *badger.Txn) error {
		for i := range n {
			item, err := txn.Get(recordKey(i))
			if err == badger.ErrKeyNotFound {
				if gap < 0 {
					gap = i
				}
				continue
			} else if err != nil {
				return fmt.Errorf("record %d: %w", i, err)
			}
			held++
			err = item.Value(func(b []byte) error {
				if !bytes.Equal(b, recordValue(i)) {
					return fmt.Errorf("record %d is another", i)
				}
				return nil
			})
			if err != nil {
				return err
			}
			if gap >= 0 {
				return fmt.Errorf("record %d is there and %d is not", i, gap)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return held
}

// copyStore copies the files of a store, leaving holes where there are zeros. A copy of an open store is what a killed process leaves.
func copyStore(t testing.TB, from, to string) (names []string) {
	t.Helper()
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	zero := make([]byte, 4096)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(to, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(b); at += len(zero) {
			page := b[at:min(at+len(zero), len(b))]
			if !bytes.Equal(page, zero[:len(page)]) {
				if _, err := f.WriteAt(page, int64(at)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := f.Truncate(int64(len(b))); err != nil {
			t.Fatal(err)
		}
		f.Close()
		names = append(names, e.Name())
	}
	return names
}

// adopt has a copied store's witness name the copy's manifest, as it would in place: the third number of each slot is its inode.
func adopt(t testing.TB, dir string) {
	t.Helper()
	path := filepath.Join(dir, "WITNESS")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "MANIFEST"))
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range [][]byte{b[:44], b[4096 : 4096+44]} {
		binary.BigEndian.PutUint64(slot[16:], info.Sys().(*syscall.Stat_t).Ino)
		binary.BigEndian.PutUint32(slot[40:], crc32.Checksum(slot[:40], crc32.MakeTable(crc32.Castagnoli)))
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := witness.Read(dir); !ok {
		t.Fatal("no witness")
	}
}

const damagedRecords = 6000

// samples is how many bits are flipped and lengths tried in each file: few in every run, more by RAWSTONE_DAMAGE.
func samples(t *testing.T) int {
	if text := os.Getenv("RAWSTONE_DAMAGE"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 3
}

// Whatever happens to a file, the store opens, and either holds every acknowledged record or says what it has lost.
func TestDamageIsNeverSilent(t *testing.T) {
	live, killed, closed := filepath.Join(t.TempDir(), "s"), filepath.Join(t.TempDir(), "s"), filepath.Join(t.TempDir(), "s")
	s, f := openAt(t, live)
	if f != (Finding{}) {
		t.Fatalf("a new store says %+v", f)
	}
	for i := range damagedRecords {
		if err := putRecord(s, i); err != nil {
			t.Fatal(err)
		}
	}
	copyStore(t, live, killed)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	copyStore(t, live, closed)
	tables, err := filepath.Glob(filepath.Join(killed, "*.sst"))
	if err != nil || len(tables) < 2 {
		t.Fatalf("%d tables, %v", len(tables), err)
	}
	for name, dir := range map[string]string{"killed": killed, "closed": closed} {
		t.Run(name, func(t *testing.T) {
			adopt(t, dir)
			damageEach(t, dir)
		})
	}
}

func damageEach(t *testing.T, dir string) {
	seed := rand.New(rand.NewPCG(1, 2))
	outcomes := make(map[string]int)
	try := func(file, what string, damage func(path string) error) {
		work := filepath.Join(t.TempDir(), "s")
		copyStore(t, dir, work)
		adopt(t, work)
		if err := damage(filepath.Join(work, file)); err != nil {
			t.Fatal(err)
		}
		s, f, err := OpenStore(storeConfig(work))
		if err != nil {
			t.Errorf("%s %s: %v", file, what, err)
			return
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Errorf("%s %s: close: %v", file, what, err)
			}
			os.RemoveAll(filepath.Dir(work))
		}()
		held := check(t, s, damagedRecords)
		outcome := "whole"
		switch {
		case f.Aside != "":
			outcome = "set aside"
			if held != 0 {
				t.Errorf("%s %s: a new store holds %d records", file, what, held)
			}
			if _, err := os.Stat(f.Aside); err != nil {
				t.Errorf("%s %s: %v", file, what, err)
			}
		case f.Damaged:
			outcome = "cut"
			if f.Lost > 0 && held+int(f.Lost) != damagedRecords {
				t.Errorf("%s %s: holds %d and says that %d are lost", file, what, held, f.Lost)
			}
		case held != damagedRecords:
			t.Errorf("%s %s: %d records are gone and nobody says so", file, what, damagedRecords-held)
		}
		if (f.String() == "") != (f == Finding{}) {
			t.Errorf("%s %s: says %q", file, what, f.String())
		}
		if slices.Contains([]string{"KEYREGISTRY", "DISCARD", "WITNESS", "LOCK", "000001.vlog"}, file) && outcome != "whole" {
			t.Errorf("%s %s: %s, although it holds nothing: %s", file, what, outcome, f.Reason)
		}
		outcomes[filepath.Ext(file)+file[:min(len(file), 4)]+" "+what+": "+outcome]++
		if err := putRecord(s, damagedRecords); err != nil {
			t.Errorf("%s %s: does not take a record: %v", file, what, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		used := int64(len(bytes.TrimRight(b, "\x00"))) // the rest is zeros
		for i := range samples(t) {
			if used == 0 {
				break
			}
			at := seed.Int64N(used)
			switch i % 4 {
			case 1:
				at = seed.Int64N(min(used, 32))
			case 2:
				at = used - 1 - seed.Int64N(min(used, 64))
			}
			try(e.Name(), "flip", func(path string) error {
				c := bytes.Clone(b[at : at+1])
				c[0] ^= 1 << seed.IntN(8)
				f, err := os.OpenFile(path, os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = f.WriteAt(c, at)
				return err
			})
			length := seed.Int64N(used)
			switch i {
			case 0:
				length = 0
			case 1:
				length = used - 1 // the last entry alone
			}
			try(e.Name(), "truncation", func(path string) error { return os.Truncate(path, length) })
		}
		if info.Size() > 0 {
			try(e.Name(), "removal", os.Remove)
		}
	}
	for o, n := range outcomes {
		t.Logf("%s %d", o, n)
	}
}
