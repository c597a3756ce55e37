package archive

import (
	"errors"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/archive/internal/record"
	"rawstone/pkg/attest"
)

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
	body, err := record.CheckSum(b)
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

func (a *Archive) prefix(kind string) []byte { return record.Prefix(kind, a.cfg.ECU) }

func (a *Archive) key(kind string, seq uint64) []byte { return record.Key(kind, a.cfg.ECU, seq) }
