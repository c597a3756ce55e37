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

// A GrantRequest asks for crystals.
type GrantRequest struct {
	Account, Task string
	// Reference is the hash of what was done; there is one grant for each account, task and reference. For a task that is the use of a
	// feature it is the blind of the account's credit of that kind, which is granted for once, whatever the task is called; zeros stand there for the first that nothing was granted for.
	Reference wire.Hash
}

// A Granted is what was given.
type Granted struct {
	ID        int64 // of its entry in the outbox
	Task      string
	Reference wire.Hash
	Crystals  uint32
	Day       uint32
}

// Grant gives the crystals of a task. What was granted for the reference before comes back with ErrSeen.
func (b Book) Grant(ctx context.Context, r GrantRequest) (Granted, error) {
	if _, err := b.asker(ctx, r.Account); err != nil { // who cannot ask for boxes needs no crystals
		return Granted{}, err
	}
	offers, today, err := b.inForce(ctx)
	if err != nil {
		return Granted{}, err
	}
	task := offers.Task(r.Task)
	if task == nil {
		return Granted{}, fmt.Errorf("%w: %q", ErrNoTask, r.Task)
	}
	if task.Kind != "" {
		if r.Reference, err = b.proof(ctx, r, task.Kind); err != nil {
			return Granted{}, err
		}
	}
	if r.Reference.IsZero() {
		return Granted{}, fmt.Errorf("%w: task %q wants the hash of what was done", ErrUnproven, r.Task)
	}
	if before, found, err := b.granted(ctx, r, task.Kind != ""); err != nil {
		return Granted{}, err
	} else if found {
		return before, fmt.Errorf("cannot grant crystals: %w", ErrSeen)
	}
	var day, total uint64
	if err := b.tx.Get(ctx, grantedFor(), []any{r.Account, r.Task, int64(today)}, database.Uint64(&day), database.Uint64(&total)); err != nil {
		return Granted{}, err
	}
	if err := task.Limit().Allow(day, total, task.Crystals); err != nil {
		return Granted{}, fmt.Errorf("%w: %w", ErrLimit, err)
	}
	if err := b.add(ctx, r.Account, task.Crystals); err != nil {
		return Granted{}, err
	}
	o := account.GrantOpening{Account: r.Account, Task: r.Task, Reference: r.Reference}
	rand.Read(o.Salt[:])
	blind, err := o.Blind()
	if err != nil {
		return Granted{}, err
	}
	g := Granted{Task: r.Task, Reference: r.Reference, Crystals: task.Crystals, Day: today}
	if g.ID, err = b.ledger.AddEncoded(ctx, ledger.TypeGrant, account.Grant{Blind: blind, Crystals: task.Crystals, Day: today}); err != nil {
		return Granted{}, err
	}
	return g, b.tx.ExecOne(ctx, addGrant(), g.ID, o.Salt[:], r.Account, r.Task, r.Reference[:], int64(task.Crystals), int64(today))
}

// add gives an account crystals. It counts what boxes that are not open may give back: they may be opened before the grant has its number.
func (b Book) add(ctx context.Context, id string, n uint32) error {
	have, err := b.crystals(ctx, id)
	if err != nil {
		return err
	}
	var back uint64
	if err := b.tx.Get(ctx, backOf(), []any{id}, database.Uint64(&back)); err != nil {
		return err
	}
	after, err := have.Grant(n)
	if err == nil && back > uint64(cultivation.MaxCrystals-after) {
		err = fmt.Errorf("cannot grant crystals: %d on top of %d while open boxes may give %d", n, have, back)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return b.setCrystals(ctx, id, after)
}

func backOf() statement {
	return statement{Name: "read crystals that boxes may give", Roles: firewall.Account,
		SQL: `SELECT CAST(coalesce(sum(back), 0) AS BIGINT) FROM boxes WHERE account = $1 AND opened_drop IS NULL`}
}

// granted returns what was granted for a reference: for a credit under whatever task.
func (b Book) granted(ctx context.Context, r GrantRequest, credit bool) (g Granted, found bool, err error) {
	g = Granted{Reference: r.Reference}
	err = b.tx.Get(ctx, findGrant(), []any{r.Account, r.Task, r.Reference[:], database.Bit(credit)}, &g.ID, &g.Task, &g.Crystals, &g.Day)
	if errors.Is(err, database.ErrNotFound) {
		return Granted{}, false, nil
	}
	return g, err == nil, err
}

func findGrant() statement {
	return statement{Name: "find grant", Roles: firewall.Account,
		SQL: `SELECT outbox_id, task, crystals, day FROM grants WHERE account = $1 AND reference = $3 AND (task = $2 OR $4 = 1) ORDER BY outbox_id LIMIT 1`}
}

func grantedFor() statement {
	return statement{Name: "read grants for task", Roles: firewall.Account,
		SQL: `SELECT CAST(coalesce(sum(CASE WHEN day = $3 THEN crystals ELSE 0 END), 0) AS BIGINT), CAST(coalesce(sum(crystals), 0) AS BIGINT)
			FROM grants WHERE account = $1 AND task = $2`}
}

func addGrant() statement {
	return statement{Name: "add grant", Roles: firewall.Account,
		SQL: `INSERT INTO grants (outbox_id, salt, account, task, reference, crystals, day) VALUES ($1, $2, $3, $4, $5, $6, $7)`}
}

// proof returns the blind of the account's credit of a kind that a request refers to, or of the first that nothing was granted for.
func (b Book) proof(ctx context.Context, r GrantRequest, kind string) (reference wire.Hash, err error) {
	if r.Reference.IsZero() {
		err = b.tx.Get(ctx, ungranted(), []any{r.Account, kind}, database.Fixed(reference[:]))
	} else {
		err = b.tx.Get(ctx, featureCredit(), []any{r.Account, kind, r.Reference[:]}, database.Fixed(reference[:]))
	}
	if errors.Is(err, database.ErrNotFound) {
		err = fmt.Errorf("%w: the account has no such credit of kind %q", ErrUnproven, kind)
	}
	return reference, err
}

func ungranted() statement {
	return statement{Name: "find credit of a feature that nothing was granted for", Roles: firewall.Account,
		SQL: `SELECT c.blind FROM credits c WHERE c.account = $1 AND c.kind = $2
			AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.account = c.account AND g.reference = c.blind) ORDER BY c.outbox_id LIMIT 1`}
}

func featureCredit() statement {
	return statement{Name: "find credit of a feature", Roles: firewall.Account,
		SQL: `SELECT blind FROM credits WHERE account = $1 AND kind = $2 AND blind = $3 LIMIT 1`}
}
