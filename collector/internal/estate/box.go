package estate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/account"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// asker returns what an account's request is checked with.
func (b Book) asker(ctx context.Context, id string) (Profile, error) {
	p, err := b.identity(ctx, id)
	if err == nil && p.Key == (wire.PublicKey{}) {
		err = fmt.Errorf("cannot accept request: %w", ErrNoKey)
	}
	return p, err
}

// current returns the offers in force and the log's day, where a request under these offers is good until a day that has not passed.
func (b Book) current(ctx context.Context, serial uint16, until uint32) (*cultivation.Offers, uint32, error) {
	offers, today, err := b.inForce(ctx)
	if err != nil {
		return nil, 0, err
	}
	if today > until {
		return nil, 0, fmt.Errorf("%w: it is good until day %d, it is day %d", ErrRequest, until, today)
	}
	if serial != offers.Serial {
		return nil, 0, fmt.Errorf("%w: the request names %d, in force are %d", ErrOffers, serial, offers.Serial)
	}
	return offers, today, nil
}

// OpenBox takes an owner's signed request (account.SealBoxRequest): it spends the crystals, reserves the worst case from the pool and puts
// the request into the outbox. The identifier is that of the entry there; of a request that counted before it comes with ErrSeen.
func (b Book) OpenBox(ctx context.Context, id string, request []byte) (box int64, err error) {
	p, err := b.asker(ctx, id)
	if err != nil {
		return 0, err
	}
	r, requestID, err := account.OpenBoxRequest(p.Key, b.rules.ID, id, request)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if err := b.seen(ctx, findBox(), requestID, &box); err != nil {
		return box, err
	}
	offers, today, err := b.current(ctx, r.Offers, r.Until)
	if err != nil {
		return 0, err
	}
	offered := offers.Box(r.Box)
	if offered == nil {
		return 0, fmt.Errorf("%w: %q", ErrNoBox, r.Box)
	}
	kind, err := offered.Box()
	if err != nil {
		return 0, err
	}
	owner, err := b.owner(ctx, id)
	if err != nil {
		return 0, err
	}
	worst, back := kind.Worst(owner), back(offered, owner)
	if err := b.spend(ctx, id, kind.Cost()); err != nil {
		return 0, err
	}
	if err := b.reserve(ctx, worst); err != nil {
		return 0, err
	}
	o := account.RequestOpening{Account: id, Request: request}
	rand.Read(o.Salt[:])
	blind, err := o.Blind()
	if err != nil {
		return 0, err
	}
	box, err = b.ledger.AddEncoded(ctx, ledger.TypeBox, account.Box{Blind: blind, Day: today, Offers: offers.Serial, Box: r.Box, Owner: owner})
	if err != nil {
		return 0, err
	}
	return box, b.tx.ExecOne(ctx, addBox(), box, o.Salt[:], id, int64(today), int64(offers.Serial), r.Box, database.Bit(owner), request, requestID[:],
		int64(kind.Cost()), int64(worst), int64(back))
}

// seen returns ErrSeen for a request that is there, with its entry.
func (b Book) seen(ctx context.Context, find statement, request wire.Hash, entry *int64) error {
	err := b.tx.Get(ctx, find, []any{request[:]}, entry)
	if errors.Is(err, database.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("cannot accept request: %w", ErrSeen)
	}
	return err
}

// back returns the most crystals that a box may give.
func back(b *cultivation.OfferedBox, owner bool) (most uint32) {
	odds := b.Others
	if owner {
		odds = b.Owners
	}
	for _, o := range odds {
		most = max(most, o.Prize.Crystals)
	}
	return most
}

func (b Book) spend(ctx context.Context, id string, n uint32) error {
	have, err := b.crystals(ctx, id)
	if err != nil {
		return err
	}
	after, err := have.Spend(n)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCrystals, err)
	}
	return b.setCrystals(ctx, id, after)
}

// Pool returns the pool that boxes are paid from.
func (b Book) Pool(ctx context.Context) (cultivation.Pool, error) {
	var issued, reserved uint64
	if err := b.tx.Get(ctx, readPool(), nil, database.Uint64(&issued), database.Uint64(&reserved)); err != nil {
		return cultivation.Pool{}, err
	}
	return cultivation.NewPool(issued, reserved)
}

func (b Book) setPool(ctx context.Context, p cultivation.Pool) error {
	return b.tx.ExecOne(ctx, setPool(), int64(p.Issued()), int64(p.Reserved()))
}

func (b Book) reserve(ctx context.Context, worst uint64) error {
	pool, err := b.Pool(ctx)
	if err != nil {
		return err
	}
	after, err := pool.Reserve(worst)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPool, err)
	}
	if after == pool {
		return nil
	}
	return b.setPool(ctx, after)
}

func readPool() statement {
	return statement{Name: "read pool", Roles: firewall.Account, SQL: `SELECT issued, reserved FROM pool WHERE id = 1`}
}

func setPool() statement {
	return statement{Name: "set pool", Roles: firewall.Account, SQL: `UPDATE pool SET issued = $1, reserved = $2 WHERE id = 1`}
}

func findBox() statement {
	return statement{Name: "find box request", Roles: firewall.Account, SQL: `SELECT outbox_id FROM boxes WHERE request_id = $1`}
}

func addBox() statement {
	return statement{Name: "add box request", Roles: firewall.Account,
		SQL: `INSERT INTO boxes (outbox_id, salt, account, day, offers, box, owner, request, request_id, cost, worst, back)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`}
}
