// Package daemon is the collector as a whole: configuration, wiring and Run, the one importable seam of the collector.
//
// Everything runs in this process: broker, intake, settler with the operator's own validator, dashboard. When it is told to stop, the
// intake finishes the batch in hand, the settler leaves off where it can resume, and the dashboard's readers get what they asked for.
// Then the broker closes, whose queues keep what vehicles sent meanwhile, and last the ledger and the records. When something cannot
// be opened, what was opened before it is closed.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"rawstone/collector/internal/analytics"
	"rawstone/collector/internal/broker"
	"rawstone/collector/internal/credit"
	"rawstone/collector/internal/dashboard"
	"rawstone/collector/internal/ingest"
	"rawstone/collector/internal/settle"
	"rawstone/collector/internal/store"
	"rawstone/collector/internal/validator"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// Files below the state directory.
const (
	recordsFile   = "records.db"
	ledgerDir     = "ledger"
	queueDir      = "queue"
	validatorFile = "validator.json"
)

const (
	shutdownTimeout  = 5 * time.Second
	estimateInterval = 2 * time.Second
)

// Deps are what Run is given besides its configuration.
type Deps struct {
	// Logger takes the journey. Required.
	Logger *slog.Logger
	// Now is the host's clock; nil means time.Now.
	Now func() time.Time
	// OnReady is called once vehicles can connect, with the addresses that were bound; nil means nobody waits.
	OnReady func(Addresses)
}

// Addresses are where a running collector can be reached.
type Addresses struct{ MQTT, Web string }

func (d *Deps) complete() error {
	if d.Logger == nil {
		return errors.New("no logger given")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return nil
}

// collector is what Run wires.
type collector struct {
	cfg     *Config
	deps    Deps
	program *program
	clock   terms.Clock
	metrics *prometheus.Registry

	records   *store.DB
	log       *tlog.Log
	settler   *settle.Settler
	estimator *analytics.Estimator
	broker    *broker.Broker
	intake    *ingest.Intake
	web       net.Listener
	server    *http.Server
}

// Run runs the collector until ctx is done or something fails.
func Run(ctx context.Context, cfg *Config, deps Deps) (err error) {
	if err := deps.complete(); err != nil {
		return fmt.Errorf("cannot run collector: %w", err)
	}
	c := &collector{cfg: cfg, deps: deps, metrics: prometheus.NewRegistry()}
	c.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// The ledger must not die with ctx in the middle of a last step: it lives for as long as Run lasts.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.open(ctx, life); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it was ready
		}
		return err
	}
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return c.intake.Run(running) })
	group.Go(func() error { return c.settler.Run(running) })
	group.Go(func() error { return c.estimate(running) })
	group.Go(func() error {
		if err := c.server.Serve(c.web); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("cannot serve dashboard: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-running.Done()
		stop, cancel := context.WithTimeout(life, shutdownTimeout)
		defer cancel()
		if err := c.server.Shutdown(stop); err != nil {
			return c.server.Close() // a reader that does not end its request does not hold the collector
		}
		return nil
	})
	deps.Logger.Info("collector ready", "mqtt", c.broker.Addr().String(), "web", "http://"+c.web.Addr().String())
	if deps.OnReady != nil {
		deps.OnReady(Addresses{MQTT: c.broker.Addr().String(), Web: c.web.Addr().String()})
	}
	return group.Wait()
}

// open opens everything in the order of dependence; the ledger lives until life ends. What was opened before a failure is closed by
// close.
func (c *collector) open(ctx, life context.Context) (err error) {
	if c.program, err = openProgram(c.cfg); err != nil {
		return err
	}
	if err := c.program.openSecrets(c.cfg); err != nil {
		return err
	}
	c.clock = terms.Clock{Timing: c.program.Timing, Now: c.deps.Now}
	if err := os.MkdirAll(c.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("cannot make state directory: %w", err)
	}
	if c.records, err = store.Open(ctx, store.Config{Path: c.path(recordsFile)}); err != nil {
		return err
	}
	if err := c.openLedger(ctx, life); err != nil {
		return err
	}
	if err := c.openIntake(ctx); err != nil {
		return err
	}
	c.estimator, err = analytics.New(analytics.Config{
		Source: reports{c.records}, Charter: c.program.CharterID, Usage: c.program.Charter.Usage, Today: c.clock.Today, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	return c.openWeb()
}

func (c *collector) path(name string) string { return filepath.Join(c.cfg.StateDir, name) }

func (c *collector) openLedger(ctx, life context.Context) (err error) {
	c.log, err = tlog.Open(life, tlog.Config{Dir: c.path(ledgerDir), Signer: c.program.log, Verifier: c.program.LogKey, Logger: c.deps.Logger})
	if err != nil {
		return err
	}
	own, err := validator.Open(validator.Config{
		Key: c.program.validator, Root: c.program.Root, State: c.path(validatorFile), Openings: openings{c.records},
		Now: c.deps.Now, Logger: c.deps.Logger,
	})
	if err != nil {
		return err
	}
	c.settler, err = settle.New(ctx, settle.Config{
		Store: c.records, Log: c.log, LogDir: c.path(ledgerDir), Root: c.program.Root, Documents: c.program.genesis(),
		Validators: []settle.Validator{own}, Now: c.deps.Now, Logger: c.deps.Logger, Registerer: c.metrics,
	})
	return err
}

func (c *collector) openIntake(ctx context.Context) (err error) {
	judge, err := credit.New(credit.Config{
		DB: c.records, Program: c.program.ProgramID, Clock: c.clock, Policies: c.program.Policies, Verifiers: c.program.verifiers,
		Charter: c.program.Charter, CharterID: c.program.CharterID, Receipt: c.program.receipt,
	})
	if err != nil {
		return err
	}
	c.broker, err = broker.Start(ctx, broker.Config{
		Listen: c.cfg.MQTT.Listen, Dir: c.path(queueDir), Known: c.known, Logger: c.deps.Logger, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	c.intake, err = ingest.New(ingest.Config{
		DB: c.records, Conn: c.broker.Conn(), Judge: judge, Logger: c.deps.Logger, Registerer: c.metrics,
		Queues: []ingest.Queue{{Stream: broker.StreamClaims, Kind: wire.KindClaim}, {Stream: broker.StreamReports, Kind: wire.KindReport}},
	})
	return err
}

// known reports whether a vehicle is registered.
func (c *collector) known(ctx context.Context, vehicle string) (is bool, err error) {
	err = c.records.View(ctx, func(tx *store.Tx) error {
		_, err := tx.Vehicle(ctx, vehicle)
		if is = err == nil; errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	return is, err
}

func (c *collector) openWeb() (err error) {
	page, err := dashboard.New(dashboard.Config{
		Program: c.program.Program, Clock: c.clock, Store: c.records, Stones: c.stones, Usage: c.usage, Logger: c.deps.Logger,
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", page)
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.metrics, promhttp.HandlerOpts{Registry: c.metrics}))
	c.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(c.deps.Logger.Handler(), slog.LevelWarn),
	}
	if c.web, err = net.Listen("tcp", c.cfg.Web); err != nil {
		return fmt.Errorf("cannot serve dashboard: %w; choose another address with the key web", err)
	}
	return nil
}

// estimate keeps the usage estimates current.
func (c *collector) estimate(ctx context.Context) error {
	tick := time.NewTicker(estimateInterval)
	defer tick.Stop()
	for {
		if err := c.estimator.Refresh(ctx); err != nil && ctx.Err() == nil {
			c.deps.Logger.Error("cannot refresh usage estimates", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// close closes what was opened, in reverse order.
func (c *collector) close() error {
	var errs []error
	if c.web != nil {
		if err := c.web.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if c.broker != nil {
		errs = append(errs, c.broker.Close())
	}
	if c.log != nil {
		errs = append(errs, c.log.Close())
	}
	if c.records != nil {
		errs = append(errs, c.records.Close())
	}
	return errors.Join(errs...)
}
