// Package balance keeps, among the collector's records, accounts and what they have earned: their milli-stones up to the drop that is settled, and
// reads the kilometres by which drops are drawn.
//
// Balances follow from the ledger and can be made anew from it. They move together with the settled drop, or not at all, so that no drop
// is settled twice. The tables belong to package store's schema, whose transactions embed a Book. The package draws nothing.
package balance

import (
	"context"
	"crypto/rand"
	"fmt"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
)

type statement = firewall.Statement

// Statements returns all statements of the package.
func Statements() []firewall.Statement {
	return []firewall.Statement{addAccount(), hasAccount(), weights(), settled(), settleDrops(), addGain(), hasErased(), balance()}
}

// A Book is the balances within one transaction.
type Book struct{ tx *database.Tx }

// In returns the balances as a transaction sees them.
func In(tx *database.Tx) Book { return Book{tx} }

// AddAccount adds an account with a fresh random secret.
func (b Book) AddAccount(ctx context.Context, id string) error {
	var secret [32]byte
	rand.Read(secret[:])
	return b.tx.ExecOne(ctx, addAccount(), id, secret[:])
}

func addAccount() statement {
	return statement{Name: "add account", Roles: firewall.Admin, SQL: `INSERT INTO accounts (id, secret) VALUES ($1, $2)`}
}

// HasAccount reports whether there is an account of that name.
func (b Book) HasAccount(ctx context.Context, id string) (has bool, err error) {
	err = b.tx.Get(ctx, hasAccount(), []any{id}, database.Flag(&has))
	return has, err
}

func hasAccount() statement {
	return statement{Name: "read account", Roles: firewall.Admin, SQL: `SELECT count(*) FROM accounts WHERE id = $1`}
}

// A Weight is an account's kilometres over some days.
type Weight struct {
	// ID is the account's, and Secret blinds its pseudonyms.
	ID     string
	Secret [32]byte
	Km     uint64
}

// Weights returns the accounts whose credits numbered below a number and effective on the days from to to, both included, have
// kilometres, in the order of their names.
func (b Book) Weights(ctx context.Context, from, to uint32, below uint64) ([]Weight, error) {
	return database.List(ctx, b.tx, weights(),
		func(w *Weight, scan database.Scanner) error {
			return scan(&w.ID, database.Fixed(w.Secret[:]), database.Uint64(&w.Km))
		}, int64(from), int64(to), int64(below))
}

func weights() statement {
	return statement{Name: "read weights", Roles: firewall.Settle | firewall.Statements,
		SQL: `SELECT a.id, a.secret, w.km FROM accounts a JOIN (
				SELECT c.account, CAST(sum(c.km) AS BIGINT) AS km FROM credits c JOIN outbox o ON o.id = c.outbox_id
				WHERE c.effective BETWEEN $1 AND $2 AND o.number < $3 GROUP BY c.account) w ON w.account = a.id
			WHERE w.km > 0 ORDER BY a.id`}
}

// Settled returns the first drop that the balances do not contain.
func (b Book) Settled(ctx context.Context) (drop uint64, err error) {
	err = b.tx.Get(ctx, settled(), nil, database.Uint64(&drop))
	return drop, err
}

func settled() statement {
	return statement{Name: "read settled drop", Roles: firewall.Settle | firewall.Statements, SQL: `SELECT next_drop FROM settled`}
}

// Settle adds milli-stones to balances and moves the settled drop; it fails when the balances do not stand at the drop from. What an account
// gained that was erased meanwhile is nobody's.
func (b Book) Settle(ctx context.Context, from, next uint64, gains map[string]uint64) error {
	if err := b.tx.ExecOne(ctx, settleDrops(), int64(next), int64(from)); err != nil {
		return err
	}
	for account, milli := range gains {
		n, err := b.tx.Exec(ctx, addGain(), account, int64(milli))
		if err == nil && n == 0 {
			err = b.wasErased(ctx, account)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// wasErased refuses stones for an account that is not there, unless one was erased.
func (b Book) wasErased(ctx context.Context, account string) error {
	var any bool
	if err := b.tx.Get(ctx, hasErased(), nil, database.Flag(&any)); err != nil {
		return err
	}
	if !any {
		return fmt.Errorf("cannot add gain: there is no account %q", account)
	}
	return nil
}

func hasErased() statement {
	return statement{Name: "look for erasures", Roles: firewall.Settle, SQL: `SELECT EXISTS (SELECT 1 FROM erased_entries)`}
}

func settleDrops() statement {
	return statement{Name: "settle drops", Roles: firewall.Settle, SQL: `UPDATE settled SET next_drop = $1 WHERE next_drop = $2`}
}

func addGain() statement {
	return statement{Name: "add gain", Roles: firewall.Settle,
		SQL: `INSERT INTO balances (account, milli) SELECT id, $2 FROM accounts WHERE id = $1 ON CONFLICT (account) DO UPDATE SET milli = balances.milli + excluded.milli`}
}

// Balance returns an account's settled milli-stones, 0 when it never had any.
func (b Book) Balance(ctx context.Context, account string) (milli uint64, err error) {
	err = b.tx.Get(ctx, balance(), []any{account}, database.Uint64(&milli))
	return milli, err
}

func balance() statement {
	return statement{Name: "read balance", Roles: firewall.Settle | firewall.Statements, SQL: `SELECT coalesce((SELECT milli FROM balances WHERE account = $1), 0)`}
}
