// Package estate keeps, among the collector's records, what an account is and holds beside its mileage: its key, when it was activated, its
// crystals, the mine boxes it asks for, and the stones it uses.
//
// Each change is decided and written within the caller's transaction, together with its entry for the ledger, by the rules that those who
// replay the ledger check again. There is one writer at a time, so that what was read is what is spent: nothing is spent twice, however many
// ask at once. What a box holds is known from the block that opens it (package unboxing); until then its worst counts, so that no order in
// which entries are numbered makes the ledger refuse what was accepted here. What is refused has a reason that callers can tell by its
// sentinel, and changes nothing.
//
// The package opens no box and signs nothing, and knows no clock: the day is that of the ledger's next drop. The tables belong to package
// store's schema, whose transactions give a Book.
package estate

import (
	"context"
	"errors"
	"fmt"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Why a change is refused. Each refusal says more and wraps one of these.
var (
	// ErrNoAccount is for an account that is not there, ErrNoKey for one that has no key to ask with.
	ErrNoAccount = errors.New("no such account")
	ErrNoKey     = errors.New("the account has no key")
	// ErrKey is for a key that is none.
	ErrKey = errors.New("unusable key")
	// ErrRequest is for an owner's request that does not verify, or is for another program or account.
	ErrRequest = errors.New("unusable request")
	// ErrSeen is for what was asked before: the first result comes with it.
	ErrSeen = errors.New("asked before")
	// ErrOffers is for offers that are not those in force, ErrPrice for a price that is not theirs.
	ErrOffers = errors.New("other offers are in force")
	ErrPrice  = errors.New("the price is another")
	// ErrNoTask, ErrNoBox and ErrNoItem are for what the offers in force lack.
	ErrNoTask = errors.New("no such task")
	ErrNoBox  = errors.New("no such mine box")
	ErrNoItem = errors.New("no such item")
	// ErrUnproven is for a use of a feature that no credit proves, or none that crystals were not granted for.
	ErrUnproven = errors.New("no credit proves it")
	// ErrCrystals and ErrStones are for what is not there, ErrFull for crystals beyond what an account may hold.
	ErrCrystals = errors.New("not so many crystals")
	ErrStones   = errors.New("not so many stones")
	ErrFull     = errors.New("too many crystals")
	// ErrLimit is for a task's or an item's limit, ErrPool for a pool that cannot pay the worst case.
	ErrLimit = errors.New("the limit is reached")
	ErrPool  = errors.New("the pool cannot pay it")
	// ErrNotRedeemable is for an account that is not activated, or not for long enough.
	ErrNotRedeemable = errors.New("not redeemable yet")
)

type statement = firewall.Statement

// Statements returns all statements of the package.
func Statements() []firewall.Statement {
	return []firewall.Statement{
		hasEstate(), lastChange(), addChange(), isOwner(), crystalsOf(), setCrystals(), settledStones(), boxStones(), usedStones(),
		addGrant(), findGrant(), grantedFor(), ungranted(), featureCredit(), backOf(),
		readPool(), setPool(), addBox(), findBox(), addRedemption(), findRedemption(), redeemedOf(),
	}
}

// A Ledger takes entries and knows those that have a number. outbox.Box is one.
type Ledger interface {
	AddEncoded(ctx context.Context, t ledger.Type, body any) (id int64, err error)
	LastEntries(ctx context.Context, t ledger.Type, limit int) ([]ledger.Entry, error)
}

// Rules are what the program's document fixes: its identifier and content. They are required where something is decided.
type Rules struct {
	Program *terms.Program
	ID      wire.Hash
}

// A Book is what accounts hold, within one transaction.
type Book struct {
	tx     *database.Tx
	ledger Ledger
	rules  Rules
}

// In returns what accounts hold as a transaction sees it.
func In(tx *database.Tx, l Ledger, r Rules) Book { return Book{tx, l, r} }

// Today returns the log's day: that of the next drop.
func (b Book) Today(ctx context.Context) (uint32, error) {
	if b.rules.Program == nil {
		return 0, errors.New("cannot tell the log's day: the program's rules are missing")
	}
	drop := uint64(0)
	last, err := b.ledger.LastEntries(ctx, ledger.TypeBlock, 1)
	if err != nil {
		return 0, err
	}
	if len(last) > 0 {
		sealed, err := last[0].Sealed()
		if err != nil {
			return 0, err
		}
		block, err := ledger.DecodeBlock(sealed.Payload)
		if err != nil {
			return 0, err
		}
		drop = block.Drop + 1
	}
	t := b.rules.Program.Timing
	return t.Day(t.DropTime(drop)), nil
}

// Offers returns the offers in force on the log's day, nil when there are none, and the day.
func (b Book) Offers(ctx context.Context) (o *cultivation.Offers, today uint32, err error) {
	if today, err = b.Today(ctx); err != nil {
		return nil, 0, err
	}
	// Serials rise with numbers: of those that have begun, the newest is in force.
	o, err = b.offers(ctx, func(o *cultivation.Offers) bool { return o.FromDay <= today })
	return o, today, err
}

// inForce does what Offers does and refuses to go on without any.
func (b Book) inForce(ctx context.Context) (*cultivation.Offers, uint32, error) {
	o, today, err := b.Offers(ctx)
	if err == nil && o == nil {
		err = fmt.Errorf("%w: none on day %d", ErrOffers, today)
	}
	return o, today, err
}

// offers returns the newest numbered offers that are wanted, or nil.
func (b Book) offers(ctx context.Context, wanted func(*cultivation.Offers) bool) (*cultivation.Offers, error) {
	for limit, seen := 2, 0; ; limit *= 8 {
		list, err := b.ledger.LastEntries(ctx, ledger.TypeOffers, limit)
		if err != nil {
			return nil, err
		}
		for _, e := range list[seen:] {
			o, err := cultivation.OpenOffers(b.rules.Program.Policy, b.rules.ID, e.Body)
			if err != nil {
				return nil, fmt.Errorf("cannot read offers of entry %d: %w", e.Number, err)
			}
			if wanted(o) {
				return o, nil
			}
		}
		if seen = len(list); seen < limit {
			return nil, nil
		}
	}
}
