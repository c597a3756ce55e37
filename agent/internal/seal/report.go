package seal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"rawstone/agent/internal/budget"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// mechanism returns the noise that the charter asks for.
func mechanism(u *terms.Usage) (*dp.Gaussian, error) {
	params := dp.Params{
		Epsilon: float64(u.EpsilonMicro) / 1e6, Delta: float64(u.DeltaPico) / 1e12, Clip: int64(u.Clip),
		Coordinates: make([]dp.Coordinate, wire.VectorLen),
	}
	for i, l := range wire.Layouts() {
		if i >= len(u.Scale) || u.Scale[i] == 0 {
			return nil, errors.New("charter lacks a family's scale")
		}
		// A value beyond the clip alone would be clipped to it: counting it no further keeps it from clipping the others away.
		k := dp.Coordinate{Max: (int64(u.Clip) + int64(u.Scale[i]) - 1) / int64(u.Scale[i]), Scale: int64(u.Scale[i])}
		for j := range l.Len {
			params.Coordinates[l.Offset+j] = k
		}
	}
	return dp.NewGaussian(params)
}

// cost returns what one report costs.
func cost(u *terms.Usage) budget.Cost {
	return budget.Cost{MicroEpsilon: int64(u.EpsilonMicro), PicoDelta: int64(u.DeltaPico)}
}

// families returns what the driver consented to and the charter allows.
func (s *Sealer) families() wire.Family { return s.cfg.Families & s.cfg.Charter.Usage.Families }

// report makes the usage report of the latest dispatch boundary by the ECU's clock, once. Boundaries that passed while the car
// stood off are one. The caller holds work.
func (s *Sealer) report(ctx context.Context) error {
	day, ok, err := s.ecuDay()
	if err != nil || !ok {
		return err
	}
	boundary, ok := s.schedule().last(day)
	if !ok {
		return nil
	}
	st := s.current()
	switch {
	case st.Boundary == nil:
		// Installed in the middle of a dispatch: its window is not whole.
		return s.passed(boundary)
	case *st.Boundary >= boundary:
		return nil
	case s.families() == 0:
		return s.passed(boundary)
	case st.Reason == wire.ReasonUnknownVehicle && s.retryAt(st).After(s.cfg.Clock.Now()):
		s.withhold("the collector does not know this vehicle: a report would spend privacy for nothing", nil)
		return s.passed(boundary)
	}
	sealed, lost, err := s.sealReport(ctx, boundary)
	if err != nil {
		return err
	}
	if lost == nil {
		if lost, err = s.spoolReport(sealed, boundary, st); err != nil {
			return err
		}
	}
	if lost != nil {
		s.withhold("there is none of this dispatch", lost)
	} else {
		s.metrics.sealed.WithLabelValues(string(wire.KindReport)).Inc()
	}
	// What the ledger keeps of the dispatch before this one can no longer be needed.
	if err := s.cfg.Budget.Drop(ctx, uint64(*st.Boundary)); err != nil {
		return err
	}
	return s.passed(boundary)
}

func (s *Sealer) passed(boundary uint32) error {
	return s.commit(func(st *state) { st.Boundary = &boundary })
}

func (s *Sealer) withhold(why string, err error) {
	s.metrics.withheld.Inc()
	s.log.Warn("usage report withheld", "reason", why, "error", err)
}

// ecuDay returns the day of the ECU's newest snapshot that is not ahead.
func (s *Sealer) ecuDay() (uint32, bool, error) {
	var low uint64
	if head := s.current().Head; head != nil {
		low = head.Seq
	}
	list, err := s.archive.since(low)
	if err != nil {
		return 0, false, err
	}
	for _, m := range slices.Backward(list) {
		if !ahead(m, s.cfg.Clock.Today()) {
			return m.Snapshot.Day, true, nil
		}
	}
	return 0, false, nil
}

// sealReport returns the sealed report of an epoch: the stored bytes where there are any, or a fresh draw. lost says why there is
// and will be none.
func (s *Sealer) sealReport(ctx context.Context, epoch uint32) (sealed []byte, lost, err error) {
	sealed, found, err := s.cfg.Budget.Stored(ctx, uint64(epoch))
	if errors.Is(err, budget.ErrCorrupt) {
		return nil, err, nil
	} else if err != nil {
		return nil, nil, err
	}
	totals, consume, err := s.cfg.Usage.Take(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot take usage: %w", err)
	}
	if !found {
		permit, err := s.cfg.Budget.Charge(ctx, uint64(epoch), cost(&s.cfg.Charter.Usage))
		switch {
		case errors.Is(err, budget.ErrCharged), errors.Is(err, budget.ErrPast), errors.Is(err, budget.ErrExhausted):
			return nil, err, nil
		case err != nil:
			return nil, nil, err
		}
		// From here on stopping the agent would lose the report.
		ctx = context.WithoutCancel(ctx)
		if sealed, err = s.draw(permit, totals); err != nil {
			return nil, nil, err
		}
		if err := s.cfg.Budget.Store(ctx, permit, sealed); err != nil {
			return nil, nil, err
		}
	}
	// Found bytes may mean that the power went before this: consuming again loses minutes of usage, not consuming would tell the
	// same week twice.
	if err := consume(ctx); err != nil {
		return nil, nil, fmt.Errorf("cannot consume usage: %w", err)
	}
	return sealed, nil, nil
}

// consented returns the totals with zeros for every family that is not among families.
func consented(totals [wire.VectorLen]int64, families wire.Family) [wire.VectorLen]int64 {
	for _, l := range wire.Layouts() {
		if families&l.Family == 0 {
			clear(totals[l.Offset : l.Offset+l.Len])
		}
	}
	return totals
}

// draw noises the totals, zeros for the families that the driver did not consent to, and signs the report.
func (s *Sealer) draw(permit *budget.Permit, totals [wire.VectorLen]int64) ([]byte, error) {
	families := s.families()
	totals = consented(totals, families)
	values, err := permit.Release(s.noise, totals[:])
	if err != nil {
		return nil, err
	}
	r := wire.Report{
		Version: wire.Version, Vehicle: s.cfg.Vehicle, Charter: s.cfg.CharterID, Epoch: uint32(permit.Epoch()), Families: families,
	}
	if err := r.SetValues(values); err != nil {
		return nil, err
	}
	return wire.SealReport(s.cfg.Device, &r)
}

// spoolReport hands a sealed report to journal and spool. It leaves on another program day than the last receipted one.
func (s *Sealer) spoolReport(sealed []byte, boundary uint32, st state) (lost, err error) {
	now, id := s.cfg.Clock.Now(), wire.ID(sealed)
	contents, cost := s.explainReport(boundary)
	if err := s.cfg.Journal.Begin(id, now, wire.KindReport, len(sealed), contents, cost); err != nil {
		return nil, err
	}
	due := s.schedule().due(s.cfg.Clock.Timing, boundary, wire.KindReport)
	if after := s.cfg.Clock.DayStart(st.Left + 1); due.Before(after) {
		due = after
	}
	_, dropped, lost := s.cfg.Spool.Put(wire.KindReport, sealed, now, due)
	if lost != nil {
		return lost, s.cfg.Journal.End(id, now, "never left the car: "+lost.Error())
	}
	return nil, s.dropped(dropped)
}

func (s *Sealer) explainReport(boundary uint32) (contents, cost string) {
	var names []string
	for _, l := range wire.Layouts() {
		if s.families()&l.Family != 0 {
			names = append(names, l.Name)
		}
	}
	u := s.cfg.Charter.Usage
	return fmt.Sprintf("Usage of the dispatch before %s under noise: %s. What you did not allow is noise over zeros.",
			s.date(boundary), strings.Join(names, ", ")),
		fmt.Sprintf("Privacy budget: epsilon %g at delta %g for this report.", float64(u.EpsilonMicro)/1e6, float64(u.DeltaPico)/1e12)
}
