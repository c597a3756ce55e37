package store

import (
	"context"

	"rawstone/pkg/ledger"
)

// CreditOpening returns the opening of the credit whose entry has a number, or ErrNotFound.
func (t *Tx) CreditOpening(ctx context.Context, number uint64) (ledger.CreditOpening, error) {
	c, err := one(ctx, t, "credit", selectCreditOpening+`o.number = $1`, []any{int64(number)}, scanOpening)
	return c.Opening, err
}

// BindingOpening returns the opening of the binding whose entry has a number, or ErrNotFound.
func (t *Tx) BindingOpening(ctx context.Context, number uint64) (ledger.BindingOpening, error) {
	b, err := one(ctx, t, "binding", selectBindingOpening+`o.number = $1`, []any{int64(number)}, scanBinding)
	return b.Opening, err
}

// AccountSecret returns what an account's pseudonyms are made from, or ErrNotFound.
func (t *Tx) AccountSecret(ctx context.Context, account string) (secret [32]byte, err error) {
	err = t.get(ctx, "account", `SELECT secret FROM accounts WHERE id = $1`, []any{account}, fixed(secret[:]))
	return secret, err
}
