package ingest

import (
	"context"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"rawstone/collector/internal/deadletter"
	"rawstone/collector/internal/ingest/internal/fault"
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

	dead   deadletter.Reason // of one that can be no submission
	reason deadletter.Reason // of a failure that is its own, as far as one can tell
	err    error             // what failed
}

// fail notes why an item is not decided. A failure of the database is not its own.
func (it *item) fail(reason deadletter.Reason, err error) {
	it.err = err
	if !fault.Systemic(err) {
		it.reason = reason
	}
}

// handle takes a checked batch from its decision to acknowledgement. It finishes when ctx ends, but makes no dead letters from then on.
func (w *worker) handle(ctx context.Context, items []*item) {
	finish := context.WithoutCancel(ctx)
	before := w.decided
	w.decide(finish, items)

	var answers []store.Submission
	open := 0
	for _, it := range items {
		if it.decided {
			answers = append(answers, it.sub)
		}
		if it.dead == "" {
			open++
		}
	}
	if len(answers) > 0 {
		w.published = append(w.published, w.publish(finish, answers)...)
	}
	whole := open > 1 && len(answers) == 0 // whatever failed, failed for all
	letters, cancel := context.WithTimeout(ctx, letterWait)
	defer cancel()
	var t tally
	for _, it := range items {
		switch {
		case it.decided: // A lost acknowledgement brings the message back, and it gets its stored answer.
			w.account(it, &t)
			w.failed.forget(it)
			_ = it.msg.Ack()
		case it.dead != "":
			w.bury(letters, it, it.dead)
		default:
			if whole {
				it.reason = ""
			}
			w.retry(letters, it, before)
		}
	}
	w.say(t)
}

// decide decides all checked items in one transaction or, when the decision about one of them fails, each in its own, so that one that
// cannot be decided does not hold up the others. When the database itself fails they all go back to the queue: to try each would
// be to wait for the database as often. The same transaction takes off the marks of the receipts that were published.
func (w *worker) decide(ctx context.Context, items []*item) {
	if !slices.ContainsFunc(items, func(it *item) bool { return it.apply != nil }) {
		return
	}
	undecided, err := w.write(ctx, items...)
	switch {
	case err == nil:
		return
	case !undecided:
		w.cfg.Logger.Warn("batch not written: its submissions are tried again", "error", err)
		return
	}
	w.cfg.Logger.Warn("batch not decided: its submissions are tried one by one", "error", err)
	for _, it := range items {
		if it.apply == nil {
			continue
		}
		undecided, err := w.write(ctx, it)
		switch {
		case err == nil:
		case !undecided:
			w.cfg.Logger.Warn("rest of batch not written: its submissions are tried again", "error", err)
			return
		default:
			w.cfg.Logger.Warn("submission not decided: it is tried again", "error", err)
			it.fail(deadletter.Undecided, err)
		}
	}
}

// write decides the items that were checked, in one transaction. When it fails, undecided says that an item's decision did and not the
// database.
func (w *worker) write(ctx context.Context, items ...*item) (undecided bool, err error) {
	err = w.cfg.DB.Update(ctx, func(tx *store.Tx) error {
		undecided = false // PostgreSQL may have it run again
		if err := tx.SetPublished(ctx, w.published); err != nil {
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
	if err != nil {
		return undecided, err
	}
	w.published = nil
	for _, it := range items {
		it.decided = it.apply != nil
		if it.decided && !it.repeated { // a repeated one has changed nothing, and says nothing of the database
			w.decided++
		}
	}
	return false, nil
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
		if s.Serial != nil {
			serials = append(serials, *s.Serial)
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

// account counts a decision.
func (w *worker) account(it *item, t *tally) {
	s, kind := it.sub, string(w.queue.Kind)
	outcome := "accepted"
	switch {
	case it.repeated:
		outcome = "repeated"
		t.repeated++
	case !s.Accepted:
		outcome = "refused"
		t.refused++
		t.reason = s.Reason
	default:
		t.accepted++
		t.km += uint64(s.Km)
	}
	w.metrics.submissions.WithLabelValues(kind, outcome, string(s.Reason)).Inc()
	if s.Serial == nil {
		w.metrics.unkept.WithLabelValues(kind).Inc()
	}
}

// A tally is what became of a batch. It has one line in the log: a line for each submission would be most of a busy collector's.
type tally struct {
	accepted, refused, repeated int
	km                          uint64
	reason                      wire.Reason // of the last refusal
}

func (w *worker) say(t tally) {
	if t == (tally{}) {
		return
	}
	attrs := []any{"kind", w.queue.Kind, "accepted", t.accepted, "refused", t.refused, "repeated", t.repeated}
	if w.queue.Kind == wire.KindClaim {
		attrs = append(attrs, "km", t.km)
	}
	if t.reason != "" {
		attrs = append(attrs, "last_reason", t.reason)
	}
	w.cfg.Logger.Info("submissions decided", attrs...)
}
