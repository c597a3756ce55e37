package ingest

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/collector/internal/broker"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

func TestEveryMessageIsAnsweredOnceDecided(t *testing.T) {
	r := newRig(t, &stamp{checked: map[string]int{}}).vehicle()
	c := newCar(t, r, "V1")
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
	c := newCar(t, r, "V1")
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
		apply, err := judge.prepare("V1", wire.KindClaim, fmt.Appendf(nil, "%d", i))
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
	c := newCar(t, r, "V1")
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

// TestBrokerDiesInATransaction: a full batch is committed while the broker dies, so that no receipt and no acknowledgement gets out. The next
// start sends all of them, and those of the messages that come again are the same.
func TestBrokerDiesInATransaction(t *testing.T) {
	judge := &stamp{checked: map[string]int{}}
	r := newRig(t, judge).vehicle()
	c := newCar(t, r, "V1")
	const n = MaxBatch
	for i := range n {
		c.publish(wire.KindClaim, fmt.Appendf(nil, "%d", i))
	}
	eventually(t, "all in the queue", func() bool { return r.queued() == n }) // and so in one batch
	dead := r.broker
	judge.inside = sync.OnceFunc(func() { dead.Close() })
	if err := r.intake().Run(t.Context()); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Fatalf("run: %v", err)
	}
	if k, p := r.kept(), r.pending(); k != n || p != n {
		t.Fatalf("%d kept, %d pending, want %d of each", k, p, n)
	}
	r.serve()
	if q := r.queued(); q != n {
		t.Errorf("%d queued, want %d", q, n)
	}
	c = newCar(t, r, "V1")
	r.start()
	got := make(map[string]bool)
	for len(got) < n {
		got[string(c.receipt())] = true
	}
	for i := range n {
		if !got[fmt.Sprintf("receipt for %d", i)] {
			t.Errorf("no receipt for %d", i)
		}
	}
	eventually(t, "receipts no longer pending", func() bool { return r.pending() == 0 })
	if k := r.kept(); k != n {
		t.Errorf("%d kept, want %d", k, n)
	}
}

func TestBusyDatabaseLosesNothing(t *testing.T) {
	r := newRig(t, &stamp{checked: map[string]int{}}).vehicle()
	other, err := store.Open(t.Context(), store.Config{Path: r.path, Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c := newCar(t, r, "V1")
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
	c := newCar(t, r, "V1")
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

// TestLockedDatabaseIsNotTriedOneByOne: one attempt, and the whole batch goes back, or a stop would wait for as many attempts as there
// are submissions.
func TestLockedDatabaseIsNotTriedOneByOne(t *testing.T) {
	r := newRig(t, &stamp{checked: map[string]int{}}).vehicle()
	r.retry = time.Hour // nothing of the batch comes a second time
	other, err := store.Open(t.Context(), store.Config{Path: r.path, Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c := newCar(t, r, "V1")
	const n = 50
	for i := range n {
		c.publish(wire.KindClaim, fmt.Appendf(nil, "%d", i))
	}
	eventually(t, "all in the queue", func() bool { return r.queued() == n }) // and so in one batch
	err = other.Update(t.Context(), func(*store.Tx) error {
		r.start()
		eventually(t, "batch put back", func() bool { return r.counted("rawstone_ingest_retries_total") == n })
		r.stop()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := r.log.String(); strings.Count(s, "not written") != 1 || strings.Contains(s, "one by one") {
		t.Errorf("the database was tried more than once for the batch:\n%s", s)
	}
	if k, q := r.kept(), r.queued(); k != 0 || q != n {
		t.Errorf("%d kept, %d queued, want 0, %d", k, q, n)
	}
}

// TestDatabaseThatFailsEndsOneByOne: the database goes away while the submissions of a batch are tried one by one.
func TestDatabaseThatFailsEndsOneByOne(t *testing.T) {
	judge := &stamp{checked: map[string]int{}, poison: "bad"}
	r := newRig(t, judge).vehicle()
	judge.poisoned = func() { r.db.Close() } // it lasts for the transaction under way
	r.retry = time.Hour
	c := newCar(t, r, "V1")
	const n = 50
	c.publish(wire.KindClaim, []byte("bad"))
	for i := range n - 1 {
		c.publish(wire.KindClaim, fmt.Appendf(nil, "%d", i))
	}
	eventually(t, "all in the queue", func() bool { return r.queued() == n }) // and so in one batch
	r.start()
	eventually(t, "batch put back", func() bool { return r.counted("rawstone_ingest_retries_total") == n })
	r.stop()
	if s := r.log.String(); strings.Count(s, "one by one") != 1 || strings.Count(s, "not written") != 1 {
		t.Errorf("the database was tried more than once after it had failed:\n%s", s)
	}
	if q := r.queued(); q != n {
		t.Errorf("%d queued, want %d", q, n)
	}
}

// TestNoReceiptBeforeTheCommit lets a commit fail after everything was decided in the transaction: whoever answers earlier has told a
// vehicle what is not written down.
func TestNoReceiptBeforeTheCommit(t *testing.T) {
	r := newRig(t, &stamp{checked: map[string]int{}}).vehicle()
	r.retry = 200 * time.Millisecond
	db, err := sql.Open("sqlite", "file:"+r.path+"?_pragma=busy_timeout(60000)") // the intake writes meanwhile
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	// A reference that points nowhere, checked at the commit.
	for _, s := range []string{
		`CREATE TABLE fault (id INTEGER REFERENCES fault_target (id) DEFERRABLE INITIALLY DEFERRED)`,
		`CREATE TABLE fault_target (id INTEGER PRIMARY KEY)`,
		`CREATE TRIGGER fail AFTER INSERT ON submissions BEGIN INSERT INTO fault VALUES (1); END`,
	} {
		if _, err := db.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	receipts, err := r.broker.Conn().SubscribeSync(wire.Subject("V1", wire.KindReceipt))
	if err != nil {
		t.Fatal(err)
	}
	c := newCar(t, r, "V1")
	for _, b := range []string{"a", "b", "c"} {
		c.publish(wire.KindClaim, []byte(b))
	}
	r.start()
	eventually(t, "commit failed", func() bool { return r.counted("rawstone_ingest_retries_total") >= 3 })
	if err := r.broker.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := receipts.Pending(); n != 0 || err != nil {
		t.Errorf("%d receipts published before a commit (%v)", n, err)
	}
	if n := r.counted("rawstone_ingest_receipts_total"); n != 0 {
		t.Errorf("%v receipts counted before a commit", n)
	}
	if k := r.kept(); k != 0 {
		t.Fatalf("%d kept, want none: the commit did not fail", k)
	}
	if _, err := db.Exec(`DROP TRIGGER fail`); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{string(c.receipt()): true, string(c.receipt()): true, string(c.receipt()): true}
	if len(got) != 3 {
		t.Errorf("receipts %v", got)
	}
	eventually(t, "queues empty", func() bool { return r.queued() == 0 })
	eventually(t, "receipts no longer pending", func() bool { return r.pending() == 0 })
}

func TestFailedCheckIsTriedAgain(t *testing.T) {
	r := newRig(t, &stamp{checked: map[string]int{}, unchecked: 2}).vehicle()
	c := newCar(t, r, "V1")
	c.publish(wire.KindClaim, []byte("a"))
	r.start()
	if b := string(c.receipt()); b != "receipt for a" {
		t.Errorf("got %q", b)
	}
	eventually(t, "queue empty", func() bool { return r.queued() == 0 })
}

// TestOneUncheckedDoesNotHoldUpTheOthers: the judge cannot read what it needs for one submission of a batch.
func TestOneUncheckedDoesNotHoldUpTheOthers(t *testing.T) {
	r := newRig(t, &stamp{checked: map[string]int{}, unread: "bad"}).vehicle()
	r.retry = time.Hour // nothing of the batch comes a second time
	c := newCar(t, r, "V1")
	for _, b := range []string{"a", "bad", "b"} {
		c.publish(wire.KindClaim, []byte(b))
	}
	eventually(t, "all in the queue", func() bool { return r.queued() == 3 }) // and so in one batch
	r.start()
	got := map[string]bool{string(c.receipt()): true, string(c.receipt()): true}
	if !got["receipt for a"] || !got["receipt for b"] {
		t.Fatalf("receipts %v", got)
	}
	eventually(t, "only the unchecked one queued", func() bool { return r.queued() == 1 })
	eventually(t, "it is put back", func() bool { return r.counted("rawstone_ingest_retries_total") == 1 })
}

func TestShutdownFinishesTheBatchInHand(t *testing.T) {
	judge := &stamp{checked: map[string]int{}, hold: make(chan struct{})}
	r := newRig(t, judge).vehicle()
	c := newCar(t, r, "V1")
	c.publish(wire.KindClaim, []byte("a"))
	r.start()
	eventually(t, "check begun", func() bool {
		judge.mu.Lock()
		defer judge.mu.Unlock()
		return judge.checked["a"] == 1
	})
	stopped := make(chan struct{})
	go func() { r.stop(); close(stopped) }()
	<-r.ending // the batch is finished after this, and only then
	select {
	case <-stopped:
		t.Fatal("stopped with a batch in hand")
	default:
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
		MaxMessage: broker.MaxMessage, MaxPayload: broker.MaxPayload, Today: r.today.Load,
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
