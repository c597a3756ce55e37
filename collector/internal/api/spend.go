package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"rawstone/collector/internal/api/body"
	"rawstone/collector/internal/api/gate"
	"rawstone/collector/internal/api/lookup"
	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/api/refusal"
	"rawstone/collector/internal/api/view"
	"rawstone/collector/internal/database"
	"rawstone/collector/internal/estate"
	"rawstone/pkg/account"
	"rawstone/pkg/reward/cultivation"
	"rawstone/pkg/wire"
)

// inForce returns the task in force that the path names.
func inForce(ctx context.Context, b records, c *gate.Call) (*cultivation.Task, error) {
	offers, _, err := b.Offers(ctx)
	if err != nil {
		return nil, err
	}
	if offers != nil {
		if t := offers.Task(c.ID); t != nil {
			return t, nil
		}
	}
	return nil, problem.New(problem.TaskUnknown(), "No task in force has this id.")
}

// grant gives crystals for what the maker's backend vouches for.
func (a *api) grant(ctx context.Context, b records, c *gate.Call) (reply, error) {
	var to string
	var reference [32]byte
	var crystals uint64
	if err := c.Object(map[string]body.Field{
		"account": body.Text(&to, account.MaxIDLen), "reference": body.Hash(&reference), "crystals": body.Number(&crystals, 1, uint64(cultivation.MaxCrystals)),
	}, "account", "reference"); err != nil {
		return reply{}, err
	}
	t, err := inForce(ctx, b, c)
	if err != nil {
		return reply{}, err
	}
	if t.Kind != "" {
		return reply{}, problem.New(problem.TaskOtherwise(), "The task is proven by the car: its owner claims it.")
	}
	if crystals != 0 && crystals != uint64(t.Crystals) {
		return reply{}, problem.New(problem.AmountDiffers(), fmt.Sprintf("The task gives %d crystals, the request says %d.", t.Crystals, crystals))
	}
	return a.granted(ctx, b, estate.GrantRequest{Account: to, Task: t.ID, Reference: wire.Hash(reference)})
}

// claim gives crystals for a use of a feature that a credit proves, whichever has not been granted for.
func (a *api) claim(ctx context.Context, b records, c *gate.Call) (reply, error) {
	if err := c.Object(nil); err != nil {
		return reply{}, err
	}
	if _, err := b.Profile(ctx, c.Account); err != nil {
		return reply{}, err
	}
	t, err := inForce(ctx, b, c)
	if err != nil {
		return reply{}, err
	}
	if t.Kind == "" {
		return reply{}, problem.New(problem.TaskOtherwise(), "The task is not proven by a car: the program's operator grants it.")
	}
	return a.granted(ctx, b, estate.GrantRequest{Account: c.Account, Task: t.ID})
}

func (a *api) granted(ctx context.Context, b records, r estate.GrantRequest) (reply, error) {
	g, err := b.Grant(ctx, r)
	if err != nil {
		return reply{}, refusal.Instead(refusal.Instead(err, estate.ErrSeen, problem.GrantSeen()), estate.ErrLimit, problem.TaskLimit())
	}
	return reply{http.StatusCreated, view.Grant{ID: g.ID, Account: r.Account, Task: g.Task, Reference: g.Reference.String(), Crystals: g.Crystals, Day: g.Day}}, nil
}

// open takes an owner's request for a mine box.
func (a *api) open(ctx context.Context, b records, c *gate.Call) (reply, error) {
	request, err := c.Signed(account.MaxRequestLen)
	if err != nil {
		return reply{}, err
	}
	id, err := b.OpenBox(ctx, c.Account, request)
	if err != nil {
		return reply{}, seen(err, "opening", id)
	}
	e, err := b.Box(ctx, c.Account, id)
	if err != nil {
		return reply{}, err
	}
	if e.Name != c.ID {
		return reply{}, problem.New(problem.RequestInvalid(), fmt.Sprintf("The request is for the box %q, the path is another's.", e.Name))
	}
	return reply{http.StatusAccepted, view.NewOpening(&e)}, nil
}

// redeem takes an owner's request for an item of the catalogue.
func (a *api) redeem(ctx context.Context, b records, c *gate.Call) (reply, error) {
	request, err := c.Signed(account.MaxRequestLen)
	if err != nil {
		return reply{}, err
	}
	id, err := b.Redeem(ctx, c.Account, request)
	if err != nil {
		return reply{}, refusal.Instead(seen(err, "redemption", id), estate.ErrLimit, problem.ItemLimit())
	}
	e, err := b.Redemption(ctx, c.Account, id)
	return reply{http.StatusCreated, view.NewRedemption(&e)}, err
}

// seen names what a request that counted before has become.
func seen(err error, what string, id int64) error {
	if errors.Is(err, estate.ErrSeen) {
		return problem.New(problem.RequestSeen(), fmt.Sprintf("It is %s %d.", what, id))
	}
	return err
}

// seeOpening shows what a box held, and the block's seed, from which together with the entry's number that follows.
func (a *api) seeOpening(ctx context.Context, b records, c *gate.Call) (reply, error) {
	id, err := c.Resource(problem.OpeningUnknown())
	if err != nil {
		return reply{}, err
	}
	e, err := b.Box(ctx, c.Account, id)
	if errors.Is(err, database.ErrNotFound) {
		return reply{}, problem.New(problem.OpeningUnknown(), "The account has no opening of this id.")
	} else if err != nil {
		return reply{}, err
	}
	o := view.NewOpening(&e)
	if e.Opened {
		o.Block, err = lookup.Block(ctx, b.ledger, uint64(e.Number), e.Drop)
	}
	return reply{http.StatusOK, o}, err
}

func (a *api) seeRedemption(ctx context.Context, b records, c *gate.Call) (reply, error) {
	id, err := c.Resource(problem.RedemptionUnknown())
	if err != nil {
		return reply{}, err
	}
	e, err := b.Redemption(ctx, c.Account, id)
	if errors.Is(err, database.ErrNotFound) {
		return reply{}, problem.New(problem.RedemptionUnknown(), "The account has no redemption of this id.")
	} else if err != nil {
		return reply{}, err
	}
	return reply{http.StatusOK, view.NewRedemption(&e)}, nil
}

// see returns an operation that shows one part of the offers.
func see[T any](a *api, part func(*cultivation.Offers) []T) func(context.Context, records, *gate.Call) (reply, error) {
	return func(ctx context.Context, b records, _ *gate.Call) (reply, error) {
		now, today, err := b.Offers(ctx)
		if err != nil {
			return reply{}, err
		}
		later, err := lookup.Announced(ctx, b.ledger, a.cfg.Rules, today)
		return reply{http.StatusOK, view.Offer(part, today, now, later)}, err
	}
}
