package settle

import (
	"context"

	"rawstone/collector/internal/outbox"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
)

// rows returns entries with their rows, and reads what they hide.
func (s *Settler) rows(ctx context.Context, from uint64) (out []outbox.Row, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		if out, err = tx.Rows(ctx, from, batch); err != nil {
			return err
		}
		return s.gate.Read(ctx, tx, out)
	})
	return out, err
}

func (s *Settler) entries(ctx context.Context, from uint64) (out []ledger.Entry, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		out, err = tx.Entries(ctx, from, batch)
		return err
	})
	return out, err
}

// take applies the next numbered entries and readies them for the log.
func (s *Settler) take(ctx context.Context) (bool, error) {
	rows, err := s.rows(ctx, s.replay.Next())
	if err != nil {
		return false, err
	}
	for i := range rows {
		b, err := rows[i].Encode()
		if err == nil {
			err = s.apply(ctx, &rows[i])
		}
		if err == nil {
			err = s.ready(ctx, b)
		}
		if err != nil {
			return false, err
		}
	}
	return len(rows) > 0, nil
}

// ready readies entries, which are final in the records, for the log.
func (s *Settler) ready(ctx context.Context, entries ...[]byte) error {
	s.pending = append(s.pending, entries...)
	if len(s.pending) >= appended || s.c.Elapsed()-s.flushed >= maxHeld {
		return s.flush(ctx)
	}
	return nil
}

// number numbers and replays rows of the outbox that have no number, and sets aside those that the replay refuses.
func (s *Settler) number(ctx context.Context) (err error) {
	var entries [][]byte
	var aside map[ledger.Type]int
	err = s.update(ctx, func(tx *store.Tx) error {
		entries, aside, err = s.gate.Number(ctx, tx, s.replay, numbered)
		return err
	})
	if err != nil {
		return err
	}
	for t, n := range aside {
		s.metrics.Refused.WithLabelValues(t.String()).Add(float64(n))
		s.c.Logger.Error("entries set aside: they get no number and the ledger goes on without them; their rows keep the reason", "type", t.String(), "entries", n)
	}
	return s.ready(ctx, entries...)
}

// flush appends what is pending to the log and notes it in the records.
func (s *Settler) flush(ctx context.Context) error {
	if len(s.pending) == 0 {
		return nil
	}
	if err := s.c.Log.Append(ctx, s.replay.Next()-uint64(len(s.pending)), s.pending...); err != nil {
		return err
	}
	s.metrics.Entries.Add(float64(len(s.pending)))
	s.pending, s.flushed = nil, s.c.Elapsed()
	return s.update(ctx, func(tx *store.Tx) error { return tx.MarkAppended(ctx, s.replay.Next()) })
}
