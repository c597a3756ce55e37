package queue

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rawstone/collector/internal/deadletter"
	"rawstone/collector/internal/role"
	"rawstone/pkg/wire"
)

const (
	inbox         = "_INBOX"
	reconnectWait = 250 * time.Millisecond
	dialTimeout   = 10 * time.Second
	pingInterval  = 5 * time.Second // a broker that says nothing to three of them is left
)

// Config says how a process without a broker reaches the queues. Everything is required.
type Config struct {
	// Servers are the brokers' addresses for such processes, IP:port. Another one is tried when one is away.
	Servers []string
	// TLS is how the process connects: peer.Identity.Client. Name is the name in its certificate.
	TLS  *tls.Config
	Name string
	// Roles are the process's; with role.Ingest all queues are waited for, otherwise the dead letters'.
	Roles  role.Set
	Logger *slog.Logger
}

// Connect connects and returns when the queues are there. It waits for brokers that are away, also later on; what is published meanwhile
// may be lost. Its caller closes the connection.
func Connect(ctx context.Context, cfg Config) (*nats.Conn, error) {
	if len(cfg.Servers) == 0 || cfg.TLS == nil || cfg.Name == "" || cfg.Logger == nil {
		return nil, errors.New("cannot connect to queues: no brokers, certificate, name or logger given")
	}
	o := nats.GetDefaultOptions()
	for _, s := range cfg.Servers {
		o.Servers = append(o.Servers, "tls://"+s)
	}
	o.Name, o.TLSConfig, o.Secure, o.TLSHandshakeFirst = cfg.Name, cfg.TLS, true, true
	o.InboxPrefix = inboxOf(cfg.Name)
	o.Timeout, o.PingInterval, o.MaxPingsOut = dialTimeout, pingInterval, 3
	o.MaxReconnect, o.ReconnectWait, o.IgnoreAuthErrorAbort = -1, reconnectWait, true
	o.DisconnectedErrCB = func(_ *nats.Conn, err error) {
		if err != nil { // none when it was closed
			cfg.Logger.Warn("connection to broker is lost: another one is tried", "error", err)
		}
	}
	o.ReconnectedCB = func(*nats.Conn) { cfg.Logger.Info("connected to a broker again") }
	o.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) { cfg.Logger.Warn("broker refuses", "error", err) }
	var conn *nats.Conn
	err := insist(ctx, cfg.Logger, "no broker answers: waiting for one", func(context.Context) (_ bool, err error) {
		conn, err = o.Connect()
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot connect to queues: %w", err)
	}
	if err := await(ctx, conn, cfg); err != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot connect to queues: %w", err)
	}
	return conn, nil
}

// await waits until the streams that the roles need are there.
func await(ctx context.Context, conn *nats.Conn, cfg Config) error {
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	streams := []string{deadletter.Stream}
	if cfg.Roles.Has(role.Ingest) {
		streams = append(streams, Claims, Reports)
	}
	for _, name := range streams {
		err := insist(ctx, cfg.Logger, "the brokers' queues are not there yet: waiting for them", func(ctx context.Context) (bool, error) {
			s, err := js.Stream(ctx, name)
			if err != nil {
				return true, err
			}
			replicas := max(s.CachedInfo().Config.Replicas, 1)
			return true, led(s.CachedInfo(), replicas)
		})
		if err != nil {
			return fmt.Errorf("queue %s: %w", name, err)
		}
	}
	return nil
}

func inboxOf(name string) string { return inbox + "_" + name }

// Rights returns the subjects that a process with a name and roles may publish on and subscribe to. Who has neither role.Ingest nor
// role.Web has no business here and gets none.
func Rights(name string, roles role.Set) (publish, subscribe []string) {
	if !roles.Any(role.Ingest | role.Web) {
		return nil, nil
	}
	publish = []string{"$JS.API.STREAM.INFO." + deadletter.Stream}
	if roles.Has(role.Ingest) {
		for _, q := range []string{Claims, Reports} {
			publish = append(publish, "$JS.API.STREAM.INFO."+q, "$JS.API.CONSUMER.CREATE."+q+"."+Consumer, "$JS.API.CONSUMER.INFO."+q+"."+Consumer,
				"$JS.API.CONSUMER.MSG.NEXT."+q+"."+Consumer, "$JS.ACK."+q+"."+Consumer+".>", "$JS.ACK.*.*."+q+"."+Consumer+".>")
		}
		publish = append(publish, deadletter.Config().Subjects...)
		publish = append(publish, wire.Subject("*", wire.KindReceipt),
			"$JS.API.STREAM.MSG.GET."+deadletter.Stream, "$JS.API.STREAM.MSG.DELETE."+deadletter.Stream, "$JS.API.STREAM.PURGE."+deadletter.Stream,
			wire.Subject("*", wire.KindClaim), wire.Subject("*", wire.KindReport)) // the letters that are replayed
	}
	return publish, []string{inboxOf(name) + ".>"}
}
