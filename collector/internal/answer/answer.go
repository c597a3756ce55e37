// Package answer keeps, among the collector's records, what clients were answered to requests that they sent under a key of their own choice, so
// that a request which is sent again is answered again and not done again.
//
// An answer is kept in the transaction that did what it answers, and for 90 program days. What has become too old is dropped a few at a time, so
// that no transaction has much to drop; it may still be given until then. Of refusals, which cost a client nothing, only so many are kept
// for a client and a program day: what lies beyond is decided anew when it is sent again. The package knows no request and no clock.
// The table belongs to package store's schema.
package answer

import (
	"context"
	"errors"
	"fmt"

	"rawstone/collector/internal/database"
	"rawstone/collector/internal/firewall"
	"rawstone/pkg/wire"
)

type statement = firewall.Statement

// Statements returns all statements of the package.
func Statements() []firewall.Statement {
	return []firewall.Statement{findAnswer(), countRefusals(), addAnswer(), pruneAnswers()}
}

// ErrReused is for a client's key that came before with another request.
var ErrReused = errors.New("the key came before with another request")

// A Book is the answers within one transaction.
type Book struct{ tx *database.Tx }

// In returns the answers as a transaction sees them.
func In(tx *database.Tx) Book { return Book{tx} }

const (
	// Days is how many program days an answer is kept.
	Days = 90
	// MaxKeyLen bounds a client's name and its keys in bytes, MaxBodyLen an answer's body.
	MaxKeyLen  = 255
	MaxBodyLen = 64 << 10
	// RefusalsPerDay is how many refusals of a client and a program day are kept.
	RefusalsPerDay = 100
	// Bite is how many of the oldest answers are dropped with a new one at most.
	Bite = 64

	refusal = 400 // the least status that is one
)

// An Answer is what a client was answered.
type Answer struct {
	Status int
	Body   []byte
}

// Remember returns what a client was answered to the request that it sent under a key of its choice, nil when it has not used the key in the
// last Days. The hash is the request's: under another one it is ErrReused.
func (b Book) Remember(ctx context.Context, client, key string, request wire.Hash) (*Answer, error) {
	if len(client) > MaxKeyLen || len(key) > MaxKeyLen {
		return nil, fmt.Errorf("cannot read answer: client or key exceeds %d bytes", MaxKeyLen)
	}
	var a Answer
	var before wire.Hash
	err := b.tx.Get(ctx, findAnswer(), []any{client, key}, database.Fixed(before[:]), &a.Status, &a.Body)
	switch {
	case errors.Is(err, database.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case before != request:
		return nil, fmt.Errorf("cannot answer: %w", ErrReused)
	}
	return &a, nil
}

func findAnswer() statement {
	return statement{Name: "read answer", Roles: firewall.Account, SQL: `SELECT request_hash, status, body FROM idempotency WHERE client = $1 AND key = $2`}
}

// Answer keeps what a client is answered, in the transaction that did what it asked for, and drops up to Bite of what is older than Days. A refusal,
// of status 400 or more, is not kept when RefusalsPerDay are. today is the log's day.
func (b Book) Answer(ctx context.Context, client, key string, request wire.Hash, a Answer, today uint32) error {
	if client == "" || key == "" || len(client) > MaxKeyLen || len(key) > MaxKeyLen || len(a.Body) > MaxBodyLen {
		return fmt.Errorf("cannot keep answer: want client and key of 1 to %d bytes and a body of at most %d", MaxKeyLen, MaxBodyLen)
	}
	if a.Body == nil {
		a.Body = []byte{}
	}
	if _, err := b.tx.Exec(ctx, pruneAnswers(), int64(today)-Days); err != nil {
		return err
	}
	if a.Status >= refusal {
		var kept int64
		if err := b.tx.Get(ctx, countRefusals(), []any{client, int64(today)}, &kept); err != nil || kept >= RefusalsPerDay {
			return err
		}
	}
	return b.tx.ExecOne(ctx, addAnswer(), client, key, request[:], int64(a.Status), a.Body, int64(today))
}

func countRefusals() statement {
	return statement{Name: "count refusals of client", Roles: firewall.Account,
		SQL: `SELECT count(*) FROM idempotency WHERE client = $1 AND created_day = $2 AND status >= 400`}
}

func addAnswer() statement {
	return statement{Name: "add answer", Roles: firewall.Account,
		SQL: `INSERT INTO idempotency (client, key, request_hash, status, body, created_day) VALUES ($1, $2, $3, $4, $5, $6)`}
}

func pruneAnswers() statement {
	return statement{Name: "drop old answers", Roles: firewall.Account,
		SQL: `DELETE FROM idempotency WHERE (client, key) IN (SELECT client, key FROM idempotency WHERE created_day < $1 ORDER BY created_day LIMIT 64)`}
}
