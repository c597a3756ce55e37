package seal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rawstone/pkg/attest"
	"rawstone/pkg/claim"
)

// maxTries bounds how often a missing snapshot is asked for in the life of a process.
const maxTries = 3

// Deliver takes one message from the ECU as it came over the bus. When it returns nil the snapshot is on flash. Errors: bytes that
// are no message, a signature or an opening that does not hold, a second snapshot under one number, or a failure to write.
func (s *Sealer) Deliver(ctx context.Context, b []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, err := s.accept(b)
	if err != nil {
		s.metrics.refused.Inc()
		return fmt.Errorf("cannot accept snapshot: %w", err)
	}
	isNew, err := s.archive.put(m, s.current().Head)
	if errors.Is(err, errConflict) {
		s.metrics.refused.Inc()
	}
	if err != nil {
		return fmt.Errorf("cannot accept snapshot: %w", err)
	}
	if isNew {
		s.metrics.snapshots.Inc()
		s.log.Info("snapshot received", "day", m.Snapshot.Day)
	}
	s.answered()
	s.poke()
	return nil
}

func (s *Sealer) accept(b []byte) (*attest.Message, error) {
	m, err := attest.DecodeMessage(b)
	if err != nil {
		return nil, err
	}
	if err := attest.Verify(s.pub, s.cfg.Program, m.Snapshot); err != nil {
		return nil, err
	}
	if claim.Commit(m.Opening) != m.Snapshot.Commitment {
		return nil, errors.New("its opening does not match its commitment")
	}
	return m, nil
}

// quiet is the silence after which an answer counts as complete.
func (s *Sealer) quiet() time.Duration { return s.cfg.ResendWait / 5 }

// answered notes that the ECU spoke: a pending answer is complete after a moment's silence. An ECU that speaks only after the
// wait was over never heard the first request, and is asked again.
func (s *Sealer) answered() {
	now := s.cfg.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	end := s.asked.Add(s.cfg.ResendWait)
	switch {
	case !now.After(end) && !now.Before(s.asked):
		s.heard = true
		if s.gate = now.Add(s.quiet()); s.gate.After(end) {
			s.gate = end
		}
	case !s.heard:
		s.again = true
	}
}

// ask requests the ECU's last n snapshots and holds sealing until the answer has had its time.
func (s *Sealer) ask(ctx context.Context, n uint8) {
	now := s.cfg.Clock.Now()
	s.mu.Lock()
	s.asked, s.gate, s.again = now, now.Add(s.cfg.ResendWait), false
	s.mu.Unlock()
	s.metrics.resends.Inc()
	if err := s.cfg.RequestResend(ctx, n); err != nil && ctx.Err() == nil {
		s.log.Warn("cannot ask the ECU for its snapshots", "error", err)
	}
}

// attend asks for what is missing and returns how long sealing must still wait for an answer.
func (s *Sealer) attend(ctx context.Context) time.Duration {
	now := s.cfg.Clock.Now()
	missing, newest := s.archive.missing(s.current().Head)
	s.mu.Lock()
	gate, again := s.gate, s.again
	// A clock set back must not hold sealing for long.
	if wait := gate.Sub(now); wait > 0 && wait <= s.cfg.ResendWait {
		s.mu.Unlock()
		return wait
	}
	n := s.wanted(missing, newest)
	s.mu.Unlock()
	if again {
		n = attest.MaxLast
	}
	if n == 0 {
		return 0
	}
	s.ask(ctx, n)
	return s.cfg.ResendWait
}

// wanted returns how many snapshots back the oldest missing one is that may still be asked for, and counts the request. The
// caller holds mu.
func (s *Sealer) wanted(missing []uint64, newest uint64) (n uint8) {
	for _, seq := range missing {
		if s.tries[seq] < maxTries {
			n = max(n, uint8(newest-seq+1))
		}
	}
	tries := make(map[uint64]int, len(missing))
	for _, seq := range missing {
		tries[seq] = s.tries[seq]
		if n > 0 {
			tries[seq]++
		}
	}
	s.tries = tries
	return n
}
