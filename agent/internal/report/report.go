// Package report makes usage reports: one noised vector a dispatch, under a durable privacy budget.
//
// Order of work for one epoch, each step synced before the next: the budget is charged, noise is drawn and the report signed, its bytes
// are stored in the budget's ledger, the usage is consumed. Whatever step is the last one before the power goes, an epoch has at most
// one report: making it again returns the stored bytes, or says that the report is lost with its charge.
//
// What is drawn is the charter's to say: the vector of all families under Gaussian noise, or one category of one family.
//
// Invariants: families that the driver did not consent to or the charter does not allow are zeros before the noise; every report has
// the same size, and an idle dispatch is reported too, because absence must say nothing. A family that is turned on beside others counts
// from that moment: the first report that names it tells of a part of its dispatch. What is turned off leaves in no report, also where the
// report was stored before.
//
// The package refuses a charter without a usable mechanism, consent without device key, a budget without usage or the collector's record,
// and a report without a budget that says yes. It sends nothing.
package report

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"strings"

	"rawstone/agent/internal/budget"
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
	// Families returns what the driver consents to at this moment; nil means that there are no reports whatever the driver says. With it
	// Device is required. It may not block.
	Families func() wire.Family
	// Device signs reports.
	Device crypto.Signer
	// Budget is the ledger, nil where there is none to charge: nothing is drawn then. With it Families, Usage and Heard are required.
	Budget *budget.Ledger
	Usage  Usage
	// Heard returns nil once the collector's record of this car's budget was compared with the ledger (budget.Ledger.Compare), else why not
	// yet: reports wait until then, and usage goes on accumulating. It is asked only when there is a report to make, so that the car
	// connects for the record only then. It may not block.
	Heard func() error
}

// Maker makes the reports of one vehicle. It is not safe for concurrent use.
type Maker struct {
	cfg       Config
	mechanism mechanism
}

// New checks that the charter's mechanism can be had.
func New(cfg Config) (*Maker, error) {
	switch {
	case cfg.Charter == nil:
		return nil, errors.New("cannot make reports: no charter given")
	case cfg.Families != nil && cfg.Device == nil:
		return nil, errors.New("cannot make reports: the driver may consent to them but no device key is given")
	case cfg.Families != nil && cfg.Budget != nil && (cfg.Usage == nil || cfg.Heard == nil):
		return nil, errors.New("cannot make reports: there is a budget for them but no usage or way to hear the collector's record is given")
	}
	m, err := newMechanism(&cfg.Charter.Usage)
	if err != nil {
		return nil, fmt.Errorf("cannot make reports: %w", err)
	}
	return &Maker{cfg: cfg, mechanism: m}, nil
}

// Cost returns what one report costs.
func Cost(u *terms.Usage) budget.Cost {
	return budget.Cost{MicroEpsilon: int64(u.EpsilonMicro), PicoDelta: int64(u.DeltaPico)}
}

// Families returns what the driver consented to and the charter allows; 0 means that there are no reports.
func (m *Maker) Families() wire.Family {
	if m.cfg.Families == nil {
		return 0
	}
	return m.cfg.Families() & m.cfg.Charter.Usage.Families
}

// Wait says why no report is made yet, or nil: the collector's record of the budget was not compared.
func (m *Maker) Wait() error {
	if m.cfg.Heard == nil {
		return nil
	}
	return m.cfg.Heard()
}

// Drawn returns the families of which reports can be drawn now: none without a budget in order.
func (m *Maker) Drawn() wire.Family {
	if m.cfg.Budget == nil || m.cfg.Budget.Err() != nil {
		return 0
	}
	return m.Families()
}

// Why there is no report of an epoch although its bytes were stored.
var (
	errTurnedOff = errors.New("the driver turned off since what it tells of")
	errOtherKey  = errors.New("it was made under another device key")
)

// Make returns the sealed report of an epoch: the stored bytes where there are any, or a fresh draw of what usage tells. lost says why there
// is and will be none; the usage is consumed then too, so that the next report does not tell of two dispatches, unless the epoch was
// charged before. After err it may be tried again.
func (m *Maker) Make(ctx context.Context, epoch uint32, usage Usage) (sealed []byte, lost, err error) {
	if m.Families() == 0 || m.cfg.Budget == nil {
		return nil, errors.New("the driver consented to no reports, or there is no budget"), nil
	}
	totals, consume, err := usage.Take(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot take usage: %w", err)
	}
	sealed, lost, err = m.make(ctx, epoch, totals)
	if err != nil || errors.Is(lost, budget.ErrCharged) || errors.Is(lost, budget.ErrPast) {
		return nil, lost, err
	}
	// Found bytes may mean that the power went before this: consuming again loses minutes of usage, not consuming would tell the
	// same week twice. From here on stopping the agent would lose the report.
	if err := consume(context.WithoutCancel(ctx)); err != nil {
		return nil, nil, fmt.Errorf("cannot consume usage: %w", err)
	}
	if errors.Is(lost, errTurnedOff) || errors.Is(lost, errOtherKey) {
		return nil, lost, m.Forget(ctx, epoch)
	}
	return sealed, lost, nil
}

// make returns the stored bytes of an epoch, or draws and stores them.
func (m *Maker) make(ctx context.Context, epoch uint32, totals [wire.VectorLen]int64) (sealed []byte, lost, err error) {
	sealed, found, err := m.cfg.Budget.Stored(ctx, uint64(epoch))
	switch {
	case errors.Is(err, budget.ErrCorrupt):
		return nil, err, nil
	case err != nil:
		return nil, nil, err
	case found && m.Foreign(sealed):
		return nil, errOtherKey, nil
	case found && m.Withdrawn(sealed):
		return nil, errTurnedOff, nil
	case found:
		return sealed, nil, nil
	}
	permit, err := m.cfg.Budget.Charge(ctx, uint64(epoch), Cost(&m.cfg.Charter.Usage))
	switch {
	case errors.Is(err, budget.ErrCharged), errors.Is(err, budget.ErrPast), errors.Is(err, budget.ErrExhausted), errors.Is(err, budget.ErrRolledBack):
		return nil, err, nil
	case err != nil:
		return nil, nil, err
	}
	ctx = context.WithoutCancel(ctx)
	if sealed, err = m.draw(permit, m.Families(), totals); err != nil {
		return nil, nil, err
	}
	return sealed, nil, m.cfg.Budget.Store(ctx, permit, sealed)
}

// Discard consumes the usage of a dispatch that is not reported: the next report must not tell of two.
func (m *Maker) Discard(ctx context.Context) error {
	if m.cfg.Usage == nil {
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
	if m.cfg.Budget == nil {
		return nil
	}
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
func (m *Maker) draw(permit *budget.Permit, families wire.Family, totals [wire.VectorLen]int64) ([]byte, error) {
	totals = consented(totals, families)
	values, err := permit.Release(m.mechanism.Mechanism, m.mechanism.totals(&totals))
	if err != nil {
		return nil, err
	}
	r := wire.Report{
		Version: wire.Version, Vehicle: m.cfg.Vehicle, Charter: m.cfg.CharterID, Epoch: uint32(permit.Epoch()), Families: families,
		Charge: wire.NewCharge(permit.Index(), permit.Hash()),
	}
	if err := r.SetValues(m.mechanism.values(values)); err != nil {
		return nil, err
	}
	return wire.SealReport(m.cfg.Device, &r)
}

// Refuse notes durably that the collector refused a report because of the budget: no other is drawn. A report that was made under another
// device key says nothing of this ledger.
func (m *Maker) Refuse(sealed []byte) error {
	if m.cfg.Budget == nil || m.Foreign(sealed) {
		return nil
	}
	return m.cfg.Budget.MarkRolledBack("the collector refused a report because its charge does not follow the last one it knows of this vehicle")
}

// Foreign reports whether a sealed report is none of this car's present device key: the car was enrolled anew since, or it is damaged.
func (m *Maker) Foreign(sealed []byte) bool {
	_, err := m.read(sealed)
	return m.cfg.Device != nil && err != nil
}

// Withdrawn reports whether a sealed report of this car tells of a family that the driver does not consent to any more.
func (m *Maker) Withdrawn(sealed []byte) bool {
	r, err := m.read(sealed)
	return err == nil && r.Families&^m.Families() != 0
}

// read opens a report of this car.
func (m *Maker) read(sealed []byte) (*wire.Report, error) {
	if m.cfg.Device == nil {
		return nil, errors.New("no device key")
	}
	device, err := wire.NewPublicKey(m.cfg.Device.Public())
	if err != nil {
		return nil, err
	}
	return wire.OpenReport(device, m.cfg.Vehicle, sealed)
}

// EveryDays returns the number of program days between two reports of a car whose driver chose a cadence: it, or as many as a charter's
// budget makes of 365.
func EveryDays(u *terms.Usage, cadence int) int {
	yearly := max(int(u.YearlyDispatches), 1)
	return max(cadence, (365+yearly-1)/yearly)
}

// Explain tells the driver what the sealed report of an epoch reveals and what that costs.
func (m *Maker) Explain(t terms.Timing, epoch uint32, sealed []byte) (contents, cost string) {
	families := m.Families()
	if r, err := m.read(sealed); err == nil {
		families = r.Families // which may be those of before a restart
	}
	var names []string
	for _, l := range wire.Layouts() {
		if families&l.Family != 0 {
			names = append(names, l.Name)
		}
	}
	u := m.cfg.Charter.Usage
	return fmt.Sprintf("Usage of the dispatch before %s under noise: %s. %s",
			t.Date(epoch), strings.Join(names, ", "), m.mechanism.explain()),
		fmt.Sprintf("Privacy budget: epsilon %g at delta %g for this report.", float64(u.EpsilonMicro)/1e6, float64(u.DeltaPico)/1e12)
}
