package ingest

import (
	"context"
	"fmt"
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
	letterWait = 5 * time.Second
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

// strike notes that a message failed, and returns what is known of it. It counts against the message when another one has been decided
// since it last failed, or since before at the first time: when none is, it is the database that fails, or the disk below it.
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

// sift sets aside what can be no submission, whatever the database says, and returns the others.
func (in *Intake) sift(ctx context.Context, q Queue, msgs []jetstream.Msg) (rest []*item) {
	for _, m := range msgs {
		it := &item{msg: m}
		var err error
		it.vehicle, _, err = wire.ParseSubject(m.Subject())
		switch {
		case len(m.Data()) > in.cfg.MaxMessage:
			in.bury(ctx, q, it, deadletter.TooLarge, nil)
		case err != nil:
			in.bury(ctx, q, it, deadletter.NoVehicle, err)
		default:
			rest = append(rest, it)
		}
	}
	return rest
}

// bury makes a dead letter of a message and takes it out of the queue once that is kept; until then it stays. It reports whether it is.
func (in *Intake) bury(ctx context.Context, q Queue, it *item, reason deadletter.Reason, why error) bool {
	meta, err := it.msg.Metadata()
	if err == nil {
		l := deadletter.Letter{
			Reason: reason, Subject: it.msg.Subject(), Queued: meta.Timestamp, Deliveries: meta.NumDelivered, Body: it.msg.Data(),
		}
		if why != nil {
			l.Detail = why.Error()
		}
		wait, cancel := context.WithTimeout(ctx, letterWait)
		defer cancel()
		err = in.letters.Put(wait, fmt.Sprintf("%s:%d:%d", q.Stream, meta.Sequence.Stream, meta.Timestamp.UnixNano()), l)
	}
	if err != nil {
		in.cfg.Logger.Warn("message not set aside: it is tried again", "error", err)
		in.metrics.retries.WithLabelValues(string(q.Kind)).Inc()
		_ = it.msg.NakWithDelay(in.delay(maxDelays))
		return false
	}
	in.metrics.dead.WithLabelValues(string(reason)).Inc()
	in.cfg.Logger.Warn("message set aside: `collector dead-letter list` shows it", "kind", q.Kind, "reason", reason)
	_ = it.msg.Ack() // when it is lost, the letter is there twice
	return true
}

// retry puts a message back that is not decided, or sets it aside when it has failed too often. before is how many others had been
// decided before its batch.
func (in *Intake) retry(ctx context.Context, q Queue, f failures, it *item, before int64) {
	attempts := 1
	if it.reason != "" {
		meta, err := it.msg.Metadata()
		if err == nil {
			s := f.strike(meta.Sequence.Stream, before, in.decided.Load())
			if s.strikes >= maxStrikes && in.bury(ctx, q, it, it.reason, it.err) {
				delete(f, meta.Sequence.Stream)
				return
			} else if s.strikes >= maxStrikes {
				return // put back
			}
			attempts = s.attempts
		}
	}
	in.metrics.retries.WithLabelValues(string(q.Kind)).Inc()
	_ = it.msg.NakWithDelay(in.delay(attempts))
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
