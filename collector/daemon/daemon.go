// Package daemon is the collector as a whole: configuration, wiring and Run, the one importable seam of the collector.
//
// Everything runs in this process: broker, intake, settler with the operator's own validator, bulletin of policies, dashboard, and the
// server of the files that policies name. When it is told to stop, the intake finishes the batch in hand, the settler leaves off where it
// can resume, and readers get what they asked for. Then the broker closes, whose queues keep what vehicles sent meanwhile, and last the
// ledger and the records. When something cannot be opened, what was opened before it is closed.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"rawstone/collector/internal/admin"
	"rawstone/collector/internal/analytics"
	"rawstone/collector/internal/blob"
	"rawstone/collector/internal/bridge"
	"rawstone/collector/internal/broker"
	"rawstone/collector/internal/bulletin"
	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/certificate"
	"rawstone/collector/internal/credit"
	"rawstone/collector/internal/dashboard"
	"rawstone/collector/internal/database"
	"rawstone/collector/internal/deadletter"
	"rawstone/collector/internal/enrolment"
	"rawstone/collector/internal/inclusion"
	"rawstone/collector/internal/ingest"
	"rawstone/collector/internal/listener"
	"rawstone/collector/internal/overview"
	"rawstone/collector/internal/program"
	"rawstone/collector/internal/records"
	"rawstone/collector/internal/settle"
	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/collector/internal/validator"
	"rawstone/pkg/enroll"
	proof "rawstone/pkg/inclusion"
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
	estimateInterval = 2 * time.Second
	blobPatience     = 5 * time.Minute // 1 MB over a slow link
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
type Addresses struct{ MQTT, Web, HTTPS string }

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
	program *program.Program
	clock   terms.Clock
	metrics *prometheus.Registry

	records   map[store.Role]*store.DB
	lock      *database.Lock // the settler's
	log       *tlog.Log
	settler   *settle.Settler
	estimator *analytics.Estimator
	authority *ca.Vehicles
	httpsPair *certificate.Pair
	mqttPair  *certificate.Pair
	broker    *broker.Broker
	bridge    *bridge.Bridge // nil without an external broker
	letters   *deadletter.Box
	admin     *admin.Desk
	intake    *ingest.Intake
	bulletin  *bulletin.Bulletin
	web       *listener.Listener
	https     *listener.Listener
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
	group.Go(func() error { c.broker.Run(running); return nil })
	group.Go(func() error { return c.intake.Run(running) })
	group.Go(func() error { return c.bridge.Run(running) })
	group.Go(func() error { return c.settler.Run(running) })
	group.Go(func() error { return records.Watch(running, c.lock) })
	group.Go(func() error { c.estimator.Run(running, estimateInterval, deps.Logger); return nil })
	group.Go(func() error { c.bulletin.Run(running); return nil })
	group.Go(func() error { return c.admin.Run(running) })
	group.Go(func() error { return c.web.Run(running) })
	group.Go(func() error { return c.https.Run(running) })
	at := Addresses{MQTT: c.broker.Addr().String(), Web: c.web.Addr(), HTTPS: c.https.Addr()}
	deps.Logger.Info("collector ready", "mqtt", at.MQTT, "web", "http://"+at.Web, "https", "https://"+at.HTTPS)
	if deps.OnReady != nil {
		deps.OnReady(at)
	}
	return group.Wait()
}

// open opens everything in the order of dependence; the ledger lives until life ends. What was opened before a failure is closed by
// close.
func (c *collector) open(ctx, life context.Context) (err error) {
	if c.program, err = program.Open(&c.cfg.Program, c.cfg.Environment); err != nil {
		return err
	}
	if err := c.program.OpenSecrets(&c.cfg.Program); err != nil {
		return err
	}
	c.clock = terms.Clock{Timing: c.program.Timing, Now: c.deps.Now}
	if err := os.MkdirAll(c.cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("cannot make state directory: %w", err)
	}
	if err := c.openRecords(ctx); err != nil {
		return err
	}
	if err := c.openLedger(ctx, life); err != nil {
		return err
	}
	if err := c.openIntake(ctx); err != nil {
		return err
	}
	c.estimator, err = analytics.New(analytics.Config{
		Source: overview.Reports{DB: c.records[store.Web]}, Charter: c.program.CharterID, Usage: c.program.Charter.Usage, Today: c.clock.Today, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	if err := c.openNews(); err != nil {
		return err
	}
	return c.openWeb()
}

// openRecords opens the records for each part of the collector.
func (c *collector) openRecords(ctx context.Context) error {
	c.records = make(map[store.Role]*store.DB)
	for _, role := range []store.Role{store.Ingest, store.Settle, store.Web} {
		cfg, err := c.cfg.Store(role)
		if err != nil {
			return err
		}
		cfg.Logger, cfg.Registerer = c.deps.Logger, c.metrics
		db, err := store.Open(ctx, cfg)
		if err != nil {
			return err
		}
		c.records[role] = db
	}
	return nil
}

func (c *collector) path(name string) string { return c.cfg.path(name) }

func (c *collector) openLedger(ctx, life context.Context) (err error) {
	c.log, err = tlog.Open(life, tlog.Config{Dir: c.path(ledgerDir), Signer: c.program.Signing.Log, Verifier: c.program.LogKey, Logger: c.deps.Logger})
	if err != nil {
		return err
	}
	if c.lock, err = records.LockSettler(ctx, c.records[store.Settle], c.deps.Logger); err != nil {
		return err
	}
	own, err := validator.Open(validator.Config{
		Key: c.program.Signing.Validator, Root: c.program.Root, State: c.path(validatorFile), Openings: stones.Opener{DB: c.records[store.Settle]},
		Now: c.deps.Now, Logger: c.deps.Logger,
	})
	if err != nil {
		return err
	}
	c.settler, err = settle.New(ctx, settle.Config{
		Store: c.records[store.Settle], Log: c.log, LogDir: c.path(ledgerDir), Root: c.program.Root, Documents: c.program.Genesis(),
		Validators: []settle.Validator{own}, Now: c.deps.Now, Logger: c.deps.Logger, Registerer: c.metrics,
	})
	return err
}

func (c *collector) openIntake(ctx context.Context) (err error) {
	judge, err := credit.New(credit.Config{
		DB: c.records[store.Ingest], Program: c.program.ProgramID, Clock: c.clock, Policies: c.program.Policies, Verifiers: c.program.Verifiers,
		Charter: c.program.Charter, CharterID: c.program.CharterID, Receipt: c.program.Signing.Receipt,
		KeptPerDay: c.cfg.Intake.RefusalsPerVehicleDay, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	if c.authority, err = ca.OpenVehicles(c.cfg.Vehicles.CACertificate, c.cfg.Vehicles.CAKey); err != nil {
		return fmt.Errorf("cannot use vehicles.ca_certificate and vehicles.ca_key: %w", err)
	}
	if err := c.openCertificates(); err != nil {
		return err
	}
	c.broker, err = broker.Start(ctx, broker.Config{
		Listen: c.cfg.MQTT.Listen, Dir: c.path(queueDir), Vehicles: c.records[store.Ingest], VehicleCA: c.authority.Pool(),
		Certificate: c.mqttPair.Get, Now: c.deps.Now, Logger: c.deps.Logger, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	c.bridge, err = bridge.Open(c.cfg.Bridge, bridge.Config{
		Conn: c.broker.Conn(), MaxMessage: broker.MaxMessage, Vehicles: c.records[store.Ingest], Logger: c.deps.Logger, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	if c.letters, err = deadletter.Open(c.broker.Conn()); err != nil {
		return err
	}
	c.admin, err = admin.Open(admin.Config{Path: c.cfg.AdminSocket(), Letters: c.letters, Logger: c.deps.Logger})
	if err != nil {
		return err
	}
	c.intake, err = ingest.New(ingest.Config{
		DB: c.records[store.Ingest], Conn: c.broker.Conn(), Judge: judge, Logger: c.deps.Logger, Registerer: c.metrics,
		MaxMessage: broker.MaxMessage, MaxPayload: broker.MaxPayload, Today: c.clock.Today,
		Queues: []ingest.Queue{{Stream: broker.StreamClaims, Kind: wire.KindClaim}, {Stream: broker.StreamReports, Kind: wire.KindReport}},
	})
	return err
}

// openCertificates reads the servers' certificates; both listeners may have one.
func (c *collector) openCertificates() (err error) {
	open := func(key, chain, secret string) (*certificate.Pair, error) {
		p, err := certificate.Open(certificate.Config{Certificate: chain, Key: secret, Logger: c.deps.Logger})
		if err != nil {
			return nil, fmt.Errorf("cannot use %s.certificate and %[1]s.key: %w", key, err)
		}
		return p, nil
	}
	if c.httpsPair, err = open("https", c.cfg.HTTPS.Certificate, c.cfg.HTTPS.Key); err != nil {
		return err
	}
	c.mqttPair = c.httpsPair
	if c.cfg.MQTT.Certificate != c.cfg.HTTPS.Certificate || c.cfg.MQTT.Key != c.cfg.HTTPS.Key {
		c.mqttPair, err = open("mqtt", c.cfg.MQTT.Certificate, c.cfg.MQTT.Key)
	}
	return err
}

func (c *collector) openWeb() (err error) {
	shown := overview.Overview{Records: c.records[store.Web], Log: c.log, Estimator: c.estimator, Clock: c.clock}
	page, err := dashboard.New(dashboard.Config{
		Program: c.program.Program, Clock: c.clock, Store: c.records[store.Web], Stones: shown.Stones, Usage: shown.Usage, DeadLetters: c.letters.Summary, Logger: c.deps.Logger,
	})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", page)
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.metrics, promhttp.HandlerOpts{Registry: c.metrics}))
	c.web, err = listener.Open(listener.Config{Address: c.cfg.Web, Key: "web", Handler: mux, Logger: c.deps.Logger})
	return err
}

// openNews opens what agents get: the bulletin of policies, and over HTTPS the files that policies name, and certificates.
func (c *collector) openNews() (err error) {
	c.bulletin, err = bulletin.New(bulletin.Config{
		Store: c.records[store.Web], Publisher: bridge.Publisher{Own: c.broker, Bridge: c.bridge}, Program: c.program.Program, ProgramID: c.program.ProgramID, Today: c.clock.Today,
		Logger: c.deps.Logger, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	files, err := blob.New(blob.Config{Dir: c.cfg.Program.ClaimKeys, Lock: c.program.Lock, Registerer: c.metrics})
	if err != nil {
		return err
	}
	desk, err := enrolment.New(enrolment.Config{
		DB: c.records[store.Ingest], Authority: c.authority, Now: c.deps.Now, Logger: c.deps.Logger, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	proofs, err := inclusion.New(inclusion.Config{
		DB: c.records[store.Ingest], LogDir: c.path(ledgerDir), LogKey: c.program.LogKey, Drop: time.Duration(c.program.Timing.DropS) * time.Second,
		Now: c.deps.Now, Logger: c.deps.Logger, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	c.https, err = listener.Open(listener.Config{
		Address: c.cfg.HTTPS.Listen, Key: "https.listen", Certificate: c.httpsPair.Get, Clients: c.authority.Pool(), Now: c.deps.Now,
		Patience: blobPatience, Logger: c.deps.Logger,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == enroll.EnrolPath, r.URL.Path == enroll.RenewPath:
				desk.ServeHTTP(w, r)
			case strings.HasPrefix(r.URL.Path, proof.Path):
				proofs.ServeHTTP(w, r)
			default:
				files.ServeHTTP(w, r)
			}
		}),
	})
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
	if c.admin != nil {
		errs = append(errs, c.admin.Close())
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
