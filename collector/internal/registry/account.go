package registry

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"rawstone/collector/internal/identity"
)

// maxNames bounds a list of accounts in bytes.
const maxNames = 64 << 20

// An Account is one in the registry, without what it holds and without secrets.
type Account struct {
	ID string `json:"id"`
	// Activated is the program day on which the account was activated, left out for not yet.
	Activated uint32 `json:"activated,omitempty"`
	// Owner says that a car's ECU is bound to it.
	Owner    bool     `json:"owner"`
	Vehicles []string `json:"vehicles"`
}

func account(a identity.Account) Account {
	return Account{ID: a.ID, Activated: a.Activated, Owner: a.Owner, Vehicles: append([]string{}, a.Vehicles...)} // an empty list in JSON too
}

// AddAccount makes an account that owns no car, with a random name when id is empty, and returns its name.
func (d *Desk) AddAccount(ctx context.Context, id string) (string, error) {
	return d.r.AddAccount(ctx, id)
}

// AddAccounts makes the accounts of a list: a file with a name on each line, or none. added are made now, passed were there before. They are
// made 256 at a time: what was before a line that is refused stays, and the list may be used again.
func (d *Desk) AddAccounts(ctx context.Context, list string) (added, passed int, err error) {
	f, err := os.Open(list)
	if err != nil {
		return 0, 0, fmt.Errorf("cannot read list of accounts: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return 0, 0, fmt.Errorf("cannot read list of accounts: %w", err)
	} else if info.Size() > maxNames {
		return 0, 0, fmt.Errorf("cannot read list of accounts %s: it has more than %d bytes: split it", list, maxNames)
	}
	lines := bufio.NewScanner(io.LimitReader(f, maxNames))
	var batch []string
	line, first := 0, 0 // first is the batch's
	add := func() error {
		n, err := d.r.AddAccounts(ctx, batch)
		if err != nil {
			return fmt.Errorf("%w (%s, lines %d to %d)", err, list, first, line)
		}
		added, passed, batch = added+n, passed+len(batch)-n, batch[:0]
		return nil
	}
	for lines.Scan() {
		line++
		name := string(bytes.TrimRight(lines.Bytes(), "\r"))
		if name == "" {
			continue
		}
		if err := identity.CheckAccount(name); err != nil {
			return added, passed, fmt.Errorf("cannot add account %.80q of %s, line %d: %w", name, list, line, err)
		}
		if len(batch) == 0 {
			first = line
		}
		batch = append(batch, name)
		if len(batch) == perTransaction {
			if err := add(); err != nil {
				return added, passed, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return added, passed, fmt.Errorf("cannot read list of accounts %s: %w", list, err)
	}
	return added, passed, add()
}

// Account returns an account.
func (d *Desk) Account(ctx context.Context, id string) (Account, error) {
	a, err := d.r.Account(ctx, id)
	return account(a), err
}

// Accounts lists the accounts in the order of their names.
func (d *Desk) Accounts(ctx context.Context) ([]Account, error) {
	all, err := d.r.Accounts(ctx)
	out := make([]Account, 0, len(all))
	for _, a := range all {
		out = append(out, account(a))
	}
	return out, err
}

// Transfer gives a car to an account, or to one that is made when to is identity.NewAccount: from the snapshot in the file final on, the
// ECU's identity of the hand-over, or from its head on when there is no such file. Old says that the identity may be from before yesterday.
func (d *Desk) Transfer(ctx context.Context, vehicle, to, final string, old bool) (t identity.Transfer, err error) {
	last, err := readFinal(final)
	if err != nil {
		return t, err
	}
	if to == identity.NewAccount {
		to = ""
	}
	return d.r.Transfer(ctx, vehicle, to, last, old)
}
