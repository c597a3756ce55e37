package erasure

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"rawstone/agent/internal/budget/internal/chain"
	"rawstone/agent/internal/budget/internal/charge"
	"rawstone/agent/internal/flash"
)

// TestReports: no file of the store has any report's bytes, dropped or not, in a log or in a table; every charge is there.
func TestReports(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "budget")
	open := func() *badger.DB {
		db, err := flash.Open(flash.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	mark := []byte("these bytes are of a report")
	found := func() (n int) {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			n += bytes.Count(b, mark)
		}
		return n
	}
	var last charge.Charge
	db := open()
	for epoch := range uint64(12) {
		if epoch%4 == 3 { // into a table
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = open()
		}
		last = charge.Charge{Epoch: 1 + epoch, MicroEpsilon: 1, Nano: 1}.Follow(last)
		if err := chain.Store(db, last, mark); err != nil {
			t.Fatal(err)
		}
		if epoch%3 != 0 {
			if err := chain.Drop(db, last.Epoch); err != nil {
				t.Fatal(err)
			}
		}
	}
	if found() < 12 {
		t.Fatalf("reports are found %d times: the test cannot see them", found())
	}
	if err := errors.Join(chain.Keep(db, 10), Reports(db), db.Close()); err != nil {
		t.Fatal(err)
	}
	if n := found(); n != 0 {
		t.Errorf("%d reports are in the files", n)
	}
	db = open()
	defer db.Close()
	n := 0
	if err := chain.Walk(db, func(_ []byte, c charge.Charge) bool { n++; return true }); err != nil || n != 12 {
		t.Errorf("%d charges, %v", n, err)
	}
}

// TestDroppedOnly: a store that lists no report, and still has the bytes.
func TestDroppedOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "budget")
	db, err := flash.Open(flash.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	mark := []byte("these bytes are of a report")
	c := charge.Charge{Epoch: 1, MicroEpsilon: 1, Nano: 1}.Follow(charge.Charge{})
	if err := errors.Join(chain.Store(db, c, mark), chain.Keep(db, 2), Reports(db), db.Close()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err != nil || bytes.Contains(b, mark) {
			t.Errorf("%s has it, %v", f, err)
		}
	}
}
