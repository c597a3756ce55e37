package estate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// A Profile is what an account is and has.
type Profile struct {
	Account string
	// Key signs the owner's requests; zero while there is none.
	Key wire.PublicKey
	// Activated is the program day on which the account was activated, 0 for not yet.
	Activated uint32
	// Owner says that a car is bound to the account.
	Owner bool
	// Crystals are those of boxes that are not open left out.
	Crystals uint64
	// Milli is what the account has in milli-stones: drawn up to the last settled day and won with boxes, less what was redeemed.
	Milli uint64
}

// Profile returns what an account is and has, or ErrNoAccount.
func (b Book) Profile(ctx context.Context, id string) (p Profile, err error) {
	if p, err = b.identity(ctx, id); err != nil {
		return Profile{}, err
	}
	if p.Owner, err = b.owner(ctx, id); err != nil {
		return Profile{}, err
	}
	crystals, err := b.crystals(ctx, id)
	if err != nil {
		return Profile{}, err
	}
	p.Crystals = uint64(crystals)
	p.Milli, err = b.stones(ctx, id)
	return p, err
}

// identity returns the part of a profile that changes of accounts say.
func (b Book) identity(ctx context.Context, id string) (Profile, error) {
	var has bool
	if err := b.tx.Get(ctx, hasEstate(), []any{id}, database.Flag(&has)); err != nil {
		return Profile{}, err
	}
	if !has || len(id) > account.MaxIDLen {
		return Profile{}, fmt.Errorf("%w: %q", ErrNoAccount, id)
	}
	p, err := database.One(ctx, b.tx, lastChange(), func(p *Profile, scan database.Scanner) error {
		return scan(database.Fixed(p.Key[:]), &p.Activated)
	}, id)
	if errors.Is(err, database.ErrNotFound) {
		err = nil
	}
	p.Account = id
	return p, err
}

func hasEstate() statement {
	return statement{Name: "look for account", Roles: firewall.Account | firewall.Admin, SQL: `SELECT count(*) FROM accounts WHERE id = $1`}
}

func lastChange() statement {
	return statement{Name: "read account's key", Roles: firewall.Account | firewall.Admin,
		SQL: `SELECT key, activated FROM account_changes WHERE account = $1 ORDER BY outbox_id DESC LIMIT 1`}
}

// Change gives an account a key, when one is given, and activates it, when asked to, for good from the log's day on. Where that changes nothing
// nothing is written. An account is activated with its first key or later. Whether the key in force agrees is for who calls.
func (b Book) Change(ctx context.Context, id string, key *wire.PublicKey, activate bool) (Profile, error) {
	if _, _, err := b.change(ctx, id, key, activate); err != nil {
		return Profile{}, err
	}
	return b.Profile(ctx, id)
}

// Rekey gives an account a key as Change does, for the operator, and returns what it was and is without what it holds.
func (b Book) Rekey(ctx context.Context, id string, key wire.PublicKey) (before, after Profile, err error) {
	return b.change(ctx, id, &key, false)
}

func (b Book) change(ctx context.Context, id string, key *wire.PublicKey, activate bool) (before, after Profile, err error) {
	if before, err = b.identity(ctx, id); err != nil {
		return before, after, err
	}
	after = before
	if key != nil {
		if _, err := key.Key(); err != nil {
			return before, after, fmt.Errorf("%w: %w", ErrKey, err)
		}
		after.Key = *key
	}
	if after.Key == (wire.PublicKey{}) && activate {
		return before, after, fmt.Errorf("cannot activate account: %w", ErrNoKey)
	}
	today, err := b.Today(ctx)
	if err != nil {
		return before, after, err
	}
	if activate && before.Activated == 0 {
		after.Activated = max(today, 1) // 0 stands for never
	}
	if after == before {
		return before, after, nil
	}
	o := account.ChangeOpening{Account: id, Key: after.Key, Activated: after.Activated}
	rand.Read(o.Salt[:])
	blind, err := o.Blind()
	if err != nil {
		return before, after, err
	}
	entry, err := b.ledger.AddEncoded(ctx, ledger.TypeAccount, account.Change{Blind: blind})
	if err != nil {
		return before, after, err
	}
	return before, after, b.tx.ExecOne(ctx, addChange(), entry, o.Salt[:], id, after.Key[:], int64(after.Activated), int64(today))
}

func addChange() statement {
	return statement{Name: "change account", Roles: firewall.Account | firewall.Admin,
		SQL: `INSERT INTO account_changes (outbox_id, salt, account, key, activated, day) VALUES ($1, $2, $3, $4, $5, $6)`}
}

// owner reports whether a car is bound to an account.
func (b Book) owner(ctx context.Context, id string) (is bool, err error) {
	err = b.tx.Get(ctx, isOwner(), []any{id}, database.Flag(&is))
	return is, err
}

func isOwner() statement {
	return statement{Name: "look for account's cars", Roles: firewall.Account, SQL: `SELECT count(*) FROM bindings WHERE account = $1 AND closed = 0`}
}

func (b Book) crystals(ctx context.Context, id string) (cultivation.Crystals, error) {
	var n uint64
	err := b.tx.Get(ctx, crystalsOf(), []any{id}, database.Uint64(&n))
	return cultivation.Crystals(n), err
}

func crystalsOf() statement {
	return statement{Name: "read crystals", Roles: firewall.Account,
		SQL: `SELECT coalesce((SELECT amount FROM crystals WHERE account = $1), 0)`}
}

func (b Book) setCrystals(ctx context.Context, id string, n cultivation.Crystals) error {
	return b.tx.ExecOne(ctx, setCrystals(), id, int64(n))
}

func setCrystals() statement {
	return statement{Name: "set crystals", Roles: firewall.Account,
		SQL: `INSERT INTO crystals (account, amount) VALUES ($1, $2) ON CONFLICT (account) DO UPDATE SET amount = excluded.amount`}
}

// stones returns an account's settled stones and those of its boxes, less what it redeemed, in milli-stones.
func (b Book) stones(ctx context.Context, id string) (uint64, error) {
	var drawn, won, used uint64
	for _, part := range []struct {
		s statement
		n *uint64
	}{{settledStones(), &drawn}, {boxStones(), &won}, {usedStones(), &used}} {
		if err := b.tx.Get(ctx, part.s, []any{id}, database.Uint64(part.n)); err != nil {
			return 0, err
		}
	}
	if used > drawn+won { // both are bounded by the supply
		return 0, fmt.Errorf("cannot tell the stones of an account: it used %d milli-stones and got %d: restore the records that belong to this log", used, drawn+won)
	}
	return drawn + won - used, nil
}

func settledStones() statement {
	return statement{Name: "read settled stones", Roles: firewall.Account, SQL: `SELECT coalesce((SELECT milli FROM balances WHERE account = $1), 0)`}
}

func boxStones() statement {
	return statement{Name: "read stones of boxes", Roles: firewall.Account,
		SQL: `SELECT CAST(coalesce(sum(milli), 0) AS BIGINT) FROM boxes WHERE account = $1`}
}

func usedStones() statement {
	return statement{Name: "read redeemed stones", Roles: firewall.Account,
		SQL: `SELECT CAST(coalesce(sum(milli), 0) AS BIGINT) FROM redemptions WHERE account = $1`}
}
