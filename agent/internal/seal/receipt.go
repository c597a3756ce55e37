package seal

import (
	"context"
	"fmt"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/verdict"
	"rawstone/pkg/wire"
)

// maxLead is how many days the host's clock is believed beyond the ECU's last snapshot.
const maxLead = 31

// HandleReceipt acts on the collector's verified answer to a submission of this car: body is the submission's bytes, signed the
// receipt's. When it returns nil the submission is freed. Doing it again does no harm.
func (s *Sealer) HandleReceipt(ctx context.Context, kind wire.Kind, body []byte, r *wire.Receipt, signed []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if id := wire.ID(body); r.Submission != id || r.Vehicle != s.cfg.Vehicle {
		return fmt.Errorf("cannot act on receipt: it answers another submission or vehicle")
	}
	s.work.Lock()
	defer s.work.Unlock()
	defer s.Wake()
	var err error
	switch kind {
	case wire.KindClaim:
		err = s.claimReceipt(body, r, signed)
	case wire.KindReport:
		err = s.reportReceipt(body, r)
	default:
		err = fmt.Errorf("a %s is never answered", kind)
	}
	if err != nil {
		return fmt.Errorf("cannot act on receipt: %w", err)
	}
	return nil
}

func (s *Sealer) claimReceipt(body []byte, r *wire.Receipt, signed []byte) error {
	c, err := wire.DecodeClaim(body)
	if err != nil {
		return err
	}
	if r.Accepted {
		err = s.archive.CommitReceipt(verdict.Kept(c, r, signed, s.cfg.Rules().Policies, s.cfg.Clock.Now()), func(st *archive.State) { verdict.Accept(st, c.To, r) })
	} else if c.ECU != s.ecu && r.Reason == wire.ReasonRevoked { // it ends after the hand-over: what ends before counts
		err = s.archive.Bound(c.ECU, c.To.Seq)
	} else {
		err = s.archive.CommitOf(c.ECU, func(st *archive.State) { verdict.Refuse(st, c, r, s.cfg.Clock.Now()) })
	}
	if err != nil {
		return err
	}
	if why := s.archive.State().Reason; why != "" {
		s.log.Warn("claims are refused and wait", "reason", string(why), "remedy", verdict.Remedy(wire.KindClaim, why))
	}
	if r.Reason == wire.ReasonPolicy && s.cfg.News != nil {
		s.cfg.News()
	}
	return s.finish(wire.KindClaim, r)
}

// reportReceipt sees to it that no other report leaves on the same program day. A refused report is gone: its budget is spent.
func (s *Sealer) reportReceipt(body []byte, r *wire.Receipt) error {
	today := s.cfg.Clock.Today()
	// A host clock that runs years ahead would hold reports back for years: the ECU's day bounds it.
	if day, ok, err := s.ecuDay(); err == nil && ok {
		today = min(today, day+maxLead)
	}
	if err := s.archive.Commit(func(st *archive.State) { st.Left = today }); err != nil {
		return err
	}
	if r.Reason == wire.ReasonBudget {
		if err := s.reports.Refuse(body); err != nil {
			return err
		}
	}
	if err := s.cfg.Spool.Postpone(wire.KindReport, r.Submission, s.plan().Due(today+1, wire.KindReport)); err != nil {
		return err
	}
	return s.finish(wire.KindReport, r)
}

// finish writes the outcome and frees the submission.
func (s *Sealer) finish(kind wire.Kind, r *wire.Receipt) error {
	now := s.cfg.Clock.Now()
	if !r.Accepted {
		s.metrics.Refusals.WithLabelValues(string(r.Reason)).Inc()
	}
	if err := s.out.Finish(r.Submission, verdict.Outcome(kind, r, s.cfg.Clock.Timing)); err != nil {
		return err
	}
	s.mu.Lock()
	s.last = now
	s.mu.Unlock()
	return nil
}
