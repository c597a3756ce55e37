// Package queue is what lies between the collector's broker and those who work on what vehicles sent: the JetStream streams, how they are
// made, how a process without a broker reaches them, and what it may do there.
//
// CLAIMS and REPORTS are work queues on disk that keep a message until the intake has acknowledged it, within a bound of bytes: a full one
// refuses new messages and keeps old ones. Any number of processes fetch from them through one durable consumer each, which gives a message
// to one of them at a time and to another one when it is not acknowledged. The dead letters' stream is package deadletter's.
//
// The package holds no message and judges none.
package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"rawstone/collector/internal/deadletter"
	"rawstone/pkg/wire"
)

const (
	// Claims and Reports are the names of the work queues.
	Claims  = "CLAIMS"
	Reports = "REPORTS"
	// Consumer is the name of the durable consumer of each.
	Consumer = "ingest"

	dedupeWindow = 2 * time.Minute
	firstLook    = 50 * time.Millisecond
	lastLook     = 500 * time.Millisecond
	answerWait   = 4 * time.Second // what was asked before there was a leader is not answered
	sayAfter     = 5 * time.Second

	// noPeers is the server's error that it knows too few others for the replicas (JSClusterNoPeersErr).
	noPeers jetstream.ErrorCode = 10005
)

// Streams returns the work queues, each of at most limit bytes with messages of at most maxMessage, and the dead letters' stream.
func Streams(limit int64, maxMessage int) []jetstream.StreamConfig {
	streams := []jetstream.StreamConfig{deadletter.Config()}
	for _, q := range []struct {
		name string
		kind wire.Kind
	}{{Claims, wire.KindClaim}, {Reports, wire.KindReport}} {
		streams = append(streams, jetstream.StreamConfig{
			Name: q.name, Subjects: []string{wire.Subject("*", q.kind)}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
			MaxBytes: limit, MaxMsgSize: int32(maxMessage), Discard: jetstream.DiscardNew, Duplicates: dedupeWindow,
		})
	}
	return streams
}

// Make makes the streams, or changes those that are there. In a cluster each has as many replicas as given, and Make waits, saying so, until
// enough of its servers are there; otherwise it gives up after patience, as it does in both cases when ctx ends.
func Make(ctx context.Context, conn *nats.Conn, replicas int, patience time.Duration, logger *slog.Logger, streams []jetstream.StreamConfig) error {
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	if replicas <= 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, cfg := range streams {
		group.Go(func() error {
			cfg.Replicas = replicas
			err := insist(ctx, logger, "other brokers are not there yet: waiting for them", func(ctx context.Context) (bool, error) {
				s, err := js.Stream(ctx, cfg.Name)
				if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && !same(s.CachedInfo().Config, cfg) {
					s, err = js.CreateOrUpdateStream(ctx, cfg)
				}
				if err != nil {
					return passing(err, replicas > 1), err
				}
				return true, led(s.CachedInfo(), replicas)
			})
			if err != nil {
				return fmt.Errorf("cannot make queue %s: %w", cfg.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// same says whether a stream is as it is to be. A change that changes nothing costs a cluster as much as one that does.
func same(is, want jetstream.StreamConfig) bool {
	return is.MaxBytes == want.MaxBytes && (want.MaxMsgSize == 0 || is.MaxMsgSize == want.MaxMsgSize) && is.MaxAge == want.MaxAge &&
		is.Replicas == max(want.Replicas, 1) && is.Discard == want.Discard && is.DiscardNewPerSubject == want.DiscardNewPerSubject &&
		is.Retention == want.Retention && is.Storage == want.Storage && slices.Equal(is.Subjects, want.Subjects) &&
		(want.MaxMsgsPerSubject == 0 || is.MaxMsgsPerSubject == want.MaxMsgsPerSubject) && (want.Duplicates == 0 || is.Duplicates == want.Duplicates)
}

var errNoLeader = errors.New("its replicas have not agreed on a leader yet")

// led says whether a stream's replicas have a leader; one that is alone needs none.
func led(info *jetstream.StreamInfo, replicas int) error {
	if replicas > 1 && (info == nil || info.Cluster == nil || info.Cluster.Leader == "") {
		return errNoLeader
	}
	return nil
}

// passing says whether an error may go away by itself: the server is still starting, or others of its cluster are.
func passing(err error, clustered bool) bool {
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, nats.ErrNoResponders) {
		return true
	}
	if !clustered {
		return false
	}
	if errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrDisconnected) {
		return true
	}
	var api jetstream.JetStreamError
	return errors.As(err, &api) && api.APIError() != nil && (api.APIError().Code >= 500 || api.APIError().ErrorCode == noPeers)
}

// insist asks until there is no error or the error is not to pass; it says once that it waits, and for what.
func insist(ctx context.Context, logger *slog.Logger, sentence string, ask func(context.Context) (passes bool, err error)) error {
	began, said := time.Now(), false
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		once, cancel := context.WithTimeout(ctx, answerWait)
		passes, err := ask(once)
		cancel()
		if err == nil || !passes {
			return err
		}
		if !said && time.Since(began) > sayAfter {
			logger.Warn(sentence, "error", err)
			said = true
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
