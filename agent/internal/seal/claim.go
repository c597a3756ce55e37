package seal

import (
	"context"
	"time"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/verdict"
	"rawstone/pkg/attest"
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
	list, err := s.sinceHead(st)
	if err != nil {
		return retry, err
	}
	plan := s.plan()
	sp, ok := s.rules.Next(plan, st.Head, list, s.cfg.Clock.Today())
	// An ECU that has not spoken yet may still hold what a forfeit would give up.
	if !ok || sp.Forfeit && !s.asker.Spoke() {
		s.setPhase(PhaseIdle)
		return retry, nil
	}
	s.setPhase(PhaseSealing)
	body, err := s.prove(sp)
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
	if b, ok := plan.Last(sp.To.Snapshot.Day); ok {
		due = plan.Due(b, wire.KindClaim)
	}
	_, dropped, err := s.cfg.Spool.Put(wire.KindClaim, body, now, due)
	if err != nil {
		return retry, err
	}
	s.metrics.sealed.WithLabelValues(string(wire.KindClaim)).Inc()
	s.setPhase(PhaseWaiting)
	return retry, s.dropped(dropped)
}

// prove makes the claim of a span.
func (s *Sealer) prove(sp cut.Span) ([]byte, error) {
	began := time.Now()
	c := wire.Claim{
		Version: wire.Version, ECU: s.ecu, From: wire.NewOrigin(sp.From.Snapshot), To: sp.To.Snapshot, Forfeit: sp.Forfeit,
	}
	var km uint32
	for _, p := range sp.Picks {
		proof, err := s.cfg.Prover.Prove(sp.Statement(p), sp.From.Opening, sp.To.Opening)
		if err != nil {
			return nil, err
		}
		c.Proofs = append(c.Proofs, wire.ClaimProof{Policy: p.Policy.Serial, Tier: uint8(p.Tier), Proof: proof})
		km = max(km, p.Policy.Tiers[p.Tier].Km)
	}
	body, err := c.Encode()
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	s.metrics.proving.Observe(took.Seconds())
	s.log.Info("proof made", "duration_ms", took.Milliseconds(), "claim_bytes", len(body), "tier_km", km)
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

// sinceHead returns the snapshots from the head on, all where there is none.
func (s *Sealer) sinceHead(st archive.State) ([]attest.Message, error) {
	if st.Head == nil {
		return s.archive.Since(0)
	}
	return s.archive.Since(st.Head.Seq)
}
