package seal

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"rawstone/pkg/wire"
)

const (
	stateVersion = 1
	maxStateLen  = 512
)

// state is what the sealer remembers beside its archive.
type state struct {
	Version uint8 `cbor:"0,keyasint"`
	// Secret is what the schedule's phase and delays are derived from.
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
}

func decodeState(b []byte) (st state, err error) {
	body, err := checkSum(b)
	if err != nil {
		return st, err
	}
	if err := wire.NewCodec().Decode(body, &st, maxStateLen); err != nil {
		return st, err
	}
	if st.Version != stateVersion {
		return st, fmt.Errorf("state has version %d, want %d", st.Version, stateVersion)
	}
	return st, nil
}

// readState returns the zero state where there is none.
func readState(db *badger.DB) (st state, err error) {
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
		return state{}, nil
	}
	return st, err
}

func writeState(db *badger.DB, st state, more ...func(*badger.Txn) error) error {
	b, err := wire.NewCodec().Encode(st)
	if err != nil {
		return err
	}
	return db.Update(func(txn *badger.Txn) error {
		for _, f := range more {
			if err := f(txn); err != nil {
				return err
			}
		}
		return txn.Set([]byte(stateKey), withSum(b))
	})
}
