package identity

import (
	"context"
	"errors"
	"fmt"

	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/ledger"
)

// A Transfer says how a car went from one account to another.
type Transfer struct {
	Handover
	// From and To are the accounts.
	From, To string
}

// Transfer gives a car to another account, which must be there or is made when its name is empty: the ECU stays in the car, the binding of
// its key ends, and the next one, of the same key and vehicle, begins where that ends and earns for the other account. What was credited
// stays where it is. Hand-over, binding and the vehicle's account are written together or not at all.
//
// The final identity is the ECU's current one, read when the car changes hands: what was driven before its snapshot and is not claimed yet
// is the seller's. Without one the car changes hands at the head, and all that is not claimed is the buyer's.
func (r *Registry) Transfer(ctx context.Context, vehicle, to string, final *attest.Identity) (t Transfer, err error) {
	if err = errors.Join(checkAccount(to), r.checkFinal(final)); err == nil {
		err = r.cfg.DB.Update(ctx, func(tx *store.Tx) error {
			t, err = transfer(ctx, tx, vehicle, to, final)
			return err
		})
	}
	if err != nil {
		return Transfer{}, fmt.Errorf("cannot transfer vehicle %s: %w", vehicle, err)
	}
	return t, nil
}

func transfer(ctx context.Context, tx *store.Tx, vehicle, to string, final *attest.Identity) (t Transfer, err error) {
	v, err := registered(ctx, tx, vehicle)
	if err != nil {
		return t, err
	}
	b, err := bound(ctx, tx, vehicle)
	if err != nil {
		return t, err
	}
	if to == b.Account {
		return t, fmt.Errorf("it earns for account %s already: name the buyer's account", to)
	}
	if to, err = open(ctx, tx, to); err != nil {
		return t, err
	}
	first := b.Head
	if final != nil {
		if first = final.Snapshot.Head(); first.Seq == b.Head.Seq && first != b.Head {
			return t, fmt.Errorf("the ECU signed another snapshot under number %d than the one that is credited: release the ECU, whose key is not to be trusted", first.Seq)
		}
	}
	h, err := end(ctx, tx, b, final, false)
	if err != nil {
		return t, err
	}
	if err := tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: v.ID, Account: to, ECU: b.ECU, Head: first}); err != nil {
		return t, err
	}
	return Transfer{h, b.Account, to}, tx.SetOwner(ctx, v.ID, to)
}
