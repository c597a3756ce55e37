package journal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/agent/internal/flash"
	"rawstone/pkg/wire"
)

var start = time.Unix(1_700_000_000, 0).UTC()

func openDB(t testing.TB, dir string) *badger.DB {
	t.Helper()
	db, err := flash.Open(flash.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// open opens a journal that holds as many of begin's entries as max says; 0 means the default.
func open(t testing.TB, db *badger.DB, max int) *Journal {
	t.Helper()
	one, err := encodeEntry(Entry{Submission: wire.ID(nil).String(), Time: start, Kind: "claim", Bytes: 1, Contents: "drove 1 km", Cost: "exact"})
	if err != nil {
		t.Fatal(err)
	}
	j, err := Open(Config{DB: db, MaxBytes: max * sizeOf(one), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func begin(t testing.TB, j *Journal, i int) wire.Hash {
	t.Helper()
	id := wire.ID(fmt.Append(nil, i))
	if err := j.Begin(id, start.Add(time.Duration(i)*time.Second), wire.KindClaim, i, fmt.Sprintf("drove %d km", i), "exact"); err != nil {
		t.Fatal(err)
	}
	return id
}

func list(t testing.TB, j *Journal, limit int) []Entry {
	t.Helper()
	l, err := j.List(limit)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestEntriesSurviveReopen(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	j := open(t, db, 0)
	a, b := begin(t, j, 1), begin(t, j, 2)
	begin(t, j, 2) // noted once
	if err := j.End(a, start.Add(time.Hour), "accepted"); err != nil {
		t.Fatal(err)
	}
	if err := j.End(a, start.Add(2*time.Hour), "something else"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	j = open(t, openDB(t, dir), 0)
	if w := j.Waiting(); len(w) != 1 || w[0] != b {
		t.Errorf("waiting %v", w)
	}
	ended := start.Add(time.Hour)
	want := []Entry{
		{Submission: b.String(), Time: start.Add(2 * time.Second), Kind: "claim", Bytes: 2, Contents: "drove 2 km", Cost: "exact"},
		{Submission: a.String(), Time: start.Add(time.Second), Kind: "claim", Bytes: 1, Contents: "drove 1 km", Cost: "exact", Outcome: "accepted", Ended: &ended},
	}
	if d := cmp.Diff(want, list(t, j, 0)); d != "" {
		t.Error(d)
	}
	if l := list(t, j, 1); len(l) != 1 || l[0].Submission != b.String() {
		t.Errorf("the newest entry is %v", l)
	}
	var out bytes.Buffer
	if err := j.Export(&out); err != nil {
		t.Fatal(err)
	}
	var got []Entry
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Submission != a.String() {
		t.Errorf("export is %s", out.String())
	}
}

func TestOldestGo(t *testing.T) {
	db := openDB(t, t.TempDir())
	j := open(t, db, 3)
	first := begin(t, j, 0)
	for i := 1; i < 5; i++ {
		begin(t, j, i)
	}
	if l := list(t, j, 0); len(l) != 3 || l[2].Bytes != 2 {
		t.Errorf("%d entries, oldest %v", len(l), l[len(l)-1])
	}
	if err := j.End(first, start, "accepted"); err != nil {
		t.Errorf("ending an entry that is gone: %v", err)
	}
	if n := len(j.Waiting()); n != 3 {
		t.Errorf("%d waiting", n)
	}
	j = open(t, db, 2) // a smaller bound takes hold at the next entry
	begin(t, j, 9)
	if l := list(t, j, 0); len(l) != 2 || l[0].Bytes != 9 || l[1].Bytes != 4 {
		t.Errorf("after shrinking: %v", l)
	}
}

func TestDamagedEntriesArePassedOverAndGo(t *testing.T) {
	db := openDB(t, t.TempDir())
	j := open(t, db, 3)
	begin(t, j, 0)
	begin(t, j, 1)
	if err := db.Update(func(txn *badger.Txn) error { return txn.Set(key(0), []byte("damaged")) }); err != nil {
		t.Fatal(err)
	}
	j = open(t, db, 3)
	if n := testutil.ToFloat64(j.corrupt); n != 1 {
		t.Errorf("%v damaged entries counted", n)
	}
	if l := list(t, j, 0); len(l) != 1 || l[0].Bytes != 1 {
		t.Errorf("listed %v", l)
	}
	begin(t, j, 2)
	begin(t, j, 3)
	err := db.View(func(txn *badger.Txn) error { _, err := txn.Get(key(0)); return err })
	if err != badger.ErrKeyNotFound {
		t.Errorf("a damaged entry outlived its turn: %v", err)
	}
}

func TestLongTextsFit(t *testing.T) {
	j := open(t, openDB(t, t.TempDir()), 0)
	long := strings.Repeat("\x01", 10_000)
	if err := j.Begin(wire.ID(nil), start, wire.KindReport, 1, long, strings.Repeat("é", 10_000)); err != nil {
		t.Fatal(err)
	}
	if err := j.End(wire.ID(nil), start, long); err != nil {
		t.Fatal(err)
	}
	if l := list(t, j, 0); len(l) != 1 || l[0].Outcome == "" {
		t.Errorf("listed %d entries", len(l))
	}
}

func TestOpenRefuses(t *testing.T) {
	db, log := openDB(t, t.TempDir()), slog.New(slog.DiscardHandler)
	for i, cfg := range []Config{{Logger: log}, {DB: db}, {DB: db, Logger: log, MaxBytes: -1}} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("config %d was accepted", i)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	good, err := encodeEntry(Entry{Submission: wire.ID(nil).String(), Time: start, Kind: "claim", Ended: &start})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[4:])
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if e, err := decodeEntry(text); err == nil {
			if b, _ := encodeEntry(e); !bytes.Equal(b, text) {
				t.Errorf("%x re-encodes to %x", text, b)
			}
		}
		var e Entry
		if json.Unmarshal(text, &e) != nil {
			return
		}
		b, err := encodeEntry(e)
		if err != nil {
			return
		}
		again, err := decodeEntry(b)
		if len(b) > 4+maxEntryLen {
			if err == nil {
				t.Error("an entry beyond its bound was accepted")
			}
			return
		}
		if err != nil {
			t.Errorf("%s: %v", b, err)
		}
		if twice, _ := encodeEntry(again); !bytes.Equal(twice, b) {
			t.Errorf("%s re-encodes to %s", b, twice)
		}
	})
}

func TestNotesStandBetweenSubmissions(t *testing.T) {
	db := openDB(t, t.TempDir())
	j := open(t, db, 2)
	id := begin(t, j, 1)
	if err := j.Note(start.Add(time.Minute), "the odometer went back"); err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{Time: start.Add(time.Minute), Kind: KindNote, Contents: "the odometer went back"},
		{Submission: id.String(), Time: start.Add(time.Second), Kind: "claim", Bytes: 1, Contents: "drove 1 km", Cost: "exact"},
	}
	j = open(t, db, 2)
	if d := cmp.Diff(want, list(t, j, 0)); d != "" {
		t.Error(d)
	}
	if w := j.Waiting(); len(w) != 1 || w[0] != id {
		t.Errorf("waiting %v: a note waits for nothing", w)
	}
	begin(t, j, 2)
	if l := list(t, j, 0); len(l) != 2 || l[1].Kind != KindNote {
		t.Errorf("a note counts towards the bound: %v", l)
	}
}

// TestBoundInBytes: whatever is noted and ended, what lies on flash stays within the bound, also when a journal of a larger one is opened.
func TestBoundInBytes(t *testing.T) {
	db := openDB(t, t.TempDir())
	kept := func() (n, total int) {
		err := db.View(func(txn *badger.Txn) error {
			it := txn.NewIterator(badger.DefaultIteratorOptions)
			defer it.Close()
			for it.Rewind(); it.Valid(); it.Next() {
				n, total = n+1, total+len(it.Item().Key())+int(it.Item().ValueSize())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return n, total
	}
	j := open(t, db, 0)
	for i := range 2*batch + 10 {
		begin(t, j, i)
	}
	const bound = 4000
	j, err := Open(Config{DB: db, MaxBytes: bound, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		id := begin(t, j, 1000+i)
		if n, total := kept(); total > bound || n < 5 || total != j.bytes || n != len(j.held) {
			t.Fatalf("%d entries of %d bytes, %d and %d known", n, total, len(j.held), j.bytes)
		}
		if err := j.End(id, start, strings.Repeat("y", 300)); err != nil {
			t.Fatal(err)
		}
		if n, total := kept(); total > bound || n < 5 || total != j.bytes || n != len(j.held) {
			t.Fatalf("after an outcome, %d entries of %d bytes, %d and %d known", n, total, len(j.held), j.bytes)
		}
	}
	// The oldest one's outcome does not fit: it goes itself.
	oldest, err := parseID(list(t, j, 0)[len(j.held)-1].Submission)
	if err != nil {
		t.Fatal(err)
	}
	for j.bytes <= bound-50 {
		if err := j.Note(start, strings.Repeat("z", max(1, min(200, bound-j.bytes-120)))); err != nil {
			t.Fatal(err)
		}
	}
	j.open[oldest] = j.held[0].order
	if err := j.End(oldest, start, strings.Repeat("\x01", maxTextLen)); err != nil {
		t.Fatal(err)
	}
	if n, total := kept(); total > bound || n != len(j.held) || total != j.bytes {
		t.Errorf("%d entries of %d bytes, %d and %d known", n, total, len(j.held), j.bytes)
	}
	if err := j.Note(start, strings.Repeat("\x01", maxTextLen)); err != nil {
		t.Fatal(err)
	}
	if l := list(t, j, 1); len(l) != 1 || l[0].Kind != KindNote {
		t.Errorf("the newest is %v", l)
	}
}
