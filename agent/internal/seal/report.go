package seal

import (
	"context"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/dispatch"
	"rawstone/agent/internal/report"
	"rawstone/agent/internal/seal/internal/backlog"
	"rawstone/agent/internal/seal/internal/outbox"
	"rawstone/agent/internal/verdict"
	"rawstone/pkg/wire"
)

// report makes the usage reports of the dispatch boundaries that have passed by the ECU's clock, each once. The caller holds work.
func (s *Sealer) report(ctx context.Context) error {
	day, ok, err := s.ecuDay()
	if err != nil || !ok {
		return err
	}
	book := s.book()
	if missed := book.Missed(s.archive.State(), day); len(missed) > 0 {
		if waits, err := s.catchUp(ctx, book, missed, day); err != nil || waits {
			return err
		}
	}
	st := s.archive.State()
	changed, fresh := book.Begin(&st, day)
	if !changed {
		return nil
	}
	if fresh {
		err = s.reports.Discard(ctx)
	}
	if err == nil {
		err = s.archive.Commit(func(next *archive.State) { next.Boundary, next.Every = st.Boundary, st.Every })
	}
	return err
}

// book says which boundaries are to be reported: the charter's budget may be too small for the driver's cadence.
func (s *Sealer) book() backlog.Book {
	secret, usage := s.archive.State().Secret, &s.cfg.Charter.Usage
	cadence := int(s.plan().Every())
	return backlog.Book{
		Plan:  func(every int) dispatch.Plan { return s.calendar.Plan(secret, every) },
		Every: report.EveryDays(usage, cadence), Most: int(usage.YearlyDispatches),
	}
}

// catchUp makes the reports of missed boundaries, or passes them. It says whether they wait.
func (s *Sealer) catchUp(ctx context.Context, book backlog.Book, missed []uint32, day uint32) (waits bool, err error) {
	st, last := s.archive.State(), missed[len(missed)-1]
	if s.reports.Families() == 0 {
		return false, s.skip(ctx, last)
	}
	if st.Reason == wire.ReasonUnknownVehicle && verdict.RetryAt(st, s.cfg.Clock.Now(), s.cfg.RetryAfter).After(s.cfg.Clock.Now()) {
		s.withhold("the collector does not know this vehicle: a report would spend privacy for nothing", nil)
		return false, s.skip(ctx, last)
	}
	if err := s.reports.Wait(); err != nil {
		if !s.waiting {
			s.log.Info("usage reports wait for the collector's record of the privacy budget", "reason", err)
		}
		s.waiting = true
		return true, nil
	}
	s.waiting = false
	for _, boundary := range missed {
		if err := s.reportOf(ctx, book, boundary, last, day); err != nil {
			return false, err
		}
	}
	return false, nil
}

// reportOf makes the report of one boundary of a backlog.
func (s *Sealer) reportOf(ctx context.Context, book backlog.Book, boundary, last, day uint32) error {
	st := s.archive.State()
	sealed, lost, err := s.reports.Make(ctx, boundary, backlog.Idle(st, boundary))
	if err != nil {
		return err
	}
	leaves := book.Leaves(st, day)
	if lost == nil {
		contents, cost := s.reports.Explain(s.cfg.Clock.Timing, boundary)
		err = s.out.Put(outbox.Submission{Kind: wire.KindReport, Body: sealed, Contents: contents, Cost: cost, Due: s.plan().Due(leaves, wire.KindReport)})
	}
	// What the ledger keeps of the dispatch before this one can no longer be needed.
	if err == nil {
		err = s.reports.Forget(ctx, *st.Boundary)
	}
	switch {
	case err != nil:
		return err
	case lost != nil:
		s.withhold("there is none of this dispatch", lost)
		return s.archive.Commit(func(st *archive.State) { backlog.Passed(st, boundary) })
	}
	s.metrics.Sealed.WithLabelValues(string(wire.KindReport)).Inc()
	return s.archive.Commit(func(st *archive.State) { backlog.Made(st, boundary, last, leaves) })
}

// skip passes the boundaries up to one without a report.
func (s *Sealer) skip(ctx context.Context, boundary uint32) error {
	if err := s.reports.Discard(ctx); err != nil {
		return err
	}
	return s.archive.Commit(func(st *archive.State) { backlog.Passed(st, boundary) })
}

func (s *Sealer) withhold(why string, err error) {
	s.metrics.Withheld.Inc()
	s.log.Warn("usage report withheld", "reason", why, "error", err)
}

// ecuDay returns the day of the ECU's newest snapshot that is not ahead.
func (s *Sealer) ecuDay() (uint32, bool, error) {
	list, err := s.archive.SinceHead()
	day, ok := cut.LastDay(list, s.cfg.Clock.Today())
	return day, ok, err
}

// withdraw takes back what waits to leave and tells of what the driver has turned off since it was sealed. Had it left the car, the
// collector's head tells the next claim where to begin. A withdrawn report's budget stays spent. The caller holds work, or is New.
func (s *Sealer) withdraw() error {
	n, err := s.out.Withdraw(wire.KindClaim, s.cfg.Rules().Withdrawn)
	s.metrics.Withdrawn.Add(float64(n))
	families := s.reports.Families()
	if err != nil || s.checked && families == s.families {
		return err
	}
	n, err = s.out.Withdraw(wire.KindReport, s.reports.Withdrawn)
	s.metrics.Withdrawn.Add(float64(n))
	if err == nil {
		s.checked, s.families = true, families
	}
	return err
}
