package seal

import (
	"context"
	"errors"

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
	missed, err := s.undecided(ctx, book.Missed(s.archive.State(), day), day)
	if err != nil {
		return err
	}
	if len(missed) > 0 {
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
		err = s.archive.Commit(func(next *archive.State) { next.Boundary, next.Every, next.Partial = st.Boundary, st.Every, st.Partial })
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

// undecided passes the missed boundaries that the driver's decision does not cover, and returns the others.
func (s *Sealer) undecided(ctx context.Context, missed []uint32, day uint32) ([]uint32, error) {
	n, partial := backlog.Before(s.archive.State(), missed, day)
	var err error
	if n > 0 {
		err = s.skip(ctx, missed[:n])
	}
	if err == nil && s.archive.State().Partial != partial {
		err = s.archive.Commit(func(st *archive.State) { st.Partial = partial })
	}
	return missed[n:], err
}

// catchUp makes the reports of missed boundaries, or passes them. It says whether they wait.
func (s *Sealer) catchUp(ctx context.Context, book backlog.Book, missed []uint32, day uint32) (waits bool, err error) {
	st, last := s.archive.State(), missed[len(missed)-1]
	if s.reports.Families() == 0 || s.cfg.Budget == nil {
		return false, s.skip(ctx, missed)
	}
	if st.Reason == wire.ReasonUnknownVehicle && verdict.RetryAt(st, s.cfg.Clock.Now(), s.cfg.RetryAfter).After(s.cfg.Clock.Now()) {
		s.withhold("the collector does not know this vehicle: a report would spend privacy for nothing", nil)
		return false, s.skip(ctx, missed)
	}
	if why := s.reports.Wait(); why != nil {
		if !s.waiting {
			s.log.Info("usage reports wait for the collector's record of the privacy budget", "reason", why)
		}
		s.waiting = true
		if at := backlog.Unnoticed(st, missed); at < len(missed) {
			if err = s.windows.Close(ctx, s.cfg.Usage, missed[0], missed[at]); err == nil {
				err = s.archive.Commit(func(st *archive.State) { st.Noticed = last })
			}
			return true, err
		}
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
	st, usage := s.archive.State(), s.cfg.Usage
	if backlog.Noticed(st, boundary) {
		usage = s.windows.Of(boundary)
	}
	sealed, lost, err := s.reports.Make(ctx, boundary, usage)
	if err != nil {
		return err
	}
	leaves := book.Leaves(st, day)
	if lost == nil {
		contents, cost := s.reports.Explain(s.cfg.Clock.Timing, boundary, sealed)
		err = s.out.Put(outbox.Submission{Kind: wire.KindReport, Body: sealed, Contents: contents, Cost: cost, Due: s.plan().Due(leaves, wire.KindReport)})
	}
	if err == nil { // what the ledger keeps of the dispatch before this one can no longer be needed
		err = errors.Join(s.reports.Forget(ctx, *st.Boundary), s.windows.Drop(boundary))
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

// skip passes boundaries without a report. That of the first may have been stored before the power went.
func (s *Sealer) skip(ctx context.Context, missed []uint32) error {
	last := missed[len(missed)-1]
	if err := errors.Join(s.reports.Discard(ctx), s.reports.Forget(ctx, missed[0]), s.windows.Drop(last)); err != nil {
		return err
	}
	return s.archive.Commit(func(st *archive.State) { backlog.Passed(st, last) })
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

// withdraw takes back what waits to leave and tells of what the driver has turned off since it was sealed, and notes what is on. Had it left
// the car, the collector's head tells the next claim where to begin. A withdrawn report's budget stays spent. The caller holds work, or is New.
func (s *Sealer) withdraw() error {
	if err := s.takeBack(wire.KindClaim, outbox.TurnedOff, s.cfg.Rules().Withdrawn); err != nil {
		return err
	}
	if st, drawn := s.archive.State(), s.reports.Drawn(); st.Drawn != drawn {
		day, _, err := s.ecuDay()
		if err == nil {
			backlog.Allow(&st, drawn, day)
			err = s.archive.Commit(func(next *archive.State) { next.Drawn, next.Partial = st.Drawn, st.Partial })
		}
		if err != nil {
			return err
		}
	}
	families := s.reports.Families()
	if s.checked && families == s.families {
		return nil
	}
	err := errors.Join(s.takeBack(wire.KindReport, outbox.TurnedOff, s.reports.Withdrawn), s.windows.Restrict(families))
	s.checked, s.families = err == nil, families
	return err
}

// takeBack withdraws what is not to leave any more, for the reason why.
func (s *Sealer) takeBack(kind wire.Kind, why string, off func([]byte) bool) error {
	n, err := s.out.Withdraw(kind, why, off)
	s.metrics.Withdrawn.Add(float64(n))
	return err
}
