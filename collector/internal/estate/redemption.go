package estate

import (
	"context"
	"crypto/rand"
	"fmt"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

// Redeem takes an owner's signed request (account.SealRedemptionRequest) for an item at the price in force: it uses the stones and puts the
// request into the outbox. The identifier is that of the entry there; of a request that counted before it comes with ErrSeen.
func (b Book) Redeem(ctx context.Context, id string, request []byte) (redemption int64, err error) {
	p, err := b.asker(ctx, id)
	if err != nil {
		return 0, err
	}
	r, requestID, err := account.OpenRedemptionRequest(p.Key, b.rules.ID, id, request)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if err := b.seen(ctx, findRedemption(), requestID, &redemption); err != nil {
		return redemption, err
	}
	offers, today, err := b.current(ctx, r.Offers, r.Until)
	if err != nil {
		return 0, err
	}
	item := offers.Item(r.Item)
	if item == nil || item.Milli == 0 { // what has no price in stones is a prize
		return 0, fmt.Errorf("%w: %q", ErrNoItem, r.Item)
	}
	if r.Milli != item.Milli || r.Fen != item.Fen {
		return 0, fmt.Errorf("%w: item %q costs %d milli-stones and %d fen, the request says %d and %d", ErrPrice, r.Item, item.Milli, item.Fen, r.Milli, r.Fen)
	}
	if !reward.Redeemable(p.Activated, today) {
		return 0, fmt.Errorf("%w: the account was activated on day %d (0 is never), it is day %d", ErrNotRedeemable, p.Activated, today)
	}
	if item.Limit > 0 {
		var had uint64
		if err := b.tx.Get(ctx, redeemedOf(), []any{id, r.Item}, database.Uint64(&had)); err != nil {
			return 0, err
		}
		if had >= uint64(item.Limit) {
			return 0, fmt.Errorf("%w: item %q was redeemed %d times, at most %d are allowed", ErrLimit, r.Item, had, item.Limit)
		}
	}
	have, err := b.stones(ctx, id)
	if err != nil {
		return 0, err
	}
	if r.Milli > have {
		return 0, fmt.Errorf("%w: item %q costs %d milli-stones, the account has %d", ErrStones, r.Item, r.Milli, have)
	}
	o := account.RequestOpening{Account: id, Request: request}
	rand.Read(o.Salt[:])
	blind, err := o.Blind()
	if err != nil {
		return 0, err
	}
	redemption, err = b.ledger.AddEncoded(ctx, ledger.TypeRedemption, account.Redemption{Blind: blind, Day: today, Milli: r.Milli})
	if err != nil {
		return 0, err
	}
	return redemption, b.tx.ExecOne(ctx, addRedemption(), redemption, o.Salt[:], id, int64(today), int64(offers.Serial), r.Item, int64(r.Milli), int64(r.Fen),
		request, requestID[:])
}

func findRedemption() statement {
	return statement{Name: "find redemption", Roles: firewall.Account, SQL: `SELECT outbox_id FROM redemptions WHERE request_id = $1`}
}

func redeemedOf() statement {
	return statement{Name: "count redemptions of item", Roles: firewall.Account, SQL: `SELECT count(*) FROM redemptions WHERE account = $1 AND item = $2`}
}

func addRedemption() statement {
	return statement{Name: "add redemption", Roles: firewall.Account,
		SQL: `INSERT INTO redemptions (outbox_id, salt, account, day, offers, item, milli, fen, request, request_id)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`}
}
