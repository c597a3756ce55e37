package budget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rawstone/agent/internal/budget/internal/anchor"
	"rawstone/agent/internal/budget/internal/chain"
)

// TestWriteFailureStopsTheLedger breaks one of the two writes of a charge for real and opens the ledger again.
func TestWriteFailureStopsTheLedger(t *testing.T) {
	t.Run("store", func(t *testing.T) {
		p := newPlace(t)
		l := p.ledger(t)
		report(t, l, 1)
		if err := p.db.Close(); err != nil {
			t.Fatal(err)
		}
		// The reservation needs no store; what was drawn under it does not leave without one.
		permit, err := l.Charge(t.Context(), 2, week)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := permit.Release(mechanism(t, 1), []int64{1, 2}); err != nil {
			t.Fatal(err)
		}
		if err := l.Store(t.Context(), permit, []byte{1}); err == nil {
			t.Fatal("stored in a closed store")
		}
		if permit, err := l.Charge(t.Context(), 3, week); err == nil || permit != nil {
			t.Fatal("wrote over a reservation that the store has not got")
		}
		_, err = l.Charge(t.Context(), 4, week)
		wantError(t, err, nil, "restart the agent")
		wantError(t, l.Err(), nil, "cannot write charge")
		l.Close()
		p.db = openStore(t, filepath.Join(p.dir, "store"))
		l = p.ledger(t)
		if got := l.Summary(0); got.Releases != 2 || got.LastEpoch != 2 {
			t.Errorf("the reservation was refunded: %+v", got)
		}
		if err := l.Err(); err != nil {
			t.Error(err)
		}
		_, err = l.Charge(t.Context(), 2, week)
		wantError(t, err, ErrCharged, "")
		report(t, l, 3)
	})
	t.Run("anchor", func(t *testing.T) {
		p := newPlace(t)
		l := p.ledger(t)
		report(t, l, 1)
		if err := l.anchor.Close(); err != nil {
			t.Fatal(err)
		}
		if permit, err := l.Charge(t.Context(), 2, week); err == nil || permit != nil {
			t.Fatal("permitted a draw without the anchor")
		}
		_, err := l.Charge(t.Context(), 3, week)
		wantError(t, err, nil, "restart the agent")
		p.reopenStore(t)
		l = p.ledger(t)
		if got := l.Summary(0); got.Releases != 1 {
			t.Errorf("%+v after a charge that reached nothing", got)
		}
		report(t, l, 2)
	})
	t.Run("anchor's sync", func(t *testing.T) {
		p := newPlace(t)
		l := p.ledger(t)
		report(t, l, 1)
		l.anchor.Close()
		file, err := os.OpenFile(p.anchor(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		l.anchor = anchor.On(unsyncable{file})
		if permit, err := l.Charge(t.Context(), 2, week); err == nil || permit != nil {
			t.Fatal("permitted a draw under a charge that may not be on flash")
		}
		_, err = l.Charge(t.Context(), 3, week)
		wantError(t, err, nil, "restart the agent")
		l.Close()
		l = p.ledger(t)
		if got := l.Summary(0); got.Releases != 2 || got.LastEpoch != 2 {
			t.Errorf("the charge that reached the anchor was refunded: %+v", got)
		}
		_, err = l.Charge(t.Context(), 2, week)
		wantError(t, err, ErrCharged, "")
		report(t, l, 3)
		l.Close()
		if got := p.ledger(t).Summary(0).Releases; got != 3 {
			t.Errorf("%d releases, want 3", got)
		}
	})
	t.Run("closed ledger", func(t *testing.T) {
		l := newPlace(t).ledger(t)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := l.Charge(t.Context(), 1, week)
		wantError(t, err, nil, "the ledger is closed")
	})
}

// unsyncable is a file that takes writes and cannot say that they are on flash.
type unsyncable struct{ anchor.File }

func (unsyncable) Sync() error { return errors.New("input/output error") }

// TestLedgerLaw drives a ledger through random work, crashes between any two steps and restarts, beside a model: an epoch is
// drawn at most once, charges only grow, what is stored stays (over a restart only that of the last charge), and the window never holds more than the limit.
func TestLedgerLaw(t *testing.T) {
	dir := t.TempDir()
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		p := &place{dir: filepath.Join(dir, fmt.Sprint(round))}
		if err := os.Mkdir(p.dir, 0o700); err != nil {
			t.Fatal(err)
		}
		p.db = openStore(t, filepath.Join(p.dir, "store"))
		defer func() { p.db.Close() }()
		price, err := week.NanoMu2()
		if err != nil {
			t.Fatal(err)
		}
		const most, window = 4, 10
		cfg := Config{Anchor: p.anchor(), Limit: most * price, Window: window}
		var l *Ledger
		open := func() {
			cfg.DB = p.db
			if l, err = New(cfg); err != nil {
				rt.Fatal(err)
			}
		}
		open()
		defer func() { l.Close() }()
		sealed := map[uint64][]byte{}
		restart := func(whole bool) {
			l.Close()
			if whole {
				p.reopenStore(t)
			}
			open()
			for e := range sealed {
				if e != l.Summary(0).LastEpoch { // freed when it opens
					delete(sealed, e)
				}
			}
		}

		g := mechanism(t, 1)
		charged, draws := map[uint64]bool{}, map[uint64]int{}
		last := uint64(0)
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			crash := rapid.SampledFrom([]string{"", "", "anchor", "charged", "drawn", "stored"}).Draw(rt, "crash")
			epoch := last + rapid.Uint64Range(0, 5).Draw(rt, "ahead") - min(last, rapid.Uint64Range(0, 2).Draw(rt, "back"))
			if crash == "anchor" {
				l.anchor.Close()
			}
			permit, err := l.Charge(context.Background(), epoch, week)
			inWindow := 0
			for e := range charged {
				if e <= epoch && epoch-e < window {
					inWindow++
				}
			}
			allowed := !charged[epoch] && (len(charged) == 0 || epoch > last) && inWindow < most
			if allowed && crash != "anchor" {
				charged[epoch], last = true, epoch
			}
			if want := allowed && crash != "anchor"; (err == nil) != want {
				rt.Fatalf("charging epoch %d with %d in the window: %v, want success %v", epoch, inWindow, err, want)
			}
			if err == nil && crash != "charged" {
				noised, err := permit.Release(g, []int64{1, 2})
				if err != nil {
					rt.Fatal(err)
				}
				draws[epoch]++
				if crash != "drawn" {
					sealed[epoch] = fmt.Append(nil, noised)
					if err := l.Store(context.Background(), permit, sealed[epoch]); err != nil {
						rt.Fatal(err)
					}
				}
			}
			if crash != "" {
				restart(rapid.IntRange(0, 7).Draw(rt, "whole") == 0)
			}
			if s := l.Summary(0); s.Releases != uint64(len(charged)) || s.Spent > cfg.Limit {
				rt.Fatalf("%+v with %d charged", s, len(charged))
			}
			for e := range charged {
				got, found, err := l.Stored(context.Background(), e)
				if err != nil || found != (sealed[e] != nil) || !bytes.Equal(got, sealed[e]) {
					rt.Fatalf("epoch %d: stored %q, %v, %v; want %q", e, got, found, err, sealed[e])
				}
				if draws[e] > 1 {
					rt.Fatalf("epoch %d was drawn %d times", e, draws[e])
				}
			}
		}
	})
}

// TestDamagedLogIsSeen flips a byte in Badger's write-ahead log, which Badger answers by silently forgetting what follows. One charge
// that is forgotten so is in the anchor; more are missed.
func TestDamagedLogIsSeen(t *testing.T) {
	for name, from := range map[string]uint64{"the last charge": 4, "two charges": 3} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			l := p.ledger(t)
			for epoch := range uint64(5) {
				report(t, l, epoch)
			}
			before := l.Summary(4)
			copied := p.killed(t)
			damageLog(t, copied, from)
			copied.db = openStore(t, filepath.Join(copied.dir, "store"))
			defer copied.db.Close()
			if _, found, err := chain.Read(copied.db, 4); found || err != nil {
				t.Fatalf("badger no longer forgets a damaged tail (%v, %v): this test is moot", found, err)
			}
			l, err := New(copied.config(t))
			if from == 3 {
				wantError(t, err, ErrCorrupt, "holds 3 charges and its anchor has seen 5")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if d := cmp.Diff(before, l.Summary(4)); d != "" {
				t.Errorf("budget was refunded: %s", d)
			}
			if _, found, err := l.Stored(t.Context(), 4); found || err != nil {
				t.Errorf("bytes that the store forgot: %v, %v", found, err)
			}
			_, err = l.Charge(t.Context(), 4, week)
			wantError(t, err, ErrCharged, "")
		})
	}
}

// killed returns a copy of the files as they are while the store is open, as a kill leaves them. Its store is not open.
func (p *place) killed(t testing.TB) *place {
	t.Helper()
	copied := &place{dir: t.TempDir()}
	if err := os.CopyFS(filepath.Join(copied.dir, "store"), os.DirFS(filepath.Join(p.dir, "store"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied.anchor(), readFile(t, p.anchor()), 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}

// damageLog flips a byte of a charge in the write-ahead log of a store that is not open.
func damageLog(t testing.TB, p *place, epoch uint64) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(p.dir, "store", "*.mem"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("write-ahead logs: %v, %v", logs, err)
	}
	b := readFile(t, logs[0])
	at := bytes.LastIndex(b, chain.Key(epoch))
	if at < 0 {
		t.Fatalf("charge %d is not in the log", epoch)
	}
	b[at+len(chain.Key(epoch))+20] ^= 1
	if err := os.WriteFile(logs[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// rewrite replaces or, where value is nil, deletes one key behind the ledger's back.
func rewrite(t testing.TB, db chain.DB, k, value []byte) {
	t.Helper()
	err := db.Update(func(txn *badger.Txn) error {
		if value == nil {
			return txn.Delete(k)
		}
		return txn.Set(k, value)
	})
	if err != nil {
		t.Fatal(err)
	}
}
