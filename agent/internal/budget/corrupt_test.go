package budget

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rawstone/agent/internal/budget/internal/anchor"
	"rawstone/agent/internal/budget/internal/chain"
	"rawstone/agent/internal/budget/internal/charge"
)

// TestEveryByteCounts flips each byte of each charge, and of a stored report, in turn.
func TestEveryByteCounts(t *testing.T) {
	p := newPlace(t)
	l := p.ledger(t)
	for epoch := range uint64(3) {
		report(t, l, epoch)
	}
	for epoch := range uint64(3) {
		k := chain.Key(epoch)
		good, _, err := chain.Get(p.db, k)
		if err != nil {
			t.Fatal(err)
		}
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 0x10
			rewrite(t, p.db, k, bad)
			if _, err := New(p.config(t)); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("charge %d, byte %d: %v", epoch, i, err)
			}
		}
		if _, err := l.Charge(t.Context(), epoch, week); !errors.Is(err, ErrCorrupt) {
			t.Errorf("charging over a damaged charge: %v", err)
		}
		rewrite(t, p.db, k, good)
	}
	k := chain.StoredKey(1)
	good, _, err := chain.Get(p.db, k)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		rewrite(t, p.db, k, bad)
		if _, _, err := l.Stored(t.Context(), 1); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("stored report, byte %d: %v", i, err)
		}
	}
	for n := range good {
		rewrite(t, p.db, k, good[:n:n])
		if _, _, err := l.Stored(t.Context(), 1); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("stored report cut to %d bytes: %v", n, err)
		}
	}
	rewrite(t, p.db, k, good)
	p.ledger(t) // whole again
	report(t, l, 3)
}

func TestDamageIsNamed(t *testing.T) {
	const charges = 4
	type damage struct {
		want string
		do   func(t *testing.T, p *place, records [][]byte)
	}
	for name, d := range map[string]damage{
		"middle missing": {"charge 3 does not follow charge 1", func(t *testing.T, p *place, _ [][]byte) {
			rewrite(t, p.db, chain.Key(1), nil)
		}},
		"beginning missing": {"charge 2 does not follow charge 0", func(t *testing.T, p *place, _ [][]byte) {
			rewrite(t, p.db, chain.Key(0), nil)
		}},
		"end missing": {"holds 2 charges and its anchor has seen 4: it was truncated or rolled back", func(t *testing.T, p *place, _ [][]byte) {
			rewrite(t, p.db, chain.Key(3), nil)
			rewrite(t, p.db, chain.Key(2), nil)
		}},
		"store set aside": {"holds 0 charges and its anchor has seen 4", func(t *testing.T, p *place, _ [][]byte) {
			if err := p.db.DropAll(); err != nil {
				t.Fatal(err)
			}
		}},
		"charge moved": {"lies under another epoch's key", func(t *testing.T, p *place, r [][]byte) {
			rewrite(t, p.db, chain.Key(3), nil)
			rewrite(t, p.db, chain.Key(9), r[3])
		}},
		"charges exchanged": {"lies under another epoch's key", func(t *testing.T, p *place, r [][]byte) {
			rewrite(t, p.db, chain.Key(1), r[2])
			rewrite(t, p.db, chain.Key(2), r[1])
		}},
		"last made cheaper, hash and all": {"of another history", func(t *testing.T, p *place, r [][]byte) {
			c := decode(t, r[3])
			c.Nano = 1
			rewrite(t, p.db, chain.Key(3), c.Follow(decode(t, r[2])).Encode())
		}},
		"first made cheaper, hash and all": {"charge 2 does not follow charge 1", func(t *testing.T, p *place, r [][]byte) {
			c := decode(t, r[0])
			c.Nano = 1
			rewrite(t, p.db, chain.Key(0), c.Follow(charge.Charge{}).Encode())
		}},
		"last renumbered, hash and all": {"charge 7 does not follow charge 3", func(t *testing.T, p *place, r [][]byte) {
			c := decode(t, r[3])
			last := decode(t, r[2])
			last.Index = 6
			rewrite(t, p.db, chain.Key(3), c.Follow(last).Encode())
		}},
		"record longer": {"a record of 106 bytes, want 105", func(t *testing.T, p *place, r [][]byte) {
			rewrite(t, p.db, chain.Key(3), append(bytes.Clone(r[3]), 0))
		}},
		"record of another version": {"version 2, want 1", func(t *testing.T, p *place, r [][]byte) {
			bad := bytes.Clone(r[2])
			bad[0] = 2
			rewrite(t, p.db, chain.Key(2), bad)
		}},
		"record cut": {"a record of 10 bytes, want 105", func(t *testing.T, p *place, r [][]byte) {
			rewrite(t, p.db, chain.Key(2), r[2][:10])
		}},
		"anchor missing": {"is missing while the ledger holds 4 charges", func(t *testing.T, p *place, _ [][]byte) {
			if err := os.Remove(p.anchor()); err != nil {
				t.Fatal(err)
			}
		}},
		"anchor empty": {"has 0 bytes, want 16384", func(t *testing.T, p *place, _ [][]byte) {
			if err := os.Truncate(p.anchor(), 0); err != nil {
				t.Fatal(err)
			}
		}},
		"anchor of zeros": {"no copy", func(t *testing.T, p *place, _ [][]byte) {
			if err := os.WriteFile(p.anchor(), make([]byte, 4*anchor.PageSize), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		"anchor of a younger ledger": {"of another history", func(t *testing.T, p *place, _ [][]byte) {
			q := newPlace(t)
			report(t, q.ledger(t), 0)
			if err := os.WriteFile(p.anchor(), readFile(t, q.anchor()), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			l := p.ledger(t)
			var records [][]byte
			for epoch := range uint64(charges) {
				report(t, l, epoch)
				b, _, err := chain.Get(p.db, chain.Key(epoch))
				if err != nil {
					t.Fatal(err)
				}
				records = append(records, b)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			d.do(t, p, records)
			anchor, _ := os.ReadFile(p.anchor())
			_, err := New(p.config(t))
			wantError(t, err, ErrCorrupt, d.want)
			wantError(t, err, ErrCorrupt, "no report may be drawn until the vehicle is enrolled anew")
			if after, _ := os.ReadFile(p.anchor()); !bytes.Equal(anchor, after) {
				t.Error("refusing changed the anchor")
			}
		})
	}
}

// TestStoredTooShort: bytes that match their hash and are no record all the same.
func TestStoredTooShort(t *testing.T) {
	p := newPlace(t)
	l := p.ledger(t)
	report(t, l, 1)
	for n := range 1 + 32 {
		b := bytes.Repeat([]byte{charge.Version}, n)
		sum := charge.Digest("rawstone/budget/stored/v1\x00", b)
		rewrite(t, p.db, chain.StoredKey(1), append(b, sum[:]...))
		_, _, err := l.Stored(t.Context(), 1)
		wantError(t, err, ErrCorrupt, "does not match its hash")
	}
}

// TestStoredOfAnotherCharge: bytes are only those of the very charge they were drawn under.
func TestStoredOfAnotherCharge(t *testing.T) {
	p, q := newPlace(t), newPlace(t)
	l, m := p.ledger(t), q.ledger(t)
	report(t, l, 1)
	report(t, m, 0)
	report(t, m, 1)
	foreign, _, err := chain.Get(q.db, chain.StoredKey(1))
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, p.db, chain.StoredKey(1), foreign)
	_, _, err = l.Stored(t.Context(), 1)
	wantError(t, err, ErrCorrupt, "belongs to another charge")
	rewrite(t, p.db, chain.StoredKey(2), foreign)
	_, _, err = l.Stored(t.Context(), 2)
	wantError(t, err, ErrCorrupt, "belongs to another charge")
}

// TestTornAnchor: damage to one slot is what a power cut within its write leaves. The other slot is one charge behind and enough, as
// long as the store has the last charge.
func TestTornAnchor(t *testing.T) {
	for name, damaged := range map[string][]int64{
		"one copy of the newest": {2}, "other copy of the newest": {3}, "newest slot": {2, 3}, "older slot": {0, 1}, "one copy of each": {0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			l := p.ledger(t)
			for epoch := range uint64(3) {
				report(t, l, epoch)
			}
			l.Close()
			p.tear(t, damaged...)
			l = p.ledger(t)
			if got := l.Summary(0).Releases; got != 3 {
				t.Fatalf("%d releases, want 3", got)
			}
			// The damaged slot was written again: the other one may go now.
			l.Close()
			p.tear(t, 0, 1)
			l = p.ledger(t)
			report(t, l, 3)
			l.Close()
			p.ledger(t)
		})
	}
}

// TestAnchorOfAnEarlierEpoch: a reservation that follows by its hash and not in time is not one of this ledger.
func TestAnchorOfAnEarlierEpoch(t *testing.T) {
	p := newPlace(t)
	l := p.ledger(t)
	report(t, l, 7)
	forged := charge.Charge{Epoch: 7, MicroEpsilon: 1, PicoDelta: 1, Nano: 1}.Follow(l.last)
	if err := errors.Join(l.anchor.Set(forged), l.Close()); err != nil {
		t.Fatal(err)
	}
	_, err := New(p.config(t))
	wantError(t, err, ErrCorrupt, "holds 1 charges and its anchor has seen 2")
}

// TestReservation: a charge that the store never saw is in the anchor, twice, and one bad page gives nothing back.
func TestReservation(t *testing.T) {
	for name, damaged := range map[string][]int64{"whole": nil, "one copy": {2}, "other copy": {3}, "older slot": {0, 1}} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			l := p.ledger(t)
			report(t, l, 0)
			report(t, l, 1)
			if _, err := l.Charge(t.Context(), 2, week); err != nil {
				t.Fatal(err)
			}
			before := l.Summary(2)
			if _, found, err := chain.Read(p.db, 2); found || err != nil {
				t.Fatalf("the store has the charge already (%v, %v): this test is moot", found, err)
			}
			_, err := l.Charge(t.Context(), 2, week)
			wantError(t, err, ErrCharged, "")
			l.Close()
			p.tear(t, damaged...)
			l = p.ledger(t)
			if d := cmp.Diff(before, l.Summary(2)); d != "" {
				t.Errorf("the charge was refunded: %s", d)
			}
			_, err = l.Charge(t.Context(), 2, week)
			wantError(t, err, ErrCharged, "")
			if _, found, err := chain.Read(p.db, 2); !found || err != nil {
				t.Errorf("the chain was not completed: %v, %v", found, err)
			}
			report(t, l, 3)
			l.Close()
			p.ledger(t)
		})
	}
}

// TestReservationsOverlap: storing an older report does not pass a later reservation off as being in the store.
func TestReservationsOverlap(t *testing.T) {
	p := newPlace(t)
	l := p.ledger(t)
	var permits []*Permit
	for epoch := range uint64(2) {
		permit, err := l.Charge(t.Context(), epoch, week)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := permit.Release(mechanism(t, 1), []int64{1, 2}); err != nil {
			t.Fatal(err)
		}
		permits = append(permits, permit)
	}
	if err := l.Store(t.Context(), permits[0], []byte{1}); err != nil {
		t.Fatal(err)
	}
	report(t, l, 2)
	l.Close()
	l = p.ledger(t)
	if s := l.Summary(0); s.Releases != 3 || s.LastEpoch != 2 {
		t.Errorf("%+v", s)
	}
	for epoch, want := range []bool{false, false, true} {
		if _, found, err := l.Stored(t.Context(), uint64(epoch)); err != nil || found != want {
			t.Errorf("epoch %d: %v, %v", epoch, found, err)
		}
	}
}

// tear damages pages of the anchor.
func (p *place) tear(t testing.TB, pages ...int64) {
	t.Helper()
	file, err := os.OpenFile(p.anchor(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, page := range pages {
		if _, err := file.WriteAt([]byte("torn"), page*anchor.PageSize+20); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAnchorIsMadeWhole: a leftover of an interrupted creation does not stop the first start.
func TestAnchorIsMadeWhole(t *testing.T) {
	p := newPlace(t)
	if err := os.WriteFile(p.anchor()+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.ledger(t)
	if left, _ := filepath.Glob(p.anchor() + ".new"); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if info, err := os.Stat(p.anchor()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("anchor: %v, %v", info, err)
	}
}

func decode(t testing.TB, b []byte) charge.Charge {
	t.Helper()
	c, err := charge.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
