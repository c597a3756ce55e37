package flash

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

func TestOpenKeepsAndStaysSmall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	cfg := Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
	db, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if !db.Opts().SyncWrites {
		t.Error("writes are not synced")
	}
	if err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte("k"), make([]byte, 8<<10)) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, err = Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(txn *badger.Txn) error {
		_, err := txn.Get([]byte("k"))
		return err
	})
	if err != nil {
		t.Errorf("record lost over reopen: %v", err)
	}
	// Apparent sizes: a sparse gigabyte counts, since some head-unit file systems do not know sparse files.
	var size int64
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if limit := int64(10 << 20); size > limit {
		t.Errorf("store of one record has files of %d bytes, want at most %d", size, limit)
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(Config{Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("opened without a directory")
	}
	if _, err := Open(Config{Dir: t.TempDir()}); err == nil {
		t.Error("opened without a logger")
	}
}

// A kill at the wrong instant leaves an empty write-ahead log, which must not keep the agent from starting.
func TestOpenAfterKillWithEmptyLog(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}
	db, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte("k"), []byte("v")) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "00099.mem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(txn *badger.Txn) error { _, err := txn.Get([]byte("k")); return err }); err != nil {
		t.Errorf("record lost: %v", err)
	}
}
