package broker

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/broker/internal/connection"
	"rawstone/collector/internal/cluster"
	"rawstone/pkg/wire"
)

const (
	lookupWait  = 10 * time.Second // a loaded machine answers late, and MQTT clients wait for longer
	reportEvery = time.Minute
)

// Reasons of a refused connect, the values of the metric's label.
const (
	refusedStarting    = "starting"
	refusedHandshake   = "handshake"
	refusedFull        = "too_many"
	refusedID          = "client_id"
	refusedCertificate = "certificate"
	refusedUnknown     = "unknown_vehicle"
	refusedDevice      = "device_key"
	refusedLookup      = "lookup_failed"
	refusedPublisher   = "publisher"
	refusedProcess     = "process"

	unwatched = "unwatched" // of no connect: for say
)

// authenticator admits this process's own connection, its publisher of policies, and vehicles by their certificates, each to its own
// topics. That a certificate is of the vehicles' authority and valid, TLS has checked before.
type authenticator struct {
	publisher wire.PublicKey
	name      string // the publisher's
	vehicles  Vehicles
	logger    *slog.Logger
	now       func() time.Time
	refused   *prometheus.CounterVec
	live      connection.Set
	// queues says that the queues and the bounded streams of the server's own are there. A client before that would have the server make
	// its streams without bounds, and Start would fail over them. ready says that vehicles also get the policies as soon as they ask.
	queues, ready atomic.Bool

	mu       sync.Mutex
	reported map[string]time.Time // by reason
}

func newAuthenticator(cfg Config, publisher wire.PublicKey) *authenticator {
	a := &authenticator{
		publisher: publisher, name: publisherOf(cfg.Place.Node), vehicles: cfg.Vehicles, logger: cfg.Logger, now: cfg.Now, reported: make(map[string]time.Time),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_broker_refused_connects_total",
			Help: "MQTT connects refused, by reason: broker not ready yet, TLS handshake, too many at once, no vehicle's name as client id, " +
				"another vehicle's certificate, vehicle not registered, not enrolled or revoked, another device key than the registered one, " +
				"look-up failed, the publisher's name without its key, a process without business here.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{
		refusedStarting, refusedHandshake, refusedFull, refusedID, refusedCertificate, refusedUnknown, refusedDevice, refusedLookup, refusedPublisher, refusedProcess,
	} {
		a.refused.WithLabelValues(reason)
	}
	return a
}

// Check implements server.Authentication.
func (a *authenticator) Check(c server.ClientAuthentication) bool {
	if addr := c.RemoteAddress(); addr != nil && addr.Network() == "pipe" {
		return true
	}
	s, ok := c.(fmt.Stringer)
	if !ok {
		return false
	}
	if ofProcess(s.String()) {
		if err := cluster.Admit(c); err != nil {
			a.refuse(refusedProcess, err, "connect refused: it is none of the collector's own processes that work on the queues")
			return false
		}
		return true
	}
	if !a.queues.Load() {
		a.refused.WithLabelValues(refusedStarting).Inc()
		return false
	}
	id, ok := clientID(s.String())
	subject, device, until, certified := certificate(c.GetTLSConnectionState())
	switch {
	case !certified: // TLS demands one: this cannot be
		a.refuse(refusedCertificate, nil, "connect refused: it shows no certificate of a P-256 key")
		return false
	case ok && id == a.name || subject == a.name:
		if id != a.name || subject != a.name || device != a.publisher {
			a.refuse(refusedPublisher, nil, "connect refused: its name is this process's own: find out who uses it")
			return false
		}
		c.RegisterUser(publisher())
		return true
	case !a.ready.Load():
		a.refused.WithLabelValues(refusedStarting).Inc()
		return false
	case !ok || wire.CheckVehicle(id) != nil:
		a.refuse(refusedID, nil, "connect refused: its client id is no vehicle's name: use the name that the vehicle is registered with")
		return false
	case subject != id:
		a.refuse(refusedCertificate, nil, "connect refused: its certificate is of another vehicle than its client id")
		return false
	}
	// Before the look-up: whatever changes after that finds the connection here.
	a.live.Add(c.GetID(), connection.Connection{Vehicle: id, Device: device, Until: until})
	if !a.admits(id, device) {
		a.live.Remove(c.GetID())
		return false
	}
	c.RegisterUser(&server.User{Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			wire.Subject(id, wire.KindClaim), wire.Subject(id, wire.KindReport),
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{
			wire.Subject(id, wire.KindReceipt), policySubject(),
		}},
	}})
	return true
}

// admits asks the records.
func (a *authenticator) admits(vehicle string, device wire.PublicKey) bool {
	// The server hands no context in, and waits for its connections when it stops.
	ctx, cancel := context.WithTimeout(context.Background(), lookupWait)
	defer cancel()
	switch registered, ok, err := a.vehicles.Device(ctx, vehicle); {
	case err != nil:
		a.refuse(refusedLookup, err, "connect refused: its vehicle cannot be looked up: the vehicle tries again")
		return false
	case !ok:
		a.refuse(refusedUnknown, nil, "connect refused: its vehicle is not registered, has not enrolled, or is revoked: `collector vehicle list` says which")
		return false
	case registered != device:
		a.refuse(refusedDevice, nil, "connect refused: its certificate is of another device key than the one that its vehicle enrolled with last")
		return false
	}
	return true
}

// certificate reads what a client's certificate says; ok is false without one that TLS has verified, of a P-256 key.
func certificate(state *tls.ConnectionState) (subject string, key wire.PublicKey, until time.Time, ok bool) {
	if state == nil || len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return "", key, until, false
	}
	leaf := state.PeerCertificates[0]
	key, err := wire.NewPublicKey(leaf.PublicKey)
	return leaf.Subject.CommonName, key, leaf.NotAfter, err == nil
}

func policySubject() string { return strings.ReplaceAll(wire.PolicyTopic, "/", ".") }

// refuse counts a refused connect and says so.
func (a *authenticator) refuse(reason string, err error, sentence string) {
	a.refused.WithLabelValues(reason).Inc()
	a.say(reason, err, sentence)
}

// say logs a sentence, at most once a minute for each reason: anybody can connect as often as they like.
func (a *authenticator) say(reason string, err error, sentence string) {
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

// ofProcess reports whether a client's description, `ADDRESS - cid:NUMBER …`, is of one that does not speak MQTT: it came by the listener
// for the collector's own processes.
func ofProcess(description string) bool {
	_, rest, ok := strings.Cut(description, " - ")
	return ok && strings.HasPrefix(rest, "cid:")
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
