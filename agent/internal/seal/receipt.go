package seal

import (
	"context"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"rawstone/pkg/wire"
)

const (
	// maxRebases is how many rebases in a row are acted upon at once.
	maxRebases = 3
	// maxLead is how many days the host's clock is believed beyond the ECU's last snapshot.
	maxLead = 31
)

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
	defer s.poke()
	var err error
	switch kind {
	case wire.KindClaim:
		err = s.claimReceipt(body, r, signed)
	case wire.KindReport:
		err = s.reportReceipt(r)
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
		head := c.To.Head()
		if r.Head != nil && r.Head.Seq > head.Seq {
			head = *r.Head // an older claim over the same span had already carried it further
		}
		err = s.commit(func(st *state) {
			st.Head, st.Refusals, st.Reason, st.Since = &head, 0, "", 0
		}, func(txn *badger.Txn) error {
			return txn.Set(append(key(receiptPrefix, c.To.Seq), r.Submission[:]...), withSum(signed))
		})
	} else {
		err = s.commit(func(st *state) { s.refuse(st, r) })
		s.metrics.refusals.WithLabelValues(string(r.Reason)).Inc()
	}
	if err != nil {
		return err
	}
	return s.finish(r, s.outcome(r))
}

// refuse notes a refusal: where to begin next, and how long to wait.
func (s *Sealer) refuse(st *state, r *wire.Receipt) {
	st.Refusals = min(st.Refusals+1, 1<<16)
	rebase := r.Reason == wire.ReasonGap || r.Reason == wire.ReasonStale
	if rebase {
		head := *r.Head
		st.Head = &head
	}
	if rebase && st.Refusals <= maxRebases {
		st.Reason, st.Since = "", 0
		return
	}
	st.Reason, st.Since = r.Reason, s.cfg.Clock.Now().Unix()
	s.log.Warn("claims are refused and wait", "reason", string(r.Reason), "remedy", remedy(r.Reason))
}

// reportReceipt sees to it that no other report leaves on the same program day. A refused report is gone: its budget is spent.
func (s *Sealer) reportReceipt(r *wire.Receipt) error {
	today := s.cfg.Clock.Today()
	// A host clock that runs years ahead would hold reports back for years: the ECU's day bounds it.
	if day, ok, err := s.ecuDay(); err == nil && ok {
		today = min(today, day+maxLead)
	}
	if err := s.commit(func(st *state) { st.Left = today }); err != nil {
		return err
	}
	if err := s.cfg.Spool.Postpone(wire.KindReport, r.Submission, s.cfg.Clock.DayStart(today+1)); err != nil {
		return err
	}
	if !r.Accepted {
		s.metrics.refusals.WithLabelValues(string(r.Reason)).Inc()
	}
	return s.finish(r, s.outcome(r))
}

// finish writes the outcome and frees the submission.
func (s *Sealer) finish(r *wire.Receipt, outcome string) error {
	now := s.cfg.Clock.Now()
	if err := s.cfg.Journal.End(r.Submission, now, outcome); err != nil {
		return err
	}
	if err := s.cfg.Spool.Free(r.Submission); err != nil {
		return err
	}
	s.mu.Lock()
	s.last = now
	s.mu.Unlock()
	return nil
}

func (s *Sealer) outcome(r *wire.Receipt) string {
	if !r.Accepted {
		return fmt.Sprintf("refused (%s): %s", r.Reason, remedy(r.Reason))
	}
	text := "accepted"
	for _, c := range r.Credits {
		if c.Km > 0 {
			text += fmt.Sprintf(": %d km credited from %s", c.Km, s.date(c.Effective))
		}
	}
	return text
}

// remedy tells the driver what follows from a refusal.
func remedy(r wire.Reason) string {
	switch r {
	case wire.ReasonGap, wire.ReasonStale:
		return "the collector stands at another snapshot; the next claim begins there"
	case wire.ReasonUnknownVehicle:
		return "the collector does not know this vehicle; ask the dealer to register it"
	case wire.ReasonUnknownKey:
		return "the attestation ECU is not bound to this vehicle; ask the workshop to register it"
	case wire.ReasonRevoked:
		return "the attestation ECU's key was revoked; ask the workshop to replace or reinstate it"
	case wire.ReasonFuture:
		return "a clock in the car runs ahead; it will be tried again later"
	case wire.ReasonPolicy, wire.ReasonCharter:
		return "the rules on this car are out of date; update them"
	case wire.ReasonEpoch:
		return "the vehicle has already reported for that time"
	}
	return "the agent made something the collector cannot accept; update the agent"
}

// A Phase says what the sealer is doing.
type Phase string

// The phases.
const (
	PhaseStarting Phase = "starting" // waits for the ECU's snapshots
	PhaseIdle     Phase = "idle"     // nothing to claim yet
	PhaseSealing  Phase = "sealing"  // makes a claim
	PhaseWaiting  Phase = "waiting"  // a claim waits for its receipt
	PhaseStopped  Phase = "stopped"  // claims are refused; see Reason
)

// Status is the sealer as the driver sees it.
type Status struct {
	Phase Phase
	// Reason is why claims wait, empty where they do not; Remedy says what to do and Retry when it is tried again.
	Reason wire.Reason
	Remedy string
	Retry  time.Time
	// LastReceipt is when the last receipt of this process's life was acted upon, zero where there was none.
	LastReceipt time.Time
}

// Status returns what the sealer is doing.
func (s *Sealer) Status() Status {
	s.mu.Lock()
	st, status := s.state, Status{Phase: s.phase, LastReceipt: s.last}
	s.mu.Unlock()
	if st.Reason != "" {
		status.Reason, status.Remedy, status.Retry = st.Reason, remedy(st.Reason), s.retryAt(st)
	}
	return status
}

func (s *Sealer) setPhase(p Phase) {
	s.mu.Lock()
	s.phase = p
	s.mu.Unlock()
}
