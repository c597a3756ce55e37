// Package flash opens Badger in the one profile that suits a head unit: little memory, small files, every write synced.
//
// Badger's defaults cost 169 MB of resident memory and a 2.2 GB sparse value log, which no head unit has. The profile here keeps
// memtables and tables at 2 MB, caches at 1 MB and never compresses (the payloads are sealed bytes, which do not shrink). All
// records are below the value threshold, so that nothing is written to the value log and nothing waits there for its collection.
//
// There are three ways in. Open opens a store or returns an error. OpenGuarded does, and writes only where there is room: a privacy budget
// is its owner's to judge and never begins anew. OpenStore is for what may: it examines the files before Badger sees them, because Badger ends the process on some damage, takes a
// bitten log for one that simply ends, and deletes tables that a shortened manifest no longer lists. A store that cannot be trusted
// is set aside whole, beside its place, and a new one begun; one that has lost its last commits goes on with the others. Either is said.
//
// Invariants of a Store: what Update returns nil for is on flash, and is counted in the store and in a witness, a file of its own;
// the two counts tell at the next start what is gone. What is set aside is bounded in number and bytes. A store that another
// process has open, or that does not open for want of space, memory or descriptors, is never set aside.
//
// The package refuses to repair records and to write where the file system has too little room: Badger writes to mapped files, and
// a full disk under those ends the process. Growing stops first (Room), while there is room for receipts and for what frees some; for
// those a Store also holds a file beside its directory that it gives up when others have filled the disk to the brim.
package flash

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// Config says where a store lives.
type Config struct {
	// Dir is the store's directory; it is made when missing. Required.
	Dir string
	// Logger receives Badger's own warnings and errors. Required.
	Logger *slog.Logger
}

// Open opens or makes the store. Its writes are on flash when they return.
func Open(cfg Config) (*badger.DB, error) { return openBadger(cfg, false) }

// openBadger opens the store; held says that the caller holds the directory's lock.
func openBadger(cfg Config, held bool) (*badger.DB, error) {
	if cfg.Dir == "" {
		return nil, errors.New("cannot open flash store: no directory given")
	}
	if cfg.Logger == nil {
		return nil, errors.New("cannot open flash store: no logger given")
	}
	opts := badger.DefaultOptions(cfg.Dir).
		WithLogger(logger{cfg.Logger}).
		WithBypassLockGuard(held).
		WithSyncWrites(true).
		WithMemTableSize(2 << 20).
		WithNumMemtables(1).
		WithValueLogFileSize(1 << 20).
		WithValueThreshold(64 << 10).
		WithBlockCacheSize(1 << 20).
		WithIndexCacheSize(1 << 20).
		WithBaseTableSize(2 << 20).
		WithBaseLevelSize(4 << 20).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(4).
		WithNumCompactors(2).
		WithCompression(options.None).
		WithDetectConflicts(false).
		WithMetricsEnabled(false)
	// A process killed between truncating a flushed write-ahead log and removing it leaves a log of 0 bytes. Badger refuses it
	// once, giving it its size back, and opens it then (github.com/dgraph-io/badger/issues/2207); nothing is lost.
	retry := emptied(cfg.Dir)
	db, err := badger.Open(opts)
	if err != nil && retry {
		db, err = badger.Open(opts)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open flash store %s: %w", cfg.Dir, err)
	}
	return db, nil
}

// emptied reports whether the store has a write-ahead log of 0 bytes.
func emptied(dir string) bool {
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return false
	}
	for _, path := range logs {
		if info, err := os.Stat(path); err == nil && info.Size() == 0 {
			return true
		}
	}
	return false
}

// logger passes Badger's warnings on and drops its chatter.
type logger struct{ l *slog.Logger }

func (l logger) Errorf(format string, args ...any) {
	l.l.Error("flash store error", "detail", fmt.Sprintf(format, args...))
}

func (l logger) Warningf(format string, args ...any) {
	l.l.Warn("flash store warning", "detail", fmt.Sprintf(format, args...))
}

func (logger) Infof(string, ...any)  {}
func (logger) Debugf(string, ...any) {}
