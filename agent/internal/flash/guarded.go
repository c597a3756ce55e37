package flash

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/dgraph-io/badger/v4"
)

// Guarded is Badger that writes only where there is room, and is never set aside nor begun anew: for what its owner judges. It holds
// a ballast of its own. What is written past Update is not guarded.
type Guarded struct {
	*badger.DB
	dir     string
	reserve uint64
	mu      sync.Mutex
}

// OpenGuarded opens or makes the store, Now and Registerer are not used. A damaged store is an error and stays as it is. Errors: a bad
// Config, ErrNoRoom, and those of Open.
func OpenGuarded(cfg StoreConfig) (*Guarded, error) {
	if cfg.Dir == "" {
		return nil, errors.New("cannot open flash store: no directory given")
	}
	g := &Guarded{dir: filepath.Clean(cfg.Dir), reserve: cmp.Or(cfg.Reserve, DefaultReserve)}
	parent := filepath.Dir(g.dir)
	err := os.MkdirAll(parent, 0o700)
	if err == nil {
		err = spare(g.dir, parent, g.reserve)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open flash store %s: %w", g.dir, err)
	}
	g.DB, err = openBadger(Config{Dir: g.dir, Logger: cfg.Logger}, false)
	return g, err
}

// Update runs fn in one transaction, synced when it returns nil. Errors: fn's, ErrNoRoom before anything was written, or a failure to write.
func (g *Guarded) Update(fn func(*badger.Txn) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := spare(g.dir, g.dir, g.reserve); err != nil {
		return err
	}
	return g.DB.Update(fn)
}

// Close closes the store. With ErrNoRoom it is left open, as a power cut would leave it and as the next start takes it: Badger writes a table when
// it closes.
func (g *Guarded) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := spare(g.dir, g.dir, g.reserve); err != nil {
		return fmt.Errorf("cannot close flash store %s: %w", g.dir, err)
	}
	return g.DB.Close()
}

// Room is Store.Room.
func (g *Guarded) Room() error { return room(g.dir, g.reserve) }

func room(dir string, reserve uint64) error {
	free, err := space(dir)
	if err == nil && free < reserve {
		err = fmt.Errorf("%w: %d bytes are left, want %d", ErrNoRoom, free, reserve)
	}
	return err
}
