package opening

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/account"
)

// An OpenedChange is the opening of a change of an account and the number of its entry in the ledger.
type OpenedChange struct {
	Number  uint64
	Opening account.ChangeOpening
}

// An OpenedGrant is a grant's opening and the number of its entry in the ledger.
type OpenedGrant struct {
	Number  uint64
	Opening account.GrantOpening
}

// An OpenedRequest is the opening of a box or a redemption and the number of its entry in the ledger.
type OpenedRequest struct {
	Number  uint64
	Opening account.RequestOpening
}

const (
	selectChange = `SELECT o.number, ` + fromChanges
	fromChanges  = `c.salt, c.account, c.key, c.activated
		FROM account_changes c JOIN outbox o ON o.id = c.outbox_id WHERE `
	selectGrant = `SELECT o.number, ` + fromGrants
	fromGrants  = `g.salt, g.account, g.task, g.reference FROM grants g JOIN outbox o ON o.id = g.outbox_id WHERE `
	selectBox   = `SELECT o.number, ` + fromBoxes
	fromBoxes   = `b.salt, b.account, b.request FROM boxes b JOIN outbox o ON o.id = b.outbox_id WHERE `
	selectUse   = `SELECT o.number, ` + fromUses
	fromUses    = `r.salt, r.account, r.request FROM redemptions r JOIN outbox o ON o.id = r.outbox_id WHERE `
)

func scanChange(c *OpenedChange, scan database.Scanner) error {
	p := &c.Opening
	return scan(database.Uint64(&c.Number), database.Fixed(p.Salt[:]), &p.Account, database.Fixed(p.Key[:]), &p.Activated)
}

func scanGrant(g *OpenedGrant, scan database.Scanner) error {
	p := &g.Opening
	return scan(database.Uint64(&g.Number), database.Fixed(p.Salt[:]), &p.Account, &p.Task, database.Fixed(p.Reference[:]))
}

func scanRequest(r *OpenedRequest, scan database.Scanner) error {
	p := &r.Opening
	return scan(database.Uint64(&r.Number), database.Fixed(p.Salt[:]), &p.Account, &p.Request)
}

// estates reads what owners asked for.
func (r Reader) estates(ctx context.Context, o *Openings) (err error) {
	if o.Changes, err = database.List(ctx, r.tx, changeOpenings(), scanChange); err != nil {
		return err
	}
	if o.Grants, err = database.List(ctx, r.tx, grantOpenings(), scanGrant); err != nil {
		return err
	}
	if o.Requests, err = database.List(ctx, r.tx, boxOpenings(), scanRequest); err != nil {
		return err
	}
	used, err := database.List(ctx, r.tx, redemptionOpenings(), scanRequest)
	o.Requests = append(o.Requests, used...)
	return err
}

func changeOpenings() statement {
	return statement{Name: "open account changes", Roles: firewall.Audit, SQL: selectChange + numbered}
}

func grantOpenings() statement {
	return statement{Name: "open grants", Roles: firewall.Audit, SQL: selectGrant + numbered}
}

func boxOpenings() statement {
	return statement{Name: "open box requests", Roles: firewall.Audit, SQL: selectBox + numbered}
}

func redemptionOpenings() statement {
	return statement{Name: "open redemption requests", Roles: firewall.Audit, SQL: selectUse + numbered}
}

// ChangeOpening returns the opening of the change of an account whose entry has a number, or ErrNotFound.
func (r Reader) ChangeOpening(ctx context.Context, number uint64) (account.ChangeOpening, error) {
	c, err := database.One(ctx, r.tx, changeOpening(), scanChange, int64(number))
	return c.Opening, err
}

func changeOpening() statement {
	return statement{Name: "open account change", Roles: firewall.Settle, SQL: selectChange + `o.number = $1`}
}

// GrantOpening returns the opening of the grant whose entry has a number, or ErrNotFound.
func (r Reader) GrantOpening(ctx context.Context, number uint64) (account.GrantOpening, error) {
	g, err := database.One(ctx, r.tx, grantOpening(), scanGrant, int64(number))
	return g.Opening, err
}

func grantOpening() statement {
	return statement{Name: "open grant", Roles: firewall.Settle, SQL: selectGrant + `o.number = $1`}
}

// RequestOpening returns the opening of the box or redemption whose entry has a number, or ErrNotFound.
func (r Reader) RequestOpening(ctx context.Context, number uint64) (account.RequestOpening, error) {
	q, err := database.One(ctx, r.tx, requestOpening(), scanRequest, int64(number))
	return q.Opening, err
}

func requestOpening() statement {
	return statement{Name: "open owner's request", Roles: firewall.Settle, SQL: selectBox + `o.number = $1 UNION ALL ` + selectUse + `o.number = $1`}
}
