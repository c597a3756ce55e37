package seal

import (
	"context"
	"fmt"
	"strings"
	"time"

	"rawstone/pkg/wire"
)

// claim cuts, proves and spools the next claim where one is due. It returns when a refused claim may be made anew. The caller
// holds work.
func (s *Sealer) claim(ctx context.Context) (retry time.Time, err error) {
	if len(s.cfg.Spool.IDs(wire.KindClaim)) > 0 {
		s.setPhase(PhaseWaiting)
		return retry, nil
	}
	now, st := s.cfg.Clock.Now(), s.current()
	if retry = s.retryAt(st); retry.After(now) {
		s.setPhase(PhaseStopped)
		return retry, nil
	}
	sp, ok, err := s.cut(st.Head, s.cfg.Clock.Today())
	if err != nil {
		return retry, err
	}
	if !ok {
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
	contents, cost := s.explainClaim(sp)
	if err := s.cfg.Journal.Begin(id, now, wire.KindClaim, len(body), contents, cost); err != nil {
		return retry, err
	}
	plan := s.schedule()
	due := now
	if b, ok := plan.last(sp.to.Snapshot.Day); ok {
		due = plan.due(s.cfg.Clock.Timing, b, wire.KindClaim)
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
func (s *Sealer) prove(sp span) ([]byte, error) {
	began := time.Now()
	c := wire.Claim{
		Version: wire.Version, ECU: s.ecu, From: wire.NewOrigin(sp.from.Snapshot), To: sp.to.Snapshot, Forfeit: sp.forfeit,
	}
	var km uint32
	for _, p := range sp.picks {
		proof, err := s.cfg.Prover.Prove(statement(sp.from, sp.to, p.policy, p.tier), sp.from.Opening, sp.to.Opening)
		if err != nil {
			return nil, err
		}
		c.Proofs = append(c.Proofs, wire.ClaimProof{Policy: p.policy.Serial, Tier: uint8(p.tier), Proof: proof})
		km = max(km, p.policy.Tiers[p.tier].Km)
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
func (s *Sealer) retryAt(st state) time.Time {
	if st.Reason == "" {
		return time.Time{}
	}
	since := time.Unix(st.Since, 0)
	if since.After(s.cfg.Clock.Now()) {
		return time.Time{} // the clock was set back: waiting could take years
	}
	return since.Add(s.cfg.RetryAfter << min(max(st.Refusals, 1)-1, 5))
}

func (s *Sealer) explainClaim(sp span) (contents, cost string) {
	var b strings.Builder
	from, to := sp.from.Snapshot, sp.to.Snapshot
	fmt.Fprintf(&b, "Proves, for the time from %s to %s:", s.date(from.Day), s.date(to.Day))
	for i, p := range sp.picks {
		if i > 0 {
			b.WriteString(";")
		}
		if km := p.policy.Tiers[p.tier].Km; km > 0 {
			fmt.Fprintf(&b, " driven at least %d km (policy %d)", km, p.policy.Serial)
		} else {
			fmt.Fprintf(&b, " %s level %d (policy %d)", p.policy.Kind, p.tier+1, p.policy.Serial)
		}
	}
	if sp.forfeit {
		b.WriteString(". Gives up what was driven before, because its snapshot is lost")
	}
	return b.String(), fmt.Sprintf("Exact, outside the privacy budget: the distance to within its tier, both days, and that %d snapshots lie between them. "+
		"Odometer, places and times of day stay in the car.", to.Seq-from.Seq-1)
}

// date spells a program day.
func (s *Sealer) date(day uint32) string {
	return fmt.Sprintf("program day %d (%s)", day, s.cfg.Clock.DayStart(day).Format(time.DateOnly))
}
