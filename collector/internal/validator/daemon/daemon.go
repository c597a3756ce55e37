// Package daemon is one validator as a process: its configuration, wiring and Run. It serves the feed to settlers, exchanges checkpoints
// with the other validators, and serves its metrics and /healthz, which answers 503 while nothing is cosigned.
//
// It shares nothing with a collector but the internal authority under which they know each other, and needs none of its secrets.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/feed"
	"rawstone/collector/internal/listener"
	"rawstone/collector/internal/peer"
	"rawstone/collector/internal/role"
	"rawstone/collector/internal/validator/seat"
	"rawstone/pkg/audit/proof"
	"rawstone/pkg/keyfile"
	"rawstone/pkg/ledger"
	"rawstone/pkg/terms"
)

// Deps are what Run is given besides its configuration.
type Deps struct {
	// Logger is required; Now is the host's clock, time.Now when nil.
	Logger *slog.Logger
	Now    func() time.Time
	// OnReady is called once settlers can connect, with the address of the feed and that of the metrics; nil means nobody waits.
	OnReady func(listen, web string)
}

// Run validates until ctx is done or something fails.
func Run(ctx context.Context, cfg *Config, d Deps) (err error) {
	if d.Logger == nil {
		return errors.New("cannot run validator: no logger given")
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	text, err := keyfile.Read(cfg.Key)
	if err != nil {
		return err
	}
	key, err := ledger.ParseValidatorKey(text)
	if err != nil {
		return fmt.Errorf("cannot use key %s: %w", cfg.Key, err)
	}
	root, err := terms.LoadRoot(cfg.Root)
	if err != nil {
		return err
	}
	keys, err := proof.Keys(cfg.ClaimKeys...)
	if err != nil {
		return fmt.Errorf("cannot use claim_keys: %w", err)
	}
	identity, err := peer.Open(cfg.Internal, role.Validator, d.Logger)
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// The copy must not die with ctx in the middle of a last answer: it lives for as long as Run lasts.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	s, err := seat.Open(life, seat.Config{
		Key: key, Root: root, Dir: cfg.StateDir, Now: d.Now, Logger: d.Logger, Registerer: metrics,
		Verifier: keys, Environment: cfg.Environment,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	server, err := feed.Listen(feed.ServerConfig{Address: cfg.Listen, Identity: identity, Validator: s, Logger: d.Logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", s)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{Registry: metrics}))
	web, err := listener.Open(listener.Config{Address: cfg.Web, Key: "web", Handler: mux, Logger: d.Logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, web.Close()) }()
	others, err := dial(cfg.Validators, key.Public().Name, identity)
	if err != nil {
		return err
	}
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Run(running) })
	group.Go(func() error { return web.Run(running) })
	group.Go(func() error {
		select {
		case <-running.Done():
			return nil
		case <-s.Stale():
			return disclosure.ErrStale // whoever supervises the process starts it again
		}
	})
	group.Go(func() error { exchange(running, s, others, cfg.Exchange, d.Logger); return nil })
	d.Logger.Info("validator ready", "name", key.Public().Name, "cosigner", s.Status().Cosigner, "listen", server.Addr(), "web", "http://"+web.Addr(), "entries", s.Status().Entries)
	if d.OnReady != nil {
		d.OnReady(server.Addr(), web.Addr())
	}
	return group.Wait()
}

// other is a validator that checkpoints are exchanged with.
type other struct {
	name   string
	client *feed.Client
	away   bool
}

// dial returns the others; one that has the validator's own name is left out, so that all may have the same list.
func dial(list []Other, own string, identity *peer.Identity) (out []*other, err error) {
	for _, o := range list {
		if o.Name == own {
			continue
		}
		c, err := feed.Dial(feed.ClientConfig{URL: o.URL, TLS: identity.Client(role.Validator)})
		if err != nil {
			return nil, err
		}
		out = append(out, &other{name: o.Name, client: c})
	}
	return out, nil
}

// exchange asks the others what they were shown, and shows them what this one was shown, until ctx ends.
func exchange(ctx context.Context, s *seat.Seat, others []*other, every time.Duration, logger *slog.Logger) {
	defer func() {
		for _, o := range others {
			o.client.Close()
		}
	}()
	for {
		select { // first, for validators that are started together
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		for _, o := range others {
			err := o.once(ctx, s)
			if ctx.Err() != nil {
				return
			}
			if err != nil && !o.away {
				logger.Warn("checkpoints are not exchanged", "validator", o.name, "error", err)
			}
			o.away = err != nil
		}
	}
}

func (o *other) once(ctx context.Context, s *seat.Seat) error {
	theirs, err := o.client.Gossip(ctx)
	if err != nil {
		return err
	}
	// Whatever it makes of what it hears, the other is to know what was shown here: both find out, or none is deceived.
	heard := s.Heard(ctx, theirs)
	own, err := s.Gossip(ctx)
	if err == nil && own.Ledger != "" && own.Ledger != theirs.Ledger {
		err = o.client.Seen(ctx, []byte(own.Ledger))
	}
	return errors.Join(heard, err)
}
