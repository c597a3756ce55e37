// Package erasure destroys, among the collector's records, what is kept of a person who asks for it, and keeps what the ledger still needs: the
// numbers of the entries whose openings are gone, and what the days' trees hold of the account, a pseudonym and a weight for each day.
//
// What is destroyed: the account with its secret, its keys, bindings, hand-overs, credits, grants, boxes, redemptions and balances with their
// salts, the spans, claims, submissions and receipts behind them, usage reports, the cars that nobody else had, and answers that name the
// account. What stays says nothing of whose it was: entries of the ledger are blinded, and pseudonyms of different days cannot be told to
// be one account's without its secret. That entries were erased together stays known.
//
// It refuses an account that the ledger is not done with: Obstacles. Erasing is one transaction. The tables belong to package store's
// schema, whose migration says row by row what goes; on PostgreSQL that works as the owner, and no login has the right to delete.
package erasure

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

type statement = firewall.Statement

// Statements returns all statements of the package.
func Statements() []firewall.Statement {
	return append(kept(), entries(), erasures(), dayLeaves(), allLeaves(), openVehicles(), connecting(), waiting(), kilometres(), addLeaf(), erase(), marked(), cut())
}

// A Book is what was erased, within one transaction.
type Book struct{ tx *database.Tx }

// In returns what was erased as a transaction sees it.
func In(tx *database.Tx) Book { return Book{tx} }

// An Entry is one whose opening was destroyed.
type Entry struct {
	Number uint64
	// Erasure is the same for all entries of one erasure. The first is 1, and they rise by one.
	Erasure uint64
}

func scanEntry(e *Entry, scan database.Scanner) error {
	return scan(database.Uint64(&e.Number), database.Uint64(&e.Erasure))
}

const selectEntry = `SELECT number, erasure FROM erased_entries `

// ErasedEntries returns the erased entries whose numbers are from one to another, both included, in their order.
func (b Book) ErasedEntries(ctx context.Context, first, last uint64) ([]Entry, error) {
	return database.List(ctx, b.tx, entries(), scanEntry, int64(first), int64(last))
}

func entries() statement {
	return statement{Name: "read erased entries", Roles: firewall.Settle | firewall.Audit, SQL: selectEntry + `WHERE number >= $1 AND number <= $2 ORDER BY number`}
}

// Erasure returns the entries of one erasure in the order of their numbers, none when there was none.
func (b Book) Erasure(ctx context.Context, erasure uint64) (numbers []uint64, err error) {
	return database.List(ctx, b.tx, erasures(), func(n *uint64, scan database.Scanner) error { return scan(database.Uint64(n)) }, int64(erasure))
}

func erasures() statement {
	return statement{Name: "read erasure", Roles: firewall.Settle | firewall.Audit, SQL: `SELECT number FROM erased_entries WHERE erasure = $1 ORDER BY number`}
}

// A Leaf is what the tree of a day holds of an account that was erased.
type Leaf struct {
	Day uint32
	reward.Leaf
}

func scanLeaf(l *Leaf, scan database.Scanner) error {
	return scan(&l.Day, database.Fixed(l.Pseudonym[:]), database.Uint64(&l.Weight))
}

const selectLeaf = `SELECT day, pseudonym, weight FROM erased_leaves `

// ErasedLeaves returns the leaves of a day that were accounts' which are erased, in the order of their pseudonyms.
func (b Book) ErasedLeaves(ctx context.Context, day uint32) (out []reward.Leaf, err error) {
	err = b.tx.Each(ctx, dayLeaves(), []any{int64(day)}, func(scan database.Scanner) error {
		var l Leaf
		err := scanLeaf(&l, scan)
		out = append(out, l.Leaf)
		return err
	})
	return out, err
}

func dayLeaves() statement {
	return statement{Name: "read erased leaves", Roles: firewall.Settle | firewall.Statements | firewall.Audit, SQL: selectLeaf + `WHERE day = $1 ORDER BY pseudonym`}
}

// AllErasedLeaves returns the leaves of all days, in their order and in that of pseudonyms.
func (b Book) AllErasedLeaves(ctx context.Context) ([]Leaf, error) {
	return database.List(ctx, b.tx, allLeaves(), scanLeaf)
}

func allLeaves() statement {
	return statement{Name: "read all erased leaves", Roles: firewall.Audit, SQL: selectLeaf + `ORDER BY day, pseudonym`}
}

// ErasedCut returns the snapshot at which a key was handed over whose last binding was erased, 0 for other keys.
func (b Book) ErasedCut(ctx context.Context, ecu []byte) (seq uint64, err error) {
	err = b.tx.Get(ctx, cut(), []any{ecu}, database.Uint64(&seq))
	return seq, err
}

func cut() statement {
	return statement{Name: "read erased cut", Roles: firewall.Admin, SQL: `SELECT coalesce((SELECT cut FROM erased_cuts WHERE ecu = $1), 0)`}
}

// Obstacles are why an account may not be erased yet; all are empty when it may.
type Obstacles struct {
	// Bound are the vehicles whose ECU is bound to the account.
	Bound []string
	// Connecting are the account's vehicles that are not revoked.
	Connecting []string
	// Waiting counts the account's entries that no block of the ledger covers yet, which a quorum of validators need not have seen, and boxes that
	// are not open.
	Waiting uint64
}

// Obstacles returns what stands in the way of erasing an account.
func (b Book) Obstacles(ctx context.Context, account string) (o Obstacles, err error) {
	name := func(id *string, scan database.Scanner) error { return scan(id) }
	if o.Bound, err = database.List(ctx, b.tx, openVehicles(), name, account); err != nil {
		return o, err
	}
	if o.Connecting, err = database.List(ctx, b.tx, connecting(), name, account); err != nil {
		return o, err
	}
	err = b.tx.Get(ctx, waiting(), []any{account, int64(ledger.TypeBlock)}, database.Uint64(&o.Waiting))
	return o, err
}

func openVehicles() statement {
	return statement{Name: "look for account's open bindings", Roles: firewall.Admin,
		SQL: `SELECT vehicle FROM bindings WHERE account = $1 AND closed = 0 ORDER BY vehicle`}
}

func connecting() statement {
	return statement{Name: "look for account's connecting vehicles", Roles: firewall.Admin, SQL: `SELECT id FROM vehicles WHERE account = $1 AND revoked = 0 ORDER BY id`}
}

// waiting counts hand-overs of all keys of the account: whose they are is for erase to find.
func waiting() statement {
	return statement{Name: "look for account's waiting entries", Roles: firewall.Admin,
		SQL: `SELECT (SELECT count(*) FROM boxes WHERE account = $1 AND opened_drop IS NULL) + (SELECT count(*) FROM outbox o
			WHERE o.refused IS NULL AND coalesce(o.number, 9223372036854775807) > (SELECT coalesce(max(n.number), -1) FROM outbox n WHERE n.type = $2) AND (
			o.id IN (SELECT outbox_id FROM bindings WHERE account = $1) OR o.id IN (SELECT outbox_id FROM credits WHERE account = $1)
			OR o.id IN (SELECT outbox_id FROM account_changes WHERE account = $1) OR o.id IN (SELECT outbox_id FROM grants WHERE account = $1)
			OR o.id IN (SELECT outbox_id FROM boxes WHERE account = $1) OR o.id IN (SELECT outbox_id FROM redemptions WHERE account = $1)
			OR o.id IN (SELECT outbox_id FROM handovers WHERE ecu IN (SELECT ecu FROM bindings WHERE account = $1))))`}
}

// ErrWaiting is for an account that the ledger is not done with.
var ErrWaiting = errors.New("the ledger is not done with it")

// Earned returns an account's kilometres by the days on which they take effect, from which Leaves are made with the secret.
func (b Book) Earned(ctx context.Context, account string) (km map[uint32]uint64, err error) {
	km = make(map[uint32]uint64)
	err = b.tx.Each(ctx, kilometres(), []any{account}, func(scan database.Scanner) error {
		var day uint32
		var n uint64
		err := scan(&day, database.Uint64(&n))
		km[day] = n
		return err
	})
	return km, err
}

func kilometres() statement {
	return statement{Name: "read account's kilometres", Roles: firewall.Admin | firewall.Person,
		SQL: `SELECT c.effective, CAST(sum(c.km) AS BIGINT) FROM credits c JOIN outbox o ON o.id = c.outbox_id
			WHERE c.account = $1 AND c.km > 0 AND o.number IS NOT NULL GROUP BY c.effective ORDER BY c.effective`}
}

// Leaves returns what the trees of all days hold, or will hold, of an account with that secret and those kilometres by effective days, in the
// order of days.
func Leaves(secret [32]byte, km map[uint32]uint64) (out []Leaf) {
	days := make(map[uint32]uint64)
	for effective, n := range km {
		for d := uint32(1); d <= reward.WindowDays; d++ {
			if day := effective + d; reward.Counts(day, effective) {
				days[day] += n
			}
		}
	}
	for _, day := range slices.Sorted(maps.Keys(days)) {
		out = append(out, Leaf{day, reward.Leaf{Pseudonym: reward.Pseudonym(secret, day), Weight: days[day]}})
	}
	return out
}

// Erase puts away the account's leaves, which Leaves makes, and destroys everything else. It returns how many of the ledger's entries have lost
// their openings. It returns ErrWaiting while something stands in the way, and fails when the leaves are not all that the account earned.
func (b Book) Erase(ctx context.Context, account string, leaves []Leaf) (entries uint64, err error) {
	o, err := b.Obstacles(ctx, account)
	if err != nil {
		return 0, err
	}
	if len(o.Bound)+len(o.Connecting) > 0 || o.Waiting > 0 {
		return 0, ErrWaiting
	}
	km, err := b.Earned(ctx, account)
	if err != nil {
		return 0, err
	}
	var want, have uint64
	for _, l := range Leaves([32]byte{}, km) {
		want += l.Weight
	}
	for _, l := range leaves {
		have += l.Weight
		if err := b.tx.ExecOne(ctx, addLeaf(), int64(l.Day), l.Pseudonym[:], int64(l.Weight)); err != nil {
			return 0, err
		}
	}
	if want != have {
		return 0, fmt.Errorf("cannot erase account: its leaves weigh %d km over all days, should be %d: it has earned meanwhile, try again", have, want)
	}
	var before, after uint64
	if err := b.tx.Get(ctx, marked(), nil, database.Uint64(&before)); err != nil {
		return 0, err
	}
	if _, err := b.tx.Exec(ctx, erase(), account); err != nil {
		return 0, err
	}
	err = b.tx.Get(ctx, marked(), nil, database.Uint64(&after))
	return after - before, err
}

func addLeaf() statement {
	return statement{Name: "add erased leaf", Roles: firewall.Admin, SQL: `INSERT INTO erased_leaves (day, pseudonym, weight) VALUES ($1, $2, $3)`}
}

func erase() statement {
	return statement{Name: "erase account", Roles: firewall.Admin, SQL: `INSERT INTO erasing (account) VALUES ($1)`}
}

func marked() statement {
	return statement{Name: "count erased entries", Roles: firewall.Admin, SQL: `SELECT count(*) FROM erased_entries`}
}
