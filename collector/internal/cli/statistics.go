package cli

import (
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"rawstone/collector/internal/analytics"
	"rawstone/collector/internal/overview"
	"rawstone/collector/internal/program"
	"rawstone/collector/internal/store"
	"rawstone/pkg/terms"
)

// estimator opens the usage estimates of the configuration that the command names and reads what has come. It writes nothing: what a running
// collector has pooled stays its own.
func estimator(cmd *cobra.Command) (e *analytics.Estimator, clock terms.Clock, end func() error, err error) {
	cfg, err := load(cmd)
	if err != nil {
		return nil, clock, nil, err
	}
	p, err := program.Open(&cfg.Program, cfg.Environment)
	if err != nil {
		return nil, clock, nil, err
	}
	clock = terms.Clock{Timing: p.Timing, Now: time.Now}
	records, err := cfg.Store(store.Web)
	if err != nil {
		return nil, clock, nil, err
	}
	db, err := store.Open(cmd.Context(), records)
	if err != nil {
		return nil, clock, nil, err
	}
	e, err = overview.Estimation{
		Records: db, Documents: p.Documents, Clock: clock, Dir: cfg.UsageDir(), Frozen: true, Logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)),
	}.Open(cmd.Context())
	if err == nil {
		err = e.Refresh(cmd.Context())
	}
	if err != nil {
		return nil, clock, nil, errors.Join(err, db.Close())
	}
	return e, clock, db.Close, nil
}
