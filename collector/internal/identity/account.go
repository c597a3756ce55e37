package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"rawstone/collector/internal/store"
)

// MaxAccountLen bounds an account's name in bytes.
const MaxAccountLen = 64

// NewAccount is no account's name: it asks for a new one.
const NewAccount = "new"

// CheckAccount refuses what is no account's name; an empty one stands for a random name, where there may be one.
func CheckAccount(name string) error {
	if len(name) > MaxAccountLen || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("account name must be at most %d printable ASCII characters without spaces", MaxAccountLen)
	}
	if name == NewAccount {
		return fmt.Errorf("%q is no account's name: choose another", NewAccount)
	}
	return nil
}

// AddAccount makes an account that owns no car, and returns its name: the given one, which must not be there, or a random one when that is
// empty. Anybody may have one; a car may be registered for it or transferred to it later.
func (r *Registry) AddAccount(ctx context.Context, name string) (string, error) {
	err := CheckAccount(name)
	if err == nil {
		err = r.cfg.DB.Update(ctx, func(tx *store.Tx) error {
			if has, err := tx.HasAccount(ctx, name); err != nil {
				return err
			} else if has {
				return errors.New("it is there already")
			}
			name, err = newAccount(ctx, tx, name)
			return err
		})
	}
	if err != nil {
		return "", fmt.Errorf("cannot add account %s: %w", name, err)
	}
	return name, nil
}

// AddAccounts makes accounts in one transaction, all or none, and passes over those that are there.
func (r *Registry) AddAccounts(ctx context.Context, names []string) (added int, err error) {
	for _, n := range names {
		err := CheckAccount(n)
		if n == "" {
			err = errors.New("its name is empty")
		}
		if err != nil {
			return 0, fmt.Errorf("cannot add account %s: %w", n, err)
		}
	}
	err = r.cfg.DB.Update(ctx, func(tx *store.Tx) error {
		added = 0
		for _, n := range names {
			has, err := tx.HasAccount(ctx, n)
			if err == nil && !has {
				added++
				_, err = newAccount(ctx, tx, n)
			}
			if err != nil {
				return fmt.Errorf("cannot add account %s: %w", n, err)
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return added, nil
}

// newAccount makes an account, of a random name where it has none.
func newAccount(ctx context.Context, tx *store.Tx, name string) (string, error) {
	if name == "" {
		name = "A" + rand.Text()
	}
	return name, tx.AddAccount(ctx, name)
}

// open returns the named account, which must exist, or makes one.
func open(ctx context.Context, tx *store.Tx, name string) (string, error) {
	if name == "" {
		return newAccount(ctx, tx, "")
	}
	has, err := tx.HasAccount(ctx, name)
	if err != nil {
		return "", err
	}
	if !has {
		return "", fmt.Errorf("there is no account %s: `collector account add` makes one", name)
	}
	return name, nil
}

// An Account is one in the registry.
type Account struct {
	ID string
	// Activated is the program day on which the account was activated, 0 for not yet.
	Activated uint32
	// Owner says that a car's ECU is bound to it, and Vehicles are those that are registered for it.
	Owner    bool
	Vehicles []string
}

// Account returns an account.
func (r *Registry) Account(ctx context.Context, id string) (a Account, err error) {
	err = r.cfg.DB.View(ctx, func(tx *store.Tx) error {
		o, err := tx.Owner(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("there is no account %s: `collector account list` prints them", id)
		} else if err != nil {
			return err
		}
		a = Account{ID: o.ID, Activated: o.Activated, Owner: o.Cars > 0}
		a.Vehicles, err = tx.OwnedVehicles(ctx, id)
		return err
	})
	return a, err
}

// Accounts returns all accounts in the order of their names.
func (r *Registry) Accounts(ctx context.Context) (all []Account, err error) {
	err = r.cfg.DB.View(ctx, func(tx *store.Tx) error {
		owners, err := tx.Owners(ctx)
		if err != nil {
			return err
		}
		vehicles, err := tx.Vehicles(ctx)
		if err != nil {
			return err
		}
		of := make(map[string][]string)
		for _, v := range vehicles {
			of[v.Account] = append(of[v.Account], v.ID)
		}
		for _, o := range owners {
			all = append(all, Account{ID: o.ID, Activated: o.Activated, Owner: o.Cars > 0, Vehicles: of[o.ID]})
		}
		return nil
	})
	return all, err
}
