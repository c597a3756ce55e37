package api

import (
	"context"
	"errors"
	"net/http"

	"rawstone/collector/internal/api/body"
	"rawstone/collector/internal/api/gate"
	"rawstone/collector/internal/api/problem"
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

// setKey registers the key whose possession the body proves.
func (a *api) setKey(ctx context.Context, b records, c *gate.Call) (reply, error) {
	request, err := c.Signed(account.MaxRequestLen)
	if err != nil {
		return reply{}, err
	}
	p, err := b.Profile(ctx, c.Account)
	if err != nil {
		return reply{}, err
	}
	key, err := account.OpenKeyRequest(a.cfg.Rules.ID, c.Account, view.KeyID(p), request)
	if err != nil {
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

// A started writer remembers that something was written: then it is too late for a problem.
type started struct {
	http.ResponseWriter
	is bool
}

func (s *started) Write(b []byte) (int, error) {
	s.is = true
	return s.ResponseWriter.Write(b)
}

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
	err = a.cfg.Store.View(ctx, func(tx *store.Tx) error {
		_, err := a.records(tx).Profile(ctx, c.Account)
		return err
	})
	if err != nil {
		return err
	}
	select {
	case a.statements <- struct{}{}:
		defer func() { <-a.statements }()
	default:
		w.Header().Set("Retry-After", "5")
		return problem.New(problem.Unavailable(), "Other statements are being written.")
	}
	w.Header().Set("Content-Type", "application/cbor-seq") // RFC 8742
	if r.Method == http.MethodHead {
		return nil
	}
	out := &started{ResponseWriter: w}
	if err := a.cfg.Statement(r.Context(), out, c.Account, since); err != nil {
		switch {
		case out.is:
		case errors.Is(err, statement.ErrNoAccount):
			return problem.New(problem.AccountUnknown(), "The ledger does not have the account yet.")
		case errors.Is(err, statement.ErrNotYet):
			return problem.New(problem.StatementEarly(), "No block covers the account yet.")
		case errors.Is(err, statement.ErrAhead):
			return problem.New(problem.QueryInvalid(), "The parameter since is beyond the next drop.")
		default:
			return err
		}
		a.cfg.Logger.Error("accounts' API cannot finish statement", "error", err)
		panic(http.ErrAbortHandler) // ends the connection, so that nobody takes the part for the whole
	}
	return nil
}

func (a *api) exchange(ctx context.Context, c *gate.Call) (reply, error) {
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
