// Package ingest takes submissions from the queues, has them judged, writes the decisions down and answers with receipts.
//
// It works in batches of what is waiting, at most 256: all are checked together, decided in one transaction in the order of their
// arrival, answered after its commit, and only then acknowledged to the queue. A message is therefore decided at least once and,
// because a repeated one gets its stored answer, at most once. The transaction marks each receipt as pending; the mark is taken
// off after the receipt was handed to the broker, so that a crash in between sends it again at the next start.
//
// A database that fails delays a message and never loses it. The package decides nothing itself, keeps no state between batches
// but the marks that it still has to take off, and refuses no message for its contents: that is the judge's.
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

	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

const (
	// MaxBatch bounds the submissions of one transaction.
	MaxBatch = 256

	consumerName      = "ingest"
	ackWait           = 30 * time.Second
	idleWait          = 2 * time.Second
	flushWait         = 5 * time.Second
	defaultRetryDelay = time.Second
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
	// RetryDelay is how long a submission rests after the database failed; 1 s when zero.
	RetryDelay time.Duration
}

// An Intake works on the queues.
type Intake struct {
	cfg     Config
	js      jetstream.JetStream
	metrics metrics
}

// New returns an intake that does nothing before Run.
func New(cfg Config) (*Intake, error) {
	if cfg.DB == nil || cfg.Conn == nil || len(cfg.Queues) == 0 || cfg.Judge == nil || cfg.Logger == nil || cfg.Registerer == nil {
		return nil, errors.New("cannot make intake: database, connection, queues, judge, logger or metrics registry missing")
	}
	if cfg.RetryDelay < 0 {
		return nil, errors.New("cannot make intake: retry delay is negative")
	}
	if cfg.RetryDelay == 0 {
		cfg.RetryDelay = defaultRetryDelay
	}
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("cannot make intake: %w", err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, fmt.Errorf("cannot make intake: %w", err)
	}
	return &Intake{cfg: cfg, js: js, metrics: m}, nil
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
	for _, q := range in.cfg.Queues {
		g.Go(func() error { return in.work(ctx, q) })
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

// publishPending publishes all receipts that are marked as pending.
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
		after = page[len(page)-1].Serial
		if err := in.clear(ctx, in.publish(ctx, page)); err != nil {
			return fmt.Errorf("cannot publish pending receipts: %w", err)
		}
	}
}

// work works on one queue.
func (in *Intake) work(ctx context.Context, q Queue) error {
	consumer, err := in.js.CreateOrUpdateConsumer(ctx, q.Stream, jetstream.ConsumerConfig{
		Durable:       consumerName,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxAckPending: 4 * MaxBatch,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("cannot work on queue %s: %w", q.Stream, err)
	}
	// What was begun is finished when ctx ends: the database bounds how long that takes.
	finish := context.WithoutCancel(ctx)
	var published []int64 // receipts handed to the broker and still marked as pending
	for ctx.Err() == nil {
		batch, err := waiting(ctx, consumer, func() {
			if in.clear(finish, published) == nil {
				published = nil
			}
		})
		if in.cfg.Conn.IsClosed() {
			return fmt.Errorf("cannot work on queue %s: %w", q.Stream, nats.ErrConnectionClosed)
		}
		if err != nil && ctx.Err() == nil {
			in.cfg.Logger.Warn("queue not readable", "queue", q.Stream, "error", err)
			pause(ctx, in.cfg.RetryDelay)
		}
		if len(batch) > 0 {
			published = in.handle(finish, q, batch, published)
		}
	}
	// A failure leaves marks, and so receipts that are sent twice.
	if err := in.clear(finish, published); err != nil {
		in.cfg.Logger.Warn("receipts not marked as published", "error", err)
	}
	return nil
}

// waiting returns the messages that are there, at most MaxBatch. When there are none it calls idle, then waits for one.
func waiting(ctx context.Context, consumer jetstream.Consumer, idle func()) ([]jetstream.Msg, error) {
	now, err := consumer.FetchNoWait(MaxBatch)
	batch, err := collect(now, err)
	if len(batch) > 0 || err != nil {
		return batch, err
	}
	idle()
	ctx, cancel := context.WithTimeout(ctx, idleWait)
	defer cancel()
	next, err := consumer.Fetch(1, jetstream.FetchContext(ctx))
	batch, err = collect(next, err)
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
