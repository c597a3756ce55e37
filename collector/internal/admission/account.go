package admission

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
)

// An Owner is an account as who administers sees it: without key and secret, and without what it holds.
type Owner struct {
	ID string
	// Activated is the program day on which the account was activated, 0 for not yet.
	Activated uint32
	// Cars is the number of vehicles whose ECU is bound to the account.
	Cars uint32
}

func scanOwner(o *Owner, scan database.Scanner) error { return scan(&o.ID, &o.Activated, &o.Cars) }

const selectOwner = `SELECT a.id,
	coalesce((SELECT c.activated FROM account_changes c WHERE c.account = a.id ORDER BY c.outbox_id DESC LIMIT 1), 0),
	(SELECT count(*) FROM bindings b WHERE b.account = a.id AND b.closed = 0) FROM accounts a `

// Owners returns all accounts in the order of their names.
func (b Book) Owners(ctx context.Context) ([]Owner, error) {
	return database.List(ctx, b.tx, owners(), scanOwner)
}

func owners() statement {
	return statement{Name: "read owners", Roles: firewall.Admin, SQL: selectOwner + `ORDER BY a.id`}
}

// Owner returns an account, or ErrNotFound.
func (b Book) Owner(ctx context.Context, id string) (Owner, error) {
	return database.One(ctx, b.tx, owner(), scanOwner, id)
}

func owner() statement {
	return statement{Name: "read owner", Roles: firewall.Admin, SQL: selectOwner + `WHERE a.id = $1`}
}

// OwnedVehicles returns the vehicles that are registered for an account in the order of their names.
func (b Book) OwnedVehicles(ctx context.Context, account string) (ids []string, err error) {
	return database.List(ctx, b.tx, ownedVehicles(), func(id *string, scan database.Scanner) error { return scan(id) }, account)
}

func ownedVehicles() statement {
	return statement{Name: "read account's vehicles", Roles: firewall.Admin, SQL: `SELECT id FROM vehicles WHERE account = $1 ORDER BY id`}
}

// SetOwner registers a vehicle for another account, which must be there. What its ECU's key earns is its bindings' question.
func (b Book) SetOwner(ctx context.Context, vehicle, account string) error {
	return b.tx.ExecOne(ctx, setOwner(), account, vehicle)
}

func setOwner() statement {
	return statement{Name: "set vehicle's account", Roles: firewall.Admin, SQL: `UPDATE vehicles SET account = $1 WHERE id = $2`}
}
