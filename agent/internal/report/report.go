// Package report makes usage reports: one noised vector a dispatch, under a durable privacy budget.
//
// Order of work for one epoch, each step synced before the next: the budget is charged, noise is drawn and the report signed, its bytes
// are stored in the budget's ledger, the usage is consumed. Whatever step is the last one before the power goes, an epoch has at most
// one report: making it again returns the stored bytes, or says that the report is lost with its charge.
//
// Invariants: families that the driver did not consent to or the charter does not allow are zeros before the noise; every report has
// the same size, and an idle dispatch is reported too, because absence must say nothing.
//
// The package refuses a charter without a usable mechanism, consent without device key, budget or usage, and a report without a budget
// that says yes. It sends nothing.
package report

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"

	"rawstone/agent/internal/budget"
	"rawstone/pkg/dp"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Usage is the summary of how the car was used since it was last consumed, in the natural units of wire.Layouts (minutes, trips).
type Usage interface {
	// Take returns the totals of the open window and a function that consumes them durably. Until consume has returned nil the
	// window stays open: a later Take returns at least the same totals.
	Take(ctx context.Context) (totals [wire.VectorLen]int64, consume func(context.Context) error, err error)
}

// Config says what is reported. Fields without a note are required.
type Config struct {
	Vehicle string
	// Charter is the verified data charter and CharterID its identifier.
	Charter   *terms.Charter
	CharterID wire.Hash
	// Families are what the driver consented to; 0 means no reports. With any, Device, Budget and Usage are required.
	Families wire.Family
	// Device signs reports.
	Device crypto.Signer
	Budget *budget.Ledger
	Usage  Usage
}

// Maker makes the reports of one vehicle. It is not safe for concurrent use.
type Maker struct {
	cfg   Config
	noise *dp.Gaussian
}

// New checks that the charter's mechanism can be had.
func New(cfg Config) (*Maker, error) {
	switch {
	case cfg.Charter == nil:
		return nil, errors.New("cannot make reports: no charter given")
	case cfg.Families != 0 && (cfg.Device == nil || cfg.Budget == nil || cfg.Usage == nil):
		return nil, errors.New("cannot make reports: the driver consented to them but no device key, budget or usage is given")
	}
	noise, err := mechanism(&cfg.Charter.Usage)
	if err != nil {
		return nil, fmt.Errorf("cannot make reports: %w", err)
	}
	return &Maker{cfg: cfg, noise: noise}, nil
}

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

// Cost returns what one report costs.
func Cost(u *terms.Usage) budget.Cost {
	return budget.Cost{MicroEpsilon: int64(u.EpsilonMicro), PicoDelta: int64(u.DeltaPico)}
}

// Families returns what the driver consented to and the charter allows; 0 means that there are no reports.
func (m *Maker) Families() wire.Family { return m.cfg.Families & m.cfg.Charter.Usage.Families }

// Make returns the sealed report of an epoch: the stored bytes where there are any, or a fresh draw. lost says why there is
// and will be none. After err it may be tried again.
func (m *Maker) Make(ctx context.Context, epoch uint32) (sealed []byte, lost, err error) {
	if m.Families() == 0 {
		return nil, errors.New("the driver consented to no reports"), nil
	}
	sealed, found, err := m.cfg.Budget.Stored(ctx, uint64(epoch))
	if errors.Is(err, budget.ErrCorrupt) {
		return nil, err, nil
	} else if err != nil {
		return nil, nil, err
	}
	totals, consume, err := m.cfg.Usage.Take(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot take usage: %w", err)
	}
	if !found {
		permit, err := m.cfg.Budget.Charge(ctx, uint64(epoch), Cost(&m.cfg.Charter.Usage))
		switch {
		case errors.Is(err, budget.ErrCharged), errors.Is(err, budget.ErrPast), errors.Is(err, budget.ErrExhausted):
			return nil, err, nil
		case err != nil:
			return nil, nil, err
		}
		// From here on stopping the agent would lose the report.
		ctx = context.WithoutCancel(ctx)
		if sealed, err = m.draw(permit, totals); err != nil {
			return nil, nil, err
		}
		if err := m.cfg.Budget.Store(ctx, permit, sealed); err != nil {
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

// Discard consumes the usage of a dispatch that is not reported: the next report must not tell of two.
func (m *Maker) Discard(ctx context.Context) error {
	if m.Families() == 0 {
		return nil
	}
	_, consume, err := m.cfg.Usage.Take(ctx)
	if err == nil {
		err = consume(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot discard usage: %w", err)
	}
	return nil
}

// Forget drops the stored bytes of an epoch whose report can no longer be needed. What it cost stays charged.
func (m *Maker) Forget(ctx context.Context, epoch uint32) error {
	return m.cfg.Budget.Drop(ctx, uint64(epoch))
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
func (m *Maker) draw(permit *budget.Permit, totals [wire.VectorLen]int64) ([]byte, error) {
	families := m.Families()
	totals = consented(totals, families)
	values, err := permit.Release(m.noise, totals[:])
	if err != nil {
		return nil, err
	}
	r := wire.Report{
		Version: wire.Version, Vehicle: m.cfg.Vehicle, Charter: m.cfg.CharterID, Epoch: uint32(permit.Epoch()), Families: families,
	}
	if err := r.SetValues(values); err != nil {
		return nil, err
	}
	return wire.SealReport(m.cfg.Device, &r)
}

// Explain tells the driver what the report of an epoch reveals and what that costs.
func (m *Maker) Explain(t terms.Timing, epoch uint32) (contents, cost string) {
	var names []string
	for _, l := range wire.Layouts() {
		if m.Families()&l.Family != 0 {
			names = append(names, l.Name)
		}
	}
	u := m.cfg.Charter.Usage
	return fmt.Sprintf("Usage of the dispatch before %s under noise: %s. What you did not allow is noise over zeros.",
			t.Date(epoch), strings.Join(names, ", ")),
		fmt.Sprintf("Privacy budget: epsilon %g at delta %g for this report.", float64(u.EpsilonMicro)/1e6, float64(u.DeltaPico)/1e12)
}
