package seal

import (
	"context"
	"slices"
	"time"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/verdict"
	"rawstone/pkg/attest"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// claim cuts, proves and spools the next claim where one is due. It returns when a refused claim may be made anew. The caller
// holds work.
func (s *Sealer) claim(ctx context.Context) (retry time.Time, err error) {
	if len(s.cfg.Spool.IDs(wire.KindClaim)) > 0 {
		s.setPhase(PhaseWaiting)
		return retry, nil
	}
	now, st := s.cfg.Clock.Now(), s.archive.State()
	if retry = s.retryAt(st); retry.After(now) {
		s.setPhase(PhaseStopped)
		return retry, nil
	}
	list, err := s.archive.SinceHead()
	if err != nil {
		return retry, err
	}
	sp, provers, phase, err := s.next(st, list)
	if s.setPhase(phase); err != nil || phase != PhaseSealing {
		return retry, err
	}
	body, err := s.prove(sp, provers)
	if err != nil {
		return retry, err
	}
	if err := ctx.Err(); err != nil {
		return retry, err
	}
	id := wire.ID(body)
	contents, cost := sp.Explain(s.cfg.Clock.Timing)
	if err := s.cfg.Journal.Begin(id, now, wire.KindClaim, len(body), contents, cost); err != nil {
		return retry, err
	}
	due := now
	if b, ok := s.plan().Last(sp.To.Snapshot.Day); ok {
		due = s.plan().Due(b, wire.KindClaim)
	}
	_, dropped, err := s.cfg.Spool.Put(wire.KindClaim, body, now, due)
	if err != nil {
		return retry, err
	}
	s.metrics.sealed.WithLabelValues(string(wire.KindClaim)).Inc()
	s.setPhase(PhaseWaiting)
	return retry, s.dropped(dropped)
}

// next cuts the next claim under the rules of this moment. Where there is something to claim it returns PhaseSealing and a prover for
// each pick, else the phase that says why not.
func (s *Sealer) next(st archive.State, list []attest.Message) (cut.Span, []cut.Prover, Phase, error) {
	rules, today := s.cfg.Rules(), s.cfg.Clock.Today()
	uses := rules.Uses(today)
	for _, u := range s.warnings.Fresh(uses) {
		s.log.Warn("policy is not used", "policy", u.Policy.Serial, "reason", u.Idle)
	}
	sp, provers, waits, err := rules.Choose(cut.Keys{Prover: s.cfg.Prover, Await: s.await}, s.plan(), st.Head, list, today)
	switch {
	case err != nil || waits:
		return sp, nil, PhaseKeys, err
	// An ECU that has not spoken yet may still hold what a forfeit would give up.
	case len(provers) > 0 && (!sp.Forfeit || s.asker.Spoke()):
		return sp, provers, PhaseSealing, nil
	case slices.ContainsFunc(uses, func(u cut.Use) bool { return u.Idle == "" }):
		return sp, nil, PhaseIdle, nil
	}
	return sp, nil, PhaseUnruled, nil
}

// await says whether the claim waits for the keys of policies, durably.
func (s *Sealer) await(lacking []*terms.Policy) (waits bool, err error) {
	was, st := s.archive.State(), s.archive.State()
	waits = verdict.Await(&st, lacking, s.cfg.Clock.Now(), time.Duration(s.cfg.Clock.DayS)*time.Second)
	if st != was {
		s.log.Info("a claim waits for a proving key")
		err = s.archive.Commit(func(next *archive.State) { next.Awaited, next.AwaitedSince = st.Awaited, st.AwaitedSince })
	}
	return waits, err
}

// prove makes the claim of a span.
func (s *Sealer) prove(sp cut.Span, provers []cut.Prover) ([]byte, error) {
	began := time.Now()
	body, err := sp.Prove(s.ecu, provers)
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	s.metrics.proving.Observe(took.Seconds())
	s.log.Info("proof made", "duration_ms", took.Milliseconds(), "claim_bytes", len(body), "tier_km", sp.Km())
	return body, nil
}

// dropped notes in the journal what went from the spool to make room.
func (s *Sealer) dropped(ids []wire.Hash) error {
	for _, id := range ids {
		if err := s.cfg.Journal.End(id, s.cfg.Clock.Now(), "dropped: the buffer was full and this was its oldest report"); err != nil {
			return err
		}
	}
	return nil
}

// retryAt returns the instant from which claims may be made again, the zero time where nothing holds them.
func (s *Sealer) retryAt(st archive.State) time.Time {
	return verdict.RetryAt(st, s.cfg.Clock.Now(), s.cfg.RetryAfter)
}
