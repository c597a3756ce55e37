// Package erasure takes the sealed reports out of a privacy budget's store when a car changes hands.
//
// Invariants: no charge is touched, whether the ledger adds up or not; what was stored, and what was dropped before and Badger still
// kept, is in no file of the store afterwards. It refuses to open the ledger: it works on the store alone, while nobody else does.
package erasure

import (
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/budget/internal/chain"
)

// Reports erases every sealed report of the store.
func Reports(db *badger.DB) error {
	// Badger rewrites its files only where it still lists something under the prefix.
	err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(chain.StoredPrefix), nil) })
	if err == nil {
		err = db.DropPrefix([]byte(chain.StoredPrefix))
	}
	if err != nil {
		return fmt.Errorf("cannot erase sealed reports: %w", err)
	}
	return nil
}
