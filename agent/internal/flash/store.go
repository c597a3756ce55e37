package flash

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/agent/internal/flash/internal/witness"
)

// DefaultReserve is the room in bytes without which a store does not grow. A quarter of it must be left for every commit: Badger's next log,
// and the table that it is flushed to.
const DefaultReserve = 16 << 20

// countKey holds the number of commits. Keys under "flash/" are the store's own.
const countKey = "flash/commits"

// ErrNoRoom says that the file system has less room than the reserve.
var ErrNoRoom = errors.New("the file system is nearly full; free some of it")

// StoreConfig says where a store lives that may begin anew.
type StoreConfig struct {
	// Dir is the store's directory; it is made when missing. What is set aside lies beside it as Dir.damaged-TIME, the ballast as
	// Dir.ballast. Required.
	Dir string
	// Reserve is the room in bytes that growth must leave on the file system; 0 means DefaultReserve. Commits leave a quarter of it, and
	// half as much lies in the ballast.
	Reserve uint64
	// Now names what is set aside; nil means time.Now.
	Now func() time.Time
	// Logger is required.
	Logger *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

// A Finding is what OpenStore has to say about the past. The zero value says that all is well.
type Finding struct {
	// Aside is where the store lies that could not be trusted, and Reason why; empty where there was none.
	Aside, Reason string
	// Lost is the number of the last acknowledged commits that are gone. Where it is not known, Damaged is true alone.
	Lost uint64
	// Damaged says that acknowledged records are or may be gone.
	Damaged bool
}

// String tells the driver, empty where all is well.
func (f Finding) String() string {
	switch {
	case f.Aside != "":
		return "The agent's store on flash was damaged and has been set aside as " + filepath.Base(f.Aside) + "; a new one has begun. What waited to be " +
			"sent, this journal and what was counted since the last report are lost, and what you had turned on: everything is off again, the " +
			"cadence weekly. The ECU repeats its last snapshots."
	case f.Lost > 0:
		return fmt.Sprintf("The agent's store on flash was damaged: its last %d changes are lost. The ECU repeats its last snapshots.", f.Lost)
	case f.Damaged:
		return "The agent's store on flash was damaged: some of its last changes are lost. The ECU repeats its last snapshots."
	}
	return ""
}

// Store is Badger with a witness. Reading, and closing aside, it is used as the *badger.DB that it holds; what is written past Update
// is synced and not witnessed.
type Store struct {
	*badger.DB
	dir     string
	reserve uint64
	free    func() error // lets go of the directory

	mu      sync.Mutex
	commits uint64
	witness *witness.Witness
}

// OpenStore opens or makes the store, setting a damaged one aside. The finding tells what was lost; it has been logged. Errors: a bad
// Config, a store that another process has open, no room, or a place where no new store can be made either.
func OpenStore(cfg StoreConfig) (*Store, Finding, error) {
	switch {
	case cfg.Dir == "":
		return nil, Finding{}, errors.New("cannot open flash store: no directory given")
	case cfg.Logger == nil:
		return nil, Finding{}, errors.New("cannot open flash store: no logger given")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Reserve == 0 {
		cfg.Reserve = DefaultReserve
	}
	cfg.Dir = filepath.Clean(cfg.Dir)
	s, f, err := openStore(cfg)
	if err != nil {
		return nil, f, fmt.Errorf("cannot open flash store %s: %w", cfg.Dir, err)
	}
	if err := register(cfg.Registerer, cfg.Dir, f); err != nil {
		return nil, f, errors.Join(fmt.Errorf("cannot open flash store: %w", err), s.Close())
	}
	return s, f, nil
}

func openStore(cfg StoreConfig) (*Store, Finding, error) {
	if err := os.MkdirAll(filepath.Dir(cfg.Dir), 0o700); err != nil {
		return nil, Finding{}, err
	}
	if err := makeRoom(cfg); err != nil {
		return nil, Finding{}, err
	}
	s, f, err := try(cfg)
	if err == nil || circumstantial(err) {
		return s, f, err
	}
	// No more than once: what a new store cannot do lies in the place.
	aside, moved := setAside(cfg.Dir, cfg.Now())
	if moved != nil {
		return nil, Finding{}, errors.Join(err, moved)
	}
	cfg.Logger.Error("flash store is damaged and set aside; a new one begins", "aside", aside, "error", err)
	s, _, again := try(cfg)
	if again != nil {
		return nil, Finding{}, errors.Join(err, again)
	}
	return s, Finding{Aside: aside, Reason: err.Error(), Damaged: true}, nil
}

// makeRoom gives up what was set aside where the file system is nearly full, and then the ballast.
func makeRoom(cfg StoreConfig) error {
	parent := filepath.Dir(cfg.Dir)
	if free, err := space(parent); err != nil || free >= cfg.Reserve {
		return err
	}
	if err := prune(cfg.Dir, "", 0, 0); err != nil {
		return err
	}
	return spare(cfg.Dir, parent, cfg.Reserve)
}

// try opens the store as it is.
func try(cfg StoreConfig) (*Store, Finding, error) {
	if err := os.Mkdir(cfg.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, Finding{}, err
	}
	free, err := hold(cfg.Dir)
	if err != nil {
		return nil, Finding{}, err
	}
	s, f, err := tryHeld(cfg)
	if err != nil {
		return nil, Finding{}, errors.Join(err, free())
	}
	s.free = free
	return s, f, nil
}

// tryHeld does it while nobody else can: from the first look into the files until the store is closed.
func tryHeld(cfg StoreConfig) (*Store, Finding, error) {
	last, witnessed := witness.Read(cfg.Dir)
	found, err := witness.Examine(cfg.Dir, last, witnessed)
	if err != nil {
		return nil, Finding{}, err
	}
	if found.Strays > 0 {
		cfg.Logger.Warn("tables that the manifest does not list are removed", "tables", found.Strays)
	}
	s := &Store{dir: cfg.Dir, reserve: cfg.Reserve}
	err = witness.Contain(func() (err error) {
		s.DB, err = openBadger(Config{Dir: cfg.Dir, Logger: cfg.Logger}, true)
		return err
	})
	if err != nil {
		return nil, Finding{}, err
	}
	if s.commits, err = countOf(s.DB); err == nil {
		s.witness, err = witness.New(cfg.Dir, s.commits)
	}
	if err != nil {
		return nil, Finding{}, errors.Join(err, s.DB.Close())
	}
	var f Finding
	if witnessed && s.commits < last.Commits {
		f = Finding{Lost: last.Commits - s.commits, Damaged: true}
	} else if found.Lost {
		f.Damaged = true
	}
	if f.Damaged {
		cfg.Logger.Error("flash store was damaged and has lost its last commits", "commits", f.Lost)
	}
	return s, f, nil
}

// hold locks the directory as Badger does, so that no other process's store is looked into, and returns what lets it go.
func hold(dir string) (free func() error, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another process has it open: %w", err), d.Close())
	}
	return d.Close, nil
}

func countOf(db *badger.DB) (n uint64, err error) {
	err = db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(countKey))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		return item.Value(func(b []byte) error {
			if len(b) != 8 {
				return errors.New("the count of commits is damaged")
			}
			n = binary.BigEndian.Uint64(b)
			return nil
		})
	})
	return n, err
}

// Update runs fn in one transaction. When it returns nil the changes are on flash and witnessed; after an error of the flash they may
// be there or not. fn may run once only and must not call Update. Errors: fn's, ErrNoRoom, or a failure to write.
func (s *Store) Update(fn func(*badger.Txn) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := spare(s.dir, s.dir, s.reserve); err != nil {
		return err
	}
	next := s.commits + 1
	err := s.DB.Update(func(txn *badger.Txn) error {
		if err := fn(txn); err != nil {
			return err
		}
		return txn.Set([]byte(countKey), binary.BigEndian.AppendUint64(nil, next))
	})
	if err != nil {
		return err
	}
	s.commits = next
	return s.witness.Set(next, true)
}

// Close closes the store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.DB.Close(), s.witness.Close(), s.free())
}

// Room says with ErrNoRoom that the store must not grow: whoever adds what can wait asks first. What records an answer, frees room or
// is small need not.
func (s *Store) Room() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return room(s.dir, s.reserve)
}

// register tells of damage. What was set aside is counted where it lies, so that a restart does not hide it.
func register(r prometheus.Registerer, dir string, f Finding) error {
	if r == nil {
		return nil
	}
	aside := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rawstone_store_set_aside", Help: "Damaged stores kept beside the agent's.",
	}, func() float64 {
		list, err := asides(dir)
		if err != nil {
			return -1
		}
		return float64(len(list))
	})
	lost := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rawstone_store_damaged", Help: "1 where the store was found damaged at this start and acknowledged records are or may be gone.",
	})
	if f.Damaged {
		lost.Set(1)
	}
	return errors.Join(r.Register(aside), r.Register(lost))
}
