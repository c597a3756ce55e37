package credit

import (
	"context"
	"errors"
	"fmt"

	"rawstone/collector/internal/credit/internal/check"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// A Submission is what came on a topic. It is an alias, as Prepared is, so that whoever hands submissions in need not know this
// package, nor this package who does.
type Submission = struct {
	// Vehicle is the one that the topic names; empty when it names none.
	Vehicle string
	Body    []byte
}

// Prepared is a submission of which everything is checked that needs no write transaction, or the error that left it unchecked: the
// caller tries it again later.
type Prepared = struct {
	// Apply decides in a transaction and returns the submission with its receipt to be published, and whether the same bytes were
	// answered before; it writes nothing in that case, nor for a vehicle that is not registered, whose refusal is only counted. An error
	// is no decision.
	Apply func(context.Context, *store.Tx) (s store.Submission, repeated bool, err error)
	Err   error
}

// A candidate is a submission that is being judged: what to read of the records, and what follows from that and its bytes alone.
type candidate struct {
	sub    store.Submission
	body   []byte
	begin  uint64     // the sequence number of a claim's begin
	want   store.Want // what is read
	read   func(context.Context, *store.Tx) (state, error)
	decide func(state, *checks) verdict

	before  state // when it was checked
	err     error // what kept before from being read
	verdict verdict
}

// Prepare checks submissions of one kind: signatures first, then the proofs of those claims whose signatures hold. It returns one answer
// for each, in their order. Its memory grows with their number, at most some 20 KiB for each. The functions that it
// returns must not be called at the same time.
func (j *Judge) Prepare(ctx context.Context, kind wire.Kind, subs []Submission) []Prepared {
	out := make([]Prepared, len(subs))
	c := &checks{judge: j}
	candidates, err := j.prepare(ctx, kind, subs, c)
	for i := range out {
		switch {
		case err != nil:
			out[i].Err = err
		case candidates[i].err != nil:
			out[i].Err = candidates[i].err
		default:
			out[i].Apply = j.apply(candidates[i], c)
		}
	}
	return out
}

func (j *Judge) prepare(ctx context.Context, kind wire.Kind, subs []Submission, c *checks) ([]*candidate, error) {
	open := j.claim
	switch kind {
	case wire.KindClaim:
	case wire.KindReport:
		open = j.report
	default:
		return nil, fmt.Errorf("cannot judge submissions of kind %q", kind)
	}
	candidates := make([]*candidate, len(subs))
	c.wants = make([]store.Want, len(subs))
	err := check.Each(ctx, j.cfg.Workers, len(subs), func(i int) {
		s := subs[i]
		candidates[i] = open(s.Vehicle, s.Body)
		candidates[i].sub = store.Submission{ID: wire.ID(s.Body), Vehicle: s.Vehicle, Kind: kind}
		candidates[i].body = s.Body
		candidates[i].want.Submission, candidates[i].want.Vehicle, candidates[i].want.Kind = candidates[i].sub.ID, s.Vehicle, kind
		c.wants[i] = candidates[i].want
	})
	if err != nil {
		return nil, err
	}
	err = j.cfg.DB.View(ctx, func(tx *store.Tx) error {
		tx.Ahead(ctx, c.wants)
		for _, x := range candidates {
			x.before, x.err = x.look(ctx, tx)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	if err := c.answer(ctx, candidates); err != nil {
		return nil, err
	}
	for _, x := range candidates {
		if x.err == nil && !x.before.answered {
			x.verdict = x.decide(x.before, c)
		}
	}
	return candidates, nil
}

// look reads the state, unless the same bytes were answered before.
func (x *candidate) look(ctx context.Context, tx *store.Tx) (state, error) {
	_, err := tx.Submission(ctx, x.sub.ID, x.sub.Vehicle, x.sub.Kind)
	switch {
	case err == nil:
		return state{answered: true}, nil
	case !errors.Is(err, store.ErrNotFound):
		return state{}, err
	}
	return x.read(ctx, tx)
}

// apply returns the function that decides about a candidate in a transaction.
func (j *Judge) apply(x *candidate, c *checks) func(context.Context, *store.Tx) (store.Submission, bool, error) {
	return func(ctx context.Context, tx *store.Tx) (store.Submission, bool, error) {
		tx.Ahead(ctx, c.wants) // the first of a batch reads for all
		old, err := tx.Submission(ctx, x.sub.ID, x.sub.Vehicle, x.sub.Kind)
		if err == nil {
			return old, true, nil
		} else if !errors.Is(err, store.ErrNotFound) {
			return store.Submission{}, false, err
		}
		now, err := x.read(ctx, tx)
		if err != nil {
			return store.Submission{}, false, err
		}
		v := x.verdict
		if now != x.before {
			v = x.decide(now, c)
		}
		s, err := j.write(ctx, tx, x, now, v)
		return s, false, err
	}
}
