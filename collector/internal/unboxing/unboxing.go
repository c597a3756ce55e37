// Package unboxing opens, among the collector's records, the mine boxes that wait for a block: what each holds follows from the request's number
// and the seed of the second block after it, as everybody who replays the ledger finds too.
//
// The settler calls it in the transaction that makes the block final, so that a block and what its seed opens are on disk together or
// not at all. The package decides nothing, and refuses a block that says something else of the pool than the records do. The tables
// belong to package store's schema and are filled by package estate.
package unboxing

import (
	"context"
	"fmt"
	"slices"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

type statement = firewall.Statement

// Statements returns all statements of the package.
func Statements() []firewall.Statement {
	return []firewall.Statement{closedBoxes(), openBox(), pool(), releasePool(), crystals(), unnumbered(), giveCrystals()}
}

// A Ledger knows the entries that have a number. outbox.Box is one.
type Ledger interface {
	LastEntries(ctx context.Context, t ledger.Type, limit int) ([]ledger.Entry, error)
}

// A Hand opens boxes within one transaction.
type Hand struct {
	tx     *database.Tx
	ledger Ledger
}

// In returns a Hand for a transaction.
func In(tx *database.Tx, l Ledger) Hand { return Hand{tx, l} }

// A closed box waits for a block.
type closed struct {
	id      int64
	number  uint64
	account string
	offers  uint16
	box     string
	owner   bool
	worst   uint64
}

// OpenBoxes opens, for the settler, the boxes that wait and stand before the last block numbered below a block's own number: it keeps what each holds, gives
// back what the pool reserved for it, and adds the crystals that it gives. It belongs into the transaction that makes the block final; a
// second call opens nothing more. The program and its identifier are those of the log. It refuses a block that says something else of the
// pool.
func (h Hand) OpenBoxes(ctx context.Context, p *terms.Program, id wire.Hash, block *ledger.Block, below uint64) error {
	blocks, err := h.ledger.LastEntries(ctx, ledger.TypeBlock, 2) // the block itself may be there already
	if err != nil {
		return err
	}
	blocks = slices.DeleteFunc(blocks, func(e ledger.Entry) bool { return e.Number >= below })
	if len(blocks) == 0 {
		return nil
	}
	boxes, err := database.List(ctx, h.tx, closedBoxes(), func(c *closed, scan database.Scanner) error {
		return scan(&c.id, database.Uint64(&c.number), &c.account, &c.offers, &c.box, database.Flag(&c.owner), database.Uint64(&c.worst))
	}, int64(blocks[0].Number))
	if err != nil || len(boxes) == 0 {
		return err
	}
	var issued, reserved uint64
	if err := h.tx.Get(ctx, pool(), nil, database.Uint64(&issued), database.Uint64(&reserved)); err != nil {
		return err
	}
	pool, err := cultivation.NewPool(issued, reserved)
	if err != nil {
		return err
	}
	known, err := h.offers(ctx, p, id, boxes)
	if err != nil {
		return err
	}
	for _, c := range boxes {
		prize, err := c.prize(known[c.offers], block.Seed)
		if err != nil {
			return fmt.Errorf("cannot open box %d: %w", c.number, err)
		}
		if pool, err = pool.Resolve(c.worst, prize.Milli); err != nil {
			return fmt.Errorf("cannot open box %d: %w", c.number, err)
		}
		if prize.Crystals > 0 {
			if err := h.giveBack(ctx, c.account, prize.Crystals); err != nil {
				return err
			}
		}
		if err := h.tx.ExecOne(ctx, openBox(), int64(prize.Milli), int64(prize.Crystals), prize.Goods, int64(block.Drop), c.id); err != nil {
			return err
		}
	}
	if pool.Issued() != block.Cultivated {
		return fmt.Errorf("cannot open boxes: block %d says that they have given %d milli-stones, by the records they have given %d: restore the records that belong to this log",
			block.Drop, block.Cultivated, pool.Issued())
	}
	return h.tx.ExecOne(ctx, releasePool(), int64(pool.Issued()), int64(pool.Reserved()))
}

// offers returns the offers that boxes were asked for under, by their serials.
func (h Hand) offers(ctx context.Context, p *terms.Program, id wire.Hash, boxes []closed) (map[uint16]*cultivation.Offers, error) {
	known := make(map[uint16]*cultivation.Offers)
	for _, c := range boxes {
		known[c.offers] = nil
	}
	for limit, seen, found := 4, 0, 0; found < len(known); limit *= 8 {
		list, err := h.ledger.LastEntries(ctx, ledger.TypeOffers, limit)
		if err != nil {
			return nil, err
		}
		for _, e := range list[seen:] {
			o, err := cultivation.OpenOffers(p.Policy, id, e.Body)
			if err != nil {
				return nil, fmt.Errorf("cannot read offers of entry %d: %w", e.Number, err)
			}
			if _, wanted := known[o.Serial]; wanted {
				known[o.Serial] = o
				found++
			}
		}
		if seen = len(list); seen < limit {
			break
		}
	}
	return known, nil
}

// prize returns what the box holds by its offers, nil for some that are not in the log.
func (c closed) prize(offers *cultivation.Offers, seed wire.Hash) (none cultivation.Prize, err error) {
	if offers == nil || offers.Box(c.box) == nil {
		return none, fmt.Errorf("there is no %q in offers %d: restore the records that belong to this log", c.box, c.offers)
	}
	box, err := offers.Box(c.box).Box()
	if err != nil {
		return none, err
	}
	return box.Open(seed, c.number, c.owner), nil
}

// giveBack adds crystals that a box gave, as far as the account may hold them. In the ledger the box is opened before what has no number yet:
// how much fits is judged without that.
func (h Hand) giveBack(ctx context.Context, id string, n uint32) error {
	var have, spent, granted uint64
	if err := h.tx.Get(ctx, crystals(), []any{id}, database.Uint64(&have)); err != nil {
		return err
	}
	if err := h.tx.Get(ctx, unnumbered(), []any{id}, database.Uint64(&spent), database.Uint64(&granted)); err != nil {
		return err
	}
	// Within MaxCrystals: it is the balance that the ledger has at the block. A grant that the settler set aside may never have been given.
	before := have + spent - min(granted, have+spent)
	fits := min(uint64(n), uint64(cultivation.MaxCrystals)-min(before, uint64(cultivation.MaxCrystals)))
	return h.tx.ExecOne(ctx, giveCrystals(), id, int64(have+fits))
}

func closedBoxes() statement {
	return statement{Name: "read closed boxes", Roles: firewall.Settle,
		SQL: `SELECT b.outbox_id, o.number, b.account, b.offers, b.box, b.owner, b.worst FROM boxes b JOIN outbox o ON o.id = b.outbox_id
			WHERE b.opened_drop IS NULL AND o.number < $1 ORDER BY o.number`}
}

func openBox() statement {
	return statement{Name: "open box", Roles: firewall.Settle,
		SQL: `UPDATE boxes SET milli = $1, crystals = $2, goods = $3, opened_drop = $4 WHERE outbox_id = $5 AND opened_drop IS NULL`}
}

func unnumbered() statement {
	return statement{Name: "read crystals that have no number", Roles: firewall.Settle,
		SQL: `SELECT CAST(coalesce((SELECT sum(b.cost) FROM boxes b JOIN outbox o ON o.id = b.outbox_id WHERE b.account = $1 AND b.opened_drop IS NULL AND o.number IS NULL), 0) AS BIGINT),
			CAST(coalesce((SELECT sum(g.crystals) FROM grants g JOIN outbox o ON o.id = g.outbox_id WHERE g.account = $1 AND o.number IS NULL
				AND g.outbox_id >= (SELECT min(id) FROM outbox WHERE number IS NULL)), 0) AS BIGINT)`}
}

func pool() statement {
	return statement{Name: "read pool for boxes", Roles: firewall.Settle, SQL: `SELECT issued, reserved FROM pool WHERE id = 1`}
}

func releasePool() statement {
	return statement{Name: "release pool", Roles: firewall.Settle, SQL: `UPDATE pool SET issued = $1, reserved = $2 WHERE id = 1`}
}

func crystals() statement {
	return statement{Name: "read crystals for box", Roles: firewall.Settle, SQL: `SELECT coalesce((SELECT amount FROM crystals WHERE account = $1), 0)`}
}

func giveCrystals() statement {
	return statement{Name: "give crystals of box", Roles: firewall.Settle,
		SQL: `INSERT INTO crystals (account, amount) VALUES ($1, $2) ON CONFLICT (account) DO UPDATE SET amount = excluded.amount`}
}
