package trip

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/fxamacker/cbor/v2"

	"rawstone/agent/internal/odometer/state"
)

const (
	recordKey     = "trip/usage" // in the store
	recordVersion = 2
	maxRecord     = 16 << 10 // bytes
)

// record is all that is kept: usage, odometer and the attested snapshots that the next is compared with are written together, so that none runs ahead of
// another over a power loss.
type record struct {
	// Version is recordVersion. The first format had a summary under this key, which does not decode.
	Version  uint           `cbor:"0,keyasint"`
	Use      use            `cbor:"1,keyasint"`
	Odometer state.Odometer `cbor:"2,keyasint"`
	Mark     mark           `cbor:"3,keyasint"`
	Base     mark           `cbor:"4,keyasint"`
}

func decode(b []byte) (rec record, err error) {
	mode, err := cbor.DecOptions{MaxNestedLevels: 8, MaxArrayElements: 256, MaxMapPairs: 256, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField}.DecMode()
	if err != nil {
		return record{}, err
	}
	if len(b) > maxRecord {
		return record{}, fmt.Errorf("it has %d bytes, at most %d are written", len(b), maxRecord)
	}
	if err := mode.Unmarshal(b, &rec); err != nil {
		return record{}, err
	}
	if rec.Version != recordVersion {
		return record{}, fmt.Errorf("it has version %d, this agent reads %d", rec.Version, recordVersion)
	}
	if !rec.Odometer.Valid() || !rec.Use.valid() {
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

// load reads the record; one that is damaged or older is said and begins anew: usage is worth less than a car that does not start.
// found is false where there is none that this agent reads.
func (r *Recorder) load() (rec record, found bool, err error) {
	var b []byte
	err = r.cfg.DB.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(recordKey))
		if err != nil {
			return err
		}
		b, err = item.ValueCopy(nil)
		return err
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return record{}, false, nil
	} else if err != nil {
		return record{}, false, err
	}
	if rec, err = decode(b); err != nil {
		r.cfg.Logger.Warn("record of usage and distance is damaged or of an older agent and begins anew", "error", err)
		return record{}, false, nil
	}
	return rec, true, nil
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
	b, err := cbor.Marshal(record{recordVersion, r.use, r.odometer.State(), r.mark, r.base})
	if err != nil {
		return err
	}
	if err := r.cfg.DB.Update(func(txn *badger.Txn) error { return txn.Set([]byte(recordKey), b) }); err != nil {
		return err
	}
	r.dirty, r.revision, r.baselines = false, revision, baselines
	return nil
}
