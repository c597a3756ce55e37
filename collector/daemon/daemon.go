// Package daemon is the collector as a whole: configuration, wiring and Run, the one importable seam of the collector.
//
// A collector has four roles: broker, ingest, settle and web (package role). By default everything runs in this process; with its records
// in PostgreSQL they may be processes of their own, several of the same role among them. A process opens what its roles need, reads no
// secret that they do not, and every one serves its metrics.
//
// When it is told to stop, the intake finishes the batch in hand, the settler leaves off where it can resume, and readers get what they
// asked for. Then the broker closes, whose queues keep what vehicles sent meanwhile, and last the ledger and the records. When something
// cannot be opened, what was opened before it is closed.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"rawstone/collector/internal/admin"
	"rawstone/collector/internal/analytics"
	"rawstone/collector/internal/api/service"
	"rawstone/collector/internal/bridge"
	"rawstone/collector/internal/broker"
	"rawstone/collector/internal/bulletin"
	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/certificate"
	"rawstone/collector/internal/database"
	"rawstone/collector/internal/deadletter"
	"rawstone/collector/internal/feed"
	"rawstone/collector/internal/ingest"
	"rawstone/collector/internal/listener"
	"rawstone/collector/internal/peer"
	"rawstone/collector/internal/program"
	"rawstone/collector/internal/queue"
	"rawstone/collector/internal/records"
	"rawstone/collector/internal/role"
	"rawstone/collector/internal/setting"
	"rawstone/collector/internal/settle"
	"rawstone/collector/internal/store"
	"rawstone/pkg/terms"
	"rawstone/pkg/tlog"
)

const (
	queueDir         = "queue" // below the state directory
	estimateInterval = 2 * time.Second
	blobPatience     = 5 * time.Minute // 1 MB over a slow link
)

// Config is the collector's configuration file.
type Config = setting.Config

// Load reads and checks the configuration file of a collector in one process.
func Load(path string) (*Config, error) { return setting.Load(path) }

// LoadFor reads a configuration file and checks it for a process with the given roles, none for a command that runs no collector.
func LoadFor(path string, roles role.Set) (*Config, error) { return setting.LoadFor(path, roles) }

// Deps are what Run is given besides its configuration.
type Deps struct {
	// Logger takes the journey. Required.
	Logger *slog.Logger
	// Now is the host's clock; nil means time.Now.
	Now func() time.Time
	// OnReady is called once all roles are at work and vehicles can connect, with the addresses that were bound; nil means nobody waits.
	OnReady func(Addresses)
}

// Addresses are where a running collector can be reached; empty for what is not among its roles.
type Addresses struct{ MQTT, Web, HTTPS, API string }

func (d *Deps) complete() error {
	if d.Logger == nil {
		return errors.New("no logger given")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return nil
}

// collector is what Run wires. What is not among its roles is nil.
type collector struct {
	cfg     *Config
	deps    Deps
	program *program.Program
	clock   terms.Clock
	metrics *prometheus.Registry

	records map[store.Role]*store.DB
	peer    *peer.Identity // nil in a collector of one process

	// broker
	mqttPair *certificate.Pair
	broker   *broker.Broker
	bridge   *bridge.Bridge // also nil without an external broker
	bulletin *bulletin.Bulletin

	queue   *nats.Conn // the broker's own, or one to another process's
	dialled bool
	letters *deadletter.Box // ingest and web

	// ingest
	admin  *admin.Desk
	intake *ingest.Intake

	// settle
	lock       *database.Lock
	log        *tlog.Log
	validators map[string]*feed.Client
	settler    *settle.Settler

	// web
	estimator *analytics.Estimator
	authority *ca.Vehicles
	httpsPair *certificate.Pair
	https     *listener.Listener
	page      http.Handler
	accounts  *service.Service // nil without an address for it

	web *listener.Listener // the dashboard's, or that of metrics alone
}

// Run runs the collector until ctx is done or something fails. One with the role settle does nothing else before no other one settles from
// the same records, and one with the role broker, ingest or web waits for brokers that it cannot do without.
func Run(ctx context.Context, cfg *Config, deps Deps) (err error) {
	if err := deps.complete(); err != nil {
		return fmt.Errorf("cannot run collector: %w", err)
	}
	c := &collector{cfg: cfg, deps: deps, metrics: prometheus.NewRegistry(), records: make(map[store.Role]*store.DB)}
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
	for _, part := range c.parts() {
		group.Go(func() error { return part(running) })
	}
	at := Addresses{Web: c.web.Addr()}
	var said []any
	if c.broker != nil {
		at.MQTT = c.broker.Addr().String()
		said = append(said, "mqtt", at.MQTT)
	}
	said = append(said, "web", "http://"+at.Web)
	if c.https != nil {
		at.HTTPS = c.https.Addr()
		said = append(said, "https", "https://"+at.HTTPS)
	}
	if c.accounts != nil {
		at.API = c.accounts.Addr()
		said = append(said, "api", "https://"+at.API)
	}
	said = append(said, "roles", cfg.Roles.String())
	deps.Logger.Info("collector ready", said...)
	if deps.OnReady != nil {
		deps.OnReady(at)
	}
	return group.Wait()
}

// parts are what runs.
func (c *collector) parts() []func(context.Context) error {
	quiet := func(run func(context.Context)) func(context.Context) error {
		return func(ctx context.Context) error { run(ctx); return nil }
	}
	parts := []func(context.Context) error{c.web.Run}
	if c.broker != nil {
		parts = append(parts, quiet(c.broker.Run), c.bridge.Run, quiet(c.bulletin.Run))
	}
	if c.intake != nil {
		parts = append(parts, c.intake.Run, c.admin.Run)
	}
	if c.settler != nil {
		parts = append(parts, c.settler.Run, func(ctx context.Context) error { return records.Watch(ctx, c.lock) })
	}
	for _, v := range c.validators {
		parts = append(parts, quiet(v.Run))
	}
	if c.https != nil {
		parts = append(parts, c.https.Run, func(ctx context.Context) error { c.estimator.Run(ctx, estimateInterval); return nil })
	}
	if c.accounts != nil {
		parts = append(parts, c.accounts.Run)
	}
	return parts
}

// open opens everything in the order of dependence; the ledger lives until life ends. What was opened before a failure is closed by
// close.
func (c *collector) open(ctx, life context.Context) (err error) {
	roles := c.cfg.Roles
	if roles == 0 {
		return errors.New("cannot run collector: its configuration was read for no role")
	}
	if c.program, err = program.Open(&c.cfg.Program, c.cfg.Environment); err != nil {
		return err
	}
	if roles.Has(role.Ingest) {
		if err := c.program.OpenReceiptKey(&c.cfg.Program); err != nil {
			return err
		}
	}
	if roles.Has(role.Settle) {
		if err := c.program.OpenLedgerKey(&c.cfg.Program); err != nil {
			return err
		}
	}
	c.clock = terms.Clock{Timing: c.program.Timing, Now: c.deps.Now}
	if err := os.MkdirAll(c.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("cannot make state directory: %w", err)
	}
	if c.cfg.Several() {
		if c.peer, err = peer.Open(c.cfg.Internal, roles, c.deps.Logger); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		role role.Set
		open func(context.Context) error
	}{
		{role.Settle, func(ctx context.Context) error { return c.openLedger(ctx, life) }},
		{role.Broker, c.openBroker},
		{role.Ingest | role.Web, c.openQueue},
		{role.Ingest, c.openIntake},
		{role.Broker, c.openBulletin},
		{role.Web, c.openNews},
		{role.Web, c.openAccounts},
		{role.Web, c.openDashboard},
	} {
		if roles.Any(part.role) {
			if err := part.open(ctx); err != nil {
				return err
			}
		}
	}
	return c.openWeb()
}

// as returns the records as they are for a role of theirs, opened when they are not yet.
func (c *collector) as(ctx context.Context, who store.Role) (*store.DB, error) {
	if db := c.records[who]; db != nil {
		return db, nil
	}
	cfg, err := c.cfg.Store(who)
	if err != nil {
		return nil, err
	}
	cfg.Logger, cfg.Registerer = c.deps.Logger, c.metrics
	db, err := store.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	c.records[who] = db
	return db, nil
}

func (c *collector) path(name string) string { return c.cfg.Path(name) }

// openQueue reaches the queues, through this process's own broker or another's.
func (c *collector) openQueue(ctx context.Context) (err error) {
	if c.broker != nil {
		c.queue = c.broker.Conn()
	} else {
		c.queue, err = queue.Connect(ctx, queue.Config{
			Servers: c.cfg.Queue.Servers, TLS: c.peer.Client(role.Broker), Name: c.peer.Name, Roles: c.cfg.Roles, Logger: c.deps.Logger,
		})
		if err != nil {
			return err
		}
		c.dialled = true
	}
	c.letters, err = deadletter.Open(c.queue)
	return err
}

// close closes what was opened, in reverse order.
func (c *collector) close() error {
	var errs []error
	for _, l := range []*listener.Listener{c.web, c.https} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	if c.accounts != nil {
		errs = append(errs, c.accounts.Close())
	}
	if c.admin != nil {
		errs = append(errs, c.admin.Close())
	}
	if c.dialled {
		c.queue.Close()
	}
	if c.broker != nil {
		errs = append(errs, c.broker.Close())
	}
	if c.log != nil {
		errs = append(errs, c.log.Close())
	}
	if c.lock != nil {
		errs = append(errs, c.lock.Release())
	}
	for _, db := range c.records {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}
