package trip

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/dgraph-io/badger/v4"
	"github.com/fxamacker/cbor/v2"

	"rawstone/agent/internal/odometer/state"
	"rawstone/agent/internal/trip/internal/keyring"
	"rawstone/pkg/wire"
)

const (
	recordKey     = "trip/usage" // in the store
	recordVersion = 3
	maxRecord     = 16 << 10 // bytes
)

// record is all that is kept: usage, odometer and the attested snapshots that the next is compared with are written together, so that none runs ahead of
// another over a power loss.
type record struct {
	// Version is recordVersion. Earlier formats had the summary readable.
	Version uint `cbor:"0,keyasint"`
	// Sealed is Use under one of the keys: what was turned off goes with its key.
	Sealed   []byte         `cbor:"1,keyasint"`
	Use      use            `cbor:"-"`
	Odometer state.Odometer `cbor:"2,keyasint"`
	Mark     mark           `cbor:"3,keyasint"`
	Base     mark           `cbor:"4,keyasint"`
}

// unmarshal reads the store's bytes.
func unmarshal(b []byte, v any) error {
	mode, err := cbor.DecOptions{MaxNestedLevels: 8, MaxArrayElements: 256, MaxMapPairs: 256, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField}.DecMode()
	if err != nil {
		return err
	}
	if len(b) > maxRecord {
		return fmt.Errorf("it has %d bytes, at most %d are written", len(b), maxRecord)
	}
	return mode.Unmarshal(b, v)
}

func decode(b []byte) (rec record, err error) {
	if err := unmarshal(b, &rec); err != nil {
		return record{}, err
	}
	if rec.Version != recordVersion {
		return record{}, fmt.Errorf("it has version %d, this agent reads %d", rec.Version, recordVersion)
	}
	if !rec.Odometer.Valid() {
		return record{}, errors.New("its values cannot be")
	}
	return rec, nil
}

func (u *use) valid() bool {
	ok := u.Length >= 0
	for _, values := range [][]int64{u.Usage.Hours[:], u.Usage.Speed[:], u.Usage.Trips[:], u.Usage.Charge[:], u.Usage.Features[:]} {
		for _, v := range values {
			ok = ok && v >= 0
		}
	}
	return ok
}

// A shelf is where the record lies.
type shelf struct {
	db   DB
	log  *slog.Logger
	keys *keyring.Keyring
	// forget says that usage was turned off, or begins anew: the next write is under a new key, and what lies under another is lost.
	forget bool
}

// openShelf opens the keys.
func openShelf(db DB, path string, log *slog.Logger) (s shelf, err error) {
	s = shelf{db: db, log: log}
	s.keys, err = keyring.Open(path)
	return s, err
}

// load reads the record; one that is damaged or older is said and begins anew: usage is worth less than a car that does not start. So does
// usage without its key, and the distance goes on. found is false where there is no record that this agent reads, usage where there is none.
func (s *shelf) load() (rec record, found, usage bool, err error) {
	s.forget = s.keys.Unsettled()
	var b []byte
	err = s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(recordKey))
		if err != nil {
			return err
		}
		b, err = item.ValueCopy(nil)
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		s.forget = true
		return record{}, false, false, nil
	} else if err != nil {
		return record{}, false, false, err
	}
	if rec, err = decode(b); err != nil {
		s.log.Warn("record of usage and distance is damaged or of an older agent and begins anew", "error", err)
		s.forget = true
		return record{}, false, false, nil
	}
	plain, err := s.keys.Open(rec.Sealed)
	if err == nil {
		err = unmarshal(plain, &rec.Use)
	}
	if err == nil && !rec.Use.valid() {
		err = errors.New("its values cannot be")
	}
	if rec.Sealed = nil; err != nil {
		s.log.Warn("recorded usage cannot be read and begins anew", "error", err)
		s.forget, rec.Use = true, use{}
		return rec, true, false, nil
	}
	return rec, true, true, nil
}

// put writes the record. Where usage is to be forgotten the former record cannot be read any more when it returns nil; after an error
// the next put sees to it.
func (s *shelf) put(rec record) error {
	if s.forget {
		if err := s.keys.Renew(); err != nil {
			return err
		}
	}
	plain, err := cbor.Marshal(rec.Use)
	if err != nil {
		return err
	}
	if rec.Sealed, err = s.keys.Seal(plain); err != nil {
		return err
	}
	b, err := cbor.Marshal(rec)
	if err != nil {
		return err
	}
	if err := s.db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(recordKey), b) }); err != nil {
		return err
	}
	if s.forget {
		if err := s.keys.Settle(); err != nil {
			return err
		}
	}
	s.forget = false
	return nil
}

// Forget drops what was recorded of all but some families, for a car whose agent does not run: it cannot be read any more when Forget
// returns nil. Config says what the other arguments are.
func Forget(db DB, path string, log *slog.Logger, families wire.Family) error {
	s, err := openShelf(db, path, log)
	if err != nil {
		return fmt.Errorf("cannot drop recorded usage: %w", err)
	}
	rec, found, _, err := s.load()
	if err == nil && found && (s.forget || rec.Use.Families&^families != 0) {
		s.forget = true
		rec.Use.follow(rec.Use.Families & families)
		err = s.put(rec)
	}
	if err != nil {
		return fmt.Errorf("cannot drop recorded usage: %w", err)
	}
	return nil
}

// save writes the record where there is something new and, unless forced, the last write is long enough ago. The lock is held.
func (r *Recorder) save(force bool) error {
	revision := r.odometer.Revision()
	if !r.dirty && revision == r.revision {
		return nil
	}
	// A host's clock that is set back must not stop the writes, and one that is set about must not flood them: only its progress counts.
	now, baselines := r.cfg.Now(), r.odometer.Baselines()
	r.waited += max(0, now.Sub(r.looked))
	r.looked = now
	if !force && baselines <= r.baselines && r.waited < r.cfg.SaveEvery {
		return nil
	}
	r.waited = 0
	err := r.shelf.put(record{Version: recordVersion, Use: r.use, Odometer: r.odometer.State(), Mark: r.mark, Base: r.base})
	if err != nil {
		return err
	}
	r.dirty, r.revision, r.baselines = false, revision, baselines
	return nil
}
