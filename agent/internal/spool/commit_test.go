package spool

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/flash"
	"rawstone/pkg/wire"
)

// counted counts the commits of a store.
type counted struct {
	DB
	commits int
	fail    error
}

func (c *counted) Update(fn func(*badger.Txn) error) error {
	c.commits++
	if c.fail != nil {
		return c.fail
	}
	return c.DB.Update(fn)
}

func group(from, to, size int, kind wire.Kind) (items []Item) {
	for n := from; n < to; n++ {
		b := binary.BigEndian.AppendUint32(nil, uint32(n))
		items = append(items, Item{Kind: kind, Created: epoch, Due: epoch, Bytes: append(b, make([]byte, size-4)...)})
	}
	return items
}

func TestGroupsAreOneCommit(t *testing.T) {
	db := &counted{DB: openDB(t, t.TempDir())}
	s := open(t, db, 0)
	ids, dropped, err := s.PutAll(group(0, 100, 600, wire.KindReport)...)
	if err != nil || len(dropped) != 0 || db.commits != 1 || len(ids) != 100 {
		t.Fatalf("%d identifiers, %d dropped, %d commits, %v", len(ids), len(dropped), db.commits, err)
	}
	if got := s.IDs(wire.KindReport); !slices.Equal(got, ids) {
		t.Error("they are not held in their order")
	}
	// What is there already, twice in the group or not, is not written again.
	again, _, err := s.PutAll(append(group(90, 101, 600, wire.KindReport), group(90, 101, 600, wire.KindReport)...)...)
	if n, _ := s.Depth(); err != nil || n != 101 || len(again) != 22 || again[10] != again[21] || db.commits != 2 {
		t.Errorf("%d held after some came twice, %d commits, %v", n, db.commits, err)
	}
	db.commits = 0
	if err := s.Postpone(wire.KindReport, ids[0], epoch.Add(time.Hour)); err != nil || db.commits != 1 {
		t.Errorf("postponed in %d commits, %v", db.commits, err)
	}
	if id, _, ok := s.Next(wire.KindReport, epoch); !ok || id != ids[0] {
		t.Error("the excepted one does not leave")
	}
	_, before := s.Depth()
	db.commits = 0
	if err := s.FreeAll(append(ids[:50:50], ids[:50]...)...); err != nil || db.commits != 1 {
		t.Errorf("freed in %d commits, %v", db.commits, err)
	}
	if n, size := s.Depth(); n != 51 || s.Has(ids[0]) || !s.Has(ids[50]) || size >= before {
		t.Errorf("%d held after freeing, %d bytes of %d", n, size, before)
	}
	if err := s.FreeAll(ids[:50]...); err != nil || db.commits != 1 {
		t.Errorf("freeing what is gone costs %d commits, %v", db.commits-1, err)
	}
	again2 := open(t, db, 0)
	if !slices.Equal(again2.IDs(wire.KindReport), s.IDs(wire.KindReport)) {
		t.Error("a reopened spool holds others")
	}
	if item, _, _ := again2.Get(ids[60]); !item.Due.Equal(epoch.Add(time.Hour)) {
		t.Error("postponing is not on flash")
	}
}

// The largest groups are more than Badger takes in one transaction.
func TestLargestGroups(t *testing.T) {
	db := &counted{DB: openDB(t, t.TempDir())}
	s := open(t, db, 0)
	ids, _, err := s.PutAll(group(0, MaxGroup, MaxItemLen, wire.KindReport)...)
	if n, _ := s.Depth(); err != nil || n != MaxGroup || db.commits < 2 {
		t.Fatalf("%d held, %d commits, %v", n, db.commits, err)
	}
	if err := s.Postpone(wire.KindReport, wire.Hash{}, epoch.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if due, _ := s.NextDue(); !due.Equal(epoch.Add(time.Hour)) {
		t.Errorf("due %v", due)
	}
	if err := s.FreeAll(ids...); err != nil {
		t.Fatal(err)
	}
	if n, size := s.Depth(); n != 0 || size != 0 {
		t.Errorf("%d held, %d bytes", n, size)
	}
	if _, _, err := s.PutAll(group(0, MaxGroup+1, 100, wire.KindReport)...); err == nil {
		t.Error("too large a group was taken")
	}
	if err := s.FreeAll(make([]wire.Hash, MaxGroup+1)...); err == nil {
		t.Error("too large a group was freed")
	}
}

// Small submissions give way to a group: that is many deletions in one transaction.
func TestGroupDropsReports(t *testing.T) {
	s := open(t, openDB(t, t.TempDir()), 256<<10)
	var old []wire.Hash
	for n := 0; n < 2000; n += 200 {
		ids, dropped, err := s.PutAll(group(n, n+200, 5, wire.KindReport)...)
		if err != nil || len(dropped) != 0 {
			t.Fatal(dropped, err)
		}
		old = append(old, ids...)
	}
	_, dropped, err := s.PutAll(group(10_000, 10_100, 1100, wire.KindClaim)...)
	if err != nil || len(dropped) == 0 || !slices.Equal(dropped, old[:len(dropped)]) {
		t.Errorf("%d dropped, %v", len(dropped), err)
	}
	n, size := s.Depth()
	if n != 2000+100-len(dropped) || size > 256<<10 {
		t.Errorf("%d held, %d bytes", n, size)
	}
}

func TestFailedCommitChangesNothing(t *testing.T) {
	broken := errors.New("flash is broken")
	db := &counted{DB: openDB(t, t.TempDir())}
	s := open(t, db, 0)
	id := put(t, s, wire.KindReport, "kept", epoch)
	db.fail = broken
	if _, _, err := s.PutAll(group(0, 3, 100, wire.KindReport)...); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if err := s.Free(id); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if err := s.Postpone(wire.KindReport, wire.Hash{}, epoch.Add(time.Hour)); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if due, ok := s.NextDue(); !ok || !due.Equal(epoch) {
		t.Errorf("due %v although it could not be written", due)
	}
	if n, _ := s.Depth(); n != 1 || !s.Has(id) {
		t.Errorf("%d held", n)
	}
}

// What the spool says is kept, the store has counted.
func TestSpoolOnWitnessedStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	cfg := flash.StoreConfig{Dir: dir, Reserve: 1, Logger: slog.New(slog.DiscardHandler)}
	db, _, err := flash.OpenStore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, db, 0)
	id := put(t, s, wire.KindClaim, "claim", epoch)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, f, err := flash.OpenStore(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if s = open(t, db, 0); !s.Has(id) || f != (flash.Finding{}) {
		t.Errorf("lost over a restart: %v", f)
	}
}
