// Package daemon is the agent as a whole: configuration, wiring and Run, the one importable seam of the agent.
//
// The path through it is the design's: buses are read, signals become trips, the attestation ECU's snapshots go to the sealer, and
// only what the sealer has sealed reaches spool and uplink. It stops in that order too: buses first, then the sealer and the uplink,
// then the stores, which are on flash already.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"rawstone/agent/internal/bus"
	"rawstone/agent/internal/consent"
	"rawstone/agent/internal/control"
	"rawstone/agent/internal/flash"
	"rawstone/agent/internal/hold"
	"rawstone/agent/internal/identity"
	"rawstone/agent/internal/inclusion"
	"rawstone/agent/internal/journal"
	"rawstone/agent/internal/overview"
	"rawstone/agent/internal/privacy"
	"rawstone/agent/internal/program"
	"rawstone/agent/internal/reader"
	"rawstone/agent/internal/recall"
	"rawstone/agent/internal/reset"
	"rawstone/agent/internal/rulebook"
	"rawstone/agent/internal/seal"
	"rawstone/agent/internal/setting"
	"rawstone/agent/internal/spool"
	"rawstone/agent/internal/status"
	"rawstone/agent/internal/trip"
	"rawstone/agent/internal/uplink"
	"rawstone/agent/internal/vehicle"
	"rawstone/agent/internal/vss"
	"rawstone/pkg/attest"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

// Version is the agent's version, which policies may ask for.
const Version = "0.1.0"

// Config is the agent's configuration file.
type Config = setting.Config

// Load reads and checks a configuration file.
func Load(path string) (*Config, error) { return setting.Load(path) }

// Check reads a configuration file and the vehicle map that it names, or a vehicle map alone. The error joins every fault of both.
func Check(path string) error { return setting.Check(path) }

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

	gate     *hold.Gate
	identity *identity.Identity
	state    *flash.Store
	recorder *trip.Recorder
	began    int64 // metres counted when this run began
	reader   *reader.Reader
	consent  *consent.Consent
	purse    *privacy.Purse
	allowed  wire.Family    // the charter's
	recall   *recall.Recall // nil where there is no ledger to compare
	spool    *spool.Spool
	journal  *journal.Journal
	book     *rulebook.Book
	sealer   *seal.Sealer
	proofs   *inclusion.Checker
	uplink   *uplink.Uplink
	control  *control.Server
	status   *status.Status
	listener net.Listener
	opened   []io.Closer // closed in reverse order
}

func (d Deps) complete() (Deps, error) {
	if d.Logger == nil {
		return d, errors.New("no logger given")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return d, nil
}

// Run runs the agent until ctx is done or something fails.
func Run(ctx context.Context, cfg *Config, deps Deps) (err error) {
	if deps, err = deps.complete(); err != nil {
		return fmt.Errorf("cannot run agent: %w", err)
	}
	a := &agent{cfg: cfg, deps: deps, metrics: prometheus.NewRegistry()}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.open(); err != nil {
		return err
	}
	deps.Logger.Info("agent ready")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.reader.Run(ctx) })
	group.Go(func() error { return a.receive(ctx) })
	group.Go(func() error { return a.book.Run(ctx) })
	group.Go(func() error { return a.sealer.Run(ctx) })
	group.Go(func() error { return a.proofs.Run(ctx) })
	group.Go(func() error { return a.identity.Run(ctx) })
	group.Go(func() error { return a.uplink.Run(ctx) })
	group.Go(func() error { return a.control.Serve(ctx) })
	group.Go(func() error { return a.tell(ctx) })
	if a.recall != nil {
		group.Go(func() error { return a.recall.Run(ctx) })
	}
	if a.listener != nil {
		group.Go(func() error { return a.status.Serve(ctx, a.listener) })
	}
	return group.Wait()
}

// open opens everything in the order of dependence. What was opened before a failure is closed by close.
func (a *agent) open() error {
	p, err := program.Load(files(a.cfg), a.cfg.ECU.Identity, a.cfg.Environment)
	if err != nil {
		return err
	}
	a.allowed = p.Charter.Usage.Families
	a.clock = terms.Clock{Timing: p.Timing, Now: a.deps.Now}
	if err := os.MkdirAll(a.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("cannot make state directory: %w", err)
	}
	if resumed, err := reset.Resume(wiped(a.cfg)); err != nil {
		return err
	} else if resumed {
		a.deps.Logger.Info("a reset that was cut short is complete")
	}
	mean, err := hold.Mean(a.cfg.Dispatch.MaxDelay)
	if err != nil {
		return err
	}
	if a.gate, err = hold.New(hold.Config{Mean: mean, Now: a.deps.Now}); err != nil {
		return err
	}
	if err := a.openIdentity(); err != nil {
		return err
	}
	var found flash.Finding
	a.state, found, err = flash.OpenStore(flash.StoreConfig{Dir: a.path(stateDir), Now: a.deps.Now, Logger: a.deps.Logger, Registerer: a.metrics})
	if err != nil {
		return err
	}
	a.opened = append(a.opened, a.state)
	a.spool, err = spool.Open(spool.Config{DB: a.state, MaxBytes: int64(a.cfg.Spool.MaxKiB) << 10, Logger: a.deps.Logger, Registerer: a.metrics})
	if err != nil {
		return err
	}
	if a.journal, err = journal.Open(journal.Config{DB: a.state, Logger: a.deps.Logger, Registerer: a.metrics}); err != nil {
		return err
	}
	if text := found.String(); text != "" {
		a.alert(text)
	}
	if err := a.openConsent(p); err != nil {
		return err
	}
	if err := a.openReading(); err != nil {
		return err
	}
	if err := a.openRules(p); err != nil {
		return err
	}
	if err := a.openSealing(p); err != nil {
		return err
	}
	a.uplink, err = uplink.New(uplink.Config{
		URL: a.cfg.MQTT.URL, TLS: a.identity.TLS(), Ready: a.identity.Ready, OnRefused: a.identity.Doubt,
		Vehicle: a.cfg.Vehicle, ReceiptKeys: p.Receipt, Spool: a.spool, OnReceipt: a.answered, Hold: a.gate, Now: a.deps.Now,
		ReceiptWait: a.cfg.MQTT.ReceiptWait, BackoffMin: a.cfg.MQTT.RetryMin, BackoffMax: a.cfg.MQTT.RetryMax,
		OnNotice: a.hear, NewsDue: a.book.NewsDue, Logger: a.deps.Logger, Registerer: a.metrics,
	})
	if err != nil {
		return err
	}
	if err := a.openControl(); err != nil {
		return err
	}
	return a.openStatus()
}

func (a *agent) path(name string) string { return path(a.cfg, name) }

func (a *agent) openReading() error {
	var signals []vss.Signal
	v, err := vehicle.Open(a.cfg.VehicleMap, a.cfg.BusIndex, a.deps.Logger)
	if err != nil {
		return err
	}
	if v != nil {
		signals = v.Signals()
	}
	a.recorder, err = trip.Open(trip.Config{
		DB: a.state, KeyFile: a.path(usageKey), Logger: a.deps.Logger, Now: a.deps.Now, Signals: signals, Families: a.recorded(), UTCOffset: a.cfg.UTCOffset,
		MaxSpeed: int64(a.cfg.Odometer.MaxSpeed) * 1_000_000 / 3600, AttestedShare: int64(a.cfg.Odometer.Disagreement), Metrics: a.metrics,
	})
	if err != nil {
		return err
	}
	a.opened = append(a.opened, a.recorder)
	a.began = a.recorder.Odometer().Metres
	c := reader.Config{
		Vehicle: v, Poll: a.cfg.Polling.Enabled, ParkAfter: a.cfg.Polling.ParkAfter, Idle: a.cfg.Polling.Idle,
		Observe: a.recorder.Observe, Logger: a.deps.Logger, Metrics: a.metrics,
	}
	for _, b := range a.cfg.Buses {
		c.Buses = append(c.Buses, bus.Bus{Name: b.Name, URL: b.URL})
	}
	var ok bool
	if c.ECUBus, ok = a.cfg.BusIndex(a.cfg.ECU.Bus); !ok {
		return fmt.Errorf("cannot reach the attestation ECU: there is no bus %q", a.cfg.ECU.Bus)
	}
	if a.reader, err = reader.Open(c); err != nil {
		return err
	}
	a.opened = append(a.opened, a.reader)
	return nil
}

// receive hands the attestation ECU's messages to the sealer. A refused one is said and counted there; the ECU is asked again.
func (a *agent) receive(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case msg := <-a.reader.Messages():
			if err := a.sealer.Deliver(ctx, msg); err != nil && ctx.Err() == nil {
				a.deps.Logger.Warn("message of the attestation ECU is refused", "error", err)
			}
		}
	}
}

// compare holds the car's own distance against what the ECU attests, once for each snapshot, and tells the driver where they disagree.
// The answer to a request tells of another moment than now, unless the car has not moved since the agent started.
func (a *agent) compare(m *attest.Message, answer bool) {
	if answer && a.recorder.Odometer().Metres > a.began {
		return
	}
	finding, found := a.recorder.Attested(m.Snapshot.Day, m.Snapshot.Seq, m.Opening.Counters[wire.OdometerM], answer)
	if !found {
		return
	}
	a.alert(finding.String())
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
			if n := a.reader.Received(); n != last {
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
		Snapshot: a.rooms().Snapshot, Healthy: func() error { return nil }, Journal: a.journal.Export, Receipts: a.proofs.List, Export: a.proofs.Export,
		Registry: a.metrics, Logger: a.deps.Logger,
	})
	if err != nil {
		return err
	}
	if a.listener, err = status.Listen(a.cfg.Status); err != nil {
		return err
	}
	a.opened = append(a.opened, a.listener)
	return nil
}

// rooms are what the status page tells of.
func (a *agent) rooms() overview.Rooms {
	r := overview.Rooms{
		Clock: a.clock, Reader: a.reader, Recorder: a.recorder, Sealer: a.sealer, Book: a.book, Identity: a.identity, Spool: a.spool, Proofs: a.proofs,
		Consent: a.consent, Purse: a.purse,
	}
	for _, b := range a.cfg.Buses {
		r.Buses = append(r.Buses, b.Name)
	}
	return r
}

// close closes what was opened, in reverse order.
func (a *agent) close() error {
	var errs []error
	for _, c := range slices.Backward(a.opened) {
		if err := c.Close(); !errors.Is(err, net.ErrClosed) { // the status page closes its own listener
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
