package budget

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/budget/internal/chain"
	"rawstone/agent/internal/budget/internal/counter"
)

// open opens a place's ledger with a counter.
func (p *place) open(t testing.TB, c Counter) (*Ledger, error) {
	t.Helper()
	cfg := p.config(t)
	cfg.Counter = c
	l, err := New(cfg)
	if err == nil {
		t.Cleanup(func() { l.Close() })
	}
	return l, err
}

// restore opens the copy of a place that killed has made.
func (p *place) restore(t testing.TB) *place {
	t.Helper()
	p.db = openStore(t, filepath.Join(p.dir, "store"))
	t.Cleanup(func() { p.db.Close() })
	return p
}

// refuses holds that a ledger charges nothing and says why, now, after it is opened again, and after its store is, too.
func refuses(t *testing.T, p *place, l *Ledger, c Counter, text string) {
	t.Helper()
	for _, again := range []func(){func() {}, func() { l.Close() }, func() { l.Close(); p.reopenStore(t) }} {
		again()
		if l.failed != nil {
			var err error
			if l, err = p.open(t, c); err != nil {
				t.Fatal(err)
			}
		}
		before := l.Summary(0)
		wantError(t, l.Err(), ErrRolledBack, text)
		wantError(t, l.Err(), ErrRolledBack, "no report may be drawn until the vehicle is enrolled anew")
		permit, err := l.Charge(t.Context(), 1<<30, week)
		wantError(t, err, ErrRolledBack, text)
		if permit != nil || errors.Is(err, ErrCorrupt) {
			t.Fatalf("permit %v, %v", permit, err)
		}
		wantError(t, l.Compare(0, [32]byte{}), ErrRolledBack, text)
		if err := l.MarkRolledBack("for another reason"); err != nil {
			t.Fatal(err)
		}
		wantError(t, l.Err(), ErrRolledBack, text)
		if d := cmp.Diff(before, l.Summary(0)); d != "" {
			t.Errorf("refusing changed the ledger: %s", d)
		}
	}
}

func TestCompareAgrees(t *testing.T) {
	p := newPlace(t)
	l := p.ledger(t)
	if err := l.Compare(0, [32]byte{}); err != nil {
		t.Errorf("an empty ledger and no record: %v", err)
	}
	heads := map[uint64][32]byte{}
	for i := range uint64(20) { // 20 epochs of 30 days are more than a window
		permit, err := l.Charge(t.Context(), 30*i, week)
		if err != nil {
			t.Fatal(err)
		}
		heads[permit.Index()] = permit.Hash()
		if s := l.Summary(0); s.Head != permit.Hash() || s.Releases != permit.Index() || permit.Index() != i+1 {
			t.Fatalf("permit %d %x and %+v", permit.Index(), permit.Hash(), s)
		}
	}
	if l.recent[0].Index == 1 {
		t.Fatal("all charges are within the window: this test is moot")
	}
	for range 2 {
		for index, head := range heads {
			if err := l.Compare(index, head); err != nil {
				t.Errorf("record of charge %d: %v", index, err)
			}
		}
		if err := errors.Join(l.Compare(0, [32]byte{}), l.Err()); err != nil {
			t.Error(err)
		}
		l.Close()
		l = p.ledger(t)
	}
	report(t, l, 1<<20)
}

func TestCompareDisagrees(t *testing.T) {
	for name, c := range map[string]struct {
		index uint64
		want  string
	}{
		"beyond the last": {21, "it holds 20 charges and reports came with 21"},
		"far beyond":      {1 << 63, "it holds 20 charges and reports came with"},
		"another last":    {20, "its charge 20 is another than a report came with"},
		"another first":   {1, "its charge 1 is another than a report came with"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			l := p.ledger(t)
			for i := range uint64(20) {
				if _, err := l.Charge(t.Context(), 30*i, week); err != nil {
					t.Fatal(err)
				}
			}
			head, err := l.hashAt(min(c.index, 20))
			if err != nil {
				t.Fatal(err)
			}
			head[31] ^= 1
			wantError(t, l.Compare(c.index, head), ErrRolledBack, c.want)
			refuses(t, p, l, nil, c.want)
		})
	}
}

// TestCompareCannot: what cannot be compared is not refused for ever.
func TestCompareCannot(t *testing.T) {
	p := newPlace(t)
	l := p.ledger(t)
	for i := range uint64(20) {
		if _, err := l.Charge(t.Context(), 30*i, week); err != nil {
			t.Fatal(err)
		}
	}
	first, _, err := chain.Get(p.db, chain.Key(0))
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, p.db, chain.Key(0), nil)
	wantError(t, l.Compare(1, decode(t, first).Hash), ErrCorrupt, "charge 1 is gone")
	rewrite(t, p.db, chain.Key(0), first)
	if err := errors.Join(l.Compare(1, decode(t, first).Hash), l.Err()); err != nil {
		t.Error(err)
	}
	// A mark that cannot be written stops the ledger, and says that it did not last.
	if err := p.db.Close(); err != nil {
		t.Fatal(err)
	}
	err = l.Compare(99, [32]byte{})
	wantError(t, err, nil, "cannot record that the ledger was rolled back (it holds 20 charges and reports came with 99)")
	if errors.Is(err, ErrRolledBack) {
		t.Error("says that it was recorded")
	}
	_, err = l.Charge(t.Context(), 1<<20, week)
	wantError(t, err, nil, "restart the agent")
	wantError(t, l.MarkRolledBack("by the collector"), nil, "cannot mark budget ledger")
	p.db = openStore(t, filepath.Join(p.dir, "store"))
}

// TestRefusedByTheCollector: a receipt can say it, too.
func TestRefusedByTheCollector(t *testing.T) {
	p := newPlace(t)
	l := p.ledger(t)
	sealed := report(t, l, 1)
	why := "the collector holds a later charge" + strings.Repeat(", é", 400)
	if err := l.MarkRolledBack(why); err != nil {
		t.Fatal(err)
	}
	refuses(t, p, l, nil, "the collector holds a later charge, é")
	l = p.ledger(t)
	if got, found, err := l.Stored(t.Context(), 1); err != nil || !found || !bytes.Equal(got, sealed) {
		t.Errorf("what was drawn before is %x, %v, %v", got, found, err)
	}
	if err := l.Drop(t.Context(), 1); err != nil {
		t.Error(err)
	}
}

// TestRestoredCopy puts an older copy of store and anchor in the place of newer ones. Both hold together; only what is outside tells.
func TestRestoredCopy(t *testing.T) {
	for name, charged := range map[string]bool{"as it was": false, "gone on with": true} {
		t.Run("record/"+name, func(t *testing.T) {
			p := newPlace(t)
			l := p.ledger(t)
			report(t, l, 1)
			report(t, l, 8)
			older := p.killed(t)
			report(t, l, 15)
			s := l.Summary(0) // the collector's record of the last report
			q := older.restore(t)
			l, err := q.open(t, nil)
			if err != nil {
				t.Fatalf("the copy is not whole: %v", err)
			}
			want := "it holds 2 charges and reports came with 3"
			if charged {
				report(t, l, 16)
				want = "its charge 3 is another than a report came with"
			}
			wantError(t, l.Compare(s.Releases, s.Head), ErrRolledBack, want)
			refuses(t, q, l, nil, want)
		})
		t.Run("counter/"+name, func(t *testing.T) {
			p, c := newPlace(t), newCounter()
			l, err := p.open(t, c)
			if err != nil {
				t.Fatal(err)
			}
			report(t, l, 1)
			report(t, l, 8)
			older := p.killed(t)
			report(t, l, 15)
			q := older.restore(t)
			if charged {
				// On another unit without the counter it is refused, so it can only be gone on with as if there never had been one.
				_, err := q.open(t, nil)
				wantError(t, err, nil, "configure the same one as before")
				rewrite(t, q.db, []byte(counter.Key), nil)
				l, err := q.open(t, nil)
				if err != nil {
					t.Fatal(err)
				}
				report(t, l, 16)
				l.Close()
				l, err = q.open(t, c)
				if err != nil {
					t.Fatal(err)
				}
				refuses(t, q, l, c, "its counter of charges was used before")
				return
			}
			l, err = q.open(t, c)
			if err != nil {
				t.Fatalf("the copy is not whole: %v", err)
			}
			refuses(t, q, l, c, "its counter has seen 1 charges beyond its last")
			if c.n != 44 {
				t.Errorf("refusing changed the counter to %d", c.n)
			}
		})
	}
	t.Run("counter/empty", func(t *testing.T) {
		c := newCounter()
		l, err := newPlace(t).open(t, c)
		if err != nil {
			t.Fatal(err)
		}
		report(t, l, 1)
		q := newPlace(t)
		if l, err = q.open(t, c); err != nil {
			t.Fatal(err)
		}
		refuses(t, q, l, c, "its counter of charges was used before and the ledger knows nothing of that")
	})
}
