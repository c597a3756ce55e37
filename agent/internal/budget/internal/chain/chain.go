// Package chain keeps a budget ledger's charges, and what was drawn under them, in Badger.
//
// Invariants: sealed bytes enter in one transaction with their charge, are never replaced, and are returned only while they are whole and
// belong to the charge of their epoch. The package deletes no charge. It refuses to read a record that does not match its hash;
// whether the charges follow each other is its caller's to check.
package chain

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/budget/internal/charge"
)

// Each is followed by the epoch in 8 big-endian bytes, so that charges iterate in chain order.
const (
	chargePrefix = "budget/charge/"
	// StoredPrefix is of sealed bytes.
	StoredPrefix = "budget/stored/"
)

// A DB is the store: Badger's own, or one that writes only where there is room.
type DB interface {
	View(func(*badger.Txn) error) error
	Update(func(*badger.Txn) error) error
	Opts() badger.Options
}

const storedDomain = "rawstone/budget/stored/v1\x00"

// storedHead is version and the charge's hash; then come the sealed bytes and a hash over all of it.
const storedHead = 1 + sha256.Size

// Walk calls visit with each charge and its key, in the order of epochs, until it returns false.
func Walk(db DB, visit func(k []byte, c charge.Charge) bool) error {
	return db.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix = []byte(chargePrefix)
		it := txn.NewIterator(opts)
		defer it.Close()
		n := 1
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return charge.Corrupt("charge %d cannot be read: %v", n, err)
			}
			c, err := charge.Decode(value)
			if err != nil {
				return charge.Corrupt("charge %d is %v", n, err)
			}
			if !visit(it.Item().Key(), c) {
				return nil
			}
			n++
		}
		return nil
	})
}

// Write adds a charge to the chain, or writes the same one again.
func Write(db DB, c charge.Charge) error {
	err := db.Update(func(txn *badger.Txn) error { return txn.Set(Key(c.Epoch), c.Encode()) })
	if err != nil {
		return fmt.Errorf("cannot write charge: %w", err)
	}
	return nil
}

// Read returns the charge of an epoch, and false where there is none.
func Read(db DB, epoch uint64) (charge.Charge, bool, error) {
	b, found, err := Get(db, Key(epoch))
	if err != nil || !found {
		return charge.Charge{}, false, err
	}
	c, err := charge.Decode(b)
	if err != nil {
		return charge.Charge{}, false, charge.Corrupt("the charge of epoch %d is %v", epoch, err)
	}
	return c, true, nil
}

// Store writes a charge and what was drawn under it in one transaction. It refuses to replace bytes: two different reports of
// one epoch would be two draws.
func Store(db DB, c charge.Charge, sealed []byte) error {
	b := make([]byte, 0, storedHead+len(sealed)+sha256.Size)
	b = append(b, charge.Version)
	b = append(b, c.Hash[:]...)
	b = append(b, sealed...)
	sum := charge.Digest(storedDomain, b)
	b = append(b, sum[:]...)
	k := StoredKey(c.Epoch)
	return db.Update(func(txn *badger.Txn) error {
		if _, err := txn.Get(k); !errors.Is(err, badger.ErrKeyNotFound) {
			return errors.Join(fmt.Errorf("epoch %d has stored bytes", c.Epoch), err)
		}
		if err := txn.Set(Key(c.Epoch), c.Encode()); err != nil {
			return err
		}
		return txn.Set(k, b)
	})
}

// Stored returns the bytes of an epoch, only when they are whole and belong to the charge in the chain.
func Stored(db DB, epoch uint64) ([]byte, bool, error) {
	b, found, err := Get(db, StoredKey(epoch))
	if err != nil || !found {
		return nil, false, err
	}
	end := len(b) - sha256.Size
	if end < storedHead || b[0] != charge.Version || charge.Digest(storedDomain, b[:end]) != [sha256.Size]byte(b[end:]) {
		return nil, false, charge.Corrupt("the stored report does not match its hash")
	}
	c, found, err := Read(db, epoch)
	if err != nil {
		return nil, false, err
	}
	if !found || c.Hash != [sha256.Size]byte(b[1:storedHead]) {
		return nil, false, charge.Corrupt("the stored report belongs to another charge")
	}
	return b[storedHead:end], true, nil
}

// Drop frees the stored bytes of an epoch. The charge stays.
func Drop(db DB, epoch uint64) error {
	return db.Update(func(txn *badger.Txn) error { return txn.Delete(StoredKey(epoch)) })
}

// Keep frees the stored bytes of all epochs but one. The charges stay.
func Keep(db DB, epoch uint64) error {
	var others [][]byte
	err := db.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix, opts.PrefetchValues = []byte(StoredPrefix), false
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if k := it.Item().KeyCopy(nil); !bytes.Equal(k, StoredKey(epoch)) {
				others = append(others, k)
			}
		}
		return nil
	})
	for _, k := range others { // one transaction each: Badger bounds its own
		err = errors.Join(err, db.Update(func(txn *badger.Txn) error { return txn.Delete(k) }))
	}
	if err != nil {
		return fmt.Errorf("cannot drop stored reports: %w", err)
	}
	return nil
}

// Get returns the value of a key, and false where there is none.
func Get(db DB, k []byte) ([]byte, bool, error) {
	var value []byte
	err := db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(k)
		if err != nil {
			return err
		}
		value, err = item.ValueCopy(nil)
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, false, nil
	}
	return value, err == nil, err
}

// Put sets one key.
func Put(db DB, k, value []byte) error {
	return db.Update(func(txn *badger.Txn) error { return txn.Set(k, value) })
}

// Key is where an epoch's charge lies; keys sort as epochs do.
func Key(epoch uint64) []byte { return binary.BigEndian.AppendUint64([]byte(chargePrefix), epoch) }

// StoredKey is where an epoch's sealed bytes lie.
func StoredKey(epoch uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(StoredPrefix), epoch)
}
