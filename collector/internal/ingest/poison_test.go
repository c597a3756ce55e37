package ingest

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/broker"
	"rawstone/collector/internal/deadletter"
	"rawstone/collector/internal/ingest/internal/fault"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

func (r *rig) letters() []deadletter.Letter {
	r.t.Helper()
	box, err := deadletter.Open(r.broker.Conn())
	if err != nil {
		r.t.Fatal(err)
	}
	all, err := box.List(r.t.Context(), 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// TestPoisonGoesToTheDeadLetters: one that fails while others are decided, again and again, is set aside, and comes back when it is replayed.
func TestPoisonGoesToTheDeadLetters(t *testing.T) {
	for reason, judge := range map[deadletter.Reason]*stamp{
		deadletter.Undecided: {checked: map[string]int{}, poison: "bad"},
		deadletter.Unchecked: {checked: map[string]int{}, unread: "bad"},
	} {
		t.Run(string(reason), func(t *testing.T) {
			r := newRig(t, judge).vehicle()
			r.retry = time.Millisecond
			c := newCar(t, r, "V1")
			r.start()
			c.publish(wire.KindClaim, []byte("bad"))
			good := 0
			for ; len(r.letters()) == 0; good++ {
				c.publish(wire.KindClaim, fmt.Appendf(nil, "%d", good))
				c.receipt()
			}
			eventually(t, "queues empty", func() bool { return r.queued() == 0 })
			l := r.letters()[0]
			if l.Reason != reason || l.Subject != wire.Subject("V1", wire.KindClaim) || string(l.Body) != "bad" || !l.Whole() ||
				l.Deliveries < maxStrikes || l.Detail == "" || l.Time.IsZero() || l.Queued.IsZero() || l.Time.Before(l.Queued) {
				t.Errorf("letter %+v", l)
			}
			if good < maxStrikes {
				t.Errorf("set aside after %d others were decided, want at least %d", good, maxStrikes)
			}
			if n := r.counted("rawstone_ingest_dead_letters_total"); n != 1 {
				t.Errorf("%v counted", n)
			}
			judge.mu.Lock()
			judge.poison, judge.unread = "", ""
			judge.mu.Unlock()
			box, err := deadletter.Open(r.broker.Conn())
			if err != nil {
				t.Fatal(err)
			}
			if err := box.Replay(t.Context(), l.Seq); err != nil {
				t.Fatal(err)
			}
			if b := string(c.receipt()); b != "receipt for bad" {
				t.Errorf("got %q", b)
			}
			if n := len(r.letters()); n != 0 {
				t.Errorf("%d letters stay", n)
			}
			r.stop()
			if s := r.log.String(); strings.Contains(s, "V1") {
				t.Errorf("the log names a vehicle: %s", s)
			}
		})
	}
}

// TestNothingIsPoisonWhileNothingIsDecided: every decision fails, more often than any single one may.
func TestNothingIsPoisonWhileNothingIsDecided(t *testing.T) {
	judge := &stamp{checked: map[string]int{}, poison: "a"}
	r := newRig(t, judge).vehicle()
	r.retry = time.Microsecond
	c := newCar(t, r, "V1")
	// What was decided before does not count, nor does what is answered again.
	r.start()
	for range 3 {
		c.publish(wire.KindClaim, []byte("old"))
		c.receipt()
	}
	c.publish(wire.KindClaim, []byte("a"))
	for n := 1; r.counted("rawstone_ingest_retries_total") < 3*maxStrikes; n++ {
		c.publish(wire.KindClaim, []byte("old"))
		c.receipt()
	}
	if l := r.letters(); len(l) != 0 {
		t.Fatalf("%d dead letters while the database failed", len(l))
	}
	judge.mu.Lock()
	judge.poison = ""
	judge.mu.Unlock()
	if b := string(c.receipt()); b != "receipt for a" {
		t.Errorf("got %q", b)
	}
}

// TestSuccessOfAnotherQueueIsNoStrike: reports that are decided say nothing of what claims need.
func TestSuccessOfAnotherQueueIsNoStrike(t *testing.T) {
	judge := &stamp{checked: map[string]int{}, poison: "a"}
	r := newRig(t, judge).vehicle()
	r.retry = time.Microsecond
	c := newCar(t, r, "V1")
	r.start()
	c.publish(wire.KindClaim, []byte("a"))
	for n := 0; r.counted("rawstone_ingest_retries_total") < 3*maxStrikes; n++ {
		c.publish(wire.KindReport, fmt.Appendf(nil, "%d", n))
		c.receipt()
	}
	if l := r.letters(); len(l) != 0 {
		t.Fatalf("%d dead letters although no other claim was decided", len(l))
	}
}

// TestWhatHitsAWholeBatchIsNoStrike: the judge can check nothing of one batch after another, and the others are decided in between.
func TestWhatHitsAWholeBatchIsNoStrike(t *testing.T) {
	judge := &stamp{checked: map[string]int{}}
	in := &Intake{cfg: Config{Judge: judge, MaxMessage: 100, RetryDelay: time.Second, Logger: slog.New(slog.DiscardHandler)}}
	var err error
	if in.metrics, err = newMetrics(prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, judge).vehicle()
	in.cfg.DB, in.cfg.Conn = r.db, r.broker.Conn()
	w := &worker{Intake: in, queue: Queue{broker.StreamClaims, wire.KindClaim}, failed: make(failures)}
	round := func(fail int, bodies ...string) {
		var msgs []jetstream.Msg
		for i, b := range bodies {
			msgs = append(msgs, &message{seq: uint64(i) + 1, body: []byte(b)})
		}
		judge.unchecked = fail
		w.handle(t.Context(), w.check(t.Context(), msgs))
	}
	for i := range 3 * maxStrikes {
		round(2, "a", "b")
		round(0, fmt.Sprint(i))
	}
	for _, f := range w.failed {
		if f.strikes != 0 {
			t.Errorf("%+v, want no strikes: whatever failed, failed for all", f)
		}
	}
	before := w.decided
	round(1, "a", "c", "d")
	if f := w.failed[1]; f.strikes != 1 || w.decided != before+2 {
		t.Errorf("%+v after a failure beside %d successes, want a strike", f, w.decided-before)
	}
}

// A message is one of a queue, without the queue.
type message struct {
	jetstream.Msg
	seq  uint64
	body []byte
}

func (m *message) Subject() string                  { return wire.Subject("V1", wire.KindClaim) }
func (m *message) Data() []byte                     { return m.body }
func (m *message) Ack() error                       { return nil }
func (m *message) NakWithDelay(time.Duration) error { return nil }
func (m *message) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{Sequence: jetstream.SequencePair{Stream: m.seq}}, nil
}

// TestErrorsOfTheDatabaseAreNoStrikes tells a database's trouble from a submission's.
func TestErrorsOfTheDatabaseAreNoStrikes(t *testing.T) {
	for err, want := range map[error]bool{
		errors.New("poison"):                                                    false,
		fmt.Errorf("x: %w", context.DeadlineExceeded):                           true,
		fmt.Errorf("x: %w", driver.ErrBadConn):                                  true,
		fmt.Errorf("x: %w", &net.OpError{Op: "read", Err: errors.New("reset")}): true,
		fmt.Errorf("x: %w", &pgconn.PgError{Code: "23505"}):                     false,
		&pgconn.PgError{Code: "22003"}:                                          false,
		&pgconn.PgError{Code: "P0001"}:                                          false,
		&pgconn.PgError{Code: "57014"}:                                          true, // cancelled by a timeout
		&pgconn.PgError{Code: "25P02"}:                                          true, // in a transaction that has failed
		&pgconn.PgError{Code: "53100"}:                                          true, // disk full
		&pgconn.PgError{}:                                                       true,
	} {
		if got := fault.Systemic(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "x.db")+"?_pragma=max_page_count(16)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TABLE t (a BLOB, n INTEGER PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	if _, err = db.Exec(`INSERT INTO t VALUES (zeroblob(1000000), 1)`); err == nil || !fault.Systemic(fmt.Errorf("x: %w", err)) {
		t.Errorf("a full disk counts as the submission's: %v", err)
	}
	for range 2 {
		_, err = db.Exec(`INSERT INTO t VALUES (NULL, 2)`)
	}
	if err == nil || fault.Systemic(err) {
		t.Errorf("a broken constraint counts as the database's: %v", err)
	}
}

// TestDeadLettersHaveOneDeadline: 256 messages that can be no submissions, and a box that answers nobody; and none is tried once the
// intake is to stop.
func TestDeadLettersHaveOneDeadline(t *testing.T) {
	judge := &stamp{checked: map[string]int{}}
	r := newRig(t, judge)
	js, err := jetstream.New(r.broker.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), deadletter.Stream); err != nil {
		t.Fatal(err)
	}
	silent, err := r.broker.Conn().Subscribe("rawstone.dead.>", func(*nats.Msg) {}) // takes letters and does not answer
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Unsubscribe()
	for range MaxBatch {
		if _, err := js.PublishAsync("rawstone.v1.lower.claim", []byte("lost")); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	r.start()
	// Each alone would take as long as all may take together: far longer than anything waits here.
	eventually(t, "the batch is put back", func() bool { return r.counted("rawstone_ingest_retries_total") >= MaxBatch })
	r.stop()
}

func TestNoLettersAfterTheEnd(t *testing.T) {
	judge := &stamp{checked: map[string]int{}}
	r := newRig(t, judge)
	in := r.intake()
	w := &worker{Intake: in, queue: in.cfg.Queues[0], failed: make(failures)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	silent, err := r.broker.Conn().SubscribeSync("rawstone.dead.>")
	if err != nil {
		t.Fatal(err)
	}
	var items []*item
	for i := range MaxBatch {
		items = append(items, &item{msg: &message{seq: uint64(i)}, dead: deadletter.TooLarge})
	}
	w.handle(ctx, items)
	if err := r.broker.Conn().Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := silent.Pending(); n != 0 || err != nil {
		t.Errorf("%d letters after the end, %v", n, err)
	}
	if n := r.counted("rawstone_ingest_retries_total"); n != MaxBatch {
		t.Errorf("%v put back, want all", n)
	}
}

func TestWhatCanBeNoSubmissionIsSetAsideAtOnce(t *testing.T) {
	judge := &stamp{checked: map[string]int{}}
	r := newRig(t, judge).vehicle()
	r.retry = time.Hour
	c := newCar(t, r, "V1")
	large := bytes.Repeat([]byte("x"), broker.MaxMessage+1)
	c.publish(wire.KindClaim, large)
	c.publish(wire.KindClaim, large[:broker.MaxMessage])
	js, err := jetstream.New(r.broker.Conn())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "rawstone.v1.lower.claim", []byte("lost")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all in the queue", func() bool { return r.queued() == 3 })
	r.start()
	if b := c.receipt(); len(b) != len("receipt for ")+broker.MaxMessage {
		t.Errorf("a receipt of %d bytes", len(b))
	}
	eventually(t, "queues empty", func() bool { return r.queued() == 0 })
	l := r.letters()
	if len(l) != 2 || l[0].Reason != deadletter.TooLarge || l[0].Length != len(large) || !bytes.Equal(l[0].Body, large[:deadletter.MaxBody]) ||
		l[1].Reason != deadletter.NoVehicle || l[1].Subject != "rawstone.v1.lower.claim" || l[1].Deliveries != 1 {
		t.Errorf("letters %+v", l)
	}
	if judge.checked["lost"] != 0 || judge.checked[string(large)] != 0 {
		t.Error("the judge was asked")
	}
}

// TestBatchesAreBoundedInBytes: the longest messages that the queues take, more than two batches of them.
func TestBatchesAreBoundedInBytes(t *testing.T) {
	const bound = MaxBatch * broker.MaxMessage
	for _, size := range []int{1, broker.MaxMessage, broker.MaxPayload - 1024} {
		r := newRig(t, &stamp{})
		js, err := jetstream.New(r.broker.Conn())
		if err != nil {
			t.Fatal(err)
		}
		body := make([]byte, size)
		for range 600 {
			if _, err := js.PublishAsync(wire.Subject("V1", wire.KindClaim), body); err != nil {
				t.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
		in := &Intake{cfg: Config{MaxMessage: broker.MaxMessage, MaxPayload: broker.MaxPayload}}
		consumer, err := js.CreateConsumer(t.Context(), broker.StreamClaims, jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy, Durable: "c"})
		if err != nil {
			t.Fatal(err)
		}
		sum, batches := 0, 0
		for sum < 600 {
			batch, err := in.waiting(t.Context(), consumer, func() { t.Error("idle") })
			if err != nil || len(batch) == 0 {
				t.Fatalf("%d messages, %v", len(batch), err)
			}
			if len(batch) > MaxBatch || len(batch)*size > bound {
				t.Errorf("a batch of %d messages of %d bytes", len(batch), size)
			}
			sum, batches = sum+len(batch), batches+1
		}
		if batches > 600*size/(bound*8/10)+3 {
			t.Errorf("%d batches of messages of %d bytes", batches, size)
		}
	}
}

func TestStrikes(t *testing.T) {
	f := make(failures)
	for i, c := range []struct {
		before, decided int64
		attempts        int
		strikes         int
	}{
		{5, 5, 1, 0}, {5, 5, 2, 0}, {5, 6, 3, 1}, {6, 6, 4, 1}, {9, 9, 5, 2}, {9, 10, 6, 3},
	} {
		if s := f.strike(1, c.before, c.decided); s.attempts != c.attempts || s.strikes != c.strikes {
			t.Errorf("failure %d: %+v, want %+v", i, s, c)
		}
	}
	if s := f.strike(2, 3, 4); s.strikes != 1 {
		t.Errorf("a first failure beside a success: %+v", s)
	}
	for i := range uint64(3 * maxFailing) {
		f.strike(i, 0, 0)
	}
	if len(f) > maxFailing {
		t.Errorf("%d remembered", len(f))
	}
	in := &Intake{cfg: Config{RetryDelay: time.Second}}
	if in.delay(1) != time.Second || in.delay(3) != 4*time.Second || in.delay(1000) != 64*time.Second {
		t.Errorf("delays %v, %v, %v", in.delay(1), in.delay(3), in.delay(1000))
	}
}

// TestIdleIntakeDeletesOldRefusals: answered ones of more than 90 days ago, a bounded number at a time; nothing else.
func TestIdleIntakeDeletesOldRefusals(t *testing.T) {
	r := newRig(t, &stamp{checked: map[string]int{}}).vehicle()
	r.today.Store(200)
	const n = 2*maxDelete + 10
	add := func(day uint32, accepted bool, count int) {
		err := r.db.Update(t.Context(), func(tx *store.Tx) error {
			for i := range count {
				s := store.Submission{
					ID: wire.ID(fmt.Appendf(nil, "%d %v %d", day, accepted, i)), Vehicle: "V1", Kind: wire.KindClaim, Accepted: accepted, Day: day, Receipt: []byte("r"),
				}
				if !accepted {
					s.Reason = wire.ReasonMalformed
				}
				if err := tx.AddSubmission(t.Context(), &s); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	add(109, false, n)
	add(110, false, 3) // 90 days ago
	add(109, true, 2)
	kept := func(day uint32, accepted bool, i int) bool {
		err := r.db.View(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Submission(t.Context(), wire.ID(fmt.Appendf(nil, "%d %v %d", day, accepted, i)), "V1", wire.KindClaim)
			return err
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	// A pending receipt keeps its submission.
	err := r.db.View(t.Context(), func(tx *store.Tx) error {
		if n, err := tx.Unearned(t.Context(), "V1", 109); err != nil || n != 2*maxDelete+10 {
			return fmt.Errorf("%d unearned, %w", n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.db.Update(t.Context(), func(tx *store.Tx) error {
		gone, err := tx.DeleteRefusals(t.Context(), 110, maxDelete)
		if gone != 0 {
			err = errors.Join(err, fmt.Errorf("%d pending ones deleted", gone))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r.start() // publishes the receipts first
	eventually(t, "old refusals deleted", func() bool { return r.counted("rawstone_ingest_refusals_deleted_total") == n })
	r.stop()
	for i := range n {
		if kept(109, false, i) {
			t.Fatalf("refusal %d is there", i)
		}
	}
	for i := range 3 {
		if !kept(110, false, i) || i < 2 && !kept(109, true, i) {
			t.Errorf("%d is gone", i)
		}
	}
}
