// Package daemon is the agent as a whole: configuration, wiring and Run, the one importable seam of the agent.
//
// The path through it is the design's: buses are read, signals become trips, the attestation ECU's snapshots go to the sealer, and
// only what the sealer has sealed reaches spool and uplink. It stops in that order too: buses first, then the sealer and the uplink,
// then the stores, which are on flash already.
package daemon

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"rawstone/agent/internal/budget"
	"rawstone/agent/internal/bus"
	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/journal"
	"rawstone/agent/internal/seal"
	"rawstone/agent/internal/spool"
	"rawstone/agent/internal/status"
	"rawstone/agent/internal/trip"
	"rawstone/agent/internal/uplink"
	"rawstone/pkg/can"
	"rawstone/pkg/can/dbc"
	"rawstone/pkg/claim"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Places below the state directory. A factory reset wipes stateDir and never budgetDir nor its anchor.
const (
	stateDir     = "state"
	budgetDir    = "budget"
	budgetAnchor = "budget.anchor"
)

// tell is how often the number of frames read is logged while there are any.
const tell = 5 * time.Second

// Deps are what Run is given besides its configuration.
type Deps struct {
	// Logger takes the journey. Required.
	Logger *slog.Logger
	// Now is the host's clock; nil means time.Now.
	Now func() time.Time
}

// agent is what Run wires.
type agent struct {
	cfg     *Config
	deps    Deps
	clock   terms.Clock
	metrics *prometheus.Registry

	state, budgets *badger.DB
	buses          *bus.Set
	recorder       *trip.Recorder
	reader         *reader
	ledger         *budget.Ledger
	spool          *spool.Spool
	journal        *journal.Journal
	sealer         *seal.Sealer
	uplink         *uplink.Uplink
	status         *status.Status
	listener       net.Listener
}

// Run runs the agent until ctx is done or something fails.
func Run(ctx context.Context, cfg *Config, deps Deps) (err error) {
	if deps.Logger == nil {
		return errors.New("cannot run agent: no logger given")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	a := &agent{cfg: cfg, deps: deps, metrics: prometheus.NewRegistry()}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.open(); err != nil {
		return err
	}
	deps.Logger.Info("agent ready")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.read(ctx) })
	group.Go(func() error { return a.receive(ctx) })
	group.Go(func() error { return a.sealer.Run(ctx) })
	group.Go(func() error { return a.uplink.Run(ctx) })
	group.Go(func() error { return a.tell(ctx) })
	if a.listener != nil {
		group.Go(func() error { return a.status.Serve(ctx, a.listener) })
	}
	return group.Wait()
}

// open opens everything in the order of dependence. What was opened before a failure is closed by close.
func (a *agent) open() error {
	p, err := openProgram(a.cfg)
	if err != nil {
		return err
	}
	a.clock = terms.Clock{Timing: p.Timing, Now: a.deps.Now}
	if err := os.MkdirAll(a.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("cannot make state directory: %w", err)
	}
	if a.state, err = flash.Open(flash.Config{Dir: a.path(stateDir), Logger: a.deps.Logger}); err != nil {
		return err
	}
	a.spool, err = spool.Open(spool.Config{DB: a.state, MaxBytes: int64(a.cfg.Spool.MaxKiB) << 10, Logger: a.deps.Logger, Registerer: a.metrics})
	if err != nil {
		return err
	}
	if a.journal, err = journal.Open(journal.Config{DB: a.state, Logger: a.deps.Logger, Registerer: a.metrics}); err != nil {
		return err
	}
	if err := a.openReading(); err != nil {
		return err
	}
	if err := a.openSealing(p); err != nil {
		return err
	}
	a.uplink, err = uplink.New(uplink.Config{
		URL: a.cfg.MQTT.URL, Vehicle: a.cfg.Vehicle, ReceiptKeys: p.Receipt, Spool: a.spool, OnReceipt: a.sealer.HandleReceipt, Now: a.deps.Now,
		ReceiptWait: a.cfg.MQTT.ReceiptWait, BackoffMin: a.cfg.MQTT.RetryMin, BackoffMax: a.cfg.MQTT.RetryMax,
		Logger: a.deps.Logger, Registerer: a.metrics,
	})
	if err != nil {
		return err
	}
	return a.openStatus()
}

func (a *agent) path(name string) string { return filepath.Join(a.cfg.StateDir, name) }

func (a *agent) openReading() (err error) {
	var buses []bus.Bus
	for _, b := range a.cfg.Buses {
		buses = append(buses, bus.Bus{Name: b.Name, URL: b.URL})
	}
	if a.buses, err = bus.Open(bus.Config{Buses: buses, Logger: a.deps.Logger, Metrics: a.metrics}); err != nil {
		return err
	}
	a.recorder, err = trip.Open(trip.Config{
		DB: a.state, Logger: a.deps.Logger, Now: a.deps.Now, UTCOffset: a.cfg.UTCOffset, Metrics: a.metrics,
	})
	if err != nil {
		return err
	}
	a.reader, err = newReader(a.cfg, a.buses, a.recorder, func(w dbc.Warning) {
		a.deps.Logger.Warn("line of a DBC file is left out", "file", w.File, "line", w.Line, "reason", w.Reason)
	})
	return err
}

func (a *agent) openSealing(p *program) (err error) {
	prover, err := claim.OpenProver(a.cfg.Program.ClaimKeys, p.lock)
	if err != nil {
		return err
	}
	c := seal.Config{
		DB: a.state, Spool: a.spool, Journal: a.journal, Clock: a.clock, Program: p.id, Vehicle: a.cfg.Vehicle, ECU: p.ecu,
		Charter: p.charter, CharterID: p.charterID, Policies: p.policies, AgentVersion: Version, Prover: prover, Lock: p.lock,
		EveryDays: a.cfg.Dispatch.EveryDays, MaxDelay: a.cfg.Dispatch.MaxDelay,
		RequestResend: a.reader.request, ResendWait: a.cfg.ECU.AnswerWait, RetryAfter: a.cfg.Dispatch.RetryAfter,
		Logger: a.deps.Logger, Registerer: a.metrics,
	}
	for _, name := range a.cfg.Consent {
		family, err := wire.ParseFamily(name)
		if err != nil {
			return err
		}
		c.Families |= family
	}
	if c.Families != 0 {
		var key *ecdsa.PrivateKey
		if key, err = keyfile.Load(a.cfg.DeviceKey); err != nil {
			return fmt.Errorf("%w; run agent init", err)
		}
		if err := a.openBudget(p.charter.Usage); err != nil {
			return err
		}
		c.Device, c.Budget, c.Usage = key, a.ledger, a.recorder
	}
	a.sealer, err = seal.New(c)
	return err
}

func (a *agent) openBudget(u terms.Usage) (err error) {
	cost := budget.Cost{MicroEpsilon: int64(u.EpsilonMicro), PicoDelta: int64(u.DeltaPico)}
	limit, err := budget.YearLimit(cost, int64(u.YearlyDispatches))
	if err != nil {
		return err
	}
	if a.budgets, err = flash.Open(flash.Config{Dir: a.path(budgetDir), Logger: a.deps.Logger}); err != nil {
		return err
	}
	a.ledger, err = budget.New(budget.Config{DB: a.budgets, Anchor: a.path(budgetAnchor), Limit: limit, Registerer: a.metrics})
	return err
}

// read feeds the frames of all buses to the reader.
func (a *agent) read(ctx context.Context) error {
	return a.buses.Run(ctx, func(f *can.Frame) {
		if err := a.reader.handle(ctx, f); err != nil && ctx.Err() == nil {
			a.deps.Logger.Warn("cannot answer the attestation ECU", "error", err)
		}
	})
}

// receive hands the attestation ECU's messages to the sealer. A refused one is said and counted there; the ECU is asked again.
func (a *agent) receive(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case msg := <-a.reader.messages:
			if err := a.sealer.Deliver(ctx, msg); err != nil && ctx.Err() == nil {
				a.deps.Logger.Warn("message of the attestation ECU is refused", "error", err)
			}
		}
	}
}

// tell logs the number of frames read while there are new ones.
func (a *agent) tell(ctx context.Context) error {
	tick := time.NewTicker(tell)
	defer tick.Stop()
	var last uint64
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if n := a.buses.Received(); n != last {
				last = n
				a.deps.Logger.Info("frames read", "frames", n)
			}
		}
	}
}

func (a *agent) openStatus() (err error) {
	if a.cfg.Status == "" {
		return nil
	}
	a.status, err = status.New(status.Config{
		Snapshot: a.snapshot, Healthy: func() error { return nil }, Journal: a.journal.Export, Registry: a.metrics, Logger: a.deps.Logger,
	})
	if err != nil {
		return err
	}
	a.listener, err = status.Listen(a.cfg.Status)
	return err
}

// snapshot is the agent at this moment.
func (a *agent) snapshot() status.Snapshot {
	sealing := a.sealer.Status()
	s := status.Snapshot{State: string(sealing.Phase), Reason: string(sealing.Reason), Remedy: sealing.Remedy, Reports: "off", Frames: a.buses.Received()}
	if !sealing.Retry.IsZero() {
		s.Retry = &sealing.Retry
	}
	if !sealing.LastReceipt.IsZero() {
		s.LastReceipt = &sealing.LastReceipt
	}
	s.SpoolItems, s.SpoolBytes = a.spool.Depth()
	if a.ledger != nil {
		b := a.ledger.Summary(uint64(a.clock.Today()))
		s.Reports, s.BudgetLeft = "on", int(1000*b.Left/b.Limit)
		if b.Left == 0 {
			s.Reports = "off until the year's privacy budget has room again"
		}
	}
	return s
}

// close closes what was opened, in reverse order.
func (a *agent) close() error {
	var errs []error
	if a.listener != nil {
		if err := a.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if a.buses != nil {
		errs = append(errs, a.buses.Close())
	}
	if a.recorder != nil {
		errs = append(errs, a.recorder.Close())
	}
	if a.ledger != nil {
		errs = append(errs, a.ledger.Close())
	}
	for _, db := range []*badger.DB{a.budgets, a.state} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// Ask copies a page of the running agent's status server to w.
func Ask(ctx context.Context, cfg *Config, page string, w io.Writer) (err error) {
	if cfg.Status == "" {
		return errors.New("cannot ask the agent: its configuration has no status address; set the key status")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+cfg.Status+page, nil)
	if err != nil {
		return fmt.Errorf("cannot ask the agent: %w", err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask the agent: %w; is it running?", err)
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("cannot ask the agent: it answers %s", answer.Status)
	}
	_, err = io.Copy(w, answer.Body)
	return err
}
