// Package ingest takes submissions from the queues, has them judged, writes the decisions down and answers with receipts.
//
// It works in batches of what is waiting, at most 256: all are checked together, decided in one transaction in the order of their
// arrival, answered after its commit, and only then acknowledged to the queue. While one batch of a queue is decided, the next is
// fetched and checked; batches are decided in the order in which they were fetched. A message is therefore decided at least once and,
// because a repeated one gets its stored answer, at most once. The transaction marks each receipt as pending; the mark is taken
// off after the receipt was handed to the broker, so that a crash in between sends it again at the next start.
//
// Several processes may work on the same queues and records: each message is given to one of them at a time. One that starts also sends the
// receipts that another one has just decided and not yet marked; a receipt that comes twice does no harm.
//
// A database that fails delays a message and never loses it. A message that fails again and again while others of its queue are decided
// becomes a dead letter, and so do at once one that is too long and one on a subject that no vehicle has: none of them holds the queue
// up. While nothing else of its queue is decided, no failure counts, nor does one that lies in the database or hits a whole batch.
// Dead letters have one deadline for a batch, and none is made once Run is to end: what is not set aside stays in the queue.
//
// What waits is fetched within bounds of number and of bytes. The package decides nothing itself, keeps no state between batches but the
// marks that it still has to take off and the failures that it has seen, and refuses no message for its contents: that is the judge's.
// While nothing waits it deletes old refusals.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"rawstone/collector/internal/deadletter"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

const (
	// MaxBatch bounds the submissions of one transaction.
	MaxBatch = 256

	// maxPiece bounds the messages of one request, of which each may be of MaxPayload, so that bytes can be counted in between.
	maxPiece = 32

	maxAckPending     = 4 * MaxBatch
	consumerName      = "ingest"
	ackWait           = 30 * time.Second
	idleWait          = 2 * time.Second
	flushWait         = 5 * time.Second
	defaultRetryDelay = time.Second

	// refusalDays is how many program days a refusal is kept, and maxDelete how many are deleted at once.
	refusalDays = 90
	maxDelete   = 256
)

// A Submission is what came on a topic. It is an alias, as Prepared is, so that a judge need not know this package.
type Submission = struct {
	// Vehicle is the one that the topic names; empty when it names none.
	Vehicle string
	Body    []byte
}

// Prepared is what a judge made of a submission.
type Prepared = struct {
	// Apply decides it in a transaction: the submission with its signed receipt (none when nobody can be answered) and whether it was
	// decided before. An error is no decision.
	Apply func(context.Context, *store.Tx) (s store.Submission, repeated bool, err error)
	// Err says why it could not be checked; there is no Apply then.
	Err error
}

// A Judge decides about submissions.
type Judge interface {
	// Prepare checks submissions of one kind together, at most MaxBatch, and returns one answer for each, in their order. It is called
	// from several goroutines; what it returns from one call is applied by one of them.
	Prepare(ctx context.Context, kind wire.Kind, subs []Submission) []Prepared
}

// A Queue is a JetStream work queue and what is in it.
type Queue struct {
	Stream string
	// Kind is wire.KindClaim or wire.KindReport.
	Kind wire.Kind
}

// Config says what to work on; fields without a default are required.
type Config struct {
	DB *store.DB
	// Conn reaches the queues and may publish receipts; its owner closes it after Run has returned.
	Conn   *nats.Conn
	Queues []Queue
	Judge  Judge
	Logger *slog.Logger
	// Registerer takes the package's metrics.
	Registerer prometheus.Registerer
	// MaxMessage bounds a submission in bytes, at most deadletter.MaxBody, and MaxPayload what the queues hold: at least as much. A batch
	// holds at most MaxBatch × MaxMessage bytes, and two of each queue are in hand. Required.
	MaxMessage, MaxPayload int
	// Today returns the program day. Required.
	Today func() uint32
	// RetryDelay is how long a submission rests after the database failed, and at first after it failed itself; 1 s when zero.
	RetryDelay time.Duration
}

// An Intake works on the queues.
type Intake struct {
	cfg     Config
	js      jetstream.JetStream
	letters *deadletter.Box
	metrics metrics
}

// New returns an intake that does nothing before Run.
func New(cfg Config) (*Intake, error) {
	if cfg.DB == nil || cfg.Conn == nil || len(cfg.Queues) == 0 || cfg.Judge == nil || cfg.Logger == nil || cfg.Registerer == nil {
		return nil, errors.New("cannot make intake: database, connection, queues, judge, logger or metrics registry missing")
	}
	if cfg.Today == nil || cfg.RetryDelay < 0 || cfg.MaxMessage <= 0 || cfg.MaxMessage > deadletter.MaxBody ||
		cfg.MaxPayload < cfg.MaxMessage || cfg.MaxPayload > MaxBatch*cfg.MaxMessage {
		return nil, errors.New("cannot make intake: no clock given, or the retry delay or a bound of messages is out of range")
	}
	if cfg.RetryDelay == 0 {
		cfg.RetryDelay = defaultRetryDelay
	}
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("cannot make intake: %w", err)
	}
	letters, err := deadletter.Open(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("cannot make intake: %w", err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("cannot make intake: %w", err)
	}
	return &Intake{cfg: cfg, js: js, letters: letters, metrics: m}, nil
}

// Run publishes the receipts that an earlier run left pending, then works on the queues until ctx ends. It finishes the batch in hand
// before it returns. It returns nil when ctx ended, and an error when a queue is missing or the connection is closed.
func (in *Intake) Run(ctx context.Context) error {
	if err := in.publishPending(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for i, q := range in.cfg.Queues {
		w := &worker{Intake: in, queue: q, failed: make(failures), sweeps: i == 0}
		g.Go(func() error { return w.run(ctx) })
	}
	err := g.Wait()
	// Acknowledgements are on their way; the owner may close the connection next.
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWait)
	defer cancel()
	if e := in.cfg.Conn.FlushWithContext(flush); e != nil && err == nil {
		in.cfg.Logger.Warn("acknowledgements may be lost: their submissions come again", "error", e)
	}
	return err
}

// publishPending publishes all receipts that are marked as pending, and that other processes have not marked meanwhile: it ends with the
// first page that is not full, so that it does not run after those who decide.
func (in *Intake) publishPending(ctx context.Context) error {
	for after := int64(0); ; {
		var page []store.Submission
		err := in.cfg.DB.View(ctx, func(tx *store.Tx) (err error) {
			page, err = tx.Pending(ctx, after, MaxBatch)
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot publish pending receipts: %w", err)
		}
		if len(page) == 0 {
			return nil
		}
		after = *page[len(page)-1].Serial
		if err := in.clear(ctx, in.publish(ctx, page)); err != nil {
			return fmt.Errorf("cannot publish pending receipts: %w", err)
		}
		if len(page) < MaxBatch {
			return nil
		}
	}
}

// waiting returns the messages that are there, at most MaxBatch and at most MaxBatch × MaxMessage bytes of them: each request asks for no
// more messages than find room at their longest. When there are none it calls idle, then waits for one.
func (in *Intake) waiting(ctx context.Context, consumer jetstream.Consumer, idle func()) (batch []jetstream.Msg, err error) {
	room := MaxBatch * in.cfg.MaxMessage
	for {
		want := min(maxPiece, MaxBatch-len(batch), room/in.cfg.MaxPayload)
		if want == 0 {
			return batch, nil
		}
		now, err := collect(consumer.FetchNoWait(want))
		batch = append(batch, now...)
		for _, m := range now {
			room -= len(m.Data())
		}
		if len(now) == want {
			continue
		}
		if len(batch) > 0 { // an error comes again
			return batch, nil
		}
		if err != nil {
			return nil, err
		}
		break
	}
	idle()
	ctx, cancel := context.WithTimeout(ctx, idleWait)
	defer cancel()
	batch, err = collect(consumer.Fetch(1, jetstream.FetchContext(ctx)))
	if ctx.Err() != nil {
		err = nil
	}
	return batch, err
}

func collect(b jetstream.MessageBatch, err error) (msgs []jetstream.Msg, _ error) {
	if err != nil {
		return nil, err
	}
	for m := range b.Messages() {
		msgs = append(msgs, m)
	}
	return msgs, b.Error()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
