package ingest

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"rawstone/collector/internal/deadletter"
	"rawstone/collector/internal/store"
)

// A worker works on one queue. Its fields but the first two are of the goroutine that decides.
type worker struct {
	*Intake
	queue Queue

	failed    failures
	decided   int64   // how many submissions were, by this worker
	published []int64 // receipts handed to the broker and still marked as pending
	sweeps    bool    // deletes old refusals while it is idle
	swept     uint32  // the last program day whose sweeping was finished
}

// run checks and decides until ctx ends. One batch is decided while the next is checked.
func (w *worker) run(ctx context.Context) error {
	consumer, err := w.js.CreateOrUpdateConsumer(ctx, w.queue.Stream, jetstream.ConsumerConfig{
		Durable:       consumerName,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       ackWait,
		MaxAckPending: maxAckPending,
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("cannot work on queue %s: %w", w.queue.Stream, err)
	}
	checked := make(chan []*item)
	var g errgroup.Group
	g.Go(func() error {
		defer close(checked)
		return w.fetch(ctx, consumer, checked)
	})
	g.Go(func() error {
		w.settle(ctx, checked)
		return nil
	})
	return g.Wait()
}

// fetch hands on checked batches, and nil while nothing waits, until ctx ends. A batch that it has fetched it hands on.
func (w *worker) fetch(ctx context.Context, consumer jetstream.Consumer, checked chan<- []*item) error {
	for ctx.Err() == nil {
		batch, err := w.waiting(ctx, consumer, func() {
			select {
			case checked <- nil:
			default: // a batch is being decided
			}
		})
		if w.cfg.Conn.IsClosed() {
			return fmt.Errorf("cannot work on queue %s: %w", w.queue.Stream, nats.ErrConnectionClosed)
		}
		if err != nil && ctx.Err() == nil {
			w.cfg.Logger.Warn("queue not readable", "queue", w.queue.Stream, "error", err)
			pause(ctx, w.cfg.RetryDelay)
		}
		if len(batch) > 0 {
			checked <- w.check(context.WithoutCancel(ctx), batch)
		}
	}
	return nil
}

// settle decides what was checked until there is no more. What was begun is finished when ctx ends: the database bounds how long that takes.
func (w *worker) settle(ctx context.Context, checked <-chan []*item) {
	finish := context.WithoutCancel(ctx)
	for items := range checked {
		if len(items) > 0 {
			w.handle(ctx, items)
			continue
		}
		if w.clear(finish, w.published) == nil {
			w.published = nil
		}
		w.sweep(finish)
	}
	// A failure leaves marks, and so receipts that are sent twice.
	if err := w.clear(finish, w.published); err != nil {
		w.cfg.Logger.Warn("receipts not marked as published", "error", err)
	}
}

// sweep deletes some of the refusals that are old, once a program day until none is left.
func (w *worker) sweep(ctx context.Context) {
	today := w.cfg.Today()
	if !w.sweeps || today == w.swept || today <= refusalDays {
		return
	}
	var n int64
	err := w.cfg.DB.Update(ctx, func(tx *store.Tx) (err error) {
		n, err = tx.DeleteRefusals(ctx, today-refusalDays, maxDelete)
		return err
	})
	if err != nil {
		w.cfg.Logger.Warn("old refusals not deleted: they are tried again", "error", err)
		return
	}
	w.metrics.deleted.Add(float64(n))
	if n < maxDelete {
		w.swept = today
	}
}

// check has the messages checked that can be submissions.
func (w *worker) check(ctx context.Context, msgs []jetstream.Msg) []*item {
	kind := w.queue.Kind
	w.metrics.batch.WithLabelValues(string(kind)).Observe(float64(len(msgs)))
	items := make([]*item, len(msgs))
	var open []*item
	var subs []Submission
	for i, m := range msgs {
		items[i] = w.sift(m)
		if items[i].dead == "" {
			open, subs = append(open, items[i]), append(subs, Submission{Vehicle: items[i].vehicle, Body: m.Data()})
		}
	}
	if len(open) == 0 {
		return items
	}
	began := time.Now()
	prepared := w.cfg.Judge.Prepare(ctx, kind, subs)
	w.metrics.check.WithLabelValues(string(kind)).Observe(time.Since(began).Seconds())
	failed := 0
	for i, p := range prepared {
		open[i].apply = p.Apply
		if p.Err != nil {
			open[i].fail(deadletter.Unchecked, p.Err)
			if failed++; failed == 1 {
				w.cfg.Logger.Warn("submission not checked: it is tried again", "error", p.Err)
			}
		}
	}
	if failed > 1 {
		w.cfg.Logger.Warn("more submissions of the batch not checked: they are tried again", "submissions", failed-1)
	}
	return items
}
