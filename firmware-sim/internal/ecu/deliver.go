package ecu

import (
	"context"
	"slices"

	"rawstone/pkg/attest"
)

// Request answers an agent's request for the last n snapshots. Requests that a running or a waiting answer covers collapse into it.
func (e *ECU) Request(r attest.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.metric.requests.Inc()
	n := int(r.Last)
	if n <= e.running || n <= e.pending {
		e.metric.collapsed.Inc()
		return
	}
	e.enqueue(min(n, attest.MaxLast))
}

// enqueue makes the last n snapshots wait for Deliver.
func (e *ECU) enqueue(n int) {
	e.pending = n
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Deliver sends what waits, oldest first and one after the other, until ctx is done. When nobody takes a snapshot the rest waits for
// the agent's request: an agent that is not there is an everyday thing.
func (e *ECU) Deliver(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		}
		for _, m := range e.take() {
			b, err := m.Encode()
			if err != nil {
				return err
			}
			if err := e.cfg.Send(ctx, b); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				e.metric.undelivered.Inc()
				e.cfg.Logger.Debug("snapshot not taken", "error", err)
				break
			}
			e.metric.delivered.Inc()
			e.cfg.Logger.Info("snapshot delivered", "day", m.Snapshot.Day)
		}
		e.mu.Lock()
		e.running = 0
		e.mu.Unlock()
	}
}

// take returns the snapshots that wait and marks them as being sent.
func (e *ECU) take() []attest.Message {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := min(e.pending, len(e.state.Messages))
	e.pending, e.running = 0, n
	return slices.Clone(e.state.Messages[len(e.state.Messages)-n:])
}
