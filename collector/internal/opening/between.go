package opening

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/ledger"
)

// Between returns the openings of the outbox's rows of a type from one row to another, both included, whether they have numbers or not:
// where an opening says a number, it is the row's identifier. A type that hides nothing has none, and a day that is none opens nothing.
func (r Reader) Between(ctx context.Context, t ledger.Type, first, last int64) (o Openings, err error) {
	switch t {
	case ledger.TypeBinding:
		o.Bindings, err = database.List(ctx, r.tx, bindingsBetween(), scanBinding, first, last)
	case ledger.TypeHandover:
		o.Handovers, err = database.List(ctx, r.tx, handoversBetween(), scanHandover, first, last)
	case ledger.TypeCredit:
		o.Credits, err = database.List(ctx, r.tx, creditsBetween(), scanCredit, first, last)
	case ledger.TypeAccount:
		o.Changes, err = database.List(ctx, r.tx, changesBetween(), scanChange, first, last)
	case ledger.TypeGrant:
		o.Grants, err = database.List(ctx, r.tx, grantsBetween(), scanGrant, first, last)
	case ledger.TypeBox:
		o.Requests, err = database.List(ctx, r.tx, boxesBetween(), scanRequest, first, last)
	case ledger.TypeRedemption:
		o.Requests, err = database.List(ctx, r.tx, redemptionsBetween(), scanRequest, first, last)
	}
	return o, err
}

const (
	selectRow = `SELECT o.id, `
	between   = `o.id >= $1 AND o.id <= $2`
)

func bindingsBetween() statement {
	return statement{Name: "open rows of bindings", Roles: firewall.Settle, SQL: selectRow + fromBindings + `b.first_day <= 4294967295 AND ` + between}
}

func handoversBetween() statement {
	return statement{Name: "open rows of hand-overs", Roles: firewall.Settle, SQL: selectRow + fromHandovers + between}
}

func creditsBetween() statement {
	return statement{Name: "open rows of credits", Roles: firewall.Settle, SQL: selectRow + fromCredits + between}
}

func changesBetween() statement {
	return statement{Name: "open rows of account changes", Roles: firewall.Settle, SQL: selectRow + fromChanges + `c.activated <= 4294967295 AND ` + between}
}

func grantsBetween() statement {
	return statement{Name: "open rows of grants", Roles: firewall.Settle, SQL: selectRow + fromGrants + between}
}

func boxesBetween() statement {
	return statement{Name: "open rows of boxes", Roles: firewall.Settle, SQL: selectRow + fromBoxes + between}
}

func redemptionsBetween() statement {
	return statement{Name: "open rows of redemptions", Roles: firewall.Settle, SQL: selectRow + fromUses + between}
}
