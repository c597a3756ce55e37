package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"rawstone/pkg/attest"
	"rawstone/pkg/wire"
)

const (
	snapshotPrefix = "seal/snapshot/"
	receiptPrefix  = "seal/receipt/"
	stateKey       = "seal/state"
)

// errConflict says that the ECU signed two snapshots under one sequence number.
var errConflict = errors.New("the ECU signed another snapshot under the same sequence number; the first is kept")

// archive holds snapshots with their openings by sequence number.
type archive struct {
	db      *badger.DB
	max     int
	damaged func(error)

	mu   sync.Mutex
	seqs []uint64 // ascending
}

func openArchive(db *badger.DB, max int, damaged func(error)) (*archive, error) {
	a := &archive{db: db, max: max, damaged: damaged}
	list, err := a.scan(0)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		a.seqs = append(a.seqs, m.Snapshot.Seq)
	}
	return a, nil
}

// put keeps a message, synced, and says whether it is new. Beyond the bound the lowest go, except the head.
func (a *archive) put(m *attest.Message, head *wire.Head) (bool, error) {
	body, err := m.Encode()
	if err != nil {
		return false, err
	}
	seq := m.Snapshot.Seq
	a.mu.Lock()
	defer a.mu.Unlock()
	at, held := slices.BinarySearch(a.seqs, seq)
	if held {
		if old, err := a.get(seq); err == nil {
			if old.Snapshot.Head() != m.Snapshot.Head() {
				return false, errConflict
			}
			return false, nil
		}
		// The record went bad since it was indexed: the ECU's repetition heals it.
	}
	var surplus []uint64
	for _, old := range a.seqs {
		if len(a.seqs)+1-len(surplus) <= a.max {
			break
		}
		if head == nil || old != head.Seq {
			surplus = append(surplus, old)
		}
	}
	if len(surplus) > 0 && seq < surplus[len(surplus)-1] {
		return false, nil // older than all that may be kept
	}
	err = a.db.Update(func(txn *badger.Txn) error {
		for _, old := range surplus {
			if err := txn.Delete(key(snapshotPrefix, old)); err != nil {
				return err
			}
			if err := deletePrefix(txn, key(receiptPrefix, old)); err != nil {
				return err
			}
		}
		return txn.Set(key(snapshotPrefix, seq), withSum(body))
	})
	if err != nil {
		return false, fmt.Errorf("cannot keep snapshot: %w", err)
	}
	if !held {
		a.seqs = slices.Insert(a.seqs, at, seq)
	}
	a.seqs = slices.DeleteFunc(a.seqs, func(s uint64) bool { return slices.Contains(surplus, s) })
	return true, nil
}

func (a *archive) get(seq uint64) (m attest.Message, err error) {
	err = a.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key(snapshotPrefix, seq))
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

// since returns the messages from seq on, ascending; damaged ones are passed over.
func (a *archive) since(seq uint64) ([]attest.Message, error) {
	list, err := a.scan(seq)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// What has gone bad is missing from now on, so that it is asked for again.
	at, _ := slices.BinarySearch(a.seqs, seq)
	if len(list) != len(a.seqs)-at {
		good := make(map[uint64]bool)
		for _, m := range list {
			good[m.Snapshot.Seq] = true
		}
		a.seqs = slices.DeleteFunc(a.seqs, func(s uint64) bool { return s >= seq && !good[s] })
	}
	return list, nil
}

func (a *archive) scan(seq uint64) (list []attest.Message, err error) {
	err = a.db.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix, opts.PrefetchSize = []byte(snapshotPrefix), 16
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Seek(key(snapshotPrefix, seq)); it.Valid(); it.Next() {
			k := it.Item().Key()
			if len(k) != len(snapshotPrefix)+8 {
				continue // not a key of this package
			}
			b, err := it.Item().ValueCopy(nil)
			if err == nil {
				var m attest.Message
				if m, err = decodeSnapshot(b, binary.BigEndian.Uint64(k[len(snapshotPrefix):])); err == nil {
					list = append(list, m)
				}
			}
			if err != nil {
				a.damaged(err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read archive: %w", err)
	}
	return list, nil
}

// missing returns the sequence numbers not held among the last that the ECU can repeat, from the head on, and the newest held.
func (a *archive) missing(head *wire.Head) (list []uint64, newest uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seqs) == 0 {
		return nil, 0
	}
	newest = a.seqs[len(a.seqs)-1]
	low := newest - min(newest, attest.MaxLast-1)
	if head != nil {
		low = max(low, head.Seq)
	}
	for seq := low; seq < newest; seq++ {
		if _, held := slices.BinarySearch(a.seqs, seq); !held {
			list = append(list, seq)
		}
	}
	return list, newest
}

func deletePrefix(txn *badger.Txn, prefix []byte) error {
	opts := badger.DefaultIteratorOptions
	opts.Prefix, opts.PrefetchValues = prefix, false
	it := txn.NewIterator(opts)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if err := txn.Delete(it.Item().KeyCopy(nil)); err != nil {
			return err
		}
	}
	return nil
}

func decodeSnapshot(b []byte, seq uint64) (attest.Message, error) {
	body, err := checkSum(b)
	if err != nil {
		return attest.Message{}, err
	}
	m, err := attest.DecodeMessage(body)
	if err != nil {
		return attest.Message{}, err
	}
	if m.Snapshot.Seq != seq {
		return attest.Message{}, errors.New("snapshot lies under another sequence number")
	}
	return *m, nil
}

// withSum puts a CRC-32C before a record.
func withSum(body []byte) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return append(b, body...)
}

func checkSum(b []byte) ([]byte, error) {
	if len(b) < 4 || crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(b) {
		return nil, errors.New("record does not match its checksum")
	}
	return b[4:], nil
}

func key(prefix string, seq uint64) []byte { return binary.BigEndian.AppendUint64([]byte(prefix), seq) }
