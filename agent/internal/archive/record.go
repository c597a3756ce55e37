package archive

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/dgraph-io/badger/v4"

	"rawstone/pkg/attest"
	"rawstone/pkg/wire"
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

// prefix returns the prefix of one kind of record of an ECU key.
func prefix(kind string, ecu wire.KeyID) []byte { return append([]byte(kind), ecu[:]...) }

func key(kind string, ecu wire.KeyID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(prefix(kind, ecu), seq)
}

func (a *Archive) key(kind string, seq uint64) []byte { return key(kind, a.cfg.ECU, seq) }
