// Package journal is the driver's record, on the car, of everything that left it: when, of what kind, how many bytes, what they
// say in plain words, what they cost, and how it ended. Between these entries stand notes of what the car found out about itself,
// such as a counter that contradicts another; nothing left the car with a note.
//
// Invariants: an entry is on flash before the submission it describes may leave; the journal never holds more than its bound,
// and the oldest entries go first. An entry that never left says so.
//
// The package decides nothing and nothing depends on it: a damaged entry is reported, counted and passed over. It never sends.
package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/wire"
)

const (
	// DefaultMaxEntries is some forty years of weekly dispatches.
	DefaultMaxEntries = 4096
	// maxTextLen bounds each text of an entry in bytes.
	maxTextLen = 512
	// maxEntryLen bounds an entry in bytes: three texts with every character escaped, and the rest.
	maxEntryLen = 3*6*maxTextLen + 1024

	prefix = "journal/"
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
	// MaxEntries bounds the journal; 0 means DefaultMaxEntries.
	MaxEntries int
	// Logger is required.
	Logger *slog.Logger
	// Registerer receives the metrics. nil means none.
	Registerer prometheus.Registerer
}

// KindNote is the kind of an entry with which nothing left the car.
const KindNote = "note"

// An Entry is one submission as the driver sees it, or a note.
type Entry struct {
	// Submission identifies the bytes, in hexadecimal; a note has none.
	Submission string `json:"submission"`
	// Time is when it was sealed or noted.
	Time time.Time `json:"time"`
	// Kind is claim, report or note.
	Kind string `json:"kind"`
	// Bytes is the size; 0 for a note.
	Bytes int `json:"bytes"`
	// Contents says in plain words what the bytes tell, Cost what telling it costs.
	Contents string `json:"contents"`
	Cost     string `json:"cost"`
	// Outcome says how it ended, empty while it waits for a receipt; Ended is when.
	Outcome string     `json:"outcome,omitempty"`
	Ended   *time.Time `json:"ended,omitempty"`
}

// Journal is an open journal. It is safe for concurrent use.
type Journal struct {
	db      DB
	log     *slog.Logger
	max     int
	corrupt prometheus.Counter

	mu    sync.Mutex
	next  uint64
	order []uint64             // of the entries held
	open  map[wire.Hash]uint64 // entries that wait for an outcome
}

// Open reads the index of what the store holds.
func Open(cfg Config) (*Journal, error) {
	switch {
	case cfg.DB == nil:
		return nil, errors.New("cannot open journal: no store given")
	case !cfg.DB.Opts().SyncWrites:
		return nil, errors.New("cannot open journal: the store does not sync its writes; open it with SyncWrites")
	case cfg.Logger == nil:
		return nil, errors.New("cannot open journal: no logger given")
	case cfg.MaxEntries < 0:
		return nil, fmt.Errorf("cannot open journal: a bound of %d entries", cfg.MaxEntries)
	}
	j := &Journal{db: cfg.DB, log: cfg.Logger, max: cfg.MaxEntries, open: make(map[wire.Hash]uint64)}
	if j.max == 0 {
		j.max = DefaultMaxEntries
	}
	j.corrupt = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rawstone_journal_corrupt_total", Help: "Damaged journal entries passed over.",
	})
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(j.corrupt); err != nil {
			return nil, fmt.Errorf("cannot open journal: %w", err)
		}
	}
	err := j.each(false, func(order uint64, e Entry, damage error) bool {
		j.next = order + 1
		j.order = append(j.order, order)
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
	surplus := j.order[:max(0, len(j.order)+1-j.max)]
	err = j.db.Update(func(txn *badger.Txn) error {
		for _, order := range surplus {
			if err := txn.Delete(key(order)); err != nil {
				return err
			}
		}
		return txn.Set(key(j.next), value)
	})
	if err != nil {
		return fmt.Errorf("cannot write journal: %w", err)
	}
	for other, order := range j.open {
		if slices.Contains(surplus, order) {
			delete(j.open, other)
		}
	}
	j.order = append(j.order[len(surplus):], j.next)
	j.next++
	return nil
}

// End notes the outcome of a submission, synced. One that is not waiting, or is no longer held, is left as it is.
func (j *Journal) End(id wire.Hash, at time.Time, outcome string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	order, ok := j.open[id]
	if !ok {
		return nil
	}
	err := j.db.Update(func(txn *badger.Txn) error {
		item, err := txn.Get(key(order))
		if err != nil {
			return err
		}
		b, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		e, err := decodeEntry(b)
		if err != nil {
			j.damaged(err)
			return nil
		}
		end := at.UTC()
		e.Outcome, e.Ended = clip(outcome), &end
		if b, err = encodeEntry(e); err != nil {
			return err
		}
		return txn.Set(key(order), b)
	})
	if err != nil {
		return fmt.Errorf("cannot write journal: %w", err)
	}
	delete(j.open, id)
	return nil
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
	err := j.each(true, func(_ uint64, e Entry, damage error) bool {
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
func (j *Journal) each(reverse bool, yield func(uint64, Entry, error) bool) error {
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
			if !yield(binary.BigEndian.Uint64(k[len(prefix):]), e, err) {
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

// A record is the CRC-32C of an entry's JSON, and the JSON.
func encodeEntry(e Entry) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32(nil, crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
	return append(b, text...), nil
}

func decodeEntry(b []byte) (e Entry, err error) {
	if len(b) < 4 || len(b) > 4+maxEntryLen {
		return e, fmt.Errorf("entry has %d bytes", len(b))
	}
	if crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b) {
		return e, errors.New("entry does not match its checksum")
	}
	if err := json.Unmarshal(b[4:], &e); err != nil {
		return e, err
	}
	if again, err := encodeEntry(e); err != nil || !bytes.Equal(again, b) {
		return e, errors.New("entry is not in the form that this package writes")
	}
	return e, nil
}

func parseID(text string) (id wire.Hash, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%q is no submission identifier", text)
	}
	return wire.Hash(b), nil
}

// clip keeps texts within their bound.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxTextLen)], "") }
