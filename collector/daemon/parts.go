package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"rawstone/collector/internal/admin"
	"rawstone/collector/internal/api"
	"rawstone/collector/internal/api/service"
	"rawstone/collector/internal/blob"
	"rawstone/collector/internal/bridge"
	"rawstone/collector/internal/broker"
	"rawstone/collector/internal/bulletin"
	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/certificate"
	"rawstone/collector/internal/charge"
	"rawstone/collector/internal/cosigned"
	"rawstone/collector/internal/credit"
	"rawstone/collector/internal/dashboard"
	"rawstone/collector/internal/enrolment"
	"rawstone/collector/internal/equity"
	"rawstone/collector/internal/estate"
	"rawstone/collector/internal/feed"
	"rawstone/collector/internal/inclusion"
	"rawstone/collector/internal/ingest"
	"rawstone/collector/internal/listener"
	"rawstone/collector/internal/overview"
	"rawstone/collector/internal/queue"
	"rawstone/collector/internal/records"
	"rawstone/collector/internal/reveal"
	"rawstone/collector/internal/role"
	"rawstone/collector/internal/settle"
	"rawstone/collector/internal/store"
	"rawstone/collector/internal/tiles"
	"rawstone/pkg/enroll"
	proof "rawstone/pkg/inclusion"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

// openLedger opens the ledger for its one writer. With the records in PostgreSQL the settler's lock comes first: who has it may go on with
// the directory that its predecessor wrote.
func (c *collector) openLedger(ctx, life context.Context) error {
	db, err := c.as(ctx, store.Settle)
	if err != nil {
		return err
	}
	shared := c.cfg.Records.Postgres.URLFile != ""
	if shared {
		if c.lock, err = records.LockSettler(ctx, db, c.deps.Logger); err != nil {
			return err
		}
	}
	c.log, err = tlog.Open(life, tlog.Config{Dir: c.cfg.Ledger, Signer: c.program.Signing.Log, Verifier: c.program.LogKey, Logger: c.deps.Logger})
	if err != nil {
		return err
	}
	if !shared {
		if c.lock, err = records.LockSettler(ctx, db, c.deps.Logger); err != nil {
			return err
		}
	}
	keeper, err := cosigned.Open(ctx, cosigned.Config{
		Dir: c.cfg.Ledger, LogKey: c.program.LogKey, Program: cosigned.InForce(db, c.program.Root, c.program.Program, c.program.ProgramID, c.clock.Today), Logger: c.deps.Logger,
	})
	if err != nil {
		return err
	}
	source := &reveal.Records{DB: db}
	unerased := prometheus.NewCounter(prometheus.CounterOpts{Name: "rawstone_settle_unerased_total", Help: "Times that a validator was told an erasure and did not do it."})
	if err := c.metrics.Register(unerased); err != nil {
		return err
	}
	c.validators, err = feed.DialAll(c.cfg.ValidatorURLs(), feed.ClientConfig{
		TLS: c.peer.Client(role.Validator), Source: source, Entries: source.Entries, Erasure: source.Erasure, Leaves: source.Leaves, Checkpoint: feed.CheckpointIn(c.cfg.Ledger), Cosigned: keeper.Take,
		Unerased: func(erasure uint64, err error) {
			unerased.Inc()
			c.deps.Logger.Error("validator has not erased an account: it is told again", "erasure", erasure, "error", err)
		},
	})
	if err != nil {
		return err
	}
	validators := make(map[string]settle.Validator)
	for name, v := range c.validators {
		validators[name] = v
	}
	c.settler, err = settle.New(ctx, settle.Config{
		Store: db, Log: c.log, LogDir: c.cfg.Ledger, Root: c.program.Root, Documents: c.program.Genesis(),
		Validators: validators, Now: c.deps.Now, Logger: c.deps.Logger, Registerer: c.metrics,
	})
	return err
}

// openPair reads a server's certificate; a certificate that may be renewed.
func (c *collector) openPair(key, chain, secret string) (*certificate.Pair, error) {
	p, err := certificate.Open(certificate.Config{Certificate: chain, Key: secret, Logger: c.deps.Logger})
	if err != nil {
		return nil, fmt.Errorf("cannot use %s.certificate and %[1]s.key: %w", key, err)
	}
	return p, nil
}

// openBroker opens the broker and the bridge. Of the authority for vehicles it needs the certificate alone.
func (c *collector) openBroker(ctx context.Context) error {
	db, err := c.as(ctx, store.Ingest)
	if err != nil {
		return err
	}
	vehicles, err := ca.Pool(c.cfg.Vehicles.CACertificate)
	if err != nil {
		return fmt.Errorf("cannot use vehicles.ca_certificate: %w", err)
	}
	key := "mqtt"
	if c.cfg.MQTT.Certificate == c.cfg.HTTPS.Certificate && c.cfg.MQTT.Key == c.cfg.HTTPS.Key {
		key = "https"
	}
	if c.mqttPair, err = c.openPair(key, c.cfg.MQTT.Certificate, c.cfg.MQTT.Key); err != nil {
		return err
	}
	c.broker, err = broker.Start(ctx, broker.Config{
		Listen: c.cfg.MQTT.Listen, Dir: c.path(queueDir), Vehicles: db, VehicleCA: vehicles, Place: c.cfg.Cluster, Peer: c.peer,
		Certificate: c.mqttPair.Get, Now: c.deps.Now, Logger: c.deps.Logger, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	c.bridge, err = bridge.Open(c.cfg.Bridge, bridge.Config{
		Conn: c.broker.Conn(), MaxMessage: broker.MaxMessage, Vehicles: db, Logger: c.deps.Logger, Registerer: c.metrics,
	})
	return err
}

func (c *collector) openBulletin(ctx context.Context) error {
	db, err := c.as(ctx, store.Web)
	if err != nil {
		return err
	}
	cfg := bulletin.Config{
		Store: db, Publisher: bridge.Publisher{Own: c.broker, Bridge: c.bridge}, Root: c.program.Root, Program: c.program.Program, ProgramID: c.program.ProgramID, Today: c.clock.Today,
		Logger: c.deps.Logger, Registerer: c.metrics,
	}
	if !c.cfg.Cluster.Alone() && c.bridge == nil { // what is behind a bridge has no other publisher
		cfg.Retained = c.broker.Retained
	}
	c.bulletin, err = bulletin.New(cfg)
	return err
}

func (c *collector) openIntake(ctx context.Context) error {
	db, err := c.as(ctx, store.Ingest)
	if err != nil {
		return err
	}
	var earlier []credit.Earlier
	if err := db.View(ctx, func(tx *store.Tx) (err error) {
		earlier, err = credit.ReadEarlier(ctx, tx, c.program.Documents, c.clock)
		return err
	}); err != nil {
		return err
	}
	judge, err := credit.New(credit.Config{
		DB: db, Program: c.program.ProgramID, Clock: c.clock, Policies: c.program.Policies, Verifiers: c.program.Verifiers,
		Charter: c.program.Charter, CharterID: c.program.CharterID, Earlier: earlier, Receipt: c.program.Signing.Receipt,
		KeptPerDay: c.cfg.Intake.RefusalsPerVehicleDay, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	c.admin, err = admin.Open(admin.Config{Path: c.cfg.AdminSocket(), Letters: c.letters, Logger: c.deps.Logger})
	if err != nil {
		return err
	}
	c.intake, err = ingest.New(ingest.Config{
		DB: db, Conn: c.queue, Judge: judge, Logger: c.deps.Logger, Registerer: c.metrics,
		MaxMessage: broker.MaxMessage, MaxPayload: broker.MaxPayload, Today: c.clock.Today,
		Queues: []ingest.Queue{{Stream: queue.Claims, Kind: wire.KindClaim}, {Stream: queue.Reports, Kind: wire.KindReport}},
	})
	return err
}

// What https.listen gives to strangers: a fleet's agents come from addresses that carriers share.
const (
	publicConnections, perSource = 4096, 256
	publicIdle                   = 10 * time.Second
	publicReaders                = 64 // that read the log at once
)

// logPath is where the ledger's files are served, to anybody, as C2SP tlog-tiles has them.
const logPath = "/log"

// openNews opens what agents get over HTTPS: the files that policies name, certificates, proofs that their credits are in the ledger, and how
// far their privacy budgets were seen to go. The
// ledger itself is there for strangers.
func (c *collector) openNews(ctx context.Context) error {
	db, err := c.as(ctx, store.Ingest)
	if err != nil {
		return err
	}
	if c.authority, err = ca.OpenVehicles(c.cfg.Vehicles.CACertificate, c.cfg.Vehicles.CAKey); err != nil {
		return fmt.Errorf("cannot use vehicles.ca_certificate and vehicles.ca_key: %w", err)
	}
	if c.httpsPair, err = c.openPair("https", c.cfg.HTTPS.Certificate, c.cfg.HTTPS.Key); err != nil {
		return err
	}
	checkpoint, err := cosigned.Newest(c.cfg.Ledger, c.program.LogKey)
	if err != nil {
		return err
	}
	log, err := tiles.New(tiles.Config{Dir: c.cfg.Ledger, Checkpoint: checkpoint})
	if err != nil {
		return err
	}
	public := listener.Few(publicReaders, http.StripPrefix(logPath, log))
	files, err := blob.New(blob.Config{Dir: c.cfg.Program.ClaimKeys, Lock: c.program.Lock, Registerer: c.metrics})
	if err != nil {
		return err
	}
	desk, err := enrolment.New(enrolment.Config{
		DB: db, Authority: c.authority, Now: c.deps.Now, Logger: c.deps.Logger, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	proofs, err := inclusion.New(inclusion.Config{
		DB: db, LogDir: c.cfg.Ledger, LogKey: c.program.LogKey, Drop: time.Duration(c.program.Timing.DropS) * time.Second,
		Now: c.deps.Now, Logger: c.deps.Logger, Registerer: c.metrics,
	})
	if err != nil {
		return err
	}
	charges, err := charge.New(charge.Config{DB: db, Now: c.deps.Now, Logger: c.deps.Logger, Registerer: c.metrics})
	if err != nil {
		return err
	}
	c.https, err = listener.Open(listener.Config{
		Address: c.cfg.HTTPS.Listen, Key: "https.listen", Certificate: c.httpsPair.Get, Clients: c.authority.Pool(), Now: c.deps.Now,
		Patience: blobPatience, Logger: c.deps.Logger, Connections: publicConnections, PerSource: perSource, Idle: publicIdle, Strangers: true,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == enroll.EnrolPath, r.URL.Path == enroll.RenewPath:
				desk.ServeHTTP(w, r)
			case strings.HasPrefix(r.URL.Path, proof.Path):
				proofs.ServeHTTP(w, r)
			case r.URL.Path == wire.ChargePath:
				charges.ServeHTTP(w, r)
			case strings.HasPrefix(r.URL.Path, logPath+"/"):
				public.ServeHTTP(w, r)
			default:
				files.ServeHTTP(w, r)
			}
		}),
	})
	return err
}

// openAccounts opens the accounts' API, where it has an address.
func (c *collector) openAccounts(ctx context.Context) (err error) {
	a := &c.cfg.API
	if a.Listen == "" {
		return nil
	}
	var exchange func(context.Context, string) (api.Exchange, error)
	if a.Exchange != "" {
		s, err := equity.Read(a.Exchange)
		if err != nil {
			return err
		}
		exchange = func(_ context.Context, account string) (api.Exchange, error) {
			p := s.Of(account)
			return api.Exchange{Day: s.Day, ValueFen: s.ValueFen, Milli: p.Milli, AllMilli: s.AllMilli, PortionFen: p.Fen}, nil
		}
	}
	c.accounts, err = service.Open(ctx, service.Config{
		Listen: a.Listen, Certificate: c.httpsPair.Get, JWKS: a.JWKS, Issuer: a.Issuer, Audience: a.Audience, Leeway: time.Duration(a.LeewayS) * time.Second,
		Records: c.cfg.Store, Statements: c.cfg.Statements(c.program.Root, c.deps.Logger), Rules: estate.Rules{Program: c.program.Program, ID: c.program.ProgramID},
		Exchange: exchange, Now: c.deps.Now, Logger: c.deps.Logger, Registerer: c.metrics,
	})
	return err
}

// openDashboard opens the dashboard. It reads the ledger's directory, which a settler may write in another process.
func (c *collector) openDashboard(ctx context.Context) error {
	db, err := c.as(ctx, store.Web)
	if err != nil {
		return err
	}
	usage := c.cfg.UsageDir()
	if err := os.MkdirAll(usage, 0o700); err != nil {
		return fmt.Errorf("cannot make directory for usage estimates: %w", err)
	}
	c.estimator, err = overview.Estimation{
		Records: db, Documents: c.program.Documents, Clock: c.clock, Dir: usage, Logger: c.deps.Logger, Registerer: c.metrics,
	}.Open(ctx)
	if err != nil {
		return err
	}
	shown := overview.Overview{Records: db, Checkpoint: c.checkpoint, Estimator: c.estimator, Clock: c.clock}
	c.page, err = dashboard.New(dashboard.Config{
		Program: c.program.Program, Clock: c.clock, Store: db, Stones: shown.Stones, Usage: shown.Usage, DeadLetters: c.letters.Summary, Logger: c.deps.Logger,
	})
	return err
}

// checkpoint returns the ledger's; that of nothing before a settler has begun it.
func (c *collector) checkpoint() (tlog.Checkpoint, error) {
	r, err := tlog.OpenReader(c.cfg.Ledger, c.program.LogKey)
	if errors.Is(err, os.ErrNotExist) {
		return tlog.Checkpoint{}, nil
	}
	if err != nil {
		return tlog.Checkpoint{}, err
	}
	return r.Checkpoint(), nil
}

// openWeb opens what every process has.
func (c *collector) openWeb() (err error) {
	mux := http.NewServeMux()
	if c.page != nil {
		mux.Handle("/", c.page)
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.metrics, promhttp.HandlerOpts{Registry: c.metrics}))
	c.web, err = listener.Open(listener.Config{Address: c.cfg.Web, Key: "web", Handler: mux, Logger: c.deps.Logger})
	return err
}
