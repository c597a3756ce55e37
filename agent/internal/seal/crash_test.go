package seal

import (
	"context"
	"crypto"
	"io"
	"time"

	"rawstone/agent/internal/journal"
	"rawstone/agent/internal/spool"
	"rawstone/pkg/claim"
	"rawstone/pkg/wire"
)

// crash panics at the nth durable step outside the sealer's own store, before or after it.
type crash struct{ at, count int }

type powerCut struct{}

func (c *crash) point() {
	if c.count++; c.count == c.at {
		panic(powerCut{})
	}
}

type crashSpool struct {
	*spool.Spool
	c *crash
}

func (s crashSpool) Put(kind wire.Kind, b []byte, created, due time.Time) (wire.Hash, []wire.Hash, error) {
	s.c.point()
	defer s.c.point()
	return s.Spool.Put(kind, b, created, due)
}

func (s crashSpool) Postpone(kind wire.Kind, except wire.Hash, due time.Time) error {
	s.c.point()
	defer s.c.point()
	return s.Spool.Postpone(kind, except, due)
}

func (s crashSpool) Free(id wire.Hash) error {
	s.c.point()
	defer s.c.point()
	return s.Spool.Free(id)
}

type crashJournal struct {
	*journal.Journal
	c *crash
}

func (j crashJournal) Begin(id wire.Hash, at time.Time, kind wire.Kind, size int, contents, cost string) error {
	j.c.point()
	defer j.c.point()
	return j.Journal.Begin(id, at, kind, size, contents, cost)
}

func (j crashJournal) End(id wire.Hash, at time.Time, outcome string) error {
	j.c.point()
	defer j.c.point()
	return j.Journal.End(id, at, outcome)
}

type crashProver struct {
	Prover
	c *crash
}

func (p crashProver) Prove(s claim.Statement, from, to wire.Opening) (wire.Proof, error) {
	defer p.c.point()
	return p.Prover.Prove(s, from, to)
}

// crashSigner has its points between charge and budget store.
type crashSigner struct {
	crypto.Signer
	c *crash
}

func (k crashSigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.c.point()
	return k.Signer.Sign(r, digest, opts)
}

type crashUsage struct {
	*usage
	c *crash
}

// Take has a point before the charge, and consume points between budget store, consumption and journal.
func (u crashUsage) Take(ctx context.Context) ([wire.VectorLen]int64, func(context.Context) error, error) {
	u.c.point()
	v, consume, err := u.usage.Take(ctx)
	return v, func(ctx context.Context) error {
		u.c.point()
		defer u.c.point()
		return consume(ctx)
	}, err
}
