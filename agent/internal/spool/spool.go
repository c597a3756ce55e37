// Package spool is the car's buffer of sealed submissions: opaque bytes on flash from the moment they are sealed until a signed
// receipt frees them.
//
// Invariants: when Put returns, the submission is synced; its identifier is the SHA-256 of its bytes, so that putting it twice
// keeps one; submissions of one kind leave in the order they came; the spool never holds more than its bound in bytes. When it
// is full the oldest reports go first, and Put names them so that the journal can say so. Claims are never dropped: a spool full
// of claims refuses with ErrFull, and what the refused claim would have said stays in the archive.
//
// The package never looks inside a submission and must not learn how: it may not import can, trip or dp. It decides neither what
// is sent nor whether an answer is good. It does not repair: a record whose checksum fails is reported, counted and passed over,
// and stays where it is for a workshop to look at, within the bound, until its room is needed.
package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/wire"
)

const (
	// DefaultMaxBytes holds some 20,000 claims.
	DefaultMaxBytes = 16 << 20
	// MinMaxBytes is the smallest bound accepted.
	MinMaxBytes = 16 << 10
	// MaxItemLen bounds one submission in bytes.
	MaxItemLen = 4 << 10
	// MaxGroup bounds what PutAll takes at once, in submissions.
	MaxGroup = 256
	// maxGroupLen bounds the records of one commit in bytes: what Badger takes in one transaction.
	maxGroupLen = 128 << 10

	prefix = "spool/"
)

// ErrFull says that there is no room and nothing that may be dropped for it.
var ErrFull = errors.New("spool is full")

// A DB is the store: Badger's own, or one that keeps count of what it acknowledged.
type DB interface {
	View(func(*badger.Txn) error) error
	Update(func(*badger.Txn) error) error
	Opts() badger.Options
}

// Config says where the spool lives and how large it may grow.
type Config struct {
	// DB is the store, opened with SyncWrites. Keys under "spool/" are the spool's. Required; the caller closes it.
	DB DB
	// MaxBytes bounds the records in bytes; 0 means DefaultMaxBytes.
	MaxBytes int64
	// Logger is required.
	Logger *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

// An Item is one submission.
type Item struct {
	// ID is the SHA-256 of Bytes.
	ID   wire.Hash
	Kind wire.Kind
	// Created is when it was sealed, Due the first instant at which it may leave the car.
	Created, Due time.Time
	Bytes        []byte
}

// entry is what memory keeps of a record. One without a kind is damaged: it only takes room.
type entry struct {
	key  string
	id   wire.Hash
	kind wire.Kind
	due  time.Time
	size int64
}

// Spool is an open spool. It is safe for concurrent use.
type Spool struct {
	db      DB
	log     *slog.Logger
	max     int64
	metrics *metrics
	changed chan struct{}

	mu      sync.Mutex
	next    uint64
	used    int64
	entries []entry // by order
}

// Open reads the index of what the store holds.
func Open(cfg Config) (*Spool, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("cannot open spool: no store given")
	case !cfg.DB.Opts().SyncWrites:
		return nil, errors.New("cannot open spool: the store does not sync its writes; open it with SyncWrites")
	case cfg.Logger == nil:
		return nil, errors.New("cannot open spool: no logger given")
	case cfg.MaxBytes != 0 && cfg.MaxBytes < MinMaxBytes:
		return nil, fmt.Errorf("cannot open spool: a bound of %d bytes is below %d; raise it", cfg.MaxBytes, MinMaxBytes)
	}
	s := &Spool{db: cfg.DB, log: cfg.Logger, max: cfg.MaxBytes, changed: make(chan struct{}, 1)}
	if s.max == 0 {
		s.max = DefaultMaxBytes
	}
	var err error
	if s.metrics, err = newMetrics(cfg.Registerer, s); err != nil {
		return nil, fmt.Errorf("cannot open spool: %w", err)
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("cannot open spool: %w", err)
	}
	return s, nil
}

func (s *Spool) load() error {
	return s.db.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix = []byte(prefix)
		opts.PrefetchSize = 16
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			record := it.Item()
			k := string(record.Key())
			if len(k) != len(prefix)+8 {
				s.addDamaged(k, record.ValueSize(), errors.New("its key has a wrong length"))
				continue
			}
			s.next = max(s.next, binary.BigEndian.Uint64([]byte(k[len(prefix):]))+1)
			value, err := record.ValueCopy(nil)
			if err != nil {
				s.addDamaged(k, record.ValueSize(), err)
				continue
			}
			item, err := decodeRecord(value)
			if err != nil {
				s.addDamaged(k, record.ValueSize(), err)
				continue
			}
			s.add(k, item, len(value))
		}
		return nil
	})
}

func (s *Spool) add(key string, item Item, size int) {
	e := entry{key: key, id: item.ID, kind: item.Kind, due: item.Due, size: int64(len(key) + size)}
	s.entries = append(s.entries, e)
	s.used += e.size
}

func (s *Spool) addDamaged(key string, size int64, err error) {
	s.corrupt(err)
	s.entries = append(s.entries, entry{key: key, size: int64(len(key)) + size})
	s.used += int64(len(key)) + size
}

// remove takes entries off that are no longer on flash.
func (s *Spool) remove(gone []entry) {
	keys := make(map[string]bool, len(gone))
	for _, e := range gone {
		keys[e.key] = true
	}
	s.entries = slices.DeleteFunc(s.entries, func(e entry) bool {
		if keys[e.key] {
			s.used -= e.size
		}
		return keys[e.key]
	})
}

func (s *Spool) find(id wire.Hash) int {
	return slices.IndexFunc(s.entries, func(e entry) bool { return e.id == id && e.kind != "" })
}

func (s *Spool) corrupt(err error) {
	s.metrics.corrupt.Inc()
	s.log.Warn("spool record is damaged and passed over", "error", err)
}

// room names what must go so that need more bytes fit: damaged records, then the oldest reports.
func (s *Spool) room(need int64) ([]entry, error) {
	var victims []entry
	free := s.max - s.used
	for _, kind := range []wire.Kind{"", wire.KindReport} {
		for _, e := range s.entries {
			if free >= need {
				break
			}
			if e.kind == kind {
				victims = append(victims, e)
				free += e.size
			}
		}
	}
	if free < need {
		return nil, fmt.Errorf("%w: %d of %d bytes hold what may not be dropped; let the car connect or raise the bound", ErrFull, s.used, s.max)
	}
	return victims, nil
}

// Get returns a submission by its identifier.
func (s *Spool) Get(id wire.Hash) (Item, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(id)
	if i < 0 {
		return Item{}, false, nil
	}
	item, err := s.read(s.entries[i])
	if err != nil {
		return Item{}, false, fmt.Errorf("cannot read submission: %w", err)
	}
	return item, true, nil
}

// Next returns the oldest submission of a kind that is due, false where none is. Damaged records are passed over for good.
func (s *Spool) Next(kind wire.Kind, now time.Time) (id wire.Hash, b []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, e := range s.entries {
		if e.kind != kind || e.due.After(now) {
			continue
		}
		item, err := s.read(e)
		if err != nil {
			s.corrupt(err)
			s.entries[i].kind = ""
			continue
		}
		return item.ID, item.Bytes, true
	}
	return wire.Hash{}, nil, false
}

// Each calls f for every submission in the order in which they came. f must not call the spool.
func (s *Spool) Each(f func(id wire.Hash, kind wire.Kind, due time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.kind != "" {
			f(e.id, e.kind, e.due)
		}
	}
}

// Bytes returns a submission, false where it is not held or damaged. A damaged record is passed over for good.
func (s *Spool) Bytes(id wire.Hash) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(id)
	if i < 0 {
		return nil, false
	}
	item, err := s.read(s.entries[i])
	if err != nil {
		s.corrupt(err)
		s.entries[i].kind = ""
		return nil, false
	}
	return item.Bytes, true
}

// NextDue returns the earliest due instant of all submissions, false where there is none.
func (s *Spool) NextDue() (due time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.kind != "" && (!ok || e.due.Before(due)) {
			due, ok = e.due, true
		}
	}
	return due, ok
}

// IDs returns the identifiers of a kind's submissions in order.
func (s *Spool) IDs(kind wire.Kind) []wire.Hash {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []wire.Hash
	for _, e := range s.entries {
		if e.kind == kind {
			ids = append(ids, e.id)
		}
	}
	return ids
}

// Has reports whether the spool holds a submission.
func (s *Spool) Has(id wire.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(id) >= 0
}

// Depth returns the number of submissions and the size on flash in bytes, damaged records included.
func (s *Spool) Depth() (items int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if e.kind != "" {
			items++
		}
	}
	return items, s.used
}

// Changed receives after the contents have changed. It has one reader.
func (s *Spool) Changed() <-chan struct{} { return s.changed }

func (s *Spool) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// read returns the item of an entry and checks that it is the one remembered.
func (s *Spool) read(e entry) (Item, error) {
	var item Item
	err := s.db.View(func(txn *badger.Txn) error {
		record, err := txn.Get([]byte(e.key))
		if err != nil {
			return err
		}
		return record.Value(func(b []byte) error {
			item, err = decodeRecord(b)
			return err
		})
	})
	if err == nil && (item.ID != e.id || item.Kind != e.kind) {
		err = errors.New("record is not the one that was kept there")
	}
	return item, err
}

func key(order uint64) string { return string(binary.BigEndian.AppendUint64([]byte(prefix), order)) }
