package stones

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"rawstone/collector/internal/erasure"
	"rawstone/collector/internal/store"
	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/opening"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

// Openings returns what the auditor is given.
func Openings(ctx context.Context, db *store.DB) (*opening.Set, error) {
	var from store.Openings
	var gone []erasure.Entry
	var leaves []erasure.Leaf
	var keys []ledger.ErasedKey
	err := db.View(ctx, func(tx *store.Tx) (err error) {
		if from, err = tx.Openings(ctx); err != nil {
			return err
		}
		if gone, err = tx.ErasedEntries(ctx, 0, math.MaxInt64); err != nil {
			return err
		}
		if leaves, err = tx.AllErasedLeaves(ctx); err != nil {
			return err
		}
		keys, err = tx.ErasedKeys(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	o := new(opening.Set)
	for _, e := range gone {
		o.AddErased(e.Number)
	}
	for _, l := range leaves {
		o.AddErasedLeaf(l.Day, l.Leaf)
	}
	for _, k := range keys {
		o.AddErasedKey(k)
	}
	for _, a := range from.Accounts {
		o.AddAccount(a.ID, a.Secret)
	}
	for _, b := range from.Bindings {
		o.AddBinding(b.Number, b.Opening)
	}
	for _, h := range from.Handovers {
		o.AddHandover(h.Number, h.Opening)
	}
	for _, c := range from.Credits {
		o.AddCredit(c.Number, c.Opening)
	}
	for _, c := range from.Changes {
		o.AddChange(c.Number, c.Opening)
	}
	for _, g := range from.Grants {
		o.AddGrant(g.Number, g.Opening)
	}
	for _, r := range from.Requests {
		o.AddRequest(r.Number, r.Opening)
	}
	return o, nil
}

// Write writes the openings in a collector's records, which are opened for the role Audit, to a file that must not exist and that its owner alone may read.
func Write(ctx context.Context, records store.Config, path string) (err error) {
	db, err := store.Open(ctx, records)
	if err != nil {
		return fmt.Errorf("cannot write openings: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	all, err := Openings(ctx, db)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write openings: %s exists; choose another name or remove it", path)
	} else if err != nil {
		return fmt.Errorf("cannot write openings: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return all.Write(f)
}

// An Opener lets the operator's own validator see behind blinded entries, as they are at the moment. It is an audit.Opener.
type Opener struct{ DB *store.DB }

// Methods of an Opener take no context: each reads one row of the records.
func opened[T any](o Opener, read func(context.Context, *store.Tx) (T, error)) (v T, ok bool) {
	ctx := context.Background()
	err := o.DB.View(ctx, func(tx *store.Tx) (err error) {
		v, err = read(ctx, tx)
		return err
	})
	return v, err == nil
}

// Credit returns the opening of the credit of that number, and whether there is one.
func (o Opener) Credit(number uint64) (ledger.CreditOpening, bool) {
	return opened(o, func(ctx context.Context, tx *store.Tx) (ledger.CreditOpening, error) {
		return tx.CreditOpening(ctx, number)
	})
}

// Binding returns the opening of the binding of that number, and whether there is one.
func (o Opener) Binding(number uint64) (ledger.BindingOpening, bool) {
	return opened(o, func(ctx context.Context, tx *store.Tx) (ledger.BindingOpening, error) {
		return tx.BindingOpening(ctx, number)
	})
}

// Handover returns the opening of the hand-over of that number, and whether there is one.
func (o Opener) Handover(number uint64) (ledger.HandoverOpening, bool) {
	return opened(o, func(ctx context.Context, tx *store.Tx) (ledger.HandoverOpening, error) {
		return tx.HandoverOpening(ctx, number)
	})
}

// Change returns the opening of the change of an account of that number, and whether there is one.
func (o Opener) Change(number uint64) (account.ChangeOpening, bool) {
	return opened(o, func(ctx context.Context, tx *store.Tx) (account.ChangeOpening, error) {
		return tx.ChangeOpening(ctx, number)
	})
}

// Grant returns the opening of the grant of that number, and whether there is one.
func (o Opener) Grant(number uint64) (account.GrantOpening, bool) {
	return opened(o, func(ctx context.Context, tx *store.Tx) (account.GrantOpening, error) {
		return tx.GrantOpening(ctx, number)
	})
}

// Request returns the opening of the box or redemption of that number, and whether there is one.
func (o Opener) Request(number uint64) (account.RequestOpening, bool) {
	return opened(o, func(ctx context.Context, tx *store.Tx) (account.RequestOpening, error) {
		return tx.RequestOpening(ctx, number)
	})
}

// Secret returns an account's secret, and whether there is such an account.
func (o Opener) Secret(account string) ([32]byte, bool) {
	return opened(o, func(ctx context.Context, tx *store.Tx) ([32]byte, error) { return tx.AccountSecret(ctx, account) })
}

// Erased reports whether the opening of the entry of that number was destroyed because a person asked for it.
func (o Opener) Erased(number uint64) bool {
	gone, ok := opened(o, func(ctx context.Context, tx *store.Tx) ([]erasure.Entry, error) {
		return tx.ErasedEntries(ctx, number, number)
	})
	return ok && len(gone) == 1
}

// ErasedLeaves returns what the tree of a day holds of erased accounts.
func (o Opener) ErasedLeaves(day uint32) []reward.Leaf {
	leaves, _ := opened(o, func(ctx context.Context, tx *store.Tx) ([]reward.Leaf, error) { return tx.ErasedLeaves(ctx, day) })
	return leaves
}

// ErasedKey returns what is kept of an ECU key, if its last binding was erased.
func (o Opener) ErasedKey(id wire.KeyID) (ledger.ErasedKey, bool) {
	keys, _ := opened(o, func(ctx context.Context, tx *store.Tx) ([]ledger.ErasedKey, error) { return tx.ErasedKeys(ctx) })
	for _, k := range keys {
		if k.Mark == ledger.KeyMark(id) {
			return k, true
		}
	}
	return ledger.ErasedKey{}, false
}
