package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"rawstone/collector/internal/api/body"
	"rawstone/collector/internal/api/gate"
	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/api/spool"
	"rawstone/collector/internal/api/view"
	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/statement"
	"rawstone/collector/internal/store"
	"rawstone/pkg/account"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

const (
	defaultEvents = 50
	maxEvents     = 100
)

func (a *api) profile(ctx context.Context, b records, p estate.Profile) (view.Profile, error) {
	today, err := b.Today(ctx)
	if err != nil {
		return view.Profile{}, err
	}
	won, err := b.Goods(ctx, p.Account)
	if err != nil {
		return view.Profile{}, err
	}
	return view.NewProfile(a.cfg.Rules.ID, today, p, won), nil
}

func (a *api) seeAccount(ctx context.Context, b records, c *gate.Call) (reply, error) {
	p, err := b.Profile(ctx, c.Account)
	if err != nil {
		return reply{}, err
	}
	out, err := a.profile(ctx, b, p)
	return reply{http.StatusOK, out}, err
}

// setKey registers the key whose possession the body proves, once the one that it replaces has agreed.
func (a *api) setKey(ctx context.Context, b records, c *gate.Call) (reply, error) {
	var request, former []byte
	fields := map[string]body.Field{"request": body.Bytes(&request, account.MaxRequestLen), "former": body.Bytes(&former, account.MaxRequestLen)}
	if err := c.Object(fields, "request"); err != nil {
		return reply{}, err
	}
	p, err := b.Profile(ctx, c.Account)
	if err != nil {
		return reply{}, err
	}
	key, err := account.OpenKeyRequest(a.cfg.Rules.ID, c.Account, p.Key, request, former)
	switch {
	case errors.Is(err, account.ErrFormer):
		return reply{}, problem.New(problem.FormerUnproven(), problem.Sentence(err))
	case err != nil:
		return reply{}, problem.New(problem.PossessionUnproven(), problem.Sentence(err))
	}
	return a.changed(ctx, b, c, &key, false)
}

func (a *api) activate(ctx context.Context, b records, c *gate.Call) (reply, error) {
	if err := c.Object(nil); err != nil {
		return reply{}, err
	}
	return a.changed(ctx, b, c, nil, true)
}

func (a *api) changed(ctx context.Context, b records, c *gate.Call, key *wire.PublicKey, activate bool) (reply, error) {
	p, err := b.Change(ctx, c.Account, key, activate)
	if err != nil {
		return reply{}, err
	}
	out, err := a.profile(ctx, b, p)
	return reply{http.StatusOK, out}, err
}

func (a *api) seeHistory(ctx context.Context, b records, c *gate.Call) (reply, error) {
	before, err := c.Number("before", 1, body.MaxNumber, 0)
	if err != nil {
		return reply{}, err
	}
	limit, err := c.Number("limit", 1, maxEvents, defaultEvents)
	if err != nil {
		return reply{}, err
	}
	if _, err := b.Profile(ctx, c.Account); err != nil {
		return reply{}, err
	}
	list, err := b.History(ctx, c.Account, int64(before), int(limit)+1) // the one more says whether there are more
	if err != nil {
		return reply{}, err
	}
	out := struct {
		Events []any `json:"events"`
		Next   int64 `json:"next,omitempty"`
	}{Events: make([]any, 0, len(list))}
	if len(list) > int(limit) {
		list = list[:limit]
		out.Next = list[limit-1].ID
	}
	for i := range list {
		e, err := view.NewEvent(&list[i])
		if err != nil {
			return reply{}, err
		}
		out.Events = append(out.Events, e)
	}
	return reply{http.StatusOK, out}, nil
}

// writeStatement has the statement made as a whole before the first byte is sent: a reader holds a file, and gets all of it or a problem.
func (a *api) writeStatement(w http.ResponseWriter, r *http.Request, c *gate.Call) error {
	since, err := c.Number("since", 0, body.MaxNumber, 0)
	if err != nil {
		return err
	}
	if a.cfg.Statement == nil {
		return problem.New(problem.StatementUnset(), "This collector writes no statements.")
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.cfg.Patience)
	defer cancel()
	if err := a.exists(ctx, c); err != nil {
		return err
	}
	made, err := a.spool.Make(r.Context(), c.Account, func(ctx context.Context, out io.Writer) error {
		return a.cfg.Statement(ctx, out, c.Account, since)
	})
	switch {
	case errors.Is(err, spool.ErrBusy):
		w.Header().Set("Retry-After", "5")
		return problem.New(problem.Unavailable(), "Other statements are being made, or earlier ones of the account are not read yet.")
	case errors.Is(err, statement.ErrNoAccount):
		return problem.New(problem.AccountUnknown(), "The ledger does not have the account yet.")
	case errors.Is(err, statement.ErrNotYet):
		return problem.New(problem.StatementEarly(), "No block covers the account yet.")
	case errors.Is(err, statement.ErrAhead):
		return problem.New(problem.QueryInvalid(), "The parameter since is beyond the next drop.")
	case err != nil:
		return err
	}
	w.Header().Set("Content-Type", "application/cbor-seq") // RFC 8742
	w.Header().Set("Content-Length", strconv.FormatInt(made.Size, 10))
	if r.Method != http.MethodHead {
		_, err = io.Copy(w, made)
	}
	if err := errors.Join(err, made.Close()); err != nil {
		a.cfg.Logger.Debug("reader of the accounts' API went away", "error", err)
	}
	return nil
}

// exists refuses who is no account.
func (a *api) exists(ctx context.Context, c *gate.Call) error {
	return a.cfg.Store.View(ctx, func(tx *store.Tx) error {
		_, err := a.records(tx).Profile(ctx, c.Account)
		return err
	})
}

func (a *api) exchange(ctx context.Context, c *gate.Call) (reply, error) {
	if err := a.exists(ctx, c); err != nil {
		return reply{}, err
	}
	unset := problem.New(problem.ExchangeUnset(), "No valuation has been announced.")
	if a.cfg.Exchange == nil {
		return reply{}, unset
	}
	x, err := a.cfg.Exchange(ctx, c.Account)
	if errors.Is(err, ErrNoExchange) {
		return reply{}, unset
	}
	return reply{http.StatusOK, struct {
		Day        uint32 `json:"day"`
		ValueFen   uint64 `json:"value_fen"`
		PerMille   uint64 `json:"per_mille"`
		Milli      uint64 `json:"milli"`
		AllMilli   uint64 `json:"all_milli"`
		PortionFen uint64 `json:"portion_fen"`
	}{x.Day, x.ValueFen, reward.EquityPerMille, x.Milli, x.AllMilli, x.PortionFen}}, err
}
