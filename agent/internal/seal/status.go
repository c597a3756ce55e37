package seal

import (
	"time"

	"rawstone/agent/internal/cut"
	"rawstone/agent/internal/seal/phase"
	"rawstone/agent/internal/verdict"
	"rawstone/pkg/wire"
)

// Status is the sealer as the driver sees it.
type Status struct {
	Phase phase.Phase
	// Reason is why claims are refused, empty where they are not, Retry when it is tried again, Remedy what to do, also without rules or keys.
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
	status.Remedy = status.Phase.Remedy()
	if st.Reason != "" {
		status.Reason, status.Remedy, status.Retry = st.Reason, verdict.Remedy(wire.KindClaim, st.Reason), verdict.RetryAt(st, s.cfg.Clock.Now(), s.cfg.RetryAfter)
	}
	return status
}

func (s *Sealer) setPhase(p phase.Phase) {
	s.mu.Lock()
	s.phase = p
	s.mu.Unlock()
}
