package seal

import (
	"context"
	"slices"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/verdict"
	"rawstone/pkg/wire"
)

// report makes the usage report of the latest dispatch boundary by the ECU's clock, once. Boundaries that passed while the car
// stood off are one. The caller holds work.
func (s *Sealer) report(ctx context.Context) error {
	day, ok, err := s.ecuDay()
	if err != nil || !ok {
		return err
	}
	boundary, ok := s.plan().Last(day)
	if !ok {
		return nil
	}
	st := s.archive.State()
	switch {
	case st.Boundary == nil:
		// Installed in the middle of a dispatch: its window is not whole.
		return s.skip(ctx, boundary)
	case *st.Boundary >= boundary:
		return nil
	case s.reports.Families() == 0:
		return s.skip(ctx, boundary)
	case st.Reason == wire.ReasonUnknownVehicle && verdict.RetryAt(st, s.cfg.Clock.Now(), s.cfg.RetryAfter).After(s.cfg.Clock.Now()):
		s.withhold("the collector does not know this vehicle: a report would spend privacy for nothing", nil)
		return s.skip(ctx, boundary)
	}
	sealed, lost, err := s.reports.Make(ctx, boundary)
	if err != nil {
		return err
	}
	if lost != nil {
		s.withhold("there is none of this dispatch", lost)
	} else {
		if err := s.spoolReport(sealed, boundary, st); err != nil {
			return err
		}
		s.metrics.sealed.WithLabelValues(string(wire.KindReport)).Inc()
	}
	// What the ledger keeps of the dispatch before this one can no longer be needed.
	if err := s.reports.Forget(ctx, *st.Boundary); err != nil {
		return err
	}
	return s.passed(boundary)
}

// skip passes a boundary without a report.
func (s *Sealer) skip(ctx context.Context, boundary uint32) error {
	if err := s.reports.Discard(ctx); err != nil {
		return err
	}
	return s.passed(boundary)
}

func (s *Sealer) passed(boundary uint32) error {
	return s.archive.Commit(func(st *archive.State) { st.Boundary = &boundary })
}

func (s *Sealer) withhold(why string, err error) {
	s.metrics.withheld.Inc()
	s.log.Warn("usage report withheld", "reason", why, "error", err)
}

// ecuDay returns the day of the ECU's newest snapshot that is not ahead.
func (s *Sealer) ecuDay() (uint32, bool, error) {
	list, err := s.archive.SinceHead()
	day, ok := cut.LastDay(list, s.cfg.Clock.Today())
	return day, ok, err
}

// spoolReport hands a sealed report to journal and spool. It leaves on another program day than the last receipted one. After an error
// it is tried again with the bytes that the budget's ledger keeps.
func (s *Sealer) spoolReport(sealed []byte, boundary uint32, st archive.State) error {
	now, id := s.cfg.Clock.Now(), wire.ID(sealed)
	contents, cost := s.reports.Explain(s.cfg.Clock.Timing, boundary)
	if err := s.cfg.Journal.Begin(id, now, wire.KindReport, len(sealed), contents, cost); err != nil {
		return err
	}
	due := s.plan().Due(boundary, wire.KindReport)
	if after := s.cfg.Clock.DayStart(st.Left + 1); due.Before(after) {
		due = after
	}
	_, dropped, err := s.cfg.Spool.Put(wire.KindReport, sealed, now, due)
	if err != nil {
		s.stranded = append(s.stranded, id)
		return err
	}
	s.stranded = slices.DeleteFunc(s.stranded, func(other wire.Hash) bool { return other == id })
	return s.end(dropped, droppedOutcome)
}
