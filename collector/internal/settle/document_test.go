package settle

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"rawstone/collector/internal/stones"
	"rawstone/collector/internal/store"
	"rawstone/pkg/ledger"
)

// logged counts the numbered entries of some types.
func (w *world) logged(types ...ledger.Type) (n int) {
	w.t.Helper()
	w.must(w.db.View(w.t.Context(), func(tx *store.Tx) error {
		for _, t := range types {
			entries, err := tx.LastEntries(w.t.Context(), t, 100)
			if err != nil {
				return err
			}
			n += len(entries)
		}
		return nil
	}))
	return n
}

// TestDocuments starts with documents that the rules refuse after others, or that say the same again: neither leaves a trace, and with
// the good ones the settler goes on.
func TestDocuments(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(w *world) []Document
		want   string // of the refusal
		logged int    // charters and policies afterwards
	}{
		{"policy signed again", func(w *world) []Document { return []Document{w.documents[0], w.documents[1], w.mileage(2, 500)} }, "", 2},
		{"charter signed by one more", func(w *world) []Document {
			return []Document{w.documents[0], w.charter(0, w.board...), w.documents[2]}
		}, "", 2},
		{"successors", func(w *world) []Document {
			return []Document{w.documents[0], w.charter(1, w.board[1]), w.documents[2], w.mileage(3, 400)}
		}, "", 4},
		{"serial used again", func(w *world) []Document { return append(w.documents[:2:2], w.mileage(2, 400)) },
			"cannot log document 3, a policy: policy has serial 2, should be above 2; restore the document that is logged", 2},
		{"lower serial", func(w *world) []Document { return append(w.documents[:3:3], w.mileage(1, 500)) }, "document 4, a policy: policy has serial 1", 2},
		{"misordered", func(w *world) []Document { return append(w.documents[:3:3], w.mileage(4, 500), w.mileage(3, 500)) },
			"document 5, a policy: policy has serial 3, should be above 4", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, 1, 1)
			w.documents[1], w.documents[2] = w.charter(0, w.board[0]), w.mileage(2, 500)
			good := w.documents
			w.must(w.start())
			anna := w.owner("anna")
			w.at(0)
			w.stop()
			w.documents = c.change(w)
			size := w.log.Size()
			err := w.start()
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || w.log.Size() != size {
					t.Errorf("got %v with %d entries, want %s with %d", err, w.log.Size(), c.want, size)
				}
			} else {
				w.must(err)
				w.step()
			}
			w.stop()
			if c.want != "" {
				w.documents = good
			}
			w.must(w.start())
			w.credit("anna", anna, 40)
			w.at(6)
			if r := w.audit(); r.Credits != 1 || r.Blocks != 7 {
				t.Errorf("audit reports %s", r)
			}
			if n := w.logged(ledger.TypeCharter, ledger.TypePolicy); n != c.logged {
				t.Errorf("%d charters and policies are logged, want %d", n, c.logged)
			}
			w.stop()
		})
	}
}

// TestWithdrawn takes policies that are logged off the list, the first, a stop, and both: the settler does not start, leaves no trace, and
// goes on once they are listed again.
func TestWithdrawn(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.documents = append(w.documents, w.mileage(2, 400), w.stopped(3))
	w.must(w.start())
	w.at(0)
	w.stop()
	good, size := w.documents, w.log.Size()
	for _, c := range []struct {
		listed []Document
		want   int // the policy that is named
	}{
		{[]Document{good[0], good[1], good[3], good[4]}, 1},
		{good[:4:4], 3},
		{append(good[:3:3], w.mileage(4, 300)), 2}, // also when a successor is listed
		{good[:2:2], 1},
	} {
		w.documents = c.listed
		want := fmt.Sprintf("cannot start settler: policy %d is in the ledger and not in program.policies: list its file again; to end it, log a stop", c.want)
		if err := w.start(); err == nil || err.Error() != want || w.log.Size() != size {
			t.Errorf("got %v with %d entries, want %s with %d", err, w.log.Size(), want, size)
		}
		w.stop()
	}
	w.documents = append(good[:5:5], w.mileage(4, 300))
	w.must(w.start())
	w.at(1)
	if r := w.audit(); r.Policies != 4 || r.Blocks != 2 {
		t.Errorf("audit reports %s", r)
	}
	w.stop()
}

// TestFirstDocuments refuses misordered documents at the very first start, and begins with them in order, before what is in the outbox.
func TestFirstDocuments(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.owner("anna")
	good := append(w.documents, w.mileage(2, 400))
	w.documents = []Document{good[0], good[1], good[3], good[2]}
	if err := w.start(); err == nil || !strings.Contains(err.Error(), "document 4, a policy: policy has serial 1, should be above 2") {
		t.Fatal(err)
	}
	w.stop()
	w.documents = good
	w.must(w.start())
	w.step()
	for i, want := range []ledger.Type{ledger.TypeProgram, ledger.TypeCharter, ledger.TypePolicy, ledger.TypePolicy, ledger.TypeBinding} {
		entries, err := w.settler.entries(t.Context(), uint64(i))
		w.must(err)
		if entries[0].Type != want {
			t.Errorf("entry %d is of type %v, want %v", i, entries[0].Type, want)
		}
	}
	w.at(1)
	w.audit()
	w.stop()
}

// TestDocumentsBehindDraft adds a policy while an entry waits for cosignatures, whose number is taken.
func TestDocumentsBehindDraft(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.must(w.start())
	w.at(0)
	w.validators[0].noSign = true
	w.now = timing.DropTime(1)
	if err := w.settler.Step(t.Context()); err == nil {
		t.Fatal("a drop without cosignatures")
	}
	w.stop()
	w.documents = append(w.documents, w.mileage(2, 400))
	w.must(w.start())
	w.at(2)
	if r := w.audit(); r.Policies != 2 || r.Blocks != 3 {
		t.Errorf("audit reports %s", r)
	}
	w.stop()
}

// TestLocked holds the records for longer than the settler waits for them: it says so, counts it, and goes on.
func TestLocked(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.must(w.db.Close())
	path := filepath.Join(w.dir, "records.db")
	var err error
	w.db, err = store.Open(t.Context(), store.Config{Path: path, Role: store.Ingest | store.Settle | store.Web | store.Audit | store.Admin | store.Account, BusyTimeout: 20 * time.Millisecond})
	w.must(err)
	w.must(w.start())
	anna := w.owner("anna")
	w.credit("anna", anna, 40)
	w.at(3)
	other, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate")
	w.must(err)
	defer other.Close()
	lock, err := other.BeginTx(t.Context(), nil)
	w.must(err)
	w.now = timing.DropTime(7)
	w.settler.c.Patience = 50 * time.Millisecond // which is also the pause between attempts
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.settler.Run(ctx) }()
	for testutil.ToFloat64(w.settler.metrics.Errors) < 3 { // several attempts
		select {
		case err := <-done:
			t.Fatal("Run ended:", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	w.must(lock.Rollback())
	for {
		drops, err := stones.Drops(t.Context(), w.db, 1)
		w.must(err)
		if drops[0].Drop == 7 {
			break
		}
		select {
		case err := <-done:
			t.Fatal("Run ended:", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	cancel()
	w.must(<-done)
	w.stop() // the end of its context may have broken off a step
	w.must(w.start())
	w.step()
	if r := w.audit(); r.Blocks != 8 || r.Supply == 0 {
		t.Errorf("audit reports %s", r)
	}
	if n := strings.Count(w.said.String(), "drops wait"); n != 1 {
		t.Errorf("that drops wait is said %d times", n)
	}
	w.stop()
}

// TestRunEnds ends at what would come again: a row of the outbox that breaks a rule.
func TestRunEnds(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.must(w.start())
	w.step()
	w.credit("anna", w.owner("anna"), 501)
	w.must(w.db.Update(t.Context(), func(tx *store.Tx) error { return tx.NumberEntries(t.Context(), 1000) })) // final, and wrong
	if err := w.settler.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "credit is 501 km") {
		t.Fatal(err)
	}
	w.stop()
}

// TestJump sets the clock ten days ahead: nothing of it is drawn until the clock is right again or the process is started anew.
func TestJump(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.must(w.start())
	w.credit("anna", w.owner("anna"), 40)
	w.at(4)
	blocks := func(want uint64) {
		t.Helper()
		if r := w.audit(); r.Blocks != want {
			t.Errorf("%d blocks, want %d", r.Blocks, want)
		}
	}
	blocks(5)
	w.now = w.now.Add(10 * 24 * time.Hour)
	w.step()
	w.elapsed += 10 * time.Second
	w.step()
	blocks(5)
	w.now = timing.DropTime(5)
	w.step()
	blocks(6)
	// Going back draws nothing, and coming back is no jump.
	w.now = timing.DropTime(0)
	w.step()
	w.now, w.elapsed = timing.DropTime(6), w.elapsed+10*time.Second
	w.step()
	blocks(7)
	if said, want := w.said.String(), "clock has jumped ahead"; strings.Count(said, want) != 1 || strings.Count(said, "clock is right again") != 1 {
		t.Errorf("%q is not said once", want)
	}
	w.now = w.now.Add(time.Hour + time.Second)
	w.step()
	blocks(7)
	w.stop()
	w.must(w.start())
	w.step()
	blocks(7 + 360)
	w.stop()
}
