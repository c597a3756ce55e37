// Package bulletin keeps the retained message on wire.PolicyTopic current: the notice of the newest block and of the charters, policies and
// changes of validators that it stands on, from the records.
//
// A notice goes out when the process starts, when a block covers such a document that the last one did not, and once a program day,
// so that vehicles can tell that nobody keeps newer ones from them. While a document waits for its block, what was published stays.
//
// The package opens each notice as a vehicle would before it publishes it, and refuses one that a vehicle would refuse. A failure is said
// once, counted and tried again, less and less often; it holds nothing else up.
//
// Several processes may publish for one cluster of brokers. Each then looks at what vehicles get before it publishes, and leaves a notice
// of a block as new or newer alone. Two that publish at one moment may leave the older of two notices there for that moment; vehicles that
// have the newer refuse it, and the process that published it puts it right at its next look.
package bulletin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
	"rawstone/pkg/notice"
	"rawstone/pkg/terms"
	"rawstone/pkg/wire"
)

const (
	defaultInterval = time.Second
	maxBackoff      = 5 * time.Minute
)

// A Publisher keeps a message for every vehicle that subscribes, in place of the one before it.
type Publisher interface {
	// Retain returns nil when vehicles get payload.
	Retain(ctx context.Context, payload []byte) error
}

// Config configures a Bulletin. All is required but Interval, Retained and Root.
type Config struct {
	Store     *store.DB
	Publisher Publisher
	// Retained returns what vehicles get now, nil when it is nothing; itself nil where nobody else publishes.
	Retained func(context.Context) ([]byte, error)
	// Root is the key of the program root, which signs changes of validators; while it is zero, nothing is published once one is logged.
	Root      wire.PublicKey
	Program   *terms.Program
	ProgramID wire.Hash
	// Today returns the program day.
	Today func() uint32
	// Interval is how often Run looks for news and the first pause after a failure, 1 s when zero.
	Interval   time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// A Bulletin publishes notices. Its methods are for one goroutine.
type Bulletin struct {
	c Config

	last edition // of what was published; that of day 0 without documents is not worth it

	drop      prometheus.Gauge
	count     prometheus.Counter
	failures  prometheus.Counter
	documents *prometheus.GaugeVec
}

// An edition is what a notice is published for.
type edition struct {
	day      uint32
	document uint64 // number of the last charter, policy or change of validators below the block, or 0: the first entry is neither
}

// New checks the configuration.
func New(c Config) (*Bulletin, error) {
	if c.Store == nil || c.Publisher == nil || c.Program == nil || c.Today == nil || c.Logger == nil || c.Registerer == nil || c.Interval < 0 {
		return nil, errors.New("cannot publish policies: records, publisher, program, clock, logger or metrics are missing, or the interval is negative")
	}
	c.Interval = cmp.Or(c.Interval, defaultInterval)
	b := &Bulletin{
		c: c,
		drop: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rawstone_bulletin_drop", Help: "Drop of the notice of policies that was published last.",
		}),
		count: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_bulletin_published_total", Help: "Notices of policies published.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "rawstone_bulletin_failures_total", Help: "Notices of policies that could not be made or published.",
		}),
		documents: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "rawstone_bulletin_documents", Help: "Charters, policies and changes of validators behind the notice that was published last: given in it, or left out.",
		}, []string{"how"}),
	}
	for _, m := range []prometheus.Collector{b.drop, b.count, b.failures, b.documents} {
		if err := c.Registerer.Register(m); err != nil {
			return nil, fmt.Errorf("cannot publish policies: %w", err)
		}
	}
	return b, nil
}

// Run publishes until ctx ends.
func (b *Bulletin) Run(ctx context.Context) {
	failed := 0
	for {
		pause := b.c.Interval
		switch _, err := b.Step(ctx); {
		case ctx.Err() != nil:
			return
		case err != nil:
			if failed++; failed == 1 {
				b.c.Logger.Error("policies are not published: what vehicles get is what was published before", "error", err)
			}
			pause = backoff(b.c.Interval, failed)
		case failed > 0:
			b.c.Logger.Info("policies are published again")
			failed = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// backoff doubles the pause with every failure. The broker is this process's own: there is nobody to spread over time.
func backoff(first time.Duration, failures int) time.Duration {
	pause := first
	for range failures - 1 {
		if pause *= 2; pause >= maxBackoff {
			return maxBackoff
		}
	}
	return pause
}

// Step publishes a notice if one is due, and reports whether it did.
func (b *Bulletin) Step(ctx context.Context) (bool, error) {
	published, err := b.step(ctx)
	if err != nil && ctx.Err() == nil {
		b.failures.Inc()
	}
	return published, err
}

func (b *Bulletin) step(ctx context.Context) (bool, error) {
	var body []byte
	var documents []ledger.Entry
	var now edition
	err := b.c.Store.View(ctx, func(tx *store.Tx) (err error) {
		number, due := uint64(0), false
		if body, number, now.day, err = newest(ctx, tx); err != nil || body == nil {
			return err
		}
		if now.document, due, err = covered(ctx, tx, number); err != nil || !due || b.last == now {
			body = nil
			return err
		}
		documents, err = logged(ctx, tx)
		return err
	})
	if err != nil || body == nil {
		return false, err
	}
	n, drop, err := b.make(body, documents)
	if err != nil {
		return false, err
	}
	if known, err := b.known(ctx, drop); err != nil || known {
		if known {
			b.last = now
		}
		return false, err
	}
	payload, err := n.Encode()
	if err != nil {
		return false, err
	}
	if err := b.c.Publisher.Retain(ctx, payload); err != nil {
		return false, err
	}
	b.last = now
	b.drop.Set(float64(drop))
	b.count.Inc()
	b.documents.WithLabelValues("given").Set(float64(len(n.Documents)))
	b.documents.WithLabelValues("left_out").Set(float64(len(documents) - len(n.Documents)))
	b.c.Logger.Info("policies published", "documents", len(n.Documents), "left_out", len(documents)-len(n.Documents), "bytes", len(payload))
	return true, nil
}

// make makes a notice and opens it.
func (b *Bulletin) make(block []byte, documents []ledger.Entry) (n *notice.Notice, drop uint64, err error) {
	bodies := make([][]byte, len(documents))
	for i, d := range documents {
		bodies[i] = d.Body
	}
	if n, err = notice.New(b.c.Root, b.c.Program, b.c.ProgramID, block, bodies, b.c.Today()); err != nil {
		return nil, 0, err
	}
	o, err := n.Open(b.c.Root, b.c.Program, b.c.ProgramID)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot publish policies that vehicles would refuse: %w", err)
	}
	return n, o.Drop, nil
}

// known reports whether vehicles get a notice already that is as new as a drop's. One that they would refuse is none.
func (b *Bulletin) known(ctx context.Context, drop uint64) (bool, error) {
	if b.c.Retained == nil {
		return false, nil
	}
	kept, err := b.c.Retained(ctx)
	if err != nil || len(kept) == 0 {
		return false, err
	}
	n, err := notice.Decode(kept)
	if err != nil {
		return false, nil
	}
	o, err := n.Open(b.c.Root, b.c.Program, b.c.ProgramID)
	return err == nil && o.Drop >= drop, nil
}

// newest returns the body, number and program day of the newest block's entry, no body when there is no block yet.
func newest(ctx context.Context, tx *store.Tx) (body []byte, number uint64, day uint32, err error) {
	blocks, err := tx.LastEntries(ctx, ledger.TypeBlock, 1)
	if err != nil || len(blocks) == 0 {
		return nil, 0, 0, err
	}
	sealed, err := blocks[0].Sealed()
	if err != nil {
		return nil, 0, 0, err
	}
	block, err := ledger.DecodeBlock(sealed.Payload)
	return blocks[0].Body, blocks[0].Number, block.Day, err
}

// covered returns the number of the last charter, policy or change of validators, and whether the entry of a number covers all of them.
func covered(ctx context.Context, tx *store.Tx, block uint64) (last uint64, all bool, err error) {
	for _, t := range chained() {
		list, err := tx.LastEntries(ctx, t, 1)
		if err != nil {
			return 0, false, err
		}
		for _, e := range list {
			last = max(last, e.Number)
		}
	}
	return last, last < block, nil
}

// logged returns all charters, policies and changes of validators that have a number, in the order of the log.
func logged(ctx context.Context, tx *store.Tx) (all []ledger.Entry, err error) {
	for _, t := range chained() {
		list, err := tx.LastEntries(ctx, t, math.MaxInt32)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b ledger.Entry) int { return cmp.Compare(a.Number, b.Number) })
	return all, nil
}

// chained returns the types of the documents that ledger.Block.Policies chains.
func chained() []ledger.Type {
	return []ledger.Type{ledger.TypeCharter, ledger.TypePolicy, ledger.TypeWitness}
}
