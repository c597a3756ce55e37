package ingest

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/broker"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// A stamp is a judge that accepts every submission of a registered vehicle once, by the database's own rules, and can be made to fail.
type stamp struct {
	mu        sync.Mutex
	poison    string         // bodies that fail in the transaction
	poisoned  func()         // when set, called before they do
	unchecked int            // how many checks fail
	unread    string         // bodies whose check fails
	checked   map[string]int // how often each body was checked
	hold      chan struct{}  // when set, each check waits for it
	inside    func()         // when set, called in each decision
}

func (j *stamp) Prepare(ctx context.Context, kind wire.Kind, subs []Submission) (out []Prepared) {
	for _, s := range subs {
		apply, err := j.prepare(s.Vehicle, kind, s.Body)
		out = append(out, Prepared{Apply: apply, Err: err})
	}
	return out
}

func (j *stamp) prepare(vehicle string, kind wire.Kind, body []byte) (func(context.Context, *store.Tx) (store.Submission, bool, error), error) {
	j.mu.Lock()
	j.checked[string(body)]++
	poison, hold, inside := j.poison, j.hold, j.inside
	fail := j.unchecked > 0 || j.unread != "" && string(body) == j.unread
	j.unchecked--
	j.mu.Unlock()
	if fail {
		return nil, errors.New("cannot read")
	}
	if hold != nil {
		<-hold
	}
	s := store.Submission{ID: sha256.Sum256(body), Vehicle: vehicle, Kind: kind, Accepted: true, Km: 1, Receipt: []byte("receipt for " + string(body))}
	return func(ctx context.Context, tx *store.Tx) (store.Submission, bool, error) {
		if inside != nil {
			inside()
		}
		if poison != "" && string(body) == poison {
			if j.poisoned != nil {
				j.poisoned()
			}
			return s, false, errors.New("poison")
		}
		if wire.CheckVehicle(vehicle) != nil {
			s.Receipt, s.Accepted, s.Reason = nil, false, wire.ReasonUnknownVehicle
			return s, false, tx.CountRefusal(ctx, kind, s.Reason)
		}
		if old, err := tx.Submission(ctx, s.ID, vehicle, kind); err == nil {
			return old, true, nil
		}
		s := s
		return s, false, tx.AddSubmission(ctx, &s)
	}, nil
}

// A rig is a broker, a database with vehicle V1, and an intake that can be started and stopped.
type rig struct {
	t      *testing.T
	path   string
	queues string // the broker's directory
	db     *store.DB
	broker *broker.Broker
	fleet  *fleet
	judge  Judge
	stop   func()
	ending <-chan struct{} // closed once stop has been called
	reg    *prometheus.Registry
	retry  time.Duration
	today  atomic.Uint32
	log    strings.Builder // to be read after stop
}

func newRig(t *testing.T, judge Judge) *rig {
	t.Helper()
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "records.db"), queues: t.TempDir(), judge: judge, retry: 20 * time.Millisecond}
	var err error
	if r.db, err = store.Open(t.Context(), store.Config{Path: r.path, Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin, BusyTimeout: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.db.Close() })
	r.fleet = newFleet(t)
	r.serve()
	return r
}

// serve starts the broker.
func (r *rig) serve() {
	r.t.Helper()
	b, err := broker.Start(r.t.Context(), broker.Config{
		Listen: "127.0.0.1:0", Dir: r.queues, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Vehicles: r.fleet, VehicleCA: r.fleet.authority.Pool(),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &r.fleet.server, nil },
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.broker = b
	r.t.Cleanup(func() { b.Close() })
}

// vehicle adds V1 to the database.
func (r *rig) vehicle() *rig {
	r.t.Helper()
	err := r.db.Update(r.t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.AddAccount(r.t.Context(), "A"), tx.AddVehicle(r.t.Context(), store.Vehicle{ID: "V1", Account: "A"}))
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return r
}

// intake makes an intake with metrics of its own.
func (r *rig) intake() *Intake {
	r.t.Helper()
	r.reg = prometheus.NewRegistry()
	in, err := New(Config{
		DB: r.db, Conn: r.broker.Conn(), Judge: r.judge, Registerer: r.reg, RetryDelay: r.retry,
		MaxMessage: broker.MaxMessage, MaxPayload: broker.MaxPayload, Today: r.today.Load,
		Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
		Queues: []Queue{{broker.StreamClaims, wire.KindClaim}, {broker.StreamReports, wire.KindReport}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return in
}

func (r *rig) start() {
	r.t.Helper()
	in := r.intake()
	ctx, cancel := context.WithCancel(r.t.Context())
	r.ending = ctx.Done()
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("run: %v", err)
		}
	})
	r.t.Cleanup(r.stop)
}

// A car is an MQTT client that publishes for a vehicle and collects its receipts.
type car struct {
	t        *testing.T
	id       string
	client   mqtt.Client
	receipts chan []byte
}

func newCar(t *testing.T, r *rig, id string) *car {
	t.Helper()
	c := &car{t: t, id: id, receipts: make(chan []byte, 4096)}
	c.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + r.broker.Addr().String()).SetTLSConfig(r.fleet.of(id)).SetClientID(id).SetCleanSession(true).SetOrderMatters(false))
	if tok := c.client.Connect(); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	t.Cleanup(func() { c.client.Disconnect(0) })
	topic := wire.Topic(id, wire.KindReceipt)
	tok := c.client.Subscribe(topic, 0, func(_ mqtt.Client, m mqtt.Message) { c.receipts <- m.Payload() })
	if !tok.WaitTimeout(time.Minute) || tok.(*mqtt.SubscribeToken).Result()[topic] != 0 {
		t.Fatal("receipts not subscribed")
	}
	return c
}

func (c *car) publish(kind wire.Kind, body []byte) {
	c.t.Helper()
	if tok := c.client.Publish(wire.Topic(c.id, kind), 1, false, body); !tok.WaitTimeout(time.Minute) || tok.Error() != nil {
		c.t.Fatal(tok.Error())
	}
}

func (c *car) receipt() []byte {
	c.t.Helper()
	select {
	case b := <-c.receipts:
		return b
	case <-time.After(time.Minute):
		c.t.Fatal("no receipt")
		return nil
	}
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 3000 {
		if cond() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

func (r *rig) queued() (n uint64) {
	r.t.Helper()
	js, err := jetstream.New(r.broker.Conn())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, name := range []string{broker.StreamClaims, broker.StreamReports} {
		s, err := js.Stream(r.t.Context(), name)
		if err != nil {
			r.t.Fatal(err)
		}
		n += s.CachedInfo().State.Msgs
	}
	return n
}

// counted returns the sum of a counter over its labels.
func (r *rig) counted(name string) (sum float64) {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func (r *rig) pending() (n int) {
	r.t.Helper()
	err := r.db.View(r.t.Context(), func(tx *store.Tx) error {
		s, err := tx.Pending(r.t.Context(), 0, 10000)
		n = len(s)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func (r *rig) kept() (n int) {
	r.t.Helper()
	err := r.db.View(r.t.Context(), func(tx *store.Tx) error {
		s, err := tx.Summary(r.t.Context()) // the stamp accepts all that it keeps
		n = s.ClaimsAccepted + s.ReportsAccepted
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}
