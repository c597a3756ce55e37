package archive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"rawstone/collector/internal/disclosure"
	"rawstone/pkg/ledger"
	"rawstone/pkg/wire"
)

// recover has the log hold what was on disk and not in it.
func (a *Archive) recover(ctx context.Context) error {
	from := a.log.Size()
	a.size, a.durable, a.next = from, from, from
	for {
		var texts [][]byte
		for len(texts) < maxWaiting {
			e, err := a.Entry(a.durable)
			if errors.Is(err, badger.ErrKeyNotFound) {
				break
			}
			if err != nil {
				return err
			}
			entry := e.Ledger()
			text, err := entry.Encode()
			if err != nil {
				return err
			}
			texts = append(texts, text)
			a.durable++
		}
		if len(texts) == 0 {
			return nil
		}
		if err := a.log.Append(ctx, a.size, texts...); err != nil {
			return err
		}
		a.size, a.next = a.durable, a.durable
	}
}

// broken keeps the first error of a writer, for everybody who waits. The lock is held.
func (a *Archive) broken(err error) {
	if a.err == nil {
		a.err = fmt.Errorf("cannot write copy of the ledger: %w", err)
		a.c.Logger.Error("copy of the ledger is not written", "error", err)
	}
	a.changed.Broadcast()
}

// write puts on disk what waits, until Close.
func (a *Archive) write() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		for a.err == nil && (len(a.waiting) == 0 && !a.closing || len(a.unlogged) >= maxUnlogged) {
			a.changed.Wait()
		}
		if a.err != nil || len(a.waiting) == 0 {
			return
		}
		entries := a.waiting
		a.waiting = nil
		a.changed.Broadcast()
		a.mu.Unlock()
		texts, err := a.put(entries)
		a.mu.Lock()
		if err != nil {
			a.broken(err)
			return
		}
		a.durable += uint64(len(entries))
		a.unlogged = append(a.unlogged, texts...)
		a.changed.Broadcast()
	}
}

// put puts entries on disk with what is disclosed of them, and returns them as the log has them.
func (a *Archive) put(entries []disclosure.Entry) (texts [][]byte, err error) {
	batch := a.db.NewWriteBatch()
	defer batch.Cancel()
	texts = make([][]byte, len(entries))
	for i := range entries {
		e := &entries[i]
		kept, err := e.Encode()
		if err == nil {
			err = batch.Set(entryKey(e.Number), kept)
		}
		if err == nil && len(e.Claim) > 0 {
			err = batch.Set(binary.BigEndian.AppendUint64(claimKey(wire.ID(e.Claim)), e.Number), nil)
		}
		if op, ok := disclosure.Opened[ledger.CreditOpening](e, ledger.TypeCredit); err == nil && ok {
			err = batch.Set(binary.BigEndian.AppendUint64(spanKey(op.ECU, op.ToSeq), e.Number), nil)
		}
		if err != nil {
			return nil, err
		}
		entry := e.Ledger()
		if texts[i], err = entry.Encode(); err != nil {
			return nil, err
		}
	}
	return texts, batch.Flush()
}

// publish puts into the log what is on disk, until Close and all is there.
func (a *Archive) publish(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		for a.err == nil && len(a.unlogged) == 0 && (!a.closing || a.durable < a.next) {
			a.changed.Wait()
		}
		if a.err != nil || len(a.unlogged) == 0 {
			return
		}
		texts, from := a.unlogged, a.size
		a.unlogged = nil
		a.changed.Broadcast()
		a.mu.Unlock()
		err := a.log.Append(ctx, from, texts...)
		a.mu.Lock()
		if err != nil {
			a.broken(err)
			return
		}
		a.size = from + uint64(len(texts))
		a.changed.Broadcast()
	}
}
