// Package opening reads, from the collector's records, what the ledger's blinded entries hide: who a binding, a hand-over, a credit, a change
// of an account, a grant and an owner's request are about, their salts, and the secrets behind accounts' pseudonyms. Validators get single ones, the auditor gets all.
//
// It writes nothing: what is opened was put there with its entry, by packages store and estate. Transactions of package store embed a Reader. Whoever gets an
// opening can name the vehicle or owner behind an entry, so only the roles settle, audit and, for the owner, statement may read them. A vehicle gets those of its own
// credits, one claim at a time, for its proofs of inclusion: from the role ingest, which has made them.
package opening

import (
	"context"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/ledger"
)

type statement = firewall.Statement

// Statements returns all statements of the package.
func Statements() []firewall.Statement {
	return []firewall.Statement{
		accounts(), bindingOpenings(), handoverOpenings(), creditOpenings(), creditOpening(), bindingOpening(), handoverOpening(), accountSecret(), logged(),
		changeOpenings(), grantOpenings(), boxOpenings(), redemptionOpenings(), changeOpening(), grantOpening(), requestOpening(), claimedCredits(),
		bindingsBetween(), handoversBetween(), creditsBetween(), changesBetween(), grantsBetween(), boxesBetween(), redemptionsBetween(),
		bindingsOf(), handoversOf(), creditsOf(), changesOf(), grantsOf(), boxesOf(), redemptionsOf(),
	}
}

// A Reader reads openings within one transaction.
type Reader struct{ tx *database.Tx }

// In returns the openings as a transaction sees them.
func In(tx *database.Tx) Reader { return Reader{tx} }

// An Account owns vehicles and stones.
type Account struct {
	// ID is opaque: it says nothing about the owner.
	ID string
	// Secret blinds the account's pseudonyms.
	Secret [32]byte
}

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

// An OpenedHandover is a hand-over's opening and the number of its entry in the ledger.
type OpenedHandover struct {
	Number  uint64
	Opening ledger.HandoverOpening
}

// Openings are what validators and the auditor need to see behind the ledger's blinded entries.
type Openings struct {
	Accounts  []Account
	Bindings  []OpenedBinding
	Handovers []OpenedHandover
	Credits   []OpenedCredit
	Changes   []OpenedChange
	Grants    []OpenedGrant
	Requests  []OpenedRequest
}

const (
	selectAccount = `SELECT id, secret FROM accounts `
	selectBinding = `SELECT o.number, ` + fromBindings
	fromBindings  = `b.salt, b.vehicle, b.account, k.public, b.first_seq, b.first_day, b.first_commitment, b.first_signature
		FROM bindings b JOIN outbox o ON o.id = b.outbox_id JOIN ecu_keys k ON k.id = b.ecu WHERE `
	selectHandover = `SELECT o.number, ` + fromHandovers
	fromHandovers  = `h.salt, h.ecu, h.cut, h.revoked FROM handovers h JOIN outbox o ON o.id = h.outbox_id WHERE `
	selectCredit   = `SELECT o.number, ` + fromCredits
	fromCredits    = `c.salt, c.account, c.ecu, c.to_seq, c.kind
		FROM credits c JOIN outbox o ON o.id = c.outbox_id WHERE `
)

func scanAccount(a *Account, scan database.Scanner) error {
	return scan(&a.ID, database.Fixed(a.Secret[:]))
}

func scanBinding(b *OpenedBinding, scan database.Scanner) error {
	p := &b.Opening
	return scan(database.Uint64(&b.Number), database.Fixed(p.Salt[:]), &p.Vehicle, &p.Account, database.Fixed(p.ECU[:]),
		database.Uint64(&p.Head.Seq), &p.Head.Day, database.Fixed(p.Head.Commitment[:]), database.Fixed(p.Signature[:]))
}

func scanHandover(h *OpenedHandover, scan database.Scanner) error {
	p := &h.Opening
	return scan(database.Uint64(&h.Number), database.Fixed(p.Salt[:]), database.Fixed(p.ECU[:]), database.Uint64(&p.Cut), database.Flag(&p.Revoked))
}

func scanCredit(c *OpenedCredit, scan database.Scanner) error {
	p := &c.Opening
	return scan(database.Uint64(&c.Number), database.Fixed(p.Salt[:]), &p.Account, database.Fixed(p.ECU[:]),
		database.Uint64(&p.ToSeq), &p.Kind)
}

// Openings returns the openings of all numbered entries, each kind in the order of their numbers, and all accounts.
func (r Reader) Openings(ctx context.Context) (o Openings, err error) {
	if o.Accounts, err = database.List(ctx, r.tx, accounts(), scanAccount); err != nil {
		return Openings{}, err
	}
	if o.Bindings, err = database.List(ctx, r.tx, bindingOpenings(), scanBinding); err != nil {
		return Openings{}, err
	}
	if o.Handovers, err = database.List(ctx, r.tx, handoverOpenings(), scanHandover); err != nil {
		return Openings{}, err
	}
	if o.Credits, err = database.List(ctx, r.tx, creditOpenings(), scanCredit); err != nil {
		return Openings{}, err
	}
	if err := r.estates(ctx, &o); err != nil {
		return Openings{}, err
	}
	return o, nil
}

const numbered = `o.number IS NOT NULL ORDER BY o.number`

func accounts() statement {
	return statement{Name: "read accounts", Roles: firewall.Audit, SQL: selectAccount + `ORDER BY id`}
}

func bindingOpenings() statement {
	return statement{Name: "open bindings", Roles: firewall.Audit, SQL: selectBinding + numbered}
}

func handoverOpenings() statement {
	return statement{Name: "open hand-overs", Roles: firewall.Audit, SQL: selectHandover + numbered}
}

func creditOpenings() statement {
	return statement{Name: "open credits", Roles: firewall.Audit, SQL: selectCredit + numbered}
}

// CreditOpening returns the opening of the credit whose entry has a number, or ErrNotFound.
func (r Reader) CreditOpening(ctx context.Context, number uint64) (ledger.CreditOpening, error) {
	c, err := database.One(ctx, r.tx, creditOpening(), scanCredit, int64(number))
	return c.Opening, err
}

func creditOpening() statement {
	return statement{Name: "open credit", Roles: firewall.Settle, SQL: selectCredit + `o.number = $1`}
}

// BindingOpening returns the opening of the binding whose entry has a number, or ErrNotFound.
func (r Reader) BindingOpening(ctx context.Context, number uint64) (ledger.BindingOpening, error) {
	b, err := database.One(ctx, r.tx, bindingOpening(), scanBinding, int64(number))
	return b.Opening, err
}

func bindingOpening() statement {
	return statement{Name: "open binding", Roles: firewall.Settle, SQL: selectBinding + `o.number = $1`}
}

// HandoverOpening returns the opening of the hand-over whose entry has a number, or ErrNotFound.
func (r Reader) HandoverOpening(ctx context.Context, number uint64) (ledger.HandoverOpening, error) {
	h, err := database.One(ctx, r.tx, handoverOpening(), scanHandover, int64(number))
	return h.Opening, err
}

func handoverOpening() statement {
	return statement{Name: "open hand-over", Roles: firewall.Settle, SQL: selectHandover + `o.number = $1`}
}

// AccountSecret returns what an account's pseudonyms are made from, or ErrNotFound.
func (r Reader) AccountSecret(ctx context.Context, id string) ([32]byte, error) {
	a, err := database.One(ctx, r.tx, accountSecret(), scanAccount, id)
	return a.Secret, err
}

func accountSecret() statement {
	return statement{Name: "read account's secret", Roles: firewall.Settle | firewall.Statements | firewall.Person, SQL: selectAccount + `WHERE id = $1`}
}
