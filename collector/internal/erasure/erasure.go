// Package erasure destroys, among the collector's records, what is kept of a person who asks for it, and keeps what the ledger still needs: the
// numbers of the entries whose openings are gone, and what the days' trees hold of the account, a pseudonym and a weight for each day.
//
// What is destroyed: the account with its secret, its keys, bindings, hand-overs, credits, grants, boxes, redemptions and balances with their
// salts, the spans, claims, submissions and receipts behind them, usage reports, the cars that nobody else had, and answers that name the
// account. What stays says nothing of whose it was: entries of the ledger are blinded, and pseudonyms of different days cannot be told to
// be one account's without its secret. That entries were erased together stays known.
//
// It refuses an account that the ledger is not done with: Obstacles. So do the tables themselves, whoever asks them. Erasing is one transaction. The tables belong to package store's
// schema, whose migration says row by row what goes; on PostgreSQL that works as the owner, and no login has the right to delete.
package erasure

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

type statement = firewall.Statement

// Statements returns all statements of the package.
func Statements() []firewall.Statement {
	return append(kept(), entries(), erasures(), dayLeaves(), allLeaves(), erasedKeys(), fullDays(), openVehicles(), connecting(), waiting(), kilometres(), erase(), marked(), cut())
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

// ErasedKeys returns what auditors are given of the ECU keys whose last binding was erased, in the order of the keys.
func (b Book) ErasedKeys(ctx context.Context) ([]ledger.ErasedKey, error) {
	return database.List(ctx, b.tx, erasedKeys(), func(k *ledger.ErasedKey, scan database.Scanner) error {
		var id wire.KeyID
		err := scan(database.Fixed(id[:]), database.Uint64(&k.Since), database.Uint64(&k.Cut), database.Flag(&k.Revoked))
		k.Mark = ledger.KeyMark(id)
		return err
	})
}

func erasedKeys() statement {
	return statement{Name: "read erased keys", Roles: firewall.Settle | firewall.Audit,
		SQL: `SELECT c.ecu, c.since, c.cut, k.revoked FROM erased_cuts c JOIN ecu_keys k ON k.id = c.ecu ORDER BY c.ecu`}
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
	// Full is a day whose tree would hold more than MaxLeaves of erased accounts, 0 for none.
	Full uint32
}

// MaxLeaves bounds the leaves of erased accounts on one day: validators are told them with the day, and take no more.
const MaxLeaves = 1 << 16

// Obstacles returns what stands in the way of erasing an account.
func (b Book) Obstacles(ctx context.Context, account string) (o Obstacles, err error) {
	name := func(id *string, scan database.Scanner) error { return scan(id) }
	if o.Bound, err = database.List(ctx, b.tx, openVehicles(), name, account); err != nil {
		return o, err
	}
	if o.Connecting, err = database.List(ctx, b.tx, connecting(), name, account); err != nil {
		return o, err
	}
	if err = b.tx.Get(ctx, waiting(), []any{account, int64(ledger.TypeBlock)}, database.Uint64(&o.Waiting)); err != nil {
		return o, err
	}
	o.Full, err = b.full(ctx, account, MaxLeaves)
	return o, err
}

// full returns the first day that has most leaves of erased accounts, or more, and on which an account's kilometres count; 0 for none.
func (b Book) full(ctx context.Context, account string, most uint64) (uint32, error) {
	days, err := database.List(ctx, b.tx, fullDays(), func(day *uint32, scan database.Scanner) error { return scan(day) }, int64(most))
	if err != nil || len(days) == 0 {
		return 0, err
	}
	km, err := b.Earned(ctx, account)
	for _, l := range Leaves([32]byte{}, km) {
		if slices.Contains(days, l.Day) {
			return l.Day, err
		}
	}
	return 0, err
}

func fullDays() statement {
	return statement{Name: "look for days full of erased leaves", Roles: firewall.Admin,
		SQL: `SELECT day FROM erased_leaves GROUP BY day HAVING count(*) >= $1 ORDER BY day`}
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
	if len(o.Bound)+len(o.Connecting) > 0 || o.Waiting > 0 || o.Full > 0 {
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
	list := make([][3]any, len(leaves)) // as the view takes them
	for i, l := range leaves {
		have += l.Weight
		list[i] = [3]any{l.Day, hex.EncodeToString(l.Pseudonym[:]), l.Weight}
	}
	if want != have {
		return 0, fmt.Errorf("cannot erase account: its leaves weigh %d km over all days, should be %d: it has earned meanwhile, try again", have, want)
	}
	var before, after uint64
	if err := b.tx.Get(ctx, marked(), nil, database.Uint64(&before)); err != nil {
		return 0, err
	}
	text, err := json.Marshal(list)
	if err != nil {
		return 0, fmt.Errorf("cannot erase account: %w", err)
	}
	if _, err := b.tx.Exec(ctx, erase(), account, string(text)); err != nil {
		return 0, err
	}
	err = b.tx.Get(ctx, marked(), nil, database.Uint64(&after))
	return after - before, err
}

func erase() statement {
	return statement{Name: "erase account", Roles: firewall.Admin, SQL: `INSERT INTO erasing (account, leaves) VALUES ($1, $2)`}
}

func marked() statement {
	return statement{Name: "count erased entries", Roles: firewall.Admin, SQL: `SELECT count(*) FROM erased_entries`}
}
