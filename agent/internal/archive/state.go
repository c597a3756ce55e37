package archive

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/archive/internal/record"
	"rawstone/pkg/codec"
	"rawstone/pkg/wire"
)

const (
	stateVersion = 1
	maxStateLen  = 2048
	// MaxFormer bounds the ECU keys whose backlogs are kept; of a car whose ECU is swapped more often before it is heard the oldest goes.
	MaxFormer = 4
)

// State is what the car remembers beside its snapshots.
type State struct {
	// Version is the format's; the archive sets it.
	Version uint8 `cbor:"0,keyasint"`
	// Secret is what the dispatches' phase and delays are derived from.
	Secret [32]byte `cbor:"1,keyasint"`
	// Head is the collector's head as far as known: the end of the last accepted claim, or what a refusal named.
	Head *wire.Head `cbor:"2,keyasint,omitempty"`
	// Boundary is the last boundary day whose report was made or given up.
	Boundary *uint32 `cbor:"3,keyasint,omitempty"`
	// Left is the program day on which a report was last receipted.
	Left uint32 `cbor:"4,keyasint"`
	// Refusals counts the refusals of claims in a row, Reason is why claiming waits, Since when it began, in Unix seconds.
	Refusals uint32      `cbor:"5,keyasint"`
	Reason   wire.Reason `cbor:"6,keyasint,omitempty"`
	Since    int64       `cbor:"7,keyasint"`
	// ECU is the key that Head and refusals belong to; the archive sets it.
	ECU wire.KeyID `cbor:"8,keyasint"`
	// Awaited is 1 more than the highest serial of a policy whose proving key claims waited for, AwaitedSince when that began, in Unix
	// seconds; 0 where they never did.
	Awaited      uint32 `cbor:"9,keyasint,omitempty"`
	AwaitedSince int64  `cbor:"10,keyasint,omitempty"`
	// SaltTold says that the driver has been told that the ECU used a salt twice.
	SaltTold bool `cbor:"11,keyasint,omitempty"`
	// Former are the keys whose ECUs were in this car before and left snapshots to claim, in the order in which they went; at most MaxFormer.
	Former []Former `cbor:"12,keyasint,omitempty"`
	// Spent is the sequence number before which the key's snapshots were freed; 0 where none was.
	Spent uint64 `cbor:"13,keyasint,omitempty"`
	// UnprovenTold says that the driver has been told that receipts wait for their proofs for too long.
	UnprovenTold bool `cbor:"14,keyasint,omitempty"`
	// Cut is where the collector divides what the key has to claim, because the car was sold there: no claim lies across it. It says nothing
	// once Head is there; nil where there never was one.
	Cut *wire.Head `cbor:"15,keyasint,omitempty"`
	// Every is the cadence up to Boundary in days, Noticed the last boundary of the backlog, Leaves the day on which the last report was to leave,
	// Drawn the families that reports were last drawn of; Partial is backlog's: whether none of them was on when the open dispatch began.
	Every   uint32      `cbor:"16,keyasint,omitempty"`
	Noticed uint32      `cbor:"17,keyasint,omitempty"`
	Leaves  uint32      `cbor:"18,keyasint,omitempty"`
	Drawn   wire.Family `cbor:"19,keyasint,omitempty"`
	Partial uint64      `cbor:"20,keyasint,omitempty"`
}

// A Former is what the car remembers of the key of an ECU that was swapped. Its fields are State's.
type Former struct {
	ECU      wire.KeyID  `cbor:"0,keyasint"`
	Head     *wire.Head  `cbor:"1,keyasint,omitempty"`
	Refusals uint32      `cbor:"2,keyasint"`
	Reason   wire.Reason `cbor:"3,keyasint,omitempty"`
	Since    int64       `cbor:"4,keyasint"`
	// Before bounds the sequence numbers that are still claimed: what lies from it on was driven after the hand-over. 0 means no bound.
	Before uint64     `cbor:"5,keyasint,omitempty"`
	Spent  uint64     `cbor:"6,keyasint,omitempty"`
	Cut    *wire.Head `cbor:"7,keyasint,omitempty"`
}

// state returns st as it would be with f's ECU in the car.
func (f Former) state(st State) State {
	st.ECU, st.Head, st.Refusals, st.Reason, st.Since = f.ECU, f.Head, f.Refusals, f.Reason, f.Since
	st.Spent, st.Cut = f.Spent, f.Cut
	return st
}

// Claimants returns the state once for each ECU key with snapshots that may be claimed: as it would be with each of the former ones in
// the car, then as it is.
func (st State) Claimants() (list []State) {
	for _, f := range st.Former {
		list = append(list, f.state(st))
	}
	return append(list, st)
}

// leave has the key go among the former ones, and ecu take its place.
func (st *State) leave(ecu wire.KeyID) {
	former := slices.DeleteFunc(slices.Clone(st.Former), func(f Former) bool { return f.ECU == ecu })
	if st.ECU != (wire.KeyID{}) {
		former = append(former, Former{ECU: st.ECU, Head: st.Head, Spent: st.Spent, Cut: st.Cut})
	}
	// The new one's head is not known, and what was refused was not its.
	former = former[max(0, len(former)-MaxFormer):]
	*st = State{Version: stateVersion, Secret: st.Secret, Boundary: st.Boundary, Every: st.Every, Noticed: st.Noticed, Left: st.Left, Leaves: st.Leaves, Drawn: st.Drawn, Partial: st.Partial, ECU: ecu, UnprovenTold: st.UnprovenTold, Former: former}
}

// errDamaged says that the record was read and is not one of the archive's.
var errDamaged = errors.New("archive state is damaged")

// loadState reads the state, or begins a new one with a new secret.
func (a *Archive) loadState() error {
	st, err := readState(a.cfg.DB)
	if err != nil && !errors.Is(err, errDamaged) {
		return err // the flash may answer next time
	} else if err != nil {
		// The collector's next receipt brings the head back, and the budget ledger knows what was charged.
		a.cfg.Damaged(err)
		st = State{}
	}
	if st.Secret == [32]byte{} || st.ECU != a.cfg.ECU {
		if st.Secret == [32]byte{} {
			rand.Read(st.Secret[:])
		}
		st.leave(a.cfg.ECU)
		if err := writeState(a.cfg.DB, st); err != nil {
			return err
		}
	}
	a.state = st
	return nil
}

// State returns the state. What its pointers point to must not be changed.
func (a *Archive) State() State {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

// CommitOf changes head and refusals of a claimant. Nothing changes for a key that is none: what it has to claim is given up already.
func (a *Archive) CommitOf(ecu wire.KeyID, change func(*State)) error {
	return a.Commit(func(st *State) { st.of(ecu, change) })
}

// Bound has a former key claim nothing from a sequence number on; 0 gives up all that it has left.
func (a *Archive) Bound(ecu wire.KeyID, before uint64) error {
	return a.Commit(func(st *State) {
		st.Former = slices.Clone(st.Former)
		at := slices.IndexFunc(st.Former, func(f Former) bool { return f.ECU == ecu })
		if at >= 0 && before == 0 {
			st.Former = slices.Delete(st.Former, at, at+1)
		} else if at >= 0 {
			st.Former[at].Before = before
		}
	})
}

// of has change see the state of a claimant.
func (st *State) of(ecu wire.KeyID, change func(*State)) {
	if ecu == st.ECU {
		change(st)
		return
	}
	st.Former = slices.Clone(st.Former) // others may be reading it
	for i, f := range st.Former {
		if f.ECU == ecu {
			then := f.state(*st)
			change(&then)
			st.Former[i] = Former{ECU: ecu, Head: then.Head, Refusals: then.Refusals, Reason: then.Reason, Since: then.Since, Before: f.Before, Spent: then.Spent, Cut: then.Cut}
		}
	}
}

// Commit changes the state, in one transaction with more.
func (a *Archive) Commit(change func(*State), more ...func(*badger.Txn) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := a.state
	change(&next)
	if err := writeState(a.cfg.DB, next, more...); err != nil {
		return fmt.Errorf("cannot write sealer's state: %w", err)
	}
	a.state = next
	return nil
}

func decodeState(b []byte) (st State, err error) {
	body, err := record.CheckSum(b)
	if err == nil {
		err = codec.Decode(body, &st, maxStateLen)
	}
	if err == nil && st.Version != stateVersion {
		err = fmt.Errorf("version %d, want %d", st.Version, stateVersion)
	}
	if err != nil {
		return State{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return st, nil
}

// readState returns the zero state where there is none.
func readState(db DB) (st State, err error) {
	err = db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(stateKey))
		if err != nil {
			return err
		}
		return item.Value(func(b []byte) error {
			st, err = decodeState(b)
			return err
		})
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return State{}, nil
	}
	return st, err
}

func writeState(db DB, st State, more ...func(*badger.Txn) error) error {
	b, err := codec.Encode(st)
	if err != nil {
		return err
	}
	return db.Update(func(txn *badger.Txn) error {
		for _, f := range more {
			if err := f(txn); err != nil {
				return err
			}
		}
		return txn.Set([]byte(stateKey), record.WithSum(b))
	})
}
