// Package feed is how a collector's settler and the program's validators talk: HTTPS with mutual TLS 1.3 under the collector's internal
// authority. A validator serves; the settler sends it the entries of the ledger with what is behind them and asks for proofs and
// cosignatures, and anybody with a certificate may show it a checkpoint of the ledger or a receipt.
//
//	GET  /v1/next        the number of the entry that the validator wants next
//	POST /v1/follow      a disclosure.Batch, at most 4 MiB
//	POST /v1/erase       the numbers of entries whose account a person had erased: the validator destroys what it holds of it
//	POST /v1/prove       an audit.Due; the answer is a ledger.Proof
//	POST /v1/cosign      type and payload of an entry; the answer is a ledger.Cosignature
//	GET  /v1/checkpoint  the newest checkpoint of the ledger that the validator knows, and its own
//	POST /v1/checkpoint  a checkpoint of the ledger that somebody was shown; the answer is the validator's cosignature of it, if it gives one
//	POST /v1/receipt     a signed receipt whose credits the ledger lacks
//
// The first five are for processes with the role settle alone: entries come with secrets, and who follows whom is final. A refusal is
// answered with 422 and one sentence, which the other end passes on. The package decides nothing, and its bounds are those of its messages.
package feed

import (
	"context"

	"rawstone/collector/internal/disclosure"
	"rawstone/pkg/audit"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
)

const (
	maxPayload    = ledger.MaxBodyLen + 64
	maxDraft      = maxPayload + disclosure.MaxLeaves*40
	maxSmall      = 4 << 10
	maxErasure    = 2 << 20
	maxAnswer     = 16 << 10
	maxRefusal    = 4 << 10
	contentType   = "application/cbor"
	pathNext      = "/v1/next"
	pathFollow    = "/v1/follow"
	pathErase     = "/v1/erase"
	pathProve     = "/v1/prove"
	pathCosign    = "/v1/cosign"
	pathSeen      = "/v1/checkpoint"
	pathComplaint = "/v1/receipt"
)

// A Validator is served.
type Validator interface {
	// Next returns the number of the entry that it wants next.
	Next(ctx context.Context) (uint64, error)
	// Follow checks and keeps entries, in order.
	Follow(ctx context.Context, entries ...disclosure.Entry) error
	// Erase destroys what is behind entries whose numbers ascend, and all of which a person had erased.
	Erase(ctx context.Context, numbers []uint64) error
	// Prove returns its proof for the seed that is due.
	Prove(ctx context.Context, due audit.Due) (ledger.Proof, error)
	// Told takes what the tree of a day holds of erased accounts, before Cosign is asked for that day's leaves.
	Told(day uint32, leaves []reward.Leaf)
	// Cosign checks a payload as the next entry and signs it.
	Cosign(ctx context.Context, t ledger.Type, payload []byte) (ledger.Cosignature, error)
	// Gossip returns what it tells others.
	Gossip(ctx context.Context) (Gossip, error)
	// Seen takes in a checkpoint of the ledger that somebody was shown. It returns the line with which the validator cosigns it (C2SP
	// tlog-cosignature), or none.
	Seen(ctx context.Context, checkpoint []byte) (line []byte, err error)
	// Complain takes in a receipt whose credits its owner misses. Nil says that they are there.
	Complain(ctx context.Context, receipt []byte) error
}

// A Gossip is what validators tell each other: the newest checkpoint of the ledger, and the validator's own of its copy, signed with its
// key (C2SP tlog-checkpoint). Either may be empty.
type Gossip struct {
	Ledger string `cbor:"0,keyasint"`
	Own    string `cbor:"1,keyasint"`
}

// next, cosigned, erasure, due and draft are messages.
type (
	cosigned struct {
		Line []byte `cbor:"0,keyasint"`
	}
	erasure struct {
		Numbers []byte `cbor:"0,keyasint"` // 8 bytes each, big-endian
	}
	next struct {
		Next uint64 `cbor:"0,keyasint"`
	}
	due struct {
		Type ledger.Type `cbor:"0,keyasint"`
		Day  uint32      `cbor:"1,keyasint"`
		Drop uint64      `cbor:"2,keyasint"`
	}
	draft struct {
		Type    ledger.Type `cbor:"0,keyasint"`
		Payload []byte      `cbor:"1,keyasint"`
		// Leaves are those of erased accounts, as in a disclosure.Entry.
		Leaves []byte `cbor:"2,keyasint,omitempty"`
	}
)
