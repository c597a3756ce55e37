package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/broker/internal/state"
	"rawstone/collector/internal/ca"
	"rawstone/collector/internal/cluster"
	"rawstone/collector/internal/deadletter"
	"rawstone/collector/internal/peer"
	"rawstone/collector/internal/queue"
	"rawstone/collector/internal/role"
	"rawstone/pkg/wire"
)

// process returns the identity of one of the collector's processes.
func (f *fleet) process(t *testing.T, name string, roles role.Set) *peer.Identity {
	t.Helper()
	if err := ca.IssueNode(f.dir, name, roles.List(), []string{"127.0.0.1"}, f.dir, time.Now()); err != nil {
		t.Fatal(err)
	}
	own, err := peer.Open(peer.Config{CA: f.path("internal-ca.pem"), Certificate: f.path(name + ".pem"), Key: f.path(name + ".key")}, roles, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// reach connects a process to the queues.
func reach(t *testing.T, as *peer.Identity, roles role.Set, servers ...string) *nats.Conn {
	t.Helper()
	conn, err := queue.Connect(t.Context(), queue.Config{
		Servers: servers, TLS: as.Client(role.Broker), Name: as.Name, Roles: roles, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// TestProcessesKeepToTheirRoles: a worker works and web counts letters, and neither does what it has no business with.
func TestProcessesKeepToTheirRoles(t *testing.T) {
	f, reg, clients := newFleet(t), prometheus.NewRegistry(), quiet(t)
	b := start(t, Config{Vehicles: f, Registerer: reg, Place: cluster.Place{Clients: clients}, Peer: f.process(t, "b1", role.Broker)})
	worker, web := reach(t, f.process(t, "i1", role.Ingest), role.Ingest, clients), reach(t, f.process(t, "web", role.Web), role.Web, clients)

	vehicle := connect(t, b, "V1")
	publish(t, vehicle, wire.Topic("V1", wire.KindClaim), []byte("claim"))
	js, err := jetstream.New(worker)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.CreateOrUpdateConsumer(t.Context(), StreamClaims, jetstream.ConsumerConfig{Durable: queue.Consumer, AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	m, err := consumer.Next(jetstream.FetchMaxWait(time.Minute))
	if err != nil || string(m.Data()) != "claim" {
		t.Fatal(err)
	}
	if err := m.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	letters, err := deadletter.Open(worker)
	if err != nil {
		t.Fatal(err)
	}
	if err := letters.Put(t.Context(), deadletter.Letter{Reason: deadletter.Undecided, Subject: wire.Subject("V1", wire.KindClaim), Body: []byte("again")}); err != nil {
		t.Fatal(err)
	}
	page, err := letters.List(t.Context(), 0)
	if err != nil || len(page) != 1 {
		t.Fatal(page, err)
	}
	seen, err := deadletter.Open(web)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := seen.Summary(t.Context()); err != nil || s.Letters[deadletter.Undecided] != 1 {
		t.Errorf("web counts %v, %v", s, err)
	}
	if err := letters.Replay(t.Context(), page[0].Seq); err != nil {
		t.Fatal(err)
	}
	queued(t, b, StreamClaims, 1)

	// What is refused is said asynchronously, and a request for it is not answered.
	type attempt struct {
		conn    *nats.Conn
		subject string
	}
	var wait sync.WaitGroup
	for _, a := range []attempt{
		{worker, "$JS.API.STREAM.DELETE." + StreamClaims}, {worker, "$JS.API.STREAM.PURGE." + StreamClaims}, {worker, "$JS.API.STREAM.LIST"},
		{worker, "$JS.API.CONSUMER.CREATE." + StreamClaims + ".spy"}, {worker, "$JS.API.STREAM.MSG.GET." + state.RetainedStream},
		{web, "$JS.API.CONSUMER.MSG.NEXT." + StreamClaims + "." + queue.Consumer}, {web, "$JS.API.STREAM.MSG.GET." + deadletter.Stream},
		{web, "$JS.API.STREAM.INFO." + StreamClaims},
	} {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := a.conn.RequestWithContext(ctx, a.subject, nil); err == nil {
				t.Errorf("%s is answered", a.subject)
			}
		})
	}
	wait.Wait()
	if err := web.Publish(wire.Subject("V1", wire.KindClaim), []byte("forged")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(web.Flush(), worker.Flush()); err != nil {
		t.Fatal(err)
	}
	queued(t, b, StreamClaims, 1)
	for conn, subject := range map[*nats.Conn]string{worker: wire.Subject("*", wire.KindClaim), web: "_INBOX_i1.>"} {
		sub, err := conn.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Flush(); err != nil {
			t.Fatal(err)
		}
		publish(t, vehicle, wire.Topic("V1", wire.KindClaim), []byte("private"))
		if m, err := sub.NextMsg(500 * time.Millisecond); err == nil {
			t.Errorf("subscription to %s gets %q", subject, m.Data)
		}
	}

	// Who has no business here, or is no process of the collector's, is not admitted.
	other := newFleet(t)
	for name, own := range map[string]*peer.Identity{
		"a settler": f.process(t, "s1", role.Settle), "a broker": f.process(t, "b2", role.Broker), "another collector's": other.process(t, "i1", role.Ingest),
	} {
		o := nats.GetDefaultOptions()
		o.Url, o.Secure, o.TLSHandshakeFirst, o.TLSConfig, o.Timeout = "tls://"+clients, true, true, own.Client(role.Broker), time.Minute
		if conn, err := o.Connect(); err == nil {
			conn.Close()
			t.Errorf("%s is admitted", name)
		}
	}
}

// admits waits until a broker takes a vehicle.
func admits(t *testing.T, b *Broker, id string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		c := mqtt.NewClient(options(b, id))
		tok := c.Connect()
		if tok.WaitTimeout(time.Minute) && tok.Error() == nil {
			c.Disconnect(0)
			return
		}
		if time.Now().After(end) {
			t.Fatalf("connect as %q: %v", id, tok.Error())
		}
	}
}

// TestThreeBrokers: what one of three took the others have when it is gone, vehicles and workers go on with another one, the policies are
// there, and it comes back.
func TestThreeBrokers(t *testing.T) {
	f := newFleet(t)
	var routes, clients []string
	for range 3 {
		routes, clients = append(routes, quiet(t)), append(clients, quiet(t))
	}
	dirs, all := []string{t.TempDir(), t.TempDir(), t.TempDir()}, make([]*Broker, 3)
	var own [3]*peer.Identity
	for i := range own {
		own[i] = f.process(t, fmt.Sprint("b", i+1), role.Broker)
	}
	up := func(i int) *Broker {
		return start(t, Config{Vehicles: f, Dir: dirs[i], StreamBytes: 1 << 20, Peer: own[i], Place: cluster.Place{
			Node: own[i].Name, Listen: routes[i], Routes: routes, Clients: clients[i],
		}})
	}
	var starting sync.WaitGroup
	for i := range all {
		f.of(fmt.Sprint("V", i))
		starting.Go(func() { all[i] = up(i) })
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	retain(t, all[0], []byte("one"))
	publish(t, connect(t, all[0], "V0"), wire.Topic("V0", wire.KindClaim), []byte("claim"))
	queued(t, all[1], StreamClaims, 1)
	worker := reach(t, f.process(t, "i1", role.Ingest), role.Ingest, clients...)
	if err := all[0].Close(); err != nil {
		t.Fatal(err)
	}
	for _, b := range all[1:] { // those left may refuse vehicles, who come again, until they have chosen a leader
		admits(t, b, "V1")
	}
	expect(t, policies(t, all[1], "V1"), []byte("one"), true)
	if kept, err := all[2].Retained(t.Context()); err != nil || string(kept) != "one" {
		t.Errorf("retained %q, %v", kept, err)
	}
	retain(t, all[2], []byte("two"))
	publish(t, connect(t, all[2], "V0"), wire.Topic("V0", wire.KindClaim), []byte("claim"))
	queued(t, all[1], StreamClaims, 2)
	js, err := jetstream.New(worker)
	if err != nil {
		t.Fatal(err)
	}
	for got, end := 0, time.Now().Add(time.Minute); got < 2; {
		if time.Now().After(end) {
			t.Fatalf("the worker gets %d of 2 messages", got)
		}
		consumer, err := js.CreateOrUpdateConsumer(t.Context(), StreamClaims, jetstream.ConsumerConfig{Durable: queue.Consumer, AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			continue // its connection may be moving
		}
		if m, err := consumer.Next(jetstream.FetchMaxWait(time.Second)); err == nil && m.DoubleAck(t.Context()) == nil {
			got++
		}
	}
	again := up(0)
	expect(t, policies(t, again, "V2"), []byte("two"), true)
	queued(t, again, StreamClaims, 0)
}
