package flash

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// TestGuardedOnFullDisk: a store that nothing sets aside is refused room before it writes, and serves again when there is some.
func TestGuardedOnFullDisk(t *testing.T) {
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
	g, err := OpenGuarded(cfg)
	if err != nil {
		t.Fatal(err)
	}
	put := func() error {
		return g.Update(func(txn *badger.Txn) error { return txn.Set([]byte("k"), make([]byte, 8<<10)) })
	}
	if err := errors.Join(g.Room(), put()); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(mount, "filler")
	fill := func() {
		t.Helper()
		f, err := os.OpenFile(filler, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for block := make([]byte, 1<<16); err == nil; {
			_, err = f.Write(block)
		}
	}
	fill()
	if err := errors.Join(put(), put()); err != nil || !errors.Is(g.Room(), ErrNoRoom) {
		t.Errorf("the ballast does not serve: %v, %v", err, g.Room())
	}
	fill()
	for range 1000 { // more than Badger's log has left
		if err := put(); !errors.Is(err, ErrNoRoom) {
			t.Fatalf("a commit on a full disk: %v", err)
		}
	}
	if err := g.Close(); !errors.Is(err, ErrNoRoom) {
		t.Fatal(err)
	}
	if _, err := OpenGuarded(cfg); !errors.Is(err, ErrNoRoom) {
		t.Errorf("opened on a full disk: %v", err)
	}
	if err := errors.Join(os.Remove(filler), g.Close()); err != nil {
		t.Fatal(err)
	}
	if g, err = OpenGuarded(cfg); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(put(), g.Room(), g.Close()); err != nil {
		t.Error(err)
	}
}

// TestGuardedIsNeverSetAside: a damaged one does not open, and stays.
func TestGuardedIsNeverSetAside(t *testing.T) {
	cfg := storeConfig(filepath.Join(t.TempDir(), "s"))
	g, err := OpenGuarded(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	damage := []byte("no manifest at all")
	path := filepath.Join(cfg.Dir, "MANIFEST")
	if err := os.WriteFile(path, damage, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := OpenGuarded(cfg); err == nil {
			t.Fatal("opened")
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != string(damage) {
		t.Errorf("%q, %v", b, err)
	}
	if list, err := asides(cfg.Dir); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}
