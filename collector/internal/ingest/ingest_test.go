package ingest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/collector/internal/broker"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// A stamp is a judge that accepts every submission of a registered vehicle once, by the database's own rules, and can be made to fail.
type stamp struct {
	mu        sync.Mutex
	poison    string         // bodies that fail in the transaction
	unchecked int            // how many checks fail
	checked   map[string]int // how often each body was checked
	hold      chan struct{}  // when set, each check waits for it
}

func (j *stamp) Prepare(ctx context.Context, vehicle string, kind wire.Kind, body []byte) (
	func(context.Context, *store.Tx) (store.Submission, bool, error), error) {

	j.mu.Lock()
	j.checked[string(body)]++
	poison, hold := j.poison, j.hold
	fail := j.unchecked > 0
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
		if poison != "" && string(body) == poison {
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
	db     *store.DB
	broker *broker.Broker
	judge  Judge
	stop   func()
	reg    *prometheus.Registry
	retry  time.Duration
	log    strings.Builder // to be read after stop
}

func newRig(t *testing.T, judge Judge) *rig {
	t.Helper()
	r := &rig{t: t, path: filepath.Join(t.TempDir(), "records.db"), judge: judge, retry: 20 * time.Millisecond}
	var err error
	if r.db, err = store.Open(t.Context(), store.Config{Path: r.path, BusyTimeout: 50 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.db.Close() })
	r.broker, err = broker.Start(t.Context(), broker.Config{
		Listen: "127.0.0.1:0", Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.broker.Close() })
	return r
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

func (r *rig) start() {
	r.t.Helper()
	r.reg = prometheus.NewRegistry()
	in, err := New(Config{
		DB: r.db, Conn: r.broker.Conn(), Judge: r.judge, Registerer: r.reg, Workers: 2, RetryDelay: r.retry,
		Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
		Queues: []Queue{{broker.StreamClaims, wire.KindClaim}, {broker.StreamReports, wire.KindReport}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
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

func newCar(t *testing.T, addr netip.AddrPort, id string) *car {
	t.Helper()
	c := &car{t: t, id: id, receipts: make(chan []byte, 4096)}
	c.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + addr.String()).SetClientID(id).SetCleanSession(true).SetOrderMatters(false))
	if tok := c.client.Connect(); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	t.Cleanup(func() { c.client.Disconnect(0) })
	topic := wire.Topic(id, wire.KindReceipt)
	tok := c.client.Subscribe(topic, 0, func(_ mqtt.Client, m mqtt.Message) { c.receipts <- m.Payload() })
	if !tok.WaitTimeout(10*time.Second) || tok.(*mqtt.SubscribeToken).Result()[topic] != 0 {
		t.Fatal("receipts not subscribed")
	}
	return c
}

func (c *car) publish(kind wire.Kind, body []byte) {
	c.t.Helper()
	if tok := c.client.Publish(wire.Topic(c.id, kind), 1, false, body); !tok.WaitTimeout(10*time.Second) || tok.Error() != nil {
		c.t.Fatal(tok.Error())
	}
}

func (c *car) receipt() []byte {
	c.t.Helper()
	select {
	case b := <-c.receipts:
		return b
	case <-time.After(20 * time.Second):
		c.t.Fatal("no receipt")
		return nil
	}
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 1000 {
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
		s, err := tx.RecentSubmissions(r.t.Context(), 10000)
		n = len(s)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func TestEveryMessageIsAnsweredOnceDecided(t *testing.T) {
	r := newRig(t, &stamp{checked: map[string]int{}}).vehicle()
	c := newCar(t, r.broker.Addr(), "V1")
	const n = 600 // more than two batches wait when the intake starts
	for i := range n {
		kind := wire.KindClaim
		if i%3 == 0 {
			kind = wire.KindReport
		}
		c.publish(kind, fmt.Appendf(nil, "%d", i))
	}
	r.start()
	got := make(map[string]int)
	for range n {
		got[string(c.receipt())]++
	}
	for i := range n {
		if k := fmt.Sprintf("receipt for %d", i); got[k] != 1 {
			t.Errorf("%d times %q", got[k], k)
		}
	}
	eventually(t, "queues empty", func() bool { return r.queued() == 0 })
	eventually(t, "receipts no longer pending", func() bool { return r.pending() == 0 })
	if k := r.kept(); k != n {
		t.Errorf("%d submissions kept, want %d", k, n)
	}
	want := `
# HELP rawstone_ingest_submissions_total Submissions decided, by kind, outcome (accepted, refused, repeated) and reason of refusal.
# TYPE rawstone_ingest_submissions_total counter
rawstone_ingest_submissions_total{kind="claim",outcome="accepted",reason=""} 400
rawstone_ingest_submissions_total{kind="report",outcome="accepted",reason=""} 200
`
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(want), "rawstone_ingest_submissions_total"); err != nil {
		t.Error(err)
	}
}

func TestRepeatedMessageGetsItsStoredReceipt(t *testing.T) {
	r := newRig(t, &stamp{checked: map[string]int{}}).vehicle()
	r.start()
	c := newCar(t, r.broker.Addr(), "V1")
	c.publish(wire.KindClaim, []byte("a"))
	first := string(c.receipt())
	c.publish(wire.KindClaim, []byte("a"))
	if again := string(c.receipt()); again != first {
		t.Errorf("got %q, want %q", again, first)
	}
	if k := r.kept(); k != 1 {
		t.Errorf("%d submissions kept, want 1", k)
	}
}

// TestCrashBetweenCommitAndReceipt leaves a committed submission whose receipt never went out and whose message was never
// acknowledged: the next start sends the receipt.
func TestCrashBetweenCommitAndReceipt(t *testing.T) {
	judge := &stamp{checked: map[string]int{}}
	r := newRig(t, judge).vehicle()
	for i := range 3 * MaxBatch { // several pages
		apply, err := judge.Prepare(t.Context(), "V1", wire.KindClaim, fmt.Appendf(nil, "%d", i))
		if err != nil {
			t.Fatal(err)
		}
		err = r.db.Update(t.Context(), func(tx *store.Tx) error {
			_, _, err := apply(t.Context(), tx)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	c := newCar(t, r.broker.Addr(), "V1")
	r.start()
	got := make(map[string]bool)
	for range 3 * MaxBatch {
		got[string(c.receipt())] = true
	}
	if len(got) != 3*MaxBatch {
		t.Errorf("%d different receipts, want %d", len(got), 3*MaxBatch)
	}
	eventually(t, "receipts no longer pending", func() bool { return r.pending() == 0 })
}

func TestBusyDatabaseLosesNothing(t *testing.T) {
	r := newRig(t, &stamp{checked: map[string]int{}}).vehicle()
	other, err := store.Open(t.Context(), store.Config{Path: r.path})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c := newCar(t, r.broker.Addr(), "V1")
	r.start()
	err = other.Update(t.Context(), func(*store.Tx) error {
		c.publish(wire.KindClaim, []byte("a"))
		c.publish(wire.KindClaim, []byte("b"))
		eventually(t, "a submission put back", func() bool {
			n, err := testutil.GatherAndCount(r.reg, "rawstone_ingest_retries_total")
			return err == nil && n > 0
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{string(c.receipt()): true, string(c.receipt()): true}
	if !got["receipt for a"] || !got["receipt for b"] {
		t.Errorf("receipts %v", got)
	}
	eventually(t, "queues empty", func() bool { return r.queued() == 0 })
}

func TestOneThatFailsDoesNotHoldUpTheOthers(t *testing.T) {
	judge := &stamp{checked: map[string]int{}, poison: "bad"}
	r := newRig(t, judge).vehicle()
	r.retry = time.Hour // nothing of the batch comes a second time
	c := newCar(t, r.broker.Addr(), "V1")
	for _, b := range []string{"a", "bad", "b"} {
		c.publish(wire.KindClaim, []byte(b))
	}
	r.start()
	got := map[string]bool{string(c.receipt()): true, string(c.receipt()): true}
	if !got["receipt for a"] || !got["receipt for b"] {
		t.Fatalf("receipts %v", got)
	}
	eventually(t, "only the one that fails queued", func() bool { return r.queued() == 1 })
}

func TestFailedCheckIsTriedAgain(t *testing.T) {
	r := newRig(t, &stamp{checked: map[string]int{}, unchecked: 2}).vehicle()
	c := newCar(t, r.broker.Addr(), "V1")
	c.publish(wire.KindClaim, []byte("a"))
	r.start()
	if b := string(c.receipt()); b != "receipt for a" {
		t.Errorf("got %q", b)
	}
	eventually(t, "queue empty", func() bool { return r.queued() == 0 })
}

func TestShutdownFinishesTheBatchInHand(t *testing.T) {
	judge := &stamp{checked: map[string]int{}, hold: make(chan struct{})}
	r := newRig(t, judge).vehicle()
	c := newCar(t, r.broker.Addr(), "V1")
	c.publish(wire.KindClaim, []byte("a"))
	r.start()
	eventually(t, "check begun", func() bool {
		judge.mu.Lock()
		defer judge.mu.Unlock()
		return judge.checked["a"] == 1
	})
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Fatal("stopped with a batch in hand")
	case <-time.After(100 * time.Millisecond):
	}
	close(judge.hold)
	<-stopped
	if b := string(c.receipt()); b != "receipt for a" {
		t.Errorf("got %q", b)
	}
	if k, p := r.kept(), r.pending(); k != 1 || p != 0 {
		t.Errorf("%d kept, %d pending, want 1, 0", k, p)
	}
	eventually(t, "queue empty", func() bool { return r.queued() == 0 })
}

func TestRunFailsWithoutItsQueues(t *testing.T) {
	r := newRig(t, &stamp{checked: map[string]int{}})
	in, err := New(Config{
		DB: r.db, Conn: r.broker.Conn(), Judge: r.judge, Registerer: prometheus.NewRegistry(),
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Queues: []Queue{{"NONE", wire.KindClaim}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "NONE") {
		t.Errorf("got %v", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}
