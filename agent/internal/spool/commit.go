package spool

import (
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"rawstone/pkg/wire"
)

// Put keeps a submission, synced, and returns its identifier. It may leave from due on. A submission that the spool already holds
// stays as it is. dropped names the reports that went to make room. Errors: ErrFull, an empty or oversized submission, an unknown
// kind, or a failure to write, after which the submission may or may not be kept and may be put again.
func (s *Spool) Put(kind wire.Kind, b []byte, created, due time.Time) (id wire.Hash, dropped []wire.Hash, err error) {
	ids, dropped, err := s.PutAll(Item{Kind: kind, Created: created, Due: due, Bytes: b})
	return ids[0], dropped, err
}

// PutAll does for several submissions, at most MaxGroup, what Put does for one, in as few commits as the store allows: a commit costs
// flash pages however little it holds. It returns their identifiers, whatever their own say. After an error the first of them may be kept.
func (s *Spool) PutAll(items ...Item) (ids, dropped []wire.Hash, err error) {
	for _, item := range items {
		ids = append(ids, wire.ID(item.Bytes))
	}
	if len(items) > MaxGroup {
		return ids, nil, fmt.Errorf("cannot keep submissions: %d at once, want at most %d", len(items), MaxGroup)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var group []staged
	size := 0
	commit := func() error {
		gone, err := s.commit(group)
		dropped = append(dropped, gone...)
		group, size = nil, 0
		return err
	}
	for i, item := range items {
		item.ID = ids[i]
		switch {
		case len(item.Bytes) < 1 || len(item.Bytes) > MaxItemLen:
			err = fmt.Errorf("cannot keep submission: %d bytes is outside 1 to %d", len(item.Bytes), MaxItemLen)
		case kindCode(item.Kind) == 0:
			err = fmt.Errorf("cannot keep submission: kind %q is neither claim nor report", item.Kind)
		case s.find(item.ID) >= 0 || slices.Contains(ids[:i], item.ID):
			continue
		case size+headLen+len(item.Bytes) > maxGroupLen:
			err = commit()
		}
		if err != nil {
			return ids, dropped, err
		}
		group = append(group, staged{item, encodeRecord(item)})
		size += headLen + len(item.Bytes)
	}
	return ids, dropped, commit()
}

// staged is a submission with its record, about to be written.
type staged struct {
	item  Item
	value []byte
}

// commit writes a group, and removes what must go for it, in one step. The caller holds mu.
func (s *Spool) commit(group []staged) (dropped []wire.Hash, err error) {
	if len(group) == 0 {
		return nil, nil
	}
	var need int64
	for _, g := range group {
		need += int64(len(prefix) + 8 + len(g.value))
	}
	victims, err := s.room(need)
	if err != nil {
		s.metrics.refused.Inc()
		return nil, fmt.Errorf("cannot keep submission: %w", err)
	}
	if grown, ok := s.db.(interface{ Room() error }); ok && len(victims) == 0 {
		if err := grown.Room(); err != nil {
			return nil, fmt.Errorf("cannot keep submission: %w", err)
		}
	}
	err = s.db.Update(func(txn *badger.Txn) error {
		for _, v := range victims {
			if err := txn.Delete([]byte(v.key)); err != nil {
				return err
			}
		}
		for i, g := range group {
			if err := txn.Set([]byte(key(s.next+uint64(i))), g.value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot keep submission: %w", err)
	}
	s.remove(victims)
	for _, v := range victims {
		if v.kind != "" {
			dropped = append(dropped, v.id)
			s.metrics.dropped.Inc()
		}
	}
	for _, g := range group {
		s.add(key(s.next), g.item, len(g.value))
		s.next++
	}
	s.wake()
	return dropped, nil
}

// Free removes a submission. Freeing what is not there succeeds.
func (s *Spool) Free(id wire.Hash) error { return s.FreeAll(id) }

// FreeAll removes submissions, at most MaxGroup, in one commit.
func (s *Spool) FreeAll(ids ...wire.Hash) error {
	if len(ids) > MaxGroup {
		return fmt.Errorf("cannot free submissions: %d at once, want at most %d", len(ids), MaxGroup)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var gone []entry
	for _, id := range ids {
		if i := s.find(id); i >= 0 {
			gone = append(gone, s.entries[i])
		}
	}
	if len(gone) == 0 {
		return nil
	}
	err := s.db.Update(func(txn *badger.Txn) error {
		for _, e := range gone {
			if err := txn.Delete([]byte(e.key)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot free submission: %w", err)
	}
	s.remove(gone)
	s.wake()
	return nil
}

// Postpone moves the due instant of every submission of a kind, except one, to due where it is earlier.
func (s *Spool) Postpone(kind wire.Kind, except wire.Hash, due time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var moved []int // indexes of one commit
	var values [][]byte
	size := 0
	commit := func() error {
		if len(moved) == 0 {
			return nil
		}
		err := s.db.Update(func(txn *badger.Txn) error {
			for n, i := range moved {
				if err := txn.Set([]byte(s.entries[i].key), values[n]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("cannot postpone submission: %w", err)
		}
		for _, i := range moved {
			s.entries[i].due = due
		}
		moved, values, size = nil, nil, 0
		return nil
	}
	for i, e := range s.entries {
		if e.kind != kind || e.id == except || !e.due.Before(due) {
			continue
		}
		item, err := s.read(e)
		if err != nil {
			continue // Next reports it
		}
		item.Due = due
		value := encodeRecord(item)
		if size+len(value) > maxGroupLen || len(moved) == MaxGroup {
			if err := commit(); err != nil {
				return err
			}
		}
		moved, values, size = append(moved, i), append(values, value), size+len(value)
	}
	if err := commit(); err != nil {
		return err
	}
	s.wake()
	return nil
}
