// Package window keeps the use of dispatches that ended while their reports had to wait, so that none of it is told as another's.
//
// Invariants: what is kept of a dispatch never grows, and of a family that is turned off nothing is kept. Every change is durable when it
// returns. A damaged record counts as none.
//
// The package bounds nothing: its caller drops the windows that can no longer be reported. It knows neither noise nor budget.
package window

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/dgraph-io/badger/v4"

	"rawstone/pkg/wire"
)

const (
	prefix   = "seal/window/"            // then the boundary, 4 bytes, big endian
	totalLen = 8                         // bytes of a total, big endian
	bodyLen  = wire.VectorLen * totalLen // then CRC-32C
)

// A DB is the store, opened with SyncWrites.
type DB interface {
	View(func(*badger.Txn) error) error
	Update(func(*badger.Txn) error) error
}

// A Store keeps windows by the program day of the boundary at which they ended. DB is required.
type Store struct{ DB DB }

func key(boundary uint32) []byte { return binary.BigEndian.AppendUint32([]byte(prefix), boundary) }

func encode(totals *[wire.VectorLen]int64) (b []byte) {
	for _, v := range totals {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return binary.BigEndian.AppendUint32(b, checksum(b))
}

func decode(b []byte) (totals [wire.VectorLen]int64, ok bool) {
	if len(b) != bodyLen+4 || binary.BigEndian.Uint32(b[bodyLen:]) != checksum(b[:bodyLen]) {
		return totals, false
	}
	for i := range totals {
		totals[i] = int64(binary.BigEndian.Uint64(b[i*totalLen:]))
	}
	return totals, true
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Usage is what is open (report.Usage).
type Usage interface {
	Take(ctx context.Context) (totals [wire.VectorLen]int64, consume func(context.Context) error, err error)
}

// Close takes what is open and keeps it as the window that ended at a boundary. Windows from before oldest go.
func (s Store) Close(ctx context.Context, open Usage, oldest, boundary uint32) error {
	totals, consume, err := open.Take(ctx)
	if err == nil && oldest > 0 {
		err = s.Drop(oldest - 1)
	}
	if err == nil {
		err = s.Keep(boundary, totals)
	}
	if err != nil {
		return err
	}
	return consume(ctx)
}

// Keep keeps the totals of the window that ended at a boundary, unless there are some already: the power went before they were taken out
// of what is open, and what came since is little.
func (s Store) Keep(boundary uint32, totals [wire.VectorLen]int64) error {
	err := s.DB.Update(func(txn *badger.Txn) error {
		_, err := txn.Get(key(boundary))
		if errors.Is(err, badger.ErrKeyNotFound) {
			err = txn.Set(key(boundary), encode(&totals))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot keep the use of a dispatch: %w", err)
	}
	return nil
}

// Drop forgets the windows that ended up to a boundary.
func (s Store) Drop(upTo uint32) error {
	return s.each(func(txn *badger.Txn, boundary uint32, k, _ []byte) error {
		if boundary > upTo {
			return nil
		}
		return txn.Delete(k)
	})
}

// Restrict forgets of every window what is not of families.
func (s Store) Restrict(families wire.Family) error {
	return s.each(func(txn *badger.Txn, _ uint32, k, b []byte) error {
		totals, ok := decode(b)
		if families == 0 || !ok {
			return txn.Delete(k)
		}
		was := totals
		for _, l := range wire.Layouts() {
			if families&l.Family == 0 {
				clear(totals[l.Offset : l.Offset+l.Len])
			}
		}
		if totals == was {
			return nil
		}
		return txn.Set(k, encode(&totals))
	})
}

// each hands the windows to f in one transaction, which is written only where f changes something.
func (s Store) each(f func(txn *badger.Txn, boundary uint32, k, b []byte) error) error {
	type record struct{ k, b []byte }
	var list []record
	err := s.DB.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix = []byte(prefix)
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			b, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			list = append(list, record{it.Item().KeyCopy(nil), b})
		}
		return nil
	})
	if err == nil && len(list) > 0 {
		err = s.DB.Update(func(txn *badger.Txn) error {
			for _, r := range list {
				var boundary uint32 // of a key that is none of the package's: it goes with the first
				if len(r.k) == len(prefix)+4 {
					boundary = binary.BigEndian.Uint32(r.k[len(prefix):])
				}
				if err := f(txn, boundary, r.k, r.b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("cannot change the use of dispatches that is kept: %w", err)
	}
	return nil
}

// Of returns the window that ended at a boundary as a report takes it: zeros where nothing is kept.
func (s Store) Of(boundary uint32) Window { return Window{s.DB, boundary} }

// A Window is one dispatch's use (report.Usage).
type Window struct {
	db       DB
	boundary uint32
}

// Take implements report.Usage.
func (w Window) Take(context.Context) (totals [wire.VectorLen]int64, consume func(context.Context) error, err error) {
	err = w.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key(w.boundary))
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		return item.Value(func(b []byte) error {
			totals, _ = decode(b)
			return nil
		})
	})
	if err != nil {
		return totals, nil, fmt.Errorf("cannot read the use of a dispatch: %w", err)
	}
	return totals, func(context.Context) error {
		return w.db.Update(func(txn *badger.Txn) error { return txn.Delete(key(w.boundary)) })
	}, nil
}
