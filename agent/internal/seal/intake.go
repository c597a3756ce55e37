package seal

import (
	"context"
	"errors"
	"fmt"

	"rawstone/agent/internal/archive"
	"rawstone/agent/internal/snapshot"
	"rawstone/agent/internal/verdict"
)

// Deliver takes one message from the ECU as it came over the bus. When it returns nil the snapshot is on flash. Errors: bytes that
// are no message, a signature or an opening that does not hold, a second snapshot under one number, a salt that another snapshot has
// used, or a failure to write.
func (s *Sealer) Deliver(ctx context.Context, b []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, err := snapshot.Open(s.pub, s.cfg.Program, b)
	if err != nil {
		s.metrics.Refused.Inc()
		return fmt.Errorf("cannot accept snapshot: %w", err)
	}
	isNew, err := s.archive.Put(m)
	salt := errors.Is(err, archive.ErrSalt)
	if salt || errors.Is(err, archive.ErrConflict) {
		s.metrics.Refused.Inc()
	}
	if salt {
		s.metrics.Salts.Inc()
		err = errors.Join(err, s.tellSalt())
	}
	if err != nil {
		return fmt.Errorf("cannot accept snapshot: %w", err)
	}
	if isNew {
		s.metrics.Snapshots.Inc()
		s.log.Info("snapshot received", "day", m.Snapshot.Day)
	}
	answer := s.asker.Heard()
	if isNew && s.cfg.OnSnapshot != nil {
		s.cfg.OnSnapshot(m, answer)
	}
	s.Wake()
	return nil
}

// tellSalt notes in the journal, once for each ECU, that it used a salt twice.
func (s *Sealer) tellSalt() error {
	if s.archive.State().SaltTold {
		return nil
	}
	if err := s.cfg.Journal.Note(s.cfg.Clock.Now(), verdict.SaltNote); err != nil {
		return err
	}
	return s.archive.Commit(func(st *archive.State) { st.SaltTold = true })
}

// request asks the ECU for its last n snapshots.
func (s *Sealer) request(ctx context.Context, n uint8) {
	s.metrics.Resends.Inc()
	if err := s.cfg.RequestResend(ctx, n); err != nil && ctx.Err() == nil {
		s.log.Warn("cannot ask the ECU for its snapshots", "error", err)
	}
}

// Withdraw takes back what waits to leave and tells of what the driver has turned off. It waits for a proof that is being made.
func (s *Sealer) Withdraw() error {
	s.work.Lock()
	defer s.work.Unlock()
	return s.withdraw()
}
