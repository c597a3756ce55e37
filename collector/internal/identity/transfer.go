package identity

import (
	"context"
	"errors"
	"fmt"

	"rawstone/collector/internal/store"
	"rawstone/pkg/attest"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// A Transfer says how a car went from one account to another.
type Transfer struct {
	Handover
	// From and To are the accounts.
	From, To string
	// HeadDay is the ECU's day of the head, and CutDay that of the cut: what was driven between them and is not claimed is the seller's.
	// Without a final identity both are that of the head, and what was driven since then is the buyer's.
	HeadDay, CutDay uint32
}

// Transfer gives a car to another account, which must be there or is made when its name is empty: the ECU stays in the car, the binding of
// its key ends, and the next one, of the same key and vehicle, begins where that ends and earns for the other account. What was credited
// stays where it is. Hand-over, binding and the vehicle's account are written together or not at all.
//
// The final identity is the ECU's current one, read when the car changes hands: what was driven before its snapshot and is not claimed yet
// is the seller's. One whose snapshot is older than yesterday's is refused unless old is set: what was driven since would go to the buyer
// unseen. Without one the car changes hands at the head, and all that is not claimed is the buyer's.
func (r *Registry) Transfer(ctx context.Context, vehicle, to string, final *attest.Identity, old bool) (t Transfer, err error) {
	if err = errors.Join(CheckAccount(to), r.checkFinal(final), r.checkAge(final, old)); err == nil {
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
	first, signature := b.Head, b.HeadSignature
	if final != nil {
		first, signature = final.Snapshot.Head(), final.Snapshot.Signature
		if first.Seq == b.Head.Seq && first != b.Head {
			return t, fmt.Errorf("the ECU signed another snapshot under number %d than the one that is credited: release the ECU, whose key is not to be trusted", first.Seq)
		}
	}
	h, err := end(ctx, tx, b, final, false)
	if err != nil {
		return t, err
	}
	if signature == (wire.Signature{}) {
		return t, fmt.Errorf("the signature of its head, snapshot %d, was not kept: let the car claim once more, or give its ECU's identity", first.Seq)
	}
	if err := tx.AddBinding(ctx, ledger.BindingOpening{Vehicle: v.ID, Account: to, ECU: b.ECU, Head: first, Signature: signature}); err != nil {
		return t, err
	}
	return Transfer{h, b.Account, to, b.Head.Day, first.Day}, tx.SetOwner(ctx, v.ID, to)
}

// checkAge refuses an identity that was not made when the car changed hands, unless the operator says that it may be old.
func (r *Registry) checkAge(final *attest.Identity, old bool) error {
	if final == nil || old {
		return nil
	}
	day, today := final.Snapshot.Head().Day, r.cfg.Clock.Today()
	if day < today-min(today, 1) {
		return fmt.Errorf("the identity's snapshot is of day %d and today is day %d: what the car drove since would go to the buyer; have the ECU make a new one, or give --old when the car stood still", day, today)
	}
	return nil
}
