package cosigned

import (
	"context"
	"math"
	"slices"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// InForce returns what reads the program of a day with the validators that are in force on it, by the changes that the records have
// numbered. The records are open for the role Settle or Web.
func InForce(db *store.DB, root wire.PublicKey, p *terms.Program, id wire.Hash, today func() uint32) func(context.Context) (*terms.Program, error) {
	return func(ctx context.Context) (now *terms.Program, err error) {
		err = db.View(ctx, func(tx *store.Tx) error {
			list, err := tx.LastEntries(ctx, ledger.TypeWitness, math.MaxInt32)
			if err != nil {
				return err
			}
			slices.Reverse(list)
			var changes []*ledger.Witness
			for _, e := range list {
				w, err := ledger.OpenWitness(root, p, id, e.Body)
				if err != nil {
					return err
				}
				changes = append(changes, w)
			}
			now = ledger.On(p, changes, today())
			return nil
		})
		return now, err
	}
}
