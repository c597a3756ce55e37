// Package tlog is the append-only log on disk: a directory of tiles (C2SP tlog-tiles) under a signed checkpoint (C2SP tlog-checkpoint,
// signed-note), written through Tessera's POSIX driver and read without it.
//
// An entry is opaque bytes, and its number is its index. Append returns when its entries are durable and a published checkpoint covers
// them; numbers are dense and in the order given. A reader recomputes the whole Merkle tree (RFC 6962 §2.1) from the entries and
// compares every tile, so that a flipped bit or a missing file is found and named.
//
// The package does not know what entries mean, never removes one, and never writes to a directory that another writer holds.
package tlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	flog "github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"rawstone/pkg/wire"
)

const (
	batchSize = 256 // a whole bundle
	batchAge  = 2 * time.Millisecond
	// checkpointInterval is the shortest that Tessera allows between two checkpoints.
	checkpointInterval = 100 * time.Millisecond
	pollInterval       = 2 * time.Millisecond
	closeTimeout       = 10 * time.Second
	writerLock         = ".writer.lock"

	// MaxEntryLen is what the format's two bytes of length allow.
	MaxEntryLen = 1<<16 - 1
)

// A Checkpoint is a signed statement that the log's first Size entries have a Merkle root (RFC 6962 §2.1).
type Checkpoint struct {
	Size uint64
	Root wire.Hash
}

// Config configures a Log.
type Config struct {
	// Dir is the log's directory; it is made when it does not exist.
	Dir string
	// Signer signs checkpoints; Verifier is the text of its public key.
	Signer   note.Signer
	Verifier string
	Logger   *slog.Logger
}

// A Log is the one writer of a log directory. Its methods may be called from several goroutines.
type Log struct {
	dir      string
	verifier note.Verifier
	logger   *slog.Logger
	add      tessera.AddFn
	shutdown func(context.Context) error
	cancel   context.CancelFunc
	lock     *os.File
	// ended is closed when the log's context ends: what was not flushed by then never is.
	ended    <-chan struct{}
	flushing sync.WaitGroup

	mu     sync.Mutex
	size   uint64
	broken error // set once an append failed half way: what the log holds is then unknown
}

// Open opens a log directory for writing and waits until its checkpoint covers all that was integrated. It refuses a directory that
// another writer holds and one whose checkpoint is signed by another key. Cancelling ctx abandons the log as a crash would; Close ends
// it in order.
func Open(ctx context.Context, c Config) (_ *Log, err error) {
	if c.Dir == "" || c.Signer == nil || c.Logger == nil {
		return nil, errors.New("cannot open log: directory, signer or logger is missing")
	}
	v, err := note.NewVerifier(c.Verifier)
	if err != nil || v.Name() != c.Signer.Name() || v.KeyHash() != c.Signer.KeyHash() {
		return nil, errors.New("cannot open log: the verifier key does not belong to the signer")
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot open log: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(c.Dir, writerLock), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open log: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("cannot open log %s: another process writes to it; stop that one first", c.Dir)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		if err != nil {
			cancel()
			lock.Close()
		}
	}()
	driver, err := posix.New(ctx, posix.Config{Path: c.Dir})
	if err != nil {
		return nil, fmt.Errorf("cannot open log %s: %w", c.Dir, err)
	}
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(c.Signer).
		WithBatching(batchSize, batchAge).
		WithCheckpointInterval(checkpointInterval))
	if err != nil {
		return nil, fmt.Errorf("cannot open log %s: %w", c.Dir, err)
	}
	l := &Log{dir: c.Dir, verifier: v, logger: c.Logger, add: appender.Add, shutdown: shutdown, cancel: cancel, lock: lock, ended: ctx.Done()}
	if l.size, err = reader.IntegratedSize(ctx); err != nil {
		return nil, fmt.Errorf("cannot open log %s: %w", c.Dir, err)
	}
	if err := l.published(ctx, l.size); err != nil {
		return nil, err
	}
	return l, nil
}

// Size returns the number of entries in the log, all covered by a published checkpoint unless an Append is under way.
func (l *Log) Size() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// Checkpoint returns the published checkpoint, its signature checked.
func (l *Log) Checkpoint() (Checkpoint, error) {
	return readCheckpoint(context.Background(), Dir(l.dir), l.verifier)
}

// Append appends the entries in order, the first as number from, and returns when they are durable and a published checkpoint covers
// them. When from is not the log's size, or an entry is longer than MaxEntryLen, nothing is appended. After an error in the middle every
// further Append is refused: reopen the log to learn what it holds.
func (l *Log) Append(ctx context.Context, from uint64, entries ...[]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return fmt.Errorf("cannot append to log: an earlier append failed, reopen the log: %w", l.broken)
	}
	if from != l.size {
		return fmt.Errorf("cannot append entry %d: the log goes on with %d", from, l.size)
	}
	for i, b := range entries {
		if len(b) > MaxEntryLen {
			return fmt.Errorf("cannot append entry %d: %d bytes, at most %d allowed", from+uint64(i), len(b), MaxEntryLen)
		}
	}
	futures := make([]tessera.IndexFuture, len(entries))
	for i, b := range entries {
		futures[i] = l.add(ctx, tessera.NewEntry(b))
	}
	type result struct {
		index tessera.Index
		err   error
	}
	results := make(chan result, len(futures))
	l.flushing.Go(func() { // futures know of no context: this ends with the flush, even when nobody waits any more
		for _, f := range futures {
			i, err := f()
			results <- result{i, err}
		}
	})
	for range entries {
		var r result
		select {
		case r = <-results:
			if r.err == nil && r.index.Index != l.size {
				r.err = fmt.Errorf("the log gave it index %d: somebody else writes to the log", r.index.Index)
			}
		case <-ctx.Done():
			r.err = ctx.Err()
		}
		if r.err != nil {
			l.broken = fmt.Errorf("cannot append entry %d: %w", l.size, r.err)
			return l.broken
		}
		l.size++
	}
	return l.published(ctx, l.size)
}

// published waits until the checkpoint covers size entries.
func (l *Log) published(ctx context.Context, size uint64) error {
	for {
		c, err := l.Checkpoint()
		if err != nil {
			return err
		}
		if c.Size >= size {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot wait for checkpoint over %d entries: %w", size, ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}

// Close waits for what was appended, also by an Append that gave up, ends the writer and gives the directory free.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	flushed := make(chan struct{})
	go func() {
		l.flushing.Wait()
		close(flushed)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	select {
	case <-flushed:
	case <-l.ended:
	case <-ctx.Done():
	}
	err := l.shutdown(ctx)
	l.cancel()
	return errors.Join(err, l.lock.Close())
}

// readCheckpoint reads and verifies a log's checkpoint.
func readCheckpoint(ctx context.Context, s Source, v note.Verifier) (c Checkpoint, err error) {
	b, err := s.Read(ctx, layout.CheckpointPath, MaxCheckpointLen)
	if err != nil {
		return c, err
	}
	p, _, _, err := flog.ParseCheckpoint(b, v.Name(), v)
	if err != nil {
		return c, fmt.Errorf("cannot accept checkpoint of log %s: it is not signed by %s: %w", s, v.Name(), err)
	}
	if len(p.Hash) != len(c.Root) {
		return c, fmt.Errorf("cannot accept checkpoint of log %s: root of %d bytes, want %d", s, len(p.Hash), len(c.Root))
	}
	return Checkpoint{Size: p.Size, Root: wire.Hash(p.Hash)}, nil
}
