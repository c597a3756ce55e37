package archive

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/erasure"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

const leafPrefix = 'l'

// leafKey is of what the tree of a day holds of an erased account; the value is its weight.
func leafKey(l *erasure.Leaf) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{leafPrefix}, l.Day), l.Pseudonym[:]...)
}

// Erase destroys what is behind entries that are on disk, all or none, and keeps leaves in their place. That a claim was credited by an entry
// stays known to who has the claim; whose it was, of which key and span, does not. It is on disk when it returns; the database's files are rid of
// what was there before when the copy is closed the next time.
func (a *Archive) Erase(entries []disclosure.Entry, leaves []erasure.Leaf) error {
	// Which credits a span has is known from then on by the claims over it.
	spans := make(map[string][]*disclosure.Entry)
	for i := range entries {
		if op, ok := disclosure.Opened[ledger.CreditOpening](&entries[i], ledger.TypeCredit); ok {
			k := string(spanKey(op.ECU, op.ToSeq))
			spans[k] = append(spans[k], &entries[i])
		}
	}
	err := a.db.Update(func(txn *badger.Txn) error {
		for k, credits := range spans {
			for _, e := range credits {
				if err := txn.Delete(binary.BigEndian.AppendUint64([]byte(k), e.Number)); err != nil {
					return err
				}
				for _, other := range credits {
					if err := txn.Set(binary.BigEndian.AppendUint64(claimKey(wire.ID(e.Claim)), other.Number), nil); err != nil {
						return err
					}
				}
			}
		}
		for i := range entries {
			e := &entries[i]
			b, err := gone(e)
			if err == nil {
				err = txn.Set(entryKey(e.Number), b)
			}
			if err != nil {
				return err
			}
		}
		for i := range leaves {
			if err := txn.Set(leafKey(&leaves[i]), binary.BigEndian.AppendUint64(nil, leaves[i].Weight)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot erase %d entries of the copy in %s: %w", len(entries), a.c.Dir, err)
	}
	if err := a.db.Flatten(1); err != nil {
		return fmt.Errorf("cannot write the copy in %s anew: %w", a.c.Dir, err)
	}
	return nil
}

func gone(e *disclosure.Entry) ([]byte, error) {
	g := e.Erase()
	return g.Encode()
}

// Leaves calls fn with every leaf that Erase has kept.
func (a *Archive) Leaves(fn func(erasure.Leaf)) error {
	err := a.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{leafPrefix}, PrefetchValues: true, PrefetchSize: 100})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			var l erasure.Leaf
			key := it.Item().Key()
			err := it.Item().Value(func(b []byte) error {
				if len(key) != 1+4+len(l.Pseudonym) || len(b) != 8 {
					return errors.New("its database is damaged: a leaf has another size")
				}
				l.Day, l.Weight = binary.BigEndian.Uint32(key[1:]), binary.BigEndian.Uint64(b)
				copy(l.Pseudonym[:], key[5:])
				return nil
			})
			if err != nil {
				return err
			}
			fn(l)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot read leaves of the copy in %s: %w", a.c.Dir, err)
	}
	return nil
}
