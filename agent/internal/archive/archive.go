// Package archive keeps on flash what the car must remember toward the collector: the ECU's snapshots with their openings by sequence
// number, the signed receipts of accepted claims, and one State: the head, the secret of the dispatches, and what was refused.
//
// Invariants: what a method returns nil for is synced. A record is whole or passed over: each carries a checksum, a damaged one is
// handed to Config.Damaged and counts as missing, so that it is asked for again. One snapshot stands under a sequence number, the
// first, for each ECU key. Beyond Config.Max snapshots the lowest go with their receipts, never the head. A receipt and the head that follows from it
// are written in one step. A receipt, and the snapshots before the one that its claim ends with, go together once somebody has proof
// that the log holds its credits (Free), and not before.
//
// Snapshots, receipts and head belong to one ECU key: after a swap of the ECU the archive begins anew for the new key, and finds the old
// one's again should it come back; cadence and reports go on. What the old one left to claim stays claimable (State.Former): the collector
// credits it up to the hand-over.
//
// The package refuses a second snapshot under one number (ErrConflict), one whose salt another snapshot has used (ErrSalt: with equal
// counters its commitment would be that one's again, and tell whoever sees both that the car stood still), and records under another
// key or version. It verifies no signature and no opening: its caller has. Its contents are the driver's raw counters, so nothing here may leave the car.
package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/archive/internal/record"
	"rawstone/pkg/attest"
	"rawstone/pkg/wire"
)

const (
	snapshotPrefix = "seal/snapshot/"
	receiptPrefix  = "seal/receipt/"
	saltPrefix     = "seal/salt/"
	stateKey       = "seal/state"
)

// Bounds of Config.Max.
const (
	DefaultMax = 4096
	MinMax     = 2 * attest.MaxLast
)

// ErrConflict says that the ECU signed two snapshots under one sequence number.
var ErrConflict = errors.New("the ECU signed another snapshot under the same sequence number; the first is kept")

// ErrSalt says that the ECU used a salt twice.
var ErrSalt = errors.New("the ECU used the salt of another snapshot again, so its random numbers are broken; have it replaced")

// A DB is the store: Badger's own, or one that keeps count of what it acknowledged.
type DB interface {
	View(func(*badger.Txn) error) error
	Update(func(*badger.Txn) error) error
	Opts() badger.Options
}

// Config says where the archive lives. Fields without a default are required.
type Config struct {
	// DB is the store, opened with SyncWrites. Keys under "seal/" are the archive's. The caller closes it.
	DB DB
	// ECU is the key whose snapshots these are.
	ECU wire.KeyID
	// Max bounds the number of snapshots, MinMax at least; 0 means DefaultMax.
	Max int
	// Damaged is told of every damaged record that is passed over.
	Damaged func(error)
}

// Archive is an open archive. It is safe for concurrent use.
type Archive struct {
	cfg Config

	mu    sync.Mutex
	seqs  []uint64               // ascending
	salts map[uint64]record.Salt // of the snapshots in seqs, and of those that Free has freed
	state State
}

// Open reads the archive, drawing a new secret where the state holds none.
func Open(cfg Config) (*Archive, error) {
	a, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot open archive: %w", err)
	}
	return a, nil
}

func open(cfg Config) (*Archive, error) {
	switch {
	case cfg.DB == nil || cfg.Damaged == nil:
		return nil, errors.New("no store or nobody to tell of damage given")
	case !cfg.DB.Opts().SyncWrites:
		return nil, errors.New("the store does not sync its writes; open it with SyncWrites")
	case cfg.Max == 0:
		cfg.Max = DefaultMax
	case cfg.Max < MinMax:
		return nil, fmt.Errorf("room for %d snapshots, want at least %d", cfg.Max, MinMax)
	}
	a := &Archive{cfg: cfg, salts: make(map[uint64]record.Salt)}
	list, err := a.scan(cfg.ECU, 0)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		a.seqs = append(a.seqs, m.Snapshot.Seq)
		a.salts[m.Snapshot.Seq] = record.HashSalt(m.Opening.Salt)
	}
	if err := a.loadSalts(); err != nil {
		return nil, err
	}
	return a, a.loadState()
}

// Put keeps a message and says whether it is new. One older than all that may be kept, or freed, is neither new nor an error.
func (a *Archive) Put(m *attest.Message) (bool, error) {
	body, err := m.Encode()
	if err != nil {
		return false, err
	}
	seq := m.Snapshot.Seq
	a.mu.Lock()
	defer a.mu.Unlock()
	head := a.state.Head
	if seq < a.state.Spent {
		return false, nil
	}
	at, held := slices.BinarySearch(a.seqs, seq)
	if held {
		if old, err := a.Get(seq); err == nil {
			if old.Snapshot.Head() != m.Snapshot.Head() {
				return false, ErrConflict
			}
			return false, nil
		}
		// The record went bad since it was indexed: the ECU's repetition heals it.
	}
	hash := record.HashSalt(m.Opening.Salt)
	for other, salt := range a.salts {
		if salt == hash && other != seq {
			return false, ErrSalt
		}
	}
	var surplus []uint64
	for _, old := range a.seqs {
		if len(a.seqs)+1-len(surplus) <= a.cfg.Max {
			break
		}
		if head == nil || old != head.Seq {
			surplus = append(surplus, old)
		}
	}
	if len(surplus) > 0 && seq < surplus[len(surplus)-1] {
		return false, nil // older than all that may be kept
	}
	err = a.cfg.DB.Update(func(txn *badger.Txn) error {
		for _, old := range surplus {
			if err := txn.Delete(a.key(snapshotPrefix, old)); err != nil {
				return err
			}
			if err := deletePrefix(txn, a.key(receiptPrefix, old)); err != nil {
				return err
			}
		}
		return txn.Set(a.key(snapshotPrefix, seq), record.WithSum(body))
	})
	if err != nil {
		return false, fmt.Errorf("cannot keep snapshot: %w", err)
	}
	if !held {
		a.seqs = slices.Insert(a.seqs, at, seq)
	}
	a.salts[seq] = hash
	a.drop(func(s uint64) bool { return slices.Contains(surplus, s) })
	return true, nil
}

// Get returns the message with a sequence number. Errors: badger.ErrKeyNotFound, a damaged record, or a failure to read.
func (a *Archive) Get(seq uint64) (m attest.Message, err error) {
	err = a.cfg.DB.View(func(txn *badger.Txn) error {
		item, err := txn.Get(a.key(snapshotPrefix, seq))
		if err != nil {
			return err
		}
		return item.Value(func(b []byte) error {
			m, err = decodeSnapshot(b, seq)
			return err
		})
	})
	return m, err
}

// Len returns the number of snapshots held of the ECU in the car.
func (a *Archive) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seqs)
}

// Since returns the messages from seq on, ascending.
func (a *Archive) Since(seq uint64) ([]attest.Message, error) {
	// Held over the scan: a snapshot put meanwhile would be taken for one that went bad.
	a.mu.Lock()
	defer a.mu.Unlock()
	list, err := a.scan(a.cfg.ECU, seq)
	if err != nil {
		return nil, err
	}
	// What has gone bad is missing from now on, so that it is asked for again.
	at, _ := slices.BinarySearch(a.seqs, seq)
	if len(list) != len(a.seqs)-at {
		good := make(map[uint64]bool)
		for _, m := range list {
			good[m.Snapshot.Seq] = true
		}
		a.drop(func(s uint64) bool { return s >= seq && !good[s] })
	}
	return list, nil
}

// drop takes what is no longer held from the index. The caller holds mu.
func (a *Archive) drop(gone func(seq uint64) bool) {
	a.seqs = slices.DeleteFunc(a.seqs, func(seq uint64) bool {
		if !gone(seq) {
			return false
		}
		delete(a.salts, seq)
		return true
	})
}

// SinceHead returns the messages from the state's head on, all where there is no head.
func (a *Archive) SinceHead() ([]attest.Message, error) {
	if head := a.State().Head; head != nil {
		return a.Since(head.Seq)
	}
	return a.Since(0)
}

// Backlog returns the messages of one of the state's claimants from its head on, ascending, all where there is no head.
func (a *Archive) Backlog(st State) ([]attest.Message, error) {
	if st.ECU == a.cfg.ECU {
		return a.SinceHead()
	}
	var from uint64
	if st.Head != nil {
		from = st.Head.Seq
	}
	list, err := a.scan(st.ECU, from)
	for _, f := range st.Former {
		if f.ECU == st.ECU && f.Before > 0 {
			list = slices.DeleteFunc(list, func(m attest.Message) bool { return m.Snapshot.Seq >= f.Before })
		}
	}
	return list, err
}

func (a *Archive) scan(ecu wire.KeyID, seq uint64) (list []attest.Message, err error) {
	err = a.cfg.DB.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix, opts.PrefetchSize = record.Prefix(snapshotPrefix, ecu), 16
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Seek(record.Key(snapshotPrefix, ecu, seq)); it.Valid(); it.Next() {
			k := it.Item().Key()
			if len(k) != len(opts.Prefix)+8 {
				continue // not a key of this package
			}
			b, err := it.Item().ValueCopy(nil)
			if err == nil {
				var m attest.Message
				if m, err = decodeSnapshot(b, binary.BigEndian.Uint64(k[len(opts.Prefix):])); err == nil {
					list = append(list, m)
				}
			}
			if err != nil {
				a.cfg.Damaged(err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read archive: %w", err)
	}
	return list, nil
}

// Missing returns the sequence numbers not held among the last that the ECU can repeat, from the head on, and the newest held.
func (a *Archive) Missing() (list []uint64, newest uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seqs) == 0 {
		return nil, 0
	}
	newest = a.seqs[len(a.seqs)-1]
	low := max(newest-min(newest, attest.MaxLast-1), a.state.Spent)
	if head := a.state.Head; head != nil {
		low = max(low, head.Seq)
	}
	for seq := low; seq < newest; seq++ {
		if _, held := slices.BinarySearch(a.seqs, seq); !held {
			list = append(list, seq)
		}
	}
	return list, newest
}
