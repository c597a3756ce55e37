package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"rawstone/agent/internal/flash"
	"rawstone/pkg/wire"
)

var epoch = time.Unix(1_700_000_000, 0)

func openDB(t testing.TB, dir string) *badger.DB {
	t.Helper()
	db, err := flash.Open(flash.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func open(t testing.TB, db DB, max int64) *Spool {
	t.Helper()
	s, err := Open(Config{DB: db, MaxBytes: max, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s *Spool, kind wire.Kind, text string, due time.Time) wire.Hash {
	t.Helper()
	id, _, err := s.Put(kind, []byte(text), epoch, due)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestPutSurvivesReopen(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	s := open(t, db, 0)
	a := put(t, s, wire.KindClaim, "claim a", epoch)
	put(t, s, wire.KindClaim, "claim b", epoch)
	r := put(t, s, wire.KindReport, "report", epoch.Add(time.Hour))
	if again := put(t, s, wire.KindClaim, "claim a", epoch.Add(time.Hour)); again != a {
		t.Error("the same bytes got another identifier")
	}
	if err := s.Free(a); err != nil {
		t.Fatal(err)
	}
	if err := s.Free(a); err != nil {
		t.Errorf("freeing twice: %v", err)
	}
	wantItems, wantBytes := s.Depth()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, openDB(t, dir), 0)
	if items, size := s.Depth(); items != wantItems || size != wantBytes || items != 2 {
		t.Errorf("depth %d, %d bytes after reopening, want %d, %d", items, size, wantItems, wantBytes)
	}
	if s.Has(a) || !s.Has(r) {
		t.Error("a freed submission came back or a kept one went")
	}
	item, ok, err := s.Get(r)
	want := Item{ID: r, Kind: wire.KindReport, Created: epoch, Due: epoch.Add(time.Hour), Bytes: []byte("report")}
	if err != nil || !ok || cmp.Diff(want, item) != "" {
		t.Errorf("got %v %v %s", ok, err, cmp.Diff(want, item))
	}
	c := put(t, s, wire.KindClaim, "claim c", epoch)
	if ids := s.IDs(wire.KindClaim); len(ids) != 2 || ids[1] != c {
		t.Errorf("order after reopening is %v", ids)
	}
}

func TestNextKeepsOrderAndDue(t *testing.T) {
	s := open(t, openDB(t, t.TempDir()), 0)
	late := put(t, s, wire.KindReport, "late", epoch.Add(time.Hour))
	early := put(t, s, wire.KindReport, "early", epoch)
	put(t, s, wire.KindClaim, "claim", epoch.Add(time.Minute))
	if _, _, ok := s.Next(wire.KindReport, epoch.Add(-1)); ok {
		t.Error("a submission left before it was due")
	}
	if id, b, ok := s.Next(wire.KindReport, epoch); !ok || id != early || string(b) != "early" {
		t.Errorf("next is %q", b)
	}
	if id, _, ok := s.Next(wire.KindReport, epoch.Add(time.Hour)); !ok || id != late {
		t.Error("the oldest due submission did not go first")
	}
	if due, ok := s.NextDue(); !ok || !due.Equal(epoch) {
		t.Errorf("next due %v", due)
	}
	if err := s.Postpone(wire.KindReport, late, epoch.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if due, _ := s.NextDue(); !due.Equal(epoch.Add(time.Minute)) {
		t.Errorf("next due after postponing is %v", due)
	}
	if item, _, _ := s.Get(late); !item.Due.Equal(epoch.Add(time.Hour)) {
		t.Error("the excepted submission was postponed")
	}
	if item, _, _ := s.Get(early); !item.Due.Equal(epoch.Add(2 * time.Hour)) {
		t.Error("postponing is not on flash")
	}
	select {
	case <-s.Changed():
	default:
		t.Error("no change was told")
	}
}

func TestFullDropsReportsNeverClaims(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, err := Open(Config{DB: openDB(t, t.TempDir()), MaxBytes: MinMaxBytes, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	body := func(i int) []byte { return binary.BigEndian.AppendUint32(make([]byte, 1000), uint32(i)) }
	var reports, claims, dropped []wire.Hash
	for i := range 8 {
		id, _, err := s.Put(wire.KindReport, body(i), epoch, epoch)
		if err != nil {
			t.Fatal(err)
		}
		reports = append(reports, id)
	}
	for i := 100; ; i++ {
		id, gone, err := s.Put(wire.KindClaim, body(i), epoch, epoch)
		dropped = append(dropped, gone...)
		if errors.Is(err, ErrFull) {
			if s.Has(id) {
				t.Error("a refused claim is held")
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		claims = append(claims, id)
	}
	if len(claims) < 14 || !slices.Equal(dropped, reports) {
		t.Errorf("%d claims fit; dropped %d reports, want all 8 oldest first", len(claims), len(dropped))
	}
	if !slices.Equal(s.IDs(wire.KindClaim), claims) {
		t.Error("a claim was dropped")
	}
	if _, gone, err := s.Put(wire.KindReport, body(999), epoch, epoch); !errors.Is(err, ErrFull) || gone != nil {
		t.Errorf("a report in a spool full of claims: %v", err)
	}
	if _, size := s.Depth(); size > MinMaxBytes {
		t.Errorf("%d bytes held, bound %d", size, MinMaxBytes)
	}
	if n := testutil.ToFloat64(s.metrics.dropped); n != 8 {
		t.Errorf("%v drops counted", n)
	}
	if n := testutil.ToFloat64(s.metrics.refused); n != 2 {
		t.Errorf("%v refusals counted", n)
	}
}

func TestPutRefuses(t *testing.T) {
	s := open(t, openDB(t, t.TempDir()), 0)
	for name, f := range map[string]func() error{
		"empty":   func() error { _, _, err := s.Put(wire.KindClaim, nil, epoch, epoch); return err },
		"long":    func() error { _, _, err := s.Put(wire.KindClaim, make([]byte, MaxItemLen+1), epoch, epoch); return err },
		"receipt": func() error { _, _, err := s.Put(wire.KindReceipt, []byte("x"), epoch, epoch); return err },
	} {
		if f() == nil {
			t.Errorf("%s: kept", name)
		}
	}
	if n, size := s.Depth(); n != 0 || size != 0 {
		t.Errorf("refused submissions are held: %d, %d", n, size)
	}
}

func TestOpenRefuses(t *testing.T) {
	db, log := openDB(t, t.TempDir()), slog.New(slog.DiscardHandler)
	unsynced, err := badger.Open(badger.DefaultOptions("").WithInMemory(true).WithLogger(nil).WithMemTableSize(1 << 20).WithValueThreshold(1 << 10))
	if err != nil {
		t.Fatal(err)
	}
	defer unsynced.Close()
	for i, cfg := range []Config{{Logger: log}, {DB: db}, {DB: db, Logger: log, MaxBytes: 1}, {DB: db, Logger: log, MaxBytes: -1}, {DB: unsynced, Logger: log}} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("config %d was accepted", i)
		}
	}
}

// damage flips one bit of a stored record.
func damage(t *testing.T, db *badger.DB, order uint64, at int) {
	t.Helper()
	err := db.Update(func(txn *badger.Txn) error {
		record, err := txn.Get([]byte(key(order)))
		if err != nil {
			return err
		}
		b, err := record.ValueCopy(nil)
		if err != nil {
			return err
		}
		if at < 0 {
			at += len(b)
		}
		b[at] ^= 1
		return txn.Set([]byte(key(order)), b)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDamagedRecordsArePassedOver(t *testing.T) {
	for _, at := range []int{0, 1, 5, 12, 20, sumAt, -1} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			db := openDB(t, t.TempDir())
			s := open(t, db, 0)
			bad := put(t, s, wire.KindClaim, "bad", epoch)
			good := put(t, s, wire.KindClaim, "good", epoch)
			damage(t, db, 0, at)
			if id, _, ok := s.Next(wire.KindClaim, epoch); !ok || id != good {
				t.Error("a damaged record stopped the queue")
			}
			if n := testutil.ToFloat64(s.metrics.corrupt); n != 1 {
				t.Errorf("%v damaged records counted while open", n)
			}
			s = open(t, db, 0)
			if s.Has(bad) || !s.Has(good) {
				t.Error("index after reopening is wrong")
			}
			if n := testutil.ToFloat64(s.metrics.corrupt); n != 1 {
				t.Errorf("%v damaged records counted at open", n)
			}
		})
	}
}

// TestDamagedRecordsCountAndGoFirst: what cannot be read takes room all the same, found at the opening or later, and gives it up before a
// report must.
func TestDamagedRecordsCountAndGoFirst(t *testing.T) {
	db := openDB(t, t.TempDir())
	s := open(t, db, MinMaxBytes)
	text := strings.Repeat("x", MaxItemLen-100)
	put(t, s, wire.KindReport, "a"+text, epoch)
	put(t, s, wire.KindClaim, "b"+text, epoch)
	kept := put(t, s, wire.KindReport, "c"+text, epoch)
	_, full := s.Depth()
	damage(t, db, 0, 20)
	damage(t, db, 1, 20)
	err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(prefix+"odd"), []byte("record")) })
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s.Next(wire.KindReport, epoch)
		s.Next(wire.KindClaim, epoch)
		if n, b := s.Depth(); n != 1 || b < full {
			t.Errorf("%d submissions, %d bytes; want 1 and all of %d", n, b, full)
		}
		if due, ok := s.NextDue(); !ok || !due.Equal(epoch) {
			t.Errorf("next due %v, %v", due, ok)
		}
		s = open(t, db, MinMaxBytes)
	}
	for _, c := range []string{"d", "e", "f"} {
		_, dropped, err := s.Put(wire.KindClaim, []byte(c+text), epoch, epoch)
		if err != nil || len(dropped) != 0 || !s.Has(kept) {
			t.Fatalf("%s: %v dropped, %v", c, dropped, err)
		}
	}
	n := 0
	err = db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte(prefix)})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			n++
		}
		return nil
	})
	if items, size := s.Depth(); err != nil || items != 4 || n > 5 || size > MinMaxBytes {
		t.Errorf("%d submissions of %d bytes, %d records, %v", items, size, n, err)
	}
}

// A cramped store is one whose file system is nearly full.
type cramped struct {
	*badger.DB
	err error
}

func (c *cramped) Room() error { return c.err }

// TestNearlyFullFileSystem: what is new waits, what frees and postpones does not.
func TestNearlyFullFileSystem(t *testing.T) {
	db := &cramped{DB: openDB(t, t.TempDir())}
	s, err := Open(Config{DB: db, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	first := put(t, s, wire.KindReport, "first", epoch)
	put(t, s, wire.KindReport, "second", epoch)
	db.err = errors.New("no room")
	if _, _, err := s.Put(wire.KindClaim, []byte("third"), epoch, epoch); !errors.Is(err, db.err) {
		t.Errorf("kept where there is no room: %v", err)
	}
	if err := errors.Join(s.Postpone(wire.KindReport, first, epoch.Add(time.Hour)), s.Free(first)); err != nil {
		t.Error(err)
	}
	if due, ok := s.NextDue(); !ok || !due.Equal(epoch.Add(time.Hour)) || s.Has(first) {
		t.Errorf("next due %v, %v", due, ok)
	}
}

// TestLaws compares the spool, reopened now and then, with a list.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		db, err := badger.Open(badger.DefaultOptions(t.TempDir()).WithSyncWrites(true).WithLogger(nil).
			WithMemTableSize(1 << 20).WithValueThreshold(4 << 10).WithValueLogFileSize(2 << 20))
		if err != nil {
			r.Fatal(err)
		}
		defer db.Close()
		s := open(t, db, MinMaxBytes)
		var model []Item
		size := func() (n int64) {
			for _, it := range model {
				n += int64(len(prefix) + 8 + headLen + len(it.Bytes))
			}
			return n
		}
		r.Repeat(map[string]func(*rapid.T){
			"put": func(r *rapid.T) {
				kind := rapid.SampledFrom([]wire.Kind{wire.KindClaim, wire.KindReport}).Draw(r, "kind")
				b := bytes.Repeat([]byte{rapid.Byte().Draw(r, "fill")}, rapid.IntRange(1, MaxItemLen).Draw(r, "len"))
				id, dropped, err := s.Put(kind, b, epoch, epoch)
				if err != nil && !errors.Is(err, ErrFull) {
					r.Fatal(err)
				}
				for _, d := range dropped {
					i := slices.IndexFunc(model, func(it Item) bool { return it.Kind == wire.KindReport })
					if i < 0 || model[i].ID != d {
						r.Fatal("dropped something else than the oldest report")
					}
					model = slices.Delete(model, i, i+1)
				}
				if err == nil && !slices.ContainsFunc(model, func(it Item) bool { return it.ID == id }) {
					model = append(model, Item{ID: id, Kind: kind, Created: epoch, Due: epoch, Bytes: b})
				}
			},
			"free": func(r *rapid.T) {
				if len(model) == 0 {
					r.Skip()
				}
				i := rapid.IntRange(0, len(model)-1).Draw(r, "i")
				if err := s.Free(model[i].ID); err != nil {
					r.Fatal(err)
				}
				model = slices.Delete(model, i, i+1)
			},
			"reopen": func(*rapid.T) { s = open(t, db, MinMaxBytes) },
			"": func(r *rapid.T) {
				if n, used := s.Depth(); n != len(model) || used != size() || used > MinMaxBytes {
					r.Fatalf("depth %d, %d bytes; want %d, %d", n, used, len(model), size())
				}
				for _, kind := range []wire.Kind{wire.KindClaim, wire.KindReport} {
					i := slices.IndexFunc(model, func(it Item) bool { return it.Kind == kind })
					id, b, ok := s.Next(kind, epoch)
					if ok != (i >= 0) || ok && (id != model[i].ID || !bytes.Equal(b, model[i].Bytes)) {
						r.Fatalf("next %s is wrong", kind)
					}
				}
			},
		})
	})
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(encodeRecord(Item{ID: wire.ID([]byte("x")), Kind: wire.KindClaim, Created: epoch, Due: epoch, Bytes: []byte("x")}))
	f.Add([]byte{recordVersion, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		item, err := decodeRecord(b)
		if err == nil && !bytes.Equal(encodeRecord(item), b) {
			t.Errorf("%x does not re-encode to itself", b)
		}
	})
}

// TestEachAndBytes: what waits is told in the order in which it came, and a record that has gone bad is passed over.
func TestEachAndBytes(t *testing.T) {
	db := openDB(t, t.TempDir())
	s := open(t, db, DefaultMaxBytes)
	due := time.Unix(1_800_000_000, 0)
	var ids []wire.Hash
	for i, kind := range []wire.Kind{wire.KindReport, wire.KindClaim, wire.KindReport} {
		id, _, err := s.Put(kind, []byte{byte(i), 1}, due, due.Add(time.Duration(i)))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	n := 0
	s.Each(func(id wire.Hash, kind wire.Kind, at time.Time) {
		if id != ids[n] || (kind == wire.KindClaim) != (n == 1) || !at.Equal(due.Add(time.Duration(n))) {
			t.Errorf("submission %d is a %s, due %v", n, kind, at)
		}
		n++
	})
	if n != 3 {
		t.Errorf("%d submissions", n)
	}
	if b, ok := s.Bytes(ids[1]); !ok || b[0] != 1 {
		t.Errorf("read %v", b)
	}
	if _, ok := s.Bytes(wire.Hash{1}); ok {
		t.Error("what was never put is read")
	}
	err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(key(1)), []byte("damaged")) })
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Bytes(ids[1]); ok {
		t.Error("a damaged record is read")
	}
	if n, _ := s.Depth(); n != 2 {
		t.Errorf("%d submissions are left", n)
	}
}
