package broker

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/pkg/wire"
)

const (
	lookupWait  = time.Second // MQTT clients wait 2 s and more for an answer
	reportEvery = time.Minute
)

// Reasons of a refused connect, the values of the metric's label.
const (
	refusedStarting = "starting"
	refusedID       = "client_id"
	refusedUnknown  = "unknown_vehicle"
	refusedLookup   = "lookup_failed"
	refusedSecret   = "publisher"
)

// authenticator admits this process's own connection, its publisher of policies, and MQTT clients that are named like a registered
// vehicle, each to that vehicle's topics.
type authenticator struct {
	secret  secret
	known   func(context.Context, string) (bool, error)
	logger  *slog.Logger
	now     func() time.Time
	refused *prometheus.CounterVec
	// ready says that the queues and the bounded streams of the server's own are there. A client before that would have the server make
	// its streams without bounds, and Start would fail over them.
	ready atomic.Bool

	mu       sync.Mutex
	reported map[string]time.Time // by reason
}

func newAuthenticator(known func(context.Context, string) (bool, error), own secret, logger *slog.Logger) *authenticator {
	a := &authenticator{
		secret: own, known: known, logger: logger, now: time.Now, reported: make(map[string]time.Time),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_broker_refused_connects_total",
			Help: "MQTT connects refused, by reason: broker not ready yet, no vehicle's name as client id, vehicle not registered, look-up failed, the publisher's name without its secret.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{refusedStarting, refusedID, refusedUnknown, refusedLookup, refusedSecret} {
		a.refused.WithLabelValues(reason)
	}
	return a
}

// Check implements server.Authentication.
func (a *authenticator) Check(c server.ClientAuthentication) bool {
	if addr := c.RemoteAddress(); addr != nil && addr.Network() == "pipe" {
		return true
	}
	if !a.ready.Load() {
		a.refused.WithLabelValues(refusedStarting).Inc()
		return false
	}
	s, ok := c.(fmt.Stringer)
	if !ok {
		return false
	}
	vehicle, ok := clientID(s.String())
	if ok && vehicle == publisherID {
		if !a.secret.admits(c.GetOpts().Password) {
			a.refuse(refusedSecret, nil, "connect refused: its client id is this process's own: find out which program on this host uses it")
			return false
		}
		c.RegisterUser(publisher())
		return true
	}
	if !ok || wire.CheckVehicle(vehicle) != nil {
		a.refuse(refusedID, nil, "connect refused: its client id is no vehicle's name: use the name that the vehicle is registered with")
		return false
	}
	// The server hands no context in, and waits for its connections when it stops.
	ctx, cancel := context.WithTimeout(context.Background(), lookupWait)
	defer cancel()
	switch known, err := a.known(ctx, vehicle); {
	case err != nil:
		a.refuse(refusedLookup, err, "connect refused: its vehicle cannot be looked up: the vehicle tries again")
		return false
	case !known:
		a.refuse(refusedUnknown, nil, "connect refused: its vehicle is not registered: register it with collector vehicle add")
		return false
	}
	c.RegisterUser(&server.User{Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			wire.Subject(vehicle, wire.KindClaim), wire.Subject(vehicle, wire.KindReport),
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{
			wire.Subject(vehicle, wire.KindReceipt), policySubject(),
		}},
	}})
	return true
}

func policySubject() string { return strings.ReplaceAll(wire.PolicyTopic, "/", ".") }

// refuse counts a refused connect and logs it, at most once a minute for each reason: anybody can connect as often as they like.
func (a *authenticator) refuse(reason string, err error, sentence string) {
	a.refused.WithLabelValues(reason).Inc()
	a.mu.Lock()
	now := a.now()
	last, said := a.reported[reason]
	said = said && now.Sub(last) < reportEvery
	if !said {
		a.reported[reason] = now
	}
	a.mu.Unlock()
	switch {
	case said:
	case err != nil:
		a.logger.Warn(sentence, "error", err)
	default:
		a.logger.Warn(sentence)
	}
}

// clientID reads the MQTT client id out of a client's description, `ADDRESS - mid:NUMBER - "ID"`: the server gives it in no other
// way. The id is quoted in Go's syntax, so that no id can look like another's description.
func clientID(description string) (string, bool) {
	_, rest, ok := strings.Cut(description, " - mid:")
	if !ok {
		return "", false
	}
	_, quoted, ok := strings.Cut(rest, " - ")
	if !ok {
		return "", false
	}
	id, err := strconv.Unquote(quoted)
	return id, err == nil
}

// logger passes the server's warnings and errors on, without the names of vehicles that they quote, and drops its chatter.
type logger struct {
	slog *slog.Logger

	mu   sync.Mutex
	last string
}

var vehicleNames = regexp.MustCompile(`"[^"]*"|rawstone[./]v1[./][^ ./"]*`)

func (l *logger) problem(level slog.Level, msg, format string, args []any) {
	detail := vehicleNames.ReplaceAllString(fmt.Sprintf(format, args...), "...")
	if strings.HasSuffix(detail, server.ErrAuthentication.Error()) {
		return // the authenticator says why, and less often
	}
	l.mu.Lock()
	l.last = detail
	l.mu.Unlock()
	l.slog.Log(context.Background(), level, msg, "detail", detail)
}

func (l *logger) lastProblem() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *logger) Warnf(format string, v ...any) {
	l.problem(slog.LevelWarn, "broker warning", format, v)
}

func (l *logger) Errorf(format string, v ...any) {
	l.problem(slog.LevelError, "broker error", format, v)
}

// Fatalf is what the server calls where it cannot go on; Start sees that it did not become ready.
func (l *logger) Fatalf(format string, v ...any) {
	l.problem(slog.LevelError, "broker error", format, v)
}

func (*logger) Noticef(string, ...any) {}
func (*logger) Debugf(string, ...any)  {}
func (*logger) Tracef(string, ...any)  {}
