package store

import (
	"context"

	"rawstone/pkg/ledger"
)

// An OpenedBinding is a binding's opening and the number of its entry in the ledger.
type OpenedBinding struct {
	Number  uint64
	Opening ledger.BindingOpening
}

// An OpenedCredit is a credit's opening and the number of its entry in the ledger.
type OpenedCredit struct {
	Number  uint64
	Opening ledger.CreditOpening
}

// Openings are what validators and the auditor need to see behind the ledger's blinded entries.
type Openings struct {
	Accounts []Account
	Bindings []OpenedBinding
	Credits  []OpenedCredit
}

const (
	selectBindingOpening = `SELECT o.number, b.salt, b.vehicle, b.account, k.public, b.head_seq, b.head_day, b.head_commitment
		FROM bindings b JOIN outbox o ON o.id = b.outbox_id JOIN ecu_keys k ON k.id = b.ecu WHERE `
	selectCreditOpening = `SELECT o.number, c.salt, c.account, c.ecu, c.to_seq, c.kind
		FROM credits c JOIN outbox o ON o.id = c.outbox_id WHERE `
)

func scanBinding(b *OpenedBinding, scan scanner) error {
	p := &b.Opening
	return scan(seq{&b.Number}, fixed(p.Salt[:]), &p.Vehicle, &p.Account, fixed(p.ECU[:]), seq{&p.Head.Seq}, &p.Head.Day,
		fixed(p.Head.Commitment[:]))
}

func scanOpening(c *OpenedCredit, scan scanner) error {
	p := &c.Opening
	return scan(seq{&c.Number}, fixed(p.Salt[:]), &p.Account, fixed(p.ECU[:]), seq{&p.ToSeq}, &p.Kind)
}

// Openings returns the openings of all numbered entries, in the order of their numbers, and all accounts.
func (t *Tx) Openings(ctx context.Context) (o Openings, err error) {
	o.Accounts, err = list(ctx, t, "accounts", `SELECT id, secret FROM accounts ORDER BY id`, nil,
		func(a *Account, scan scanner) error { return scan(&a.ID, fixed(a.Secret[:])) })
	if err != nil {
		return Openings{}, err
	}
	if o.Bindings, err = list(ctx, t, "bindings", selectBindingOpening+`o.number IS NOT NULL ORDER BY o.number`, nil, scanBinding); err != nil {
		return Openings{}, err
	}
	if o.Credits, err = list(ctx, t, "credits", selectCreditOpening+`o.number IS NOT NULL ORDER BY o.number`, nil, scanOpening); err != nil {
		return Openings{}, err
	}
	return o, nil
}
