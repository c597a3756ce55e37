// Package inclusion proves to vehicles, over HTTPS, that the credits of their receipts are in the log under a cosigned block (package
// inclusion of pkg has the messages).
//
// A vehicle shows its client certificate; the device key in it must be the registered one of a vehicle that is not revoked, as the records
// say at the moment of the request. It gets the proofs of its own submissions and of no others, and does not learn whether others exist.
// Requests are bounded in number: at most some are worked on at once.
//
// The package writes nothing and believes the records about what an entry hides, and the log's tiles about hashes: who gets an answer
// checks both against the block. What the records are ahead of the log is not there yet.
package inclusion

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"rawstone/collector/internal/opening"
	"rawstone/collector/internal/store"
	"rawstone/pkg/inclusion"
	"rawstone/pkg/ledger"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

const (
	atOnce   = 8 // requests that are worked on
	sayEvery = time.Minute
)

// Config says what to prove from; every field but Registerer is required.
type Config struct {
	// DB holds the records, opened for the role Ingest.
	DB *store.DB
	// LogDir is the log's directory, which this package only reads, and LogKey its verifier key as the program names it.
	LogDir, LogKey string
	// Drop is the time between two blocks: who comes too early is sent away for as long.
	Drop time.Duration
	// Now is the clock that spaces the log's messages.
	Now func() time.Time
	// Logger receives that records or log cannot be used.
	Logger *slog.Logger
	// Registerer takes the package's metrics; nil means none.
	Registerer prometheus.Registerer
}

// A Desk answers requests. It implements http.Handler for the paths below inclusion.Path.
type Desk struct {
	cfg      Config
	slots    chan struct{}
	requests *prometheus.CounterVec

	mu   sync.Mutex
	said time.Time
}

// New returns a desk.
func New(cfg Config) (*Desk, error) {
	if cfg.DB == nil || cfg.LogDir == "" || cfg.LogKey == "" || cfg.Drop <= 0 || cfg.Now == nil || cfg.Logger == nil {
		return nil, errors.New("cannot prove credits: no records, log, key of the log, time between drops, clock or logger given")
	}
	d := &Desk{
		cfg: cfg, slots: make(chan struct{}, atOnce),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rawstone_inclusion_requests_total", Help: "Requests for proofs of inclusion, by outcome.",
		}, []string{"outcome"}),
	}
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(d.requests); err != nil {
			return nil, fmt.Errorf("cannot prove credits: %w", err)
		}
	}
	return d, nil
}

// A refusal is a reason as an error.
type refusal inclusion.Reason

func (r refusal) Error() string { return string(r) }

// admit says whether a device key speaks for a vehicle; its error is a refusal, or that of the records.
func (d *Desk) admit(ctx context.Context, vehicle string, key wire.PublicKey) error {
	registered, ok, err := d.cfg.DB.Device(ctx, vehicle)
	if err == nil && (!ok || registered != key) {
		return refusal(inclusion.ReasonCertificate)
	}
	return err
}

// prove returns the answer about a submission of a vehicle; its error is a refusal, or that of records or log.
func (d *Desk) prove(ctx context.Context, vehicle string, submission wire.Hash) ([]byte, error) {
	var credits []opening.LoggedCredit
	var blocks []ledger.Entry
	err := d.cfg.DB.View(ctx, func(tx *store.Tx) error {
		body, err := claimOf(ctx, tx, vehicle, submission)
		if errors.Is(err, store.ErrNotFound) {
			return refusal(inclusion.ReasonUnknown)
		} else if err != nil {
			return err
		}
		c, err := wire.DecodeClaim(body)
		if err != nil {
			return err
		}
		if credits, err = tx.LoggedCredits(ctx, vehicle, c.ECU, c.To.Seq); err != nil {
			return err
		}
		blocks, err = tx.LastEntries(ctx, ledger.TypeBlock, 2)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(credits) == 0 {
		return nil, refusal(inclusion.ReasonUnknown)
	}
	log, err := tlog.OpenReader(d.cfg.LogDir, d.cfg.LogKey)
	if err != nil {
		return nil, err
	}
	return answer(log, credits, blocks)
}

// claimOf returns the bytes of the claim that earned what a submission's receipt names.
func claimOf(ctx context.Context, tx *store.Tx, vehicle string, submission wire.Hash) ([]byte, error) {
	body, err := tx.Claim(ctx, submission, vehicle)
	if !errors.Is(err, store.ErrNotFound) {
		return body, err
	}
	s, err := tx.Submission(ctx, submission, vehicle, wire.KindClaim)
	if err != nil {
		return nil, err
	}
	if !s.Accepted || s.Original == nil {
		return nil, store.ErrNotFound
	}
	return tx.Claim(ctx, *s.Original, vehicle)
}

// answer proves the credits under the newest block that the log has the tree of.
func answer(log *tlog.Reader, credits []opening.LoggedCredit, blocks []ledger.Entry) ([]byte, error) {
	for _, e := range blocks {
		sealed, err := e.Sealed()
		if err != nil {
			return nil, err
		}
		block, err := ledger.DecodeBlock(sealed.Payload)
		if err != nil {
			return nil, err
		}
		if block.Size > log.Checkpoint().Size {
			continue
		}
		a := inclusion.Answer{Version: inclusion.Version, Block: e.Body}
		for _, c := range credits {
			if c.Number < 0 || uint64(c.Number) >= block.Size {
				return nil, refusal(inclusion.ReasonNotYet)
			}
			path, err := log.Inclusion(uint64(c.Number), block.Size)
			if err != nil {
				return nil, err
			}
			a.Credits = append(a.Credits, inclusion.Credit{
				Policy: c.Policy, Number: uint64(c.Number), Salt: c.Opening.Salt, Account: c.Opening.Account, Kind: c.Opening.Kind, Path: path,
			})
		}
		return a.Encode()
	}
	return nil, refusal(inclusion.ReasonNotYet)
}
