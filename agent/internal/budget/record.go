package budget

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// Keys: chargePrefix and storedPrefix, each followed by the epoch in 8 big-endian bytes, so that charges iterate in chain order.
const (
	chargePrefix = "budget/charge/"
	storedPrefix = "budget/stored/"
)

// Domain separation of the two hashes.
const (
	chargeDomain = "rawstone/budget/charge/v1\x00"
	storedDomain = "rawstone/budget/stored/v1\x00"
)

const (
	recordVersion = 1
	// bodySize is version, index, epoch, ε, δ, nano-μ² and the previous hash; a record is a body and its hash.
	bodySize   = 1 + 5*8 + sha256.Size
	recordSize = bodySize + sha256.Size
	// storedHead is version and the charge's hash; then come the sealed bytes and a hash over all of it.
	storedHead = 1 + sha256.Size
)

// charge is one link of the chain. index counts from 1; the zero charge is the chain's beginning.
type charge struct {
	index, epoch uint64
	cost         Cost
	nano         int64
	prev, hash   [sha256.Size]byte
}

func (c charge) body() []byte {
	b := make([]byte, 0, recordSize)
	b = append(b, recordVersion)
	b = binary.BigEndian.AppendUint64(b, c.index)
	b = binary.BigEndian.AppendUint64(b, c.epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(c.cost.MicroEpsilon))
	b = binary.BigEndian.AppendUint64(b, uint64(c.cost.PicoDelta))
	b = binary.BigEndian.AppendUint64(b, uint64(c.nano))
	return append(b, c.prev[:]...)
}

func (c charge) digest() [sha256.Size]byte { return digest(chargeDomain, c.body()) }

func (c charge) encode() []byte { return append(c.body(), c.hash[:]...) }

// decodeCharge reads a record and checks its own hash. The chain is the caller's to check.
func decodeCharge(b []byte) (charge, error) {
	if len(b) != recordSize {
		return charge{}, fmt.Errorf("a record of %d bytes, want %d", len(b), recordSize)
	}
	if b[0] != recordVersion {
		return charge{}, fmt.Errorf("a record of version %d, want %d", b[0], recordVersion)
	}
	c := charge{
		index: binary.BigEndian.Uint64(b[1:]),
		epoch: binary.BigEndian.Uint64(b[9:]),
		cost:  Cost{MicroEpsilon: int64(binary.BigEndian.Uint64(b[17:])), PicoDelta: int64(binary.BigEndian.Uint64(b[25:]))},
		nano:  int64(binary.BigEndian.Uint64(b[33:])),
		prev:  [sha256.Size]byte(b[41:bodySize]),
		hash:  [sha256.Size]byte(b[bodySize:]),
	}
	if c.digest() != c.hash {
		return charge{}, errors.New("a record that does not match its hash")
	}
	return c, nil
}

// load walks the chain from its beginning and sets last and recent.
func (l *Ledger) load() error {
	return l.db.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix = []byte(chargePrefix)
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return corrupt("charge %d cannot be read: %v", l.last.index+1, err)
			}
			c, err := decodeCharge(value)
			switch {
			case err != nil:
				return corrupt("charge %d is %v", l.last.index+1, err)
			case string(it.Item().Key()) != string(key(chargePrefix, c.epoch)):
				return corrupt("charge %d lies under another epoch's key", c.index)
			case c.index != l.last.index+1 || c.prev != l.last.hash:
				return corrupt("charge %d does not follow charge %d: charges are missing or were replaced", c.index, l.last.index)
			}
			l.remember(c)
		}
		return nil
	})
}

func writeCharge(db *badger.DB, c charge) error {
	err := db.Update(func(txn *badger.Txn) error { return txn.Set(key(chargePrefix, c.epoch), c.encode()) })
	if err != nil {
		return fmt.Errorf("cannot write charge: %w", err)
	}
	return nil
}

func readCharge(db *badger.DB, epoch uint64) (charge, bool, error) {
	b, found, err := get(db, key(chargePrefix, epoch))
	if err != nil || !found {
		return charge{}, false, err
	}
	c, err := decodeCharge(b)
	if err != nil {
		return charge{}, false, corrupt("the charge of epoch %d is %v", epoch, err)
	}
	return c, true, nil
}

// writeStored refuses to replace bytes: two different reports of one epoch would be two draws.
func writeStored(db *badger.DB, c charge, sealed []byte) error {
	b := make([]byte, 0, storedHead+len(sealed)+sha256.Size)
	b = append(b, recordVersion)
	b = append(b, c.hash[:]...)
	b = append(b, sealed...)
	sum := digest(storedDomain, b)
	b = append(b, sum[:]...)
	k := key(storedPrefix, c.epoch)
	return db.Update(func(txn *badger.Txn) error {
		if _, err := txn.Get(k); !errors.Is(err, badger.ErrKeyNotFound) {
			return errors.Join(fmt.Errorf("epoch %d has stored bytes", c.epoch), err)
		}
		return txn.Set(k, b)
	})
}

// readStored returns bytes only when they are whole and belong to the charge in the chain.
func readStored(db *badger.DB, epoch uint64) ([]byte, bool, error) {
	b, found, err := get(db, key(storedPrefix, epoch))
	if err != nil || !found {
		return nil, false, err
	}
	end := len(b) - sha256.Size
	if end < storedHead || b[0] != recordVersion || digest(storedDomain, b[:end]) != [sha256.Size]byte(b[end:]) {
		return nil, false, corrupt("the stored report does not match its hash")
	}
	c, found, err := readCharge(db, epoch)
	if err != nil {
		return nil, false, err
	}
	if !found || c.hash != [sha256.Size]byte(b[1:storedHead]) {
		return nil, false, corrupt("the stored report belongs to another charge")
	}
	return b[storedHead:end], true, nil
}

func deleteStored(db *badger.DB, epoch uint64) error {
	return db.Update(func(txn *badger.Txn) error { return txn.Delete(key(storedPrefix, epoch)) })
}

func get(db *badger.DB, k []byte) ([]byte, bool, error) {
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

func key(prefix string, epoch uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(prefix), epoch)
}

func digest(domain string, b []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(domain))
	h.Write(b)
	return [sha256.Size]byte(h.Sum(nil))
}

// corrupt wraps ErrCorrupt with what was found and what follows from it.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s; what was spent is unknown, so no report may be drawn until the vehicle is enrolled anew",
		ErrCorrupt, fmt.Sprintf(format, args...))
}
