package opening

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
)

// keysOf selects the keys that were ever bound to an account.
const keysOf = `IN (SELECT ecu FROM bindings WHERE account = $1)`

// OpeningsOf returns the openings of an account's numbered entries, and of all bindings and hand-overs of the keys that were ever bound to it,
// each in the order of numbers but for requests, of which boxes come first. Secrets are not among them.
func (r Reader) OpeningsOf(ctx context.Context, account string) (o Openings, err error) {
	if o.Bindings, err = database.List(ctx, r.tx, bindingsOf(), scanBinding, account); err != nil {
		return Openings{}, err
	}
	if o.Handovers, err = database.List(ctx, r.tx, handoversOf(), scanHandover, account); err != nil {
		return Openings{}, err
	}
	if o.Credits, err = database.List(ctx, r.tx, creditsOf(), scanCredit, account); err != nil {
		return Openings{}, err
	}
	if o.Changes, err = database.List(ctx, r.tx, changesOf(), scanChange, account); err != nil {
		return Openings{}, err
	}
	if o.Grants, err = database.List(ctx, r.tx, grantsOf(), scanGrant, account); err != nil {
		return Openings{}, err
	}
	if o.Requests, err = database.List(ctx, r.tx, boxesOf(), scanRequest, account); err != nil {
		return Openings{}, err
	}
	used, err := database.List(ctx, r.tx, redemptionsOf(), scanRequest, account)
	o.Requests = append(o.Requests, used...)
	return o, err
}

func bindingsOf() statement {
	return statement{Name: "open bindings of an account's keys", Roles: firewall.Statements, SQL: selectBinding + `b.ecu ` + keysOf + ` AND ` + numbered}
}

func handoversOf() statement {
	return statement{Name: "open hand-overs of an account's keys", Roles: firewall.Statements, SQL: selectHandover + `h.ecu ` + keysOf + ` AND ` + numbered}
}

func creditsOf() statement {
	return statement{Name: "open an account's credits", Roles: firewall.Statements, SQL: selectCredit + `c.account = $1 AND ` + numbered}
}

func changesOf() statement {
	return statement{Name: "open an account's changes", Roles: firewall.Statements, SQL: selectChange + `c.account = $1 AND ` + numbered}
}

func grantsOf() statement {
	return statement{Name: "open an account's grants", Roles: firewall.Statements, SQL: selectGrant + `g.account = $1 AND ` + numbered}
}

func boxesOf() statement {
	return statement{Name: "open an account's box requests", Roles: firewall.Statements, SQL: selectBox + `b.account = $1 AND ` + numbered}
}

func redemptionsOf() statement {
	return statement{Name: "open an account's redemption requests", Roles: firewall.Statements, SQL: selectUse + `r.account = $1 AND ` + numbered}
}
