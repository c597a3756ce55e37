// Package handover closes, among the collector's records, what an ECU key was bound to: when a car or its electronics go to somebody else, and when a
// key is revoked.
//
// What is closed stays closed, and nothing beyond the cut counts. The tables belong to package store's schema, whose transactions embed a
// Desk; bindings are made there.
package handover

import (
	"context"
	"crypto/rand"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/ledger"
)

type statement = firewall.Statement

// Statements returns all statements of the package.
func Statements() []firewall.Statement {
	return []firewall.Statement{revokeECU(), cutBindings(), closeBinding(), addHandover()}
}

// A Ledger takes entries. outbox.Box is one.
type Ledger interface {
	AddEncoded(ctx context.Context, t ledger.Type, body any) (id int64, err error)
}

// A Desk closes bindings within one transaction.
type Desk struct {
	tx     *database.Tx
	ledger Ledger
}

// In returns a Desk for a transaction.
func In(tx *database.Tx, l Ledger) Desk { return Desk{tx, l} }

// CloseBinding closes the open binding of a key at a cut, keeps the hand-over's opening and puts its blinded form into the outbox. With
// Revoked the key is revoked too: its last binding is cut even when it was closed before, and all earlier ones at their heads.
func (d Desk) CloseBinding(ctx context.Context, o ledger.HandoverOpening) error {
	rand.Read(o.Salt[:])
	blind, err := o.Blind()
	if err != nil {
		return err
	}
	entry, err := d.ledger.AddEncoded(ctx, ledger.TypeHandover, ledger.Handover{Blind: blind})
	if err != nil {
		return err
	}
	if o.Revoked {
		if err := d.tx.ExecOne(ctx, revokeECU(), o.ECU[:]); err != nil {
			return err
		}
		if _, err := d.tx.Exec(ctx, cutBindings(), o.ECU[:]); err != nil {
			return err
		}
	}
	if err := d.tx.ExecOne(ctx, closeBinding(), int64(o.Cut), o.ECU[:], database.Bit(o.Revoked)); err != nil {
		return err
	}
	return d.tx.ExecOne(ctx, addHandover(), entry, o.ECU[:], int64(o.Cut), database.Bit(o.Revoked), o.Salt[:])
}

func revokeECU() statement {
	return statement{Name: "revoke ECU key", Roles: firewall.Admin, SQL: `UPDATE ecu_keys SET revoked = 1 WHERE id = $1 AND revoked = 0`}
}

func cutBindings() statement {
	return statement{Name: "cut closed bindings", Roles: firewall.Admin, SQL: `UPDATE bindings SET cut = head_seq WHERE ecu = $1 AND closed = 1`}
}

func closeBinding() statement {
	return statement{Name: "close binding", Roles: firewall.Admin,
		SQL: `UPDATE bindings SET closed = 1, cut = $1
			WHERE outbox_id = (SELECT max(outbox_id) FROM bindings WHERE ecu = $2) AND (closed = 0 OR $3 = 1)`}
}

func addHandover() statement {
	return statement{Name: "add hand-over", Roles: firewall.Admin,
		SQL: `INSERT INTO handovers (outbox_id, ecu, cut, revoked, salt) VALUES ($1, $2, $3, $4, $5)`}
}
