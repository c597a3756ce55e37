package ingest

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rawstone/collector/internal/deadletter"
	"rawstone/pkg/wire"
)

const (
	// maxStrikes is how often a message may fail although others succeed.
	maxStrikes = 5
	maxDelays  = 6 // how often the delay doubles
	// maxFailing bounds the messages that are remembered to have failed: as many as the queue hands out at once.
	maxFailing = maxAckPending
	letterWait = 5 * time.Second // for all of a batch
)

// A failure is what is known of a message that could not be decided.
type failure struct {
	attempts int   // all of them
	strikes  int   // those between which another message was decided
	decided  int64 // how many had been when it last failed
}

// failures are the messages of a queue that could not be decided, by their number in the stream. They are forgotten at a restart: then a
// message fails some times more.
type failures map[uint64]failure

// strike notes that a message failed, and returns what is known of it. It counts against the message when another one of
// the queue has been decided since it last failed, or since before at the first time: when none is, it is the database that fails, or
// the disk below it.
func (f failures) strike(seq uint64, before, decided int64) failure {
	s, known := f[seq]
	if !known {
		s.decided = before
		if len(f) >= maxFailing { // of messages that another process has decided since
			clear(f)
		}
	}
	s.attempts++
	if decided > s.decided {
		s.strikes++
	}
	s.decided = decided
	f[seq] = s
	return s
}

// delay is how long a message rests that has failed so often.
func (in *Intake) delay(attempts int) time.Duration {
	return in.cfg.RetryDelay << min(max(attempts-1, 0), maxDelays)
}

// sift says whether a message can be a submission.
func (w *worker) sift(m jetstream.Msg) *item {
	it := &item{msg: m}
	it.vehicle, _, it.err = wire.ParseSubject(m.Subject())
	switch {
	case len(m.Data()) > w.cfg.MaxMessage:
		it.dead = deadletter.TooLarge
	case it.err != nil:
		it.dead = deadletter.NoVehicle
	}
	return it
}

// bury makes a dead letter of a message and takes it out of the queue once that is kept; until then it stays. It reports whether it is.
func (w *worker) bury(ctx context.Context, it *item, reason deadletter.Reason) bool {
	meta, err := it.msg.Metadata()
	if err == nil {
		l := deadletter.Letter{
			Reason: reason, Subject: it.msg.Subject(), Queued: meta.Timestamp, Deliveries: meta.NumDelivered, Body: it.msg.Data(),
		}
		if it.err != nil {
			l.Detail = it.err.Error()
		}
		err = w.letters.Put(ctx, l)
	}
	if err != nil {
		w.cfg.Logger.Warn("message not set aside: it is tried again", "error", err)
		w.metrics.retries.WithLabelValues(string(w.queue.Kind)).Inc()
		_ = it.msg.NakWithDelay(w.delay(maxDelays))
		return false
	}
	w.metrics.dead.WithLabelValues(string(reason)).Inc()
	w.cfg.Logger.Warn("message set aside: `collector dead-letter list` shows it", "kind", w.queue.Kind, "reason", reason)
	_ = it.msg.Ack() // when it is lost, the message comes again to the letter that there is
	return true
}

// retry puts a message back that is not decided, or sets it aside when it has failed too often by itself. before is how many others of
// the queue had been decided before its batch.
func (w *worker) retry(ctx context.Context, it *item, before int64) {
	attempts := 1
	if it.reason != "" {
		meta, err := it.msg.Metadata()
		if err == nil {
			s := w.failed.strike(meta.Sequence.Stream, before, w.decided)
			if s.strikes >= maxStrikes {
				if w.bury(ctx, it, it.reason) {
					delete(w.failed, meta.Sequence.Stream)
				}
				return // put back otherwise
			}
			attempts = s.attempts
		}
	}
	w.metrics.retries.WithLabelValues(string(w.queue.Kind)).Inc()
	_ = it.msg.NakWithDelay(w.delay(attempts))
}

// forget takes a decided message off the failures.
func (f failures) forget(it *item) {
	if len(f) == 0 {
		return
	}
	if meta, err := it.msg.Metadata(); err == nil {
		delete(f, meta.Sequence.Stream)
	}
}
