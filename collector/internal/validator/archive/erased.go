package archive

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"rawstone/collector/internal/erasure"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

const leafPrefix, markPrefix = 'l', 'k'

// leafKey is of what the tree of a day holds of an erased account; the value is its weight.
func leafKey(l *erasure.Leaf) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{leafPrefix}, l.Day), l.Pseudonym[:]...)
}

// keepErased puts leaves and keys on disk.
func (a *Archive) keepErased(e *Erasure) error {
	keys := make(map[wire.Hash]ledger.ErasedKey)
	if err := a.ErasedKeys(func(k ledger.ErasedKey) { keys[k.Mark] = k }); err != nil {
		return err
	}
	batch := a.db.NewWriteBatch()
	defer batch.Cancel()
	for i := range e.Leaves {
		if err := batch.Set(leafKey(&e.Leaves[i]), binary.BigEndian.AppendUint64(nil, e.Leaves[i].Weight)); err != nil {
			return err
		}
	}
	for _, k := range e.Keys {
		k = k.Join(keys[k.Mark])
		b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, k.Since), k.Cut)
		if k.Revoked {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		if err := batch.Set(append([]byte{markPrefix}, k.Mark[:]...), b); err != nil {
			return err
		}
	}
	return batch.Flush()
}

// Leaves calls fn with every leaf that Erase has kept.
func (a *Archive) Leaves(fn func(erasure.Leaf)) error {
	return a.kept(leafPrefix, func(key, b []byte) error {
		var l erasure.Leaf
		if len(key) != 4+len(l.Pseudonym) || len(b) != 8 {
			return errors.New("its database is damaged: a leaf has another size")
		}
		l.Day, l.Weight = binary.BigEndian.Uint32(key), binary.BigEndian.Uint64(b)
		copy(l.Pseudonym[:], key[4:])
		fn(l)
		return nil
	})
}

// ErasedKeys calls fn with every key that Erase has kept.
func (a *Archive) ErasedKeys(fn func(ledger.ErasedKey)) error {
	return a.kept(markPrefix, func(key, b []byte) error {
		var k ledger.ErasedKey
		if len(key) != len(k.Mark) || len(b) != 17 || b[16] > 1 {
			return errors.New("its database is damaged: what is kept of an erased key has another form")
		}
		copy(k.Mark[:], key)
		k.Since, k.Cut, k.Revoked = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), b[16] == 1
		fn(k)
		return nil
	})
}

// kept calls fn with what stands under a prefix, which the keys come without.
func (a *Archive) kept(prefix byte, fn func(key, value []byte) error) error {
	err := a.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefix}, PrefetchValues: true, PrefetchSize: 100})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			key := it.Item().Key()
			if err := it.Item().Value(func(b []byte) error { return fn(key[1:], b) }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot read what is left of erasures in the copy in %s: %w", a.c.Dir, err)
	}
	return nil
}
