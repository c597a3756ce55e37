package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"rawstone/collector/internal/answer"
	"rawstone/collector/internal/api/gate"
	"rawstone/collector/internal/api/idempotency"
	"rawstone/collector/internal/api/problem"
	"rawstone/collector/internal/api/refusal"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// change does an operation that changes the records, once for its idempotency key. What it did and its answer are kept together; a
// refusal, which undoes what was done, is kept after it, as far as package answer keeps any: what was refused is not done later because somebody
// sends it again. A request that is malformed, is for an unknown account, or did not come to an answer does not use up its key.
func (a *api) change(ctx context.Context, w http.ResponseWriter, r *http.Request, o *operation, c *gate.Call) error {
	key, err := idempotency.Key(r)
	if err != nil {
		return err
	}
	own := idempotency.Flight{Client: c.Client, Key: key}
	if !a.flights.Begin(own) {
		w.Header().Set("Retry-After", "1")
		return problem.New(problem.KeyInUse(), "The first request with this key has no answer yet.")
	}
	defer a.flights.End(own)
	request := idempotency.Hash("rawstone/api/request/v1", r.Method, r.URL.EscapedPath(), string(c.Body))
	kept, err := a.once(ctx, own, request, func(b records) (reply, error) { return o.do(ctx, b, c) })
	var p *problem.Problem
	if errors.As(refusal.Of(err), &p) && p.Kind != problem.KeyReused() && p.Kind != problem.AccountUnknown() && p.Kind.Status() != http.StatusBadRequest {
		kept, err = a.once(ctx, own, request, func(records) (reply, error) {
			return reply{p.Kind.Status(), json.RawMessage(p.Encode())}, nil
		})
	}
	if err != nil {
		return err
	}
	a.write(w, o, kept.Status, kept.Body)
	return nil
}

// once does what is asked and keeps the answer, unless one is kept.
func (a *api) once(ctx context.Context, f idempotency.Flight, request wire.Hash, do func(records) (reply, error)) (kept *answer.Answer, err error) {
	err = a.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		b := a.records(tx)
		kept, err = b.Remember(ctx, f.Client, f.Key, request)
		if err != nil || kept != nil {
			return err
		}
		ans, err := do(b)
		if err != nil {
			return err
		}
		text, err := json.Marshal(ans.body)
		if err != nil {
			return err
		}
		kept = &answer.Answer{Status: ans.status, Body: append(text, '\n')}
		today, err := b.Today(ctx)
		if err != nil {
			return err
		}
		return b.Answer(ctx, f.Client, f.Key, request, *kept, today)
	})
	return kept, err
}
