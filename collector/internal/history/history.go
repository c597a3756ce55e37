// Package history reads, among the collector's records, what the ledger says of one account: the keys it was given and its activation, its
// credits, the crystals it was granted, the mine boxes it asked for and what they held, and what it redeemed, with the number of each entry and
// what opens its blind.
//
// It writes nothing, and reads no other account's. Stones of the draws are no events: the ledger names nobody who won. The tables belong to
// package store's schema.
package history

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/wire"
)

type statement = firewall.Statement

// Statements returns all statements of the package.
func Statements() []firewall.Statement {
	return []firewall.Statement{changeEvents(), creditEvents(), grantEvents(), boxEvents(), redemptionEvents(), readBox(), readRedemption(), goods()}
}

// A Reader reads accounts' histories within one transaction.
type Reader struct{ tx *database.Tx }

// In returns the histories as a transaction sees them.
func In(tx *database.Tx) Reader { return Reader{tx} }

// MaxEvents bounds the events and goods that are read at once.
const MaxEvents = 1000

// A Kind says what an Event is.
type Kind string

// The kinds of events.
const (
	KindChange     Kind = "change"
	KindCredit     Kind = "credit"
	KindGrant      Kind = "grant"
	KindBox        Kind = "box"
	KindRedemption Kind = "redemption"
)

// An Event is something that the ledger says of an account. Which fields have a meaning depends on its kind.
type Event struct {
	Kind Kind
	// ID is the entry's in the outbox, Number the one in the ledger, negative while it has none.
	ID, Number int64
	// Name is the kind of a credit's policy, the task, the box or the item.
	Name string
	// Day is the program day: of a credit that from which it counts.
	Day uint32
	// Key is the one that is in force from a change on, and Activated the program day of the account's activation as it is then, 0 for not yet.
	Key       wire.PublicKey
	Activated uint32
	// Km is a credit's.
	Km uint32
	// Crystals are those granted, those that a box gave or, for what it cost, Cost. Milli are the milli-stones that a box gave or that were redeemed,
	// beside Fen.
	Crystals, Cost uint32
	Milli, Fen     uint64
	Offers         uint16 // the serial under which a box or an item was asked for
	Opened         bool   // of a box: it has been opened by the block of the drop Drop
	Drop           uint64
	Goods          string // that a box gave
	Salt           [32]byte
	ECU            []byte // of a credit: the key's identifier and the snapshot where it ends, for its opening
	ToSeq          uint64
	Reference      []byte // of a grant
	Request        []byte // of a box or a redemption: what the owner signed
}

// History returns an account's events whose ID is below before, all where that is 0, newest first, at most limit and MaxEvents.
func (r Reader) History(ctx context.Context, id string, before int64, limit int) ([]Event, error) {
	if before < 0 || limit < 1 {
		return nil, fmt.Errorf("cannot read history: %d events before %d", limit, before)
	}
	before, limit = cmp.Or(before, math.MaxInt64), min(limit, MaxEvents)
	var all []Event
	for _, part := range []struct {
		s   statement
		row func(*Event, database.Scanner) error
	}{{changeEvents(), scanChange}, {creditEvents(), scanCredit}, {grantEvents(), scanGrant}, {boxEvents(), scanBox}, {redemptionEvents(), scanRedemption}} {
		list, err := database.List(ctx, r.tx, part.s, part.row, id, before, limit)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b Event) int { return cmp.Compare(b.ID, a.ID) })
	return all[:min(len(all), limit)], nil
}

func scanChange(e *Event, scan database.Scanner) error {
	e.Kind = KindChange
	return scan(&e.ID, &e.Number, &e.Day, database.Fixed(e.Key[:]), &e.Activated, database.Fixed(e.Salt[:]))
}

func changeEvents() statement {
	return statement{Name: "read changes of account", Roles: firewall.Account | firewall.Statements | firewall.Person,
		SQL: `SELECT c.outbox_id, coalesce(o.number, -1), c.day, c.key, c.activated, c.salt FROM account_changes c JOIN outbox o ON o.id = c.outbox_id
			WHERE c.account = $1 AND c.outbox_id < $2 ORDER BY c.outbox_id DESC LIMIT $3`}
}

func scanCredit(e *Event, scan database.Scanner) error {
	e.Kind = KindCredit
	return scan(&e.ID, &e.Number, &e.Name, &e.Day, &e.Km, database.Fixed(e.Salt[:]), &e.ECU, database.Uint64(&e.ToSeq))
}

func creditEvents() statement {
	return statement{Name: "read credits of account", Roles: firewall.Account | firewall.Statements | firewall.Person,
		SQL: `SELECT c.outbox_id, coalesce(o.number, -1), c.kind, c.effective, c.km, c.salt, c.ecu, c.to_seq FROM credits c JOIN outbox o ON o.id = c.outbox_id
			WHERE c.account = $1 AND c.outbox_id < $2 ORDER BY c.outbox_id DESC LIMIT $3`}
}

func scanGrant(e *Event, scan database.Scanner) error {
	e.Kind = KindGrant
	return scan(&e.ID, &e.Number, &e.Name, &e.Day, &e.Crystals, database.Fixed(e.Salt[:]), &e.Reference)
}

func grantEvents() statement {
	return statement{Name: "read grants of account", Roles: firewall.Account | firewall.Statements | firewall.Person,
		SQL: `SELECT g.outbox_id, coalesce(o.number, -1), g.task, g.day, g.crystals, g.salt, g.reference FROM grants g JOIN outbox o ON o.id = g.outbox_id
			WHERE g.account = $1 AND g.outbox_id < $2 ORDER BY g.outbox_id DESC LIMIT $3`}
}

func scanBox(e *Event, scan database.Scanner) error {
	e.Kind = KindBox
	return scan(&e.ID, &e.Number, &e.Name, &e.Day, &e.Cost, &e.Offers, database.Flag(&e.Opened), database.Uint64(&e.Drop), database.Uint64(&e.Milli), &e.Crystals, &e.Goods,
		database.Fixed(e.Salt[:]), &e.Request)
}

const selectBox = `SELECT b.outbox_id, coalesce(o.number, -1), b.box, b.day, b.cost, b.offers, CASE WHEN b.opened_drop IS NULL THEN 0 ELSE 1 END,
	coalesce(b.opened_drop, 0), coalesce(b.milli, 0), coalesce(b.crystals, 0), coalesce(b.goods, ''), b.salt, b.request FROM boxes b JOIN outbox o ON o.id = b.outbox_id
	WHERE b.account = $1 AND `

func boxEvents() statement {
	return statement{Name: "read boxes of account", Roles: firewall.Account | firewall.Statements | firewall.Person, SQL: selectBox + `b.outbox_id < $2 ORDER BY b.outbox_id DESC LIMIT $3`}
}

func scanRedemption(e *Event, scan database.Scanner) error {
	e.Kind = KindRedemption
	return scan(&e.ID, &e.Number, &e.Name, &e.Day, &e.Milli, &e.Fen, &e.Offers, database.Fixed(e.Salt[:]), &e.Request)
}

const selectRedemption = `SELECT r.outbox_id, coalesce(o.number, -1), r.item, r.day, r.milli, r.fen, r.offers, r.salt, r.request
	FROM redemptions r JOIN outbox o ON o.id = r.outbox_id WHERE r.account = $1 AND `

func redemptionEvents() statement {
	return statement{Name: "read redemptions of account", Roles: firewall.Account | firewall.Statements | firewall.Person, SQL: selectRedemption + `r.outbox_id < $2 ORDER BY r.outbox_id DESC LIMIT $3`}
}

// Box returns an account's box by the identifier that estate.Book.OpenBox gave, or database.ErrNotFound.
func (r Reader) Box(ctx context.Context, id string, box int64) (Event, error) {
	return database.One(ctx, r.tx, readBox(), scanBox, id, box)
}

func readBox() statement {
	return statement{Name: "read box", Roles: firewall.Account, SQL: selectBox + `b.outbox_id = $2`}
}

// Redemption returns an account's redemption by the identifier that estate.Book.Redeem gave, or database.ErrNotFound.
func (r Reader) Redemption(ctx context.Context, id string, redemption int64) (Event, error) {
	return database.One(ctx, r.tx, readRedemption(), scanRedemption, id, redemption)
}

func readRedemption() statement {
	return statement{Name: "read redemption", Roles: firewall.Account, SQL: selectRedemption + `r.outbox_id = $2`}
}

// Goods returns the boxes in which an account found goods, newest first, at most MaxEvents.
func (r Reader) Goods(ctx context.Context, id string) ([]Event, error) {
	return database.List(ctx, r.tx, goods(), scanBox, id, MaxEvents)
}

func goods() statement {
	return statement{Name: "read goods of account", Roles: firewall.Account, SQL: selectBox + `b.goods <> '' ORDER BY b.outbox_id DESC LIMIT $2`}
}
