package analytics

import (
	"context"
	"log/slog"
	"time"
)

// Run refreshes the estimates at an interval until ctx ends. What fails is said and tried again.
func (e *Estimator) Run(ctx context.Context, interval time.Duration, logger *slog.Logger) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := e.Refresh(ctx); err != nil && ctx.Err() == nil {
			logger.Error("cannot refresh usage estimates", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
