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
