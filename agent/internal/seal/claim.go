package seal

import (
	"context"
	"errors"
	"slices"
	"time"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/seal/internal/outbox"
	"rawstone/agent/internal/seal/phase"
	"rawstone/agent/internal/verdict"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// claim cuts, proves and spools the next claim where one is due, first of what a swapped ECU left behind. It returns when a refused
// claim may be made anew. The caller holds work.
func (s *Sealer) claim(ctx context.Context) (retry time.Time, err error) {
	if len(s.cfg.Spool.IDs(wire.KindClaim)) > 0 {
		s.setPhase(phase.Waiting)
		return retry, nil
	}
	for _, st := range s.archive.State().Claimants() {
		if retry = verdict.RetryAt(st, s.cfg.Clock.Now(), s.cfg.RetryAfter); retry.After(s.cfg.Clock.Now()) {
			s.setPhase(phase.Stopped)
			continue
		}
		sp, provers, now, err := s.next(st)
		if s.setPhase(now); err != nil || now == phase.Sealing {
			return retry, errors.Join(err, s.seal(ctx, st.ECU, sp, provers))
		}
	}
	return retry, nil
}

// seal proves and spools the claim of a span; there is none without provers.
func (s *Sealer) seal(ctx context.Context, ecu wire.KeyID, sp cut.Span, provers []cut.Prover) error {
	if len(provers) == 0 {
		return nil
	}
	began := time.Now()
	body, err := sp.Prove(ecu, provers)
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	took := time.Since(began)
	s.metrics.Proving.Observe(took.Seconds())
	s.log.Info("proof made", "duration_ms", took.Milliseconds(), "claim_bytes", len(body), "tier_km", sp.Km())
	contents, cost := sp.Explain(s.cfg.Clock.Timing)
	err = s.out.Put(outbox.Submission{
		Kind: wire.KindClaim, Body: body, Contents: contents, Cost: cost, Due: s.plan().Due(sp.To.Snapshot.Day+1, wire.KindClaim),
	})
	if err != nil {
		return err
	}
	s.metrics.Sealed.WithLabelValues(string(wire.KindClaim)).Inc()
	s.setPhase(phase.Waiting)
	return nil
}

// next cuts a claimant's next claim under the rules of this moment. Where there is something to claim it returns phase.Sealing and a
// prover for each pick, else the phase that says why not.
func (s *Sealer) next(st archive.State) (cut.Span, []cut.Prover, phase.Phase, error) {
	list, sold, err := verdict.Backlog(s.archive, st)
	if err != nil {
		return cut.Span{}, nil, phase.Idle, err
	}
	former, rules, today := st.ECU != s.ecu, s.cfg.Rules(), s.cfg.Clock.Today()
	uses := rules.Uses(today)
	for _, u := range s.warnings.Fresh(uses) {
		s.log.Warn("policy is not used", "policy", u.Policy.Serial, "reason", u.Idle)
	}
	sp, provers, waits, err := rules.Choose(cut.Keys{Prover: s.cfg.Prover, Await: s.await}, s.plan(), st.Head, list, today, former || sold != nil)
	switch {
	case err != nil || waits:
		return sp, nil, phase.Keys, err
	case sold != nil && len(provers) == 0 && rules.Done(st.Head, list, today):
		s.Wake()
		return sp, nil, phase.Idle, s.archive.CommitOf(st.ECU, func(st *archive.State) { st.Head = sold })
	case former && len(provers) == 0 && rules.Done(st.Head, list, today):
		return sp, nil, phase.Idle, s.archive.Bound(st.ECU, 0)
	// An ECU that has not spoken yet may still hold what a forfeit would give up.
	case len(provers) > 0 && (!sp.Forfeit || former || s.asker.Spoke()):
		return sp, provers, phase.Sealing, nil
	case slices.ContainsFunc(uses, func(u cut.Use) bool { return u.Idle == "" }):
		return sp, nil, phase.Idle, nil
	}
	return sp, nil, phase.Unruled, nil
}

// await says whether the claim waits for the keys of policies, durably.
func (s *Sealer) await(lacking []*terms.Policy) (waits bool, err error) {
	was, st := s.archive.State(), s.archive.State()
	waits = verdict.Await(&st, lacking, s.cfg.Clock.Now(), time.Duration(s.cfg.Clock.DayS)*time.Second)
	if st.Awaited != was.Awaited || st.AwaitedSince != was.AwaitedSince {
		s.log.Info("a claim waits for a proving key")
		err = s.archive.Commit(func(next *archive.State) { next.Awaited, next.AwaitedSince = st.Awaited, st.AwaitedSince })
	}
	return waits, err
}
