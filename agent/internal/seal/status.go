package seal

import (
	"time"

	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/verdict"
	"rawstone/pkg/wire"
)

// A Phase says what the sealer is doing.
type Phase string

// The phases.
const (
	PhaseStarting Phase = "starting"      // waits for the ECU's snapshots
	PhaseUnruled  Phase = "without_rules" // no policy that this car can use is in force
	PhaseIdle     Phase = "idle"          // nothing to claim yet
	PhaseKeys     Phase = "awaiting_key"  // a claim waits for a proving key
	PhaseSealing  Phase = "sealing"       // makes a claim
	PhaseWaiting  Phase = "waiting"       // a claim waits for its receipt
	PhaseStopped  Phase = "stopped"       // claims are refused; see Reason
)

// Status is the sealer as the driver sees it.
type Status struct {
	Phase Phase
	// Reason is why claims are refused, empty where they are not, and Retry when it is tried again. Remedy says what to do, also in
	// PhaseUnruled and PhaseKeys.
	Reason wire.Reason
	Remedy string
	Retry  time.Time
	// Policies are the policies that this car has, and why those without use today are not used.
	Policies []cut.Use
	// LastReceipt is when the last receipt of this process's life was acted upon, zero where there was none.
	LastReceipt time.Time
}

// Status returns what the sealer is doing.
func (s *Sealer) Status() Status {
	st := s.archive.State()
	status := Status{Policies: s.cfg.Rules().UsesWith(s.cfg.Prover, s.cfg.Clock.Today())}
	s.mu.Lock()
	status.Phase, status.LastReceipt = s.phase, s.last
	s.mu.Unlock()
	switch {
	case st.Reason != "":
		status.Reason, status.Remedy, status.Retry = st.Reason, verdict.Remedy(wire.KindClaim, st.Reason), verdict.RetryAt(st, s.cfg.Clock.Now(), s.cfg.RetryAfter)
	case status.Phase == PhaseUnruled:
		status.Remedy = "no rules that this car can use are in force: it claims once the collector has sent some; see the policies for why others are not used"
	case status.Phase == PhaseKeys:
		status.Remedy = "a policy's proving key is still being fetched: the car claims once it is here; have it connected for a while"
	}
	return status
}

func (s *Sealer) setPhase(p Phase) {
	s.mu.Lock()
	s.phase = p
	s.mu.Unlock()
}
