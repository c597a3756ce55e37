package ingest

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rawstone/collector/internal/deadletter"
	"rawstone/collector/internal/store"
	"rawstone/pkg/wire"
)

// An item is one message on its way through a batch.
type item struct {
	msg     jetstream.Msg
	vehicle string
	apply   func(context.Context, *store.Tx) (store.Submission, bool, error)

	decided  bool // and committed
	sub      store.Submission
	repeated bool

	reason deadletter.Reason // of a failure of its own, not the database's; and what failed
	err    error
}

// handle takes a batch from check to acknowledgement. It takes off the marks of the receipts in published and returns those whose
// marks are still to be taken off.
func (in *Intake) handle(ctx context.Context, q Queue, msgs []jetstream.Msg, f failures, published []int64) []int64 {
	in.metrics.batch.WithLabelValues(string(q.Kind)).Observe(float64(len(msgs)))
	items := in.sift(ctx, q, msgs)
	if len(items) == 0 {
		return published
	}
	before := in.decided.Load()
	in.check(ctx, q, items)
	published = in.decide(ctx, items, published)

	var answers []store.Submission
	for _, it := range items {
		if it.decided {
			answers = append(answers, it.sub)
		}
	}
	published = append(published, in.publish(ctx, answers)...)
	for _, it := range items {
		// A lost acknowledgement brings the message back, and it gets its stored answer.
		if it.decided {
			in.account(q, it)
			f.forget(it)
			_ = it.msg.Ack()
		} else {
			in.retry(ctx, q, f, it, before)
		}
	}
	return published
}

// check has all messages checked.
func (in *Intake) check(ctx context.Context, q Queue, items []*item) {
	subs := make([]Submission, len(items))
	for i, it := range items {
		subs[i] = Submission{Vehicle: it.vehicle, Body: it.msg.Data()}
	}
	began := time.Now()
	prepared := in.cfg.Judge.Prepare(ctx, q.Kind, subs)
	in.metrics.check.WithLabelValues(string(q.Kind)).Observe(time.Since(began).Seconds())
	for i, p := range prepared {
		if p.Err != nil {
			in.cfg.Logger.Warn("submission not checked: it is tried again", "error", p.Err)
			items[i].reason, items[i].err = deadletter.Unchecked, p.Err
			continue
		}
		items[i].apply = p.Apply
	}
}

// decide decides all checked items in one transaction or, when the decision about one of them fails, each in its own, so that one that
// cannot be decided does not hold up the others. When the database itself fails they all go back to the queue: to try each would
// be to wait for the database as often.
func (in *Intake) decide(ctx context.Context, items []*item, published []int64) []int64 {
	undecided, err := in.write(ctx, published, items...)
	switch {
	case err == nil:
		return nil
	case !undecided:
		in.cfg.Logger.Warn("batch not written: its submissions are tried again", "error", err)
		return published
	}
	in.cfg.Logger.Warn("batch not decided: its submissions are tried one by one", "error", err)
	for _, it := range items {
		undecided, err := in.write(ctx, published, it)
		switch {
		case err == nil:
			published = nil
		case !undecided:
			in.cfg.Logger.Warn("rest of batch not written: its submissions are tried again", "error", err)
			return published
		default:
			in.cfg.Logger.Warn("submission not decided: it is tried again", "error", err)
			it.reason, it.err = deadletter.Undecided, err
		}
	}
	return published
}

// write takes off the marks of the receipts in published and decides the items, in one transaction. When it fails, undecided says
// that an item's decision did and not the database.
func (in *Intake) write(ctx context.Context, published []int64, items ...*item) (undecided bool, err error) {
	err = in.cfg.DB.Update(ctx, func(tx *store.Tx) error {
		if err := tx.SetPublished(ctx, published); err != nil {
			return err
		}
		for _, it := range items {
			if it.apply == nil {
				continue
			}
			var err error
			if it.sub, it.repeated, err = it.apply(ctx, tx); err != nil {
				undecided = true
				return err
			}
		}
		err := tx.Flush(ctx)
		undecided = err != nil
		return err
	})
	if err == nil {
		in.mark(items...)
	}
	return undecided, err
}

// mark notes what was committed. A repeated submission has changed nothing, and says nothing of the database.
func (in *Intake) mark(items ...*item) {
	for _, it := range items {
		it.decided = it.apply != nil
		if it.decided && !it.repeated {
			in.decided.Add(1)
		}
	}
}

// publish hands the receipts to the broker and returns the serials of those that are kept.
func (in *Intake) publish(ctx context.Context, answers []store.Submission) (serials []int64) {
	for _, s := range answers {
		if s.Receipt == nil {
			continue
		}
		if err := in.cfg.Conn.Publish(wire.Subject(s.Vehicle, wire.KindReceipt), s.Receipt); err != nil {
			in.cfg.Logger.Warn("receipt not published: it is tried again at the next start", "error", err)
			continue
		}
		in.metrics.receipts.Inc()
		if s.Serial != 0 {
			serials = append(serials, s.Serial)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, flushWait)
	defer cancel()
	if err := in.cfg.Conn.FlushWithContext(ctx); err != nil {
		in.cfg.Logger.Warn("receipts may not be published: they are tried again at the next start", "error", err)
		return nil
	}
	return serials
}

// clear takes off the marks of receipts that were published.
func (in *Intake) clear(ctx context.Context, serials []int64) error {
	if len(serials) == 0 {
		return nil
	}
	return in.cfg.DB.Update(ctx, func(tx *store.Tx) error { return tx.SetPublished(ctx, serials) })
}

// account counts and logs a decision.
func (in *Intake) account(q Queue, it *item) {
	s := it.sub
	outcome := "accepted"
	switch {
	case it.repeated:
		outcome = "repeated"
	case !s.Accepted:
		outcome = "refused"
	}
	in.metrics.submissions.WithLabelValues(string(q.Kind), outcome, string(s.Reason)).Inc()
	if s.Serial == 0 {
		in.metrics.unkept.WithLabelValues(string(q.Kind)).Inc()
	}
	switch {
	case it.repeated:
	case q.Kind == wire.KindClaim && s.Accepted:
		in.cfg.Logger.Info("claim accepted", "km", s.Km)
	case q.Kind == wire.KindClaim:
		in.cfg.Logger.Info("claim refused", "reason", s.Reason)
	case s.Accepted:
		in.cfg.Logger.Info("report accepted")
	default:
		in.cfg.Logger.Info("report refused", "reason", s.Reason)
	}
}
