// Package journal is the driver's record, on the car, of every claim and usage report that left it: when, how many bytes, what they say in
// plain words, what they cost, and how it ended. Between these entries stand notes of what the car found out about itself, such as a counter
// that contradicts another; nothing left the car with a note. The housekeeping of the car's identity (certificates, requests for policies,
// keys, proofs and the record of the privacy budget), which tells nothing of driving, has no entries: the metrics of its rooms count it.
//
// Invariants: an entry is on flash before the submission it describes may leave; the journal never holds more bytes than its bound, but for
// a newest entry that is longer by itself, and the oldest entries go first. An entry that never left says so.
//
// The package decides nothing and nothing depends on it: a damaged entry is reported, counted and passed over. It never sends.
package journal

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/wire"
)

const (
	// DefaultMaxBytes is some twenty years of weekly dispatches.
	DefaultMaxBytes = 1 << 20
	// maxTextLen bounds each text of an entry in bytes.
	maxTextLen = 512
	// maxEntryLen bounds an entry in bytes: three texts with every character escaped, and the rest.
	maxEntryLen = 3*6*maxTextLen + 1024

	prefix = "journal/"
	// batch bounds the entries that one transaction drops: Badger bounds its own.
	batch = 256
)

// A DB is the store: Badger's own, or one that keeps count of what it acknowledged.
type DB interface {
	View(func(*badger.Txn) error) error
	Update(func(*badger.Txn) error) error
	Opts() badger.Options
}

// Config says where the journal lives and how long it may grow.
type Config struct {
	// DB is the store, opened with SyncWrites. Keys under "journal/" are the journal's. Required; the caller closes it.
	DB DB
	// MaxBytes bounds keys and records in bytes; 0 means DefaultMaxBytes.
	MaxBytes int
	// Logger is required.
	Logger *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

// Journal is an open journal. It is safe for concurrent use.
type Journal struct {
	db      DB
	log     *slog.Logger
	max     int
	corrupt prometheus.Counter

	mu    sync.Mutex
	next  uint64
	held  []held               // in order
	bytes int                  // of what is held
	open  map[wire.Hash]uint64 // entries that wait for an outcome
}

// held is an entry's place and size on flash.
type held struct {
	order uint64
	size  int
}

// sizeOf returns what an entry takes in bytes.
func sizeOf(record []byte) int { return len(prefix) + 8 + len(record) }

// Open reads the index of what the store holds.
func Open(cfg Config) (*Journal, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("cannot open journal: no store given")
	case !cfg.DB.Opts().SyncWrites:
		return nil, errors.New("cannot open journal: the store does not sync its writes; open it with SyncWrites")
	case cfg.Logger == nil:
		return nil, errors.New("cannot open journal: no logger given")
	case cfg.MaxBytes < 0:
		return nil, fmt.Errorf("cannot open journal: a bound of %d bytes", cfg.MaxBytes)
	}
	j := &Journal{db: cfg.DB, log: cfg.Logger, max: cfg.MaxBytes, open: make(map[wire.Hash]uint64)}
	if j.max == 0 {
		j.max = DefaultMaxBytes
	}
	j.corrupt = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rawstone_journal_corrupt_total", Help: "Damaged journal entries passed over.",
	})
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(j.corrupt); err != nil {
			return nil, fmt.Errorf("cannot open journal: %w", err)
		}
	}
	err := j.each(false, func(order uint64, size int, e Entry, damage error) bool {
		j.next = order + 1
		j.held, j.bytes = append(j.held, held{order, size}), j.bytes+size
		if damage != nil {
			j.damaged(damage)
		} else if id, err := parseID(e.Submission); err == nil && e.Outcome == "" {
			j.open[id] = order
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open journal: %w", err)
	}
	return j, nil
}

// Begin notes a submission that is about to leave, synced. A submission that still waits for its outcome is noted once.
func (j *Journal) Begin(id wire.Hash, at time.Time, kind wire.Kind, size int, contents, cost string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, ok := j.open[id]; ok {
		return nil
	}
	order := j.next
	err := j.append(Entry{Submission: id.String(), Time: at.UTC(), Kind: string(kind), Bytes: size, Contents: clip(contents), Cost: clip(cost)})
	if err == nil {
		j.open[id] = order
	}
	return err
}

// Note writes down what the car found out about itself, synced.
func (j *Journal) Note(at time.Time, contents string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.append(Entry{Time: at.UTC(), Kind: KindNote, Contents: clip(contents)})
}

// append writes an entry and drops the oldest beyond the bound. The lock is held.
func (j *Journal) append(e Entry) error {
	value, err := encodeEntry(e)
	if err != nil {
		return fmt.Errorf("cannot write journal: %w", err)
	}
	if err := j.put(held{j.next, sizeOf(value)}, value); err != nil {
		return fmt.Errorf("cannot write journal: %w", err)
	}
	j.next++
	return nil
}

// put writes the record of an entry that is new or held, and drops the oldest others beyond the bound. The lock is held.
func (j *Journal) put(h held, value []byte) error {
	grown := h.size
	i, found := slices.BinarySearchFunc(j.held, h.order, func(h held, order uint64) int { return cmp.Compare(h.order, order) })
	if found {
		grown -= j.held[i].size
	}
	// What does not fit into one transaction goes before.
	for {
		n, left := 0, j.bytes+grown
		for n < i && n < batch && left > j.max {
			left -= j.held[n].size
			n++
		}
		last := n < batch
		// An outcome that does not fit costs the entry itself where it is the oldest, and not the newest.
		itself := last && found && left > j.max && h.order+1 != j.next
		err := j.db.Update(func(txn *badger.Txn) error {
			for _, old := range j.held[:n] {
				if err := txn.Delete(key(old.order)); err != nil {
					return err
				}
			}
			switch {
			case itself:
				return txn.Delete(key(h.order))
			case last:
				return txn.Set(key(h.order), value)
			}
			return nil
		})
		if err != nil {
			return err
		}
		j.forget(n)
		i -= n
		if itself {
			j.forget(1)
			return nil
		}
		if last {
			break
		}
	}
	j.bytes += grown
	if found {
		j.held[i].size = h.size
	} else {
		j.held = append(j.held, h)
	}
	return nil
}

// forget takes the n oldest entries for gone. The lock is held.
func (j *Journal) forget(n int) {
	for _, old := range j.held[:n] {
		j.bytes -= old.size
		maps.DeleteFunc(j.open, func(_ wire.Hash, order uint64) bool { return order == old.order })
	}
	j.held = slices.Delete(j.held, 0, n)
}

// End notes the outcome of a submission, synced. One that is not waiting, or is no longer held, is left as it is.
func (j *Journal) End(id wire.Hash, at time.Time, outcome string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	order, ok := j.open[id]
	if !ok {
		return nil
	}
	e, err := j.get(order)
	if err != nil {
		return fmt.Errorf("cannot write journal: %w", err)
	}
	if e != nil {
		end := at.UTC()
		e.Outcome, e.Ended = clip(outcome), &end
		value, err := encodeEntry(*e)
		if err == nil {
			err = j.put(held{order, sizeOf(value)}, value)
		}
		if err != nil {
			return fmt.Errorf("cannot write journal: %w", err)
		}
	}
	delete(j.open, id)
	return nil
}

// get returns an entry, nil where it is damaged.
func (j *Journal) get(order uint64) (*Entry, error) {
	var b []byte
	err := j.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key(order))
		if err == nil {
			b, err = item.ValueCopy(nil)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	e, err := decodeEntry(b)
	if err != nil {
		j.damaged(err)
		return nil, nil
	}
	return &e, nil
}

// Waiting returns the submissions that have no outcome yet.
func (j *Journal) Waiting() []wire.Hash {
	j.mu.Lock()
	defer j.mu.Unlock()
	ids := make([]wire.Hash, 0, len(j.open))
	for id := range j.open {
		ids = append(ids, id)
	}
	return ids
}

// List returns the newest entries, newest first, at most limit of them; limit 0 means all.
func (j *Journal) List(limit int) ([]Entry, error) {
	var list []Entry
	err := j.each(true, func(_ uint64, _ int, e Entry, damage error) bool {
		if damage == nil {
			list = append(list, e)
		}
		return limit == 0 || len(list) < limit
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read journal: %w", err)
	}
	return list, nil
}

// Export writes all entries, oldest first, as one JSON array.
func (j *Journal) Export(w io.Writer) error {
	list, err := j.List(0)
	if err != nil {
		return err
	}
	slices.Reverse(list)
	if list == nil {
		list = []Entry{}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(list); err != nil {
		return fmt.Errorf("cannot export journal: %w", err)
	}
	return nil
}

// each yields the entries in order, or newest first, each with what is wrong with it.
func (j *Journal) each(reverse bool, yield func(order uint64, size int, e Entry, damage error) bool) error {
	return j.db.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix, opts.PrefetchSize, opts.Reverse = []byte(prefix), 16, reverse
		it := txn.NewIterator(opts)
		defer it.Close()
		start := []byte(prefix)
		if reverse {
			start = key(1<<64 - 1)
		}
		for it.Seek(start); it.Valid(); it.Next() {
			k := it.Item().Key()
			if len(k) != len(prefix)+8 {
				continue // not a key of this package
			}
			var e Entry
			b, err := it.Item().ValueCopy(nil)
			if err == nil {
				e, err = decodeEntry(b)
			}
			if !yield(binary.BigEndian.Uint64(k[len(prefix):]), sizeOf(b), e, err) {
				return nil
			}
		}
		return nil
	})
}

func (j *Journal) damaged(err error) {
	j.corrupt.Inc()
	j.log.Warn("journal entry is damaged and passed over", "error", err)
}

func key(order uint64) []byte { return binary.BigEndian.AppendUint64([]byte(prefix), order) }
