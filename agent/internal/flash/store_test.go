package flash

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/agent/internal/flash/internal/witness"
)

func TestStoreKeepsAndCounts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	for life := range 4 {
		s, f := openAt(t, dir)
		if f != (Finding{}) || f.String() != "" {
			t.Errorf("life %d says %+v", life, f)
		}
		if n := check(t, s, life*10); n != life*10 {
			t.Errorf("life %d holds %d records", life, n)
		}
		for i := range 10 {
			if err := putRecord(s, life*10+i); err != nil {
				t.Fatal(err)
			}
		}
		wrong := errors.New("no")
		if err := s.Update(func(*badger.Txn) error { return wrong }); !errors.Is(err, wrong) {
			t.Errorf("error is %v", err)
		}
		if last, ok := witness.Read(dir); !ok || last.Commits != uint64(life*10+10) || last.Log == 0 {
			t.Errorf("life %d: witness says %+v", life, last)
		}
		if life == 2 {
			// One that only opens, and one that is copied while it is open and was not written to.
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s, _ = openAt(t, dir)
			other := filepath.Join(t.TempDir(), "s")
			copyStore(t, dir, other)
			adopt(t, other)
			s2, f := openAt(t, other)
			if f != (Finding{}) {
				t.Errorf("a store that was not written to says %+v", f)
			}
			s2.Close()
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Two processes must not work on one store, and the second must not set the first one's aside.
func TestStoreInUseIsLeftAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s, _ := openAt(t, dir)
	defer s.Close()
	if err := putRecord(s, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenStore(storeConfig(dir)); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("error is %v", err)
	}
	if list, err := asides(dir); err != nil || len(list) != 0 {
		t.Errorf("set aside: %v %v", list, err)
	}
	if err := putRecord(s, 1); err != nil || check(t, s, 2) != 2 {
		t.Errorf("the first no longer works: %v", err)
	}
}

func TestFullFileSystemLosesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s, _ := openAt(t, dir)
	if err := putRecord(s, 0); err != nil {
		t.Fatal(err)
	}
	s.reserve = 1 << 62
	if err := putRecord(s, 1); !errors.Is(err, ErrNoRoom) {
		t.Errorf("error is %v", err)
	}
	s.Close()
	for _, name := range []string{"1", "2"} {
		if err := os.WriteFile(dir+asideInfix+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := storeConfig(dir)
	cfg.Reserve = 1 << 62
	if _, _, err := OpenStore(cfg); !errors.Is(err, ErrNoRoom) {
		t.Errorf("error is %v", err)
	}
	if list, err := asides(dir); err != nil || len(list) != 0 {
		t.Errorf("what was set aside stays on a full file system: %v %v", list, err)
	}
	s, f := openAt(t, dir)
	defer s.Close()
	if check(t, s, 1) != 1 || f != (Finding{}) {
		t.Errorf("lost over a full file system: %+v", f)
	}
}

// On a disk that others have filled, the store takes receipts and frees, and does not grow; it opens there, too.
func TestFullDiskTakesWhatFreesRoom(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=64m"); err != nil {
		t.Skip("cannot mount a small file system: ", err)
	}
	defer syscall.Unmount(mount, syscall.MNT_DETACH)
	cfg := storeConfig(filepath.Join(mount, "s"))
	cfg.Reserve = DefaultReserve
	s, _, err := OpenStore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := errors.Join(s.Room(), putRecord(s, i)); err != nil {
			t.Fatal(err)
		}
	}
	fill := func() {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(mount, "filler"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for block := make([]byte, 1<<16); ; {
			if _, err := f.Write(block); err != nil {
				break
			}
		}
		if free, err := space(mount); err != nil || free != 0 {
			t.Fatalf("%d bytes left, %v", free, err)
		}
	}
	fill()
	if err := s.Room(); !errors.Is(err, ErrNoRoom) {
		t.Errorf("a store on a full disk may grow: %v", err)
	}
	for i := range 50 {
		if err := s.Update(func(txn *badger.Txn) error { return txn.Delete(recordKey(99 - i)) }); err != nil {
			t.Fatalf("freeing %d on a full disk: %v", i, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, _, err = OpenStore(cfg); err != nil {
		t.Fatalf("the store does not open on a full disk: %v", err)
	}
	if n := check(t, s, 100); n != 50 {
		t.Errorf("%d records, want 50", n)
	}
	fill() // the ballast is gone
	if err := putRecord(s, 50); !errors.Is(err, ErrNoRoom) {
		t.Errorf("writes where nothing is left: %v", err)
	}
	if err := os.Remove(filepath.Join(mount, "filler")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Room(), putRecord(s, 50)); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(cfg.Dir + BallastSuffix); err != nil || info.Size() != DefaultReserve/2 {
		t.Errorf("the ballast is not taken in again: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Nobody else gets at the files between the first look at them and the close.
func TestStoreIsHeldUntilItIsClosed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s, _ := openAt(t, dir)
	// Badger's own lock would be one of another open file; the store's is held before Badger comes and after it has gone.
	if s.free == nil || !s.DB.Opts().BypassLockGuard {
		t.Error("the store's lock is not its own")
	}
	if _, err := hold(dir); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("held twice: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	free, err := hold(dir)
	if err != nil {
		t.Fatalf("still held: %v", err)
	}
	if err := free(); err != nil {
		t.Error(err)
	}
}

// A place that is not a store, such as one whose directory has become a file, is set aside; three of them are kept.
func TestSetAsideIsBoundedAndTold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var kept []string
	for i := range 5 {
		if err := os.WriteFile(dir, []byte("no store"), 0o600); err != nil {
			t.Fatal(err)
		}
		reg := prometheus.NewRegistry()
		cfg := storeConfig(dir)
		cfg.Registerer, cfg.Now = reg, func() time.Time { return clock.AddDate(0, 0, -i/2) } // a clock that stands or goes back
		s, f, err := OpenStore(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if f.Aside == "" || f.Reason == "" || !f.Damaged || !strings.Contains(f.String(), filepath.Base(f.Aside)) {
			t.Errorf("says %+v", f)
		}
		if _, err := os.Stat(f.Aside); err != nil {
			t.Error(err)
		}
		err = testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP rawstone_store_damaged 1 where the store was found damaged at this start and acknowledged records are or may be gone.
# TYPE rawstone_store_damaged gauge
rawstone_store_damaged 1
`), "rawstone_store_damaged")
		if err != nil {
			t.Error(err)
		}
		if kept, err = asides(dir); err != nil || len(kept) != min(i+1, maxAside) {
			t.Errorf("%v are kept, %v", kept, err)
		}
		s.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := prune(dir, kept[1], maxAside, 0); err != nil {
		t.Fatal(err)
	}
	if list, err := asides(dir); err != nil || len(list) != 1 || list[0] != kept[1] {
		t.Errorf("%v are kept beyond the bytes, %v", list, err)
	}
}

// Badger's errors say their cause in words only.
func TestCircumstantialErrors(t *testing.T) {
	if !circumstantial(errors.New("While opening memtable err: write: " + syscall.ENOSPC.Error())) {
		t.Error("a full disk counts as damage")
	}
	if !circumstantial(fmt.Errorf("open: %w", syscall.EACCES)) || !circumstantial(errors.New(syscall.EPERM.Error())) {
		t.Error("files of another user count as damage")
	}
	if circumstantial(errors.New("checksum mismatch")) {
		t.Error("damage counts as the machine's moment")
	}
}

func TestOpenStoreRefuses(t *testing.T) {
	if _, _, err := OpenStore(StoreConfig{Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("opened without a directory")
	}
	if _, _, err := OpenStore(StoreConfig{Dir: t.TempDir()}); err == nil {
		t.Error("opened without a logger")
	}
}
