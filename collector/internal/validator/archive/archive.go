// Package archive is a validator's own copy of the ledger: a log of tiles that anybody could read, signed with the validator's own key,
// and beside it what it was given of each entry, so that it starts again without asking.
//
// What is disclosed of an entry is on disk before the entry is in the log, which follows by itself, also after a crash; neither is ever
// replaced. Append returns before its entries are on disk, Wait when they are, and Published when the log has them. It does not judge what it keeps, and refuses a directory whose parts do not belong
// together.
package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/disclosure"
	"rawstone/pkg/ledger"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

const (
	logDir, openingsDir = "ledger", "disclosures"
	// maxWaiting bounds the entries that are in memory alone, maxUnlogged those that are on disk and not in the log.
	maxWaiting  = 4 * disclosure.MaxBatch
	maxUnlogged = 16 * disclosure.MaxBatch

	entryPrefix, claimPrefix, spanPrefix = 'e', 'c', 's'
)

// Config configures an Archive. All is required.
type Config struct {
	// Dir holds the copy; it is made when missing, readable by its owner alone.
	Dir string
	// Signer signs the copy's checkpoints; Verifier is its public key.
	Signer   note.Signer
	Verifier string
	Logger   *slog.Logger
}

// An Archive may be used from several goroutines; Append by one at a time.
type Archive struct {
	c      Config
	db     *badger.DB
	log    *tlog.Log
	cancel context.CancelFunc

	mu       sync.Mutex
	changed  sync.Cond
	waiting  []disclosure.Entry
	unlogged [][]byte // on disk, and not in the log
	next     uint64   // after the last that was appended
	durable  uint64   // after the last that is on disk
	size     uint64   // of the log
	err      error    // of the writers
	closing  bool
	written  sync.WaitGroup
}

// Open opens the copy and starts its writer. Cancelling ctx abandons it as a crash would.
func Open(ctx context.Context, c Config) (_ *Archive, err error) {
	if c.Dir == "" || c.Signer == nil || c.Logger == nil {
		return nil, errors.New("cannot open copy of the ledger: directory, signer or logger is missing")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot open copy of the ledger: %w", err)
	}
	// Small tables: a validator is one of many processes, and reads what it keeps only when it starts.
	db, err := badger.Open(badger.DefaultOptions(filepath.Join(c.Dir, openingsDir)).WithSyncWrites(true).WithLogger(nil).
		WithMemTableSize(16 << 20).WithNumMemtables(2).WithBlockCacheSize(4 << 20).WithIndexCacheSize(8 << 20).WithValueThreshold(64 << 10).
		WithValueLogFileSize(16 << 20).WithCompactL0OnClose(true).WithNumCompactors(2).WithMetricsEnabled(false))
	if err != nil {
		return nil, fmt.Errorf("cannot open disclosures in %s: %w", c.Dir, err)
	}
	life, cancel := context.WithCancel(ctx)
	log, err := tlog.Open(life, tlog.Config{Dir: filepath.Join(c.Dir, logDir), Signer: c.Signer, Verifier: c.Verifier, Logger: c.Logger})
	if err != nil {
		cancel()
		return nil, errors.Join(err, db.Close())
	}
	a := &Archive{c: c, db: db, log: log, cancel: cancel}
	a.changed.L = &a.mu
	if err = a.recover(life); err == nil {
		err = a.resume()
	}
	if err != nil {
		cancel()
		return nil, errors.Join(err, log.Close(), db.Close())
	}
	a.written.Go(a.write)
	a.written.Go(func() { a.publish(life) })
	return a, nil
}

func entryKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{entryPrefix}, number)
}

func claimKey(id wire.Hash) []byte { return append([]byte{claimPrefix}, id[:]...) }

// spanKey is of the span of a key that ends at a snapshot.
func spanKey(ecu wire.KeyID, to uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte{spanPrefix}, ecu[:]...), to)
}

// Size returns how many entries the copy's log holds.
func (a *Archive) Size() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.size
}

// Durable returns how many entries are on disk.
func (a *Archive) Durable() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.durable
}

// Append takes consecutive entries, the first of which follows the last one. It waits while too much waits to be written.
func (a *Archive) Append(entries ...disclosure.Entry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range entries {
		for a.err == nil && len(a.waiting) >= maxWaiting {
			a.changed.Broadcast() // the writer may not know of them yet
			a.changed.Wait()
		}
		if a.err != nil {
			return a.err
		}
		if entries[i].Number != a.next {
			return fmt.Errorf("cannot append entry %d to the copy: it goes on with %d", entries[i].Number, a.next)
		}
		a.waiting = append(a.waiting, entries[i])
		a.next++
	}
	a.changed.Broadcast()
	return nil
}

// Wait returns when all that was appended is on disk.
func (a *Archive) Wait(ctx context.Context) error { return a.until(ctx, &a.durable) }

// Published returns when all that was appended is in the log, under a signed checkpoint.
func (a *Archive) Published(ctx context.Context) error { return a.until(ctx, &a.size) }

func (a *Archive) until(ctx context.Context, have *uint64) error {
	stop := context.AfterFunc(ctx, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.changed.Broadcast()
	})
	defer stop()
	a.mu.Lock()
	defer a.mu.Unlock()
	for want := a.next; *have < want && a.err == nil; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("cannot wait for the copy of the ledger: %w", err)
		}
		a.changed.Wait()
	}
	return a.err
}

// Each calls fn with every entry that was on disk at Open, in order, once it is found to be what the copy's log holds.
func (a *Archive) Each(ctx context.Context, fn func(disclosure.Entry) error) error {
	r, err := tlog.OpenReader(a.dir(), a.c.Verifier)
	if err != nil {
		return err
	}
	number := uint64(0)
	for logged, err := range r.Entries(ctx) {
		if err != nil {
			return err
		}
		e, err := a.Entry(number)
		if err != nil {
			return err
		}
		entry := e.Ledger()
		if text, err := entry.Encode(); err != nil || !bytes.Equal(text, logged) {
			return fmt.Errorf("cannot use the copy in %s: what is kept of entry %d is not the log's; move the directories %s and %s in it away, and nothing else, to follow the ledger anew", a.c.Dir, number, logDir, openingsDir)
		}
		if err := fn(e); err != nil {
			return err
		}
		number++
	}
	return nil
}

func (a *Archive) dir() string { return filepath.Join(a.c.Dir, logDir) }

// Entry returns what was disclosed of an entry that is on disk.
func (a *Archive) Entry(number uint64) (e disclosure.Entry, err error) {
	err = a.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(entryKey(number))
		if err != nil {
			return err
		}
		return item.Value(func(b []byte) error {
			e, err = disclosure.Decode(b)
			return err
		})
	})
	if err != nil {
		return e, fmt.Errorf("cannot read entry %d of the copy in %s: %w", number, a.c.Dir, err)
	}
	return e, nil
}

// Claimed returns the credits on disk that are for the claim of that identifier.
func (a *Archive) Claimed(id wire.Hash) ([]ledger.Credit, error) {
	numbers, err := a.numbers(claimKey(id))
	if err != nil {
		return nil, err
	}
	return a.credits(numbers)
}

// Span returns the credits on disk that are for the spans of the claims of those identifiers, also where another claim over the same span
// earned them.
func (a *Archive) Span(ids ...wire.Hash) ([]ledger.Credit, error) {
	var list []uint64
	for _, id := range ids {
		numbers, err := a.numbers(claimKey(id))
		if err != nil {
			return nil, err
		}
		list = append(list, numbers...)
		for _, n := range numbers {
			e, err := a.Entry(n)
			if err != nil {
				return nil, err
			}
			if op, ok := disclosure.Opened[ledger.CreditOpening](&e, ledger.TypeCredit); ok {
				more, err := a.numbers(spanKey(op.ECU, op.ToSeq))
				if err != nil {
					return nil, err
				}
				list = append(list, more...)
			}
		}
	}
	slices.Sort(list)
	return a.credits(slices.Compact(list))
}

// numbers returns the entries that are listed under a key. A kind is credited once for a span, so that they are few.
func (a *Archive) numbers(prefix []byte) (out []uint64, err error) {
	size := a.Durable()
	err = a.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			// What was disclosed before a crash need not be in the log.
			if n := binary.BigEndian.Uint64(it.Item().Key()[len(prefix):]); n < size {
				out = append(out, n)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot look for claim: %w", err)
	}
	return out, nil
}

func (a *Archive) credits(numbers []uint64) (credits []ledger.Credit, err error) {
	for _, n := range numbers {
		e, err := a.Entry(n)
		if err != nil {
			return nil, err
		}
		entry := e.Ledger()
		c, err := entry.Credit()
		if err != nil {
			return nil, err
		}
		credits = append(credits, c)
	}
	return credits, nil
}

// Root returns the root of the log's first entries, at most as many as there are on disk and at least one.
func (a *Archive) Root(size uint64) (root wire.Hash, err error) {
	r, err := tlog.OpenReader(a.dir(), a.c.Verifier)
	if err != nil {
		return root, err
	}
	if size == 0 || size > r.Checkpoint().Size {
		return root, fmt.Errorf("cannot hash the first %d entries of the copy: it holds %d", size, r.Checkpoint().Size)
	}
	if size == r.Checkpoint().Size {
		return r.Checkpoint().Root, nil
	}
	e, err := a.Entry(size - 1)
	if err != nil {
		return root, err
	}
	entry := e.Ledger()
	text, err := entry.Encode()
	if err != nil {
		return root, err
	}
	path, err := r.Inclusion(size-1, size)
	if err != nil {
		return root, err
	}
	hashes := make([][]byte, len(path))
	for i := range path {
		hashes[i] = path[i][:]
	}
	b, err := proof.RootFromInclusionProof(rfc6962.DefaultHasher, size-1, size, rfc6962.DefaultHasher.HashLeaf(text), hashes)
	if err != nil {
		return root, fmt.Errorf("cannot hash the first %d entries of the copy: %w", size, err)
	}
	return wire.Hash(b), nil
}

// Checkpoint returns the copy's signed checkpoint (C2SP tlog-checkpoint).
func (a *Archive) Checkpoint() ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(a.dir(), "checkpoint"))
	if err != nil {
		return nil, fmt.Errorf("cannot read checkpoint: %w", err)
	}
	return b, nil
}

// Close writes what waits and closes the copy.
func (a *Archive) Close() error {
	a.mu.Lock()
	a.closing = true
	a.changed.Broadcast()
	a.mu.Unlock()
	a.written.Wait()
	err := a.log.Close()
	a.cancel()
	return errors.Join(err, a.db.Close())
}
