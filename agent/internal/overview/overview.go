// Package overview puts together what the rooms of the agent say of themselves for the driver's display.
//
// It reads and changes nothing, and adds nothing to what a room says of itself: no counter, position or usage value, and not the vehicle.
package overview

import (
	"cmp"
	"time"

	"rawstone/agent/internal/consent"
	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/identity"
	"rawstone/agent/internal/inclusion"
	"rawstone/agent/internal/privacy"
	"rawstone/agent/internal/reader"
	"rawstone/agent/internal/rulebook"
	"rawstone/agent/internal/seal"
	"rawstone/agent/internal/seal/phase"
	"rawstone/agent/internal/spool"
	"rawstone/agent/internal/status"
	"rawstone/agent/internal/trip"
	"rawstone/pkg/terms"
)

// Rooms are the rooms that are asked. All are required.
type Rooms struct {
	Clock    terms.Clock
	Buses    []string // their names, in the reader's order
	Reader   *reader.Reader
	Recorder *trip.Recorder
	Sealer   *seal.Sealer
	Book     *rulebook.Book
	Identity *identity.Identity
	Spool    *spool.Spool
	Proofs   *inclusion.Checker
	Consent  *consent.Consent
	Purse    *privacy.Purse
}

// Snapshot returns the agent at this moment.
func (r Rooms) Snapshot() status.Snapshot {
	sealing := r.Sealer.Status()
	s := status.Snapshot{State: string(sealing.Phase), Reason: string(sealing.Reason), Remedy: sealing.Remedy, Frames: r.Reader.Received()}
	switch sealing.Phase {
	case phase.Starting, phase.Unruled, phase.Keys:
		s.Reason = cmp.Or(s.Reason, r.Book.Waiting())
	}
	s.RulesHeard = known(r.Book.Heard())
	for _, u := range sealing.Policies {
		s.Policies = append(s.Policies, status.Policy{
			Serial: u.Policy.Serial, Kind: u.Policy.Kind, FromDay: u.Policy.FromDay, ToDay: u.Policy.ToDay, Unused: u.Idle,
		})
	}
	var problem error
	if s.CertificateUntil, problem = r.Identity.Status(); problem != nil {
		s.CertificateProblem = problem.Error()
	}
	s.Retry, s.LastReceipt = known(sealing.Retry), known(sealing.LastReceipt)
	if unproven, err := r.Proofs.Summary(); err == nil {
		s.Unproven = status.Receipts(unproven)
	}
	s.Snapshots = r.Sealer.Archive().Len()
	s.SpoolItems, s.SpoolBytes = r.Spool.Depth()
	if due, ok := r.Spool.NextDue(); ok {
		s.NextDue = known(due)
	}
	for i, name := range r.Buses {
		s.Buses = append(s.Buses, status.Bus{Name: name, Up: r.Reader.Up(uint8(i))})
	}
	for _, e := range r.Recorder.Odometer().Events {
		s.Odometer = append(s.Odometer, status.Doubt{
			Source: e.Source, Event: e.Kind.String(), Meaning: e.Kind.Meaning(), Count: e.Count, Last: time.Unix(0, e.Last).UTC(),
		})
	}
	r.driver(&s)
	return s
}

// driver tells what the driver has turned on, and how the privacy budget stands.
func (r Rooms) driver(s *status.Snapshot) {
	view := r.Consent.View()
	s.Cadence = string(view.Cadence)
	for _, list := range [][]consent.Option{view.Families, view.Kinds} {
		for _, o := range list {
			if o.On {
				s.Consent = append(s.Consent, o.Name)
			}
		}
	}
	s.BudgetLeft = r.Purse.Left(r.Purse.Day(r.Day(), r.Clock.Today()))
	switch problem := r.Purse.Problem(); {
	case r.Consent.Families() == 0:
		s.Reports = "off"
	case problem != "":
		s.Reports = "off: " + problem
	case s.BudgetLeft == 0:
		s.Reports = "off until the year's privacy budget has room again"
	default:
		s.Reports = "on"
	}
}

// Day returns the program day of the ECU's newest snapshot that is not ahead, 0 for none.
func (r Rooms) Day() uint32 {
	list, err := r.Sealer.Archive().SinceHead()
	if err != nil {
		return 0
	}
	day, _ := cut.LastDay(list, r.Clock.Today())
	return day
}

// known returns an instant, nil for none.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
