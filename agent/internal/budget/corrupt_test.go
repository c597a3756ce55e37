package budget

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestEveryByteCounts flips each byte of each charge, and of a stored report, in turn.
func TestEveryByteCounts(t *testing.T) {
	p := newPlace(t)
	l := p.ledger(t)
	for epoch := range uint64(3) {
		report(t, l, epoch)
	}
	for epoch := range uint64(3) {
		k := key(chargePrefix, epoch)
		good, _, err := get(p.db, k)
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
	k := key(storedPrefix, 1)
	good, _, err := get(p.db, k)
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
			rewrite(t, p.db, key(chargePrefix, 1), nil)
		}},
		"beginning missing": {"charge 2 does not follow charge 0", func(t *testing.T, p *place, _ [][]byte) {
			rewrite(t, p.db, key(chargePrefix, 0), nil)
		}},
		"end missing": {"holds 3 charges and its anchor has seen 4: it was truncated or rolled back", func(t *testing.T, p *place, _ [][]byte) {
			rewrite(t, p.db, key(chargePrefix, 3), nil)
		}},
		"store set aside": {"holds 0 charges and its anchor has seen 4", func(t *testing.T, p *place, _ [][]byte) {
			if err := p.db.DropAll(); err != nil {
				t.Fatal(err)
			}
		}},
		"charge moved": {"lies under another epoch's key", func(t *testing.T, p *place, r [][]byte) {
			rewrite(t, p.db, key(chargePrefix, 3), nil)
			rewrite(t, p.db, key(chargePrefix, 9), r[3])
		}},
		"charges exchanged": {"lies under another epoch's key", func(t *testing.T, p *place, r [][]byte) {
			rewrite(t, p.db, key(chargePrefix, 1), r[2])
			rewrite(t, p.db, key(chargePrefix, 2), r[1])
		}},
		"last made cheaper, hash and all": {"of another history", func(t *testing.T, p *place, r [][]byte) {
			c, err := decodeCharge(r[3])
			if err != nil {
				t.Fatal(err)
			}
			c.nano = 1
			c.hash = c.digest()
			rewrite(t, p.db, key(chargePrefix, 3), c.encode())
		}},
		"first made cheaper, hash and all": {"charge 2 does not follow charge 1", func(t *testing.T, p *place, r [][]byte) {
			c, err := decodeCharge(r[0])
			if err != nil {
				t.Fatal(err)
			}
			c.nano = 1
			c.hash = c.digest()
			rewrite(t, p.db, key(chargePrefix, 0), c.encode())
		}},
		"last renumbered, hash and all": {"charge 7 does not follow charge 3", func(t *testing.T, p *place, r [][]byte) {
			c, err := decodeCharge(r[3])
			if err != nil {
				t.Fatal(err)
			}
			c.index = 7
			c.hash = c.digest()
			rewrite(t, p.db, key(chargePrefix, 3), c.encode())
		}},
		"record longer": {"a record of 106 bytes, want 105", func(t *testing.T, p *place, r [][]byte) {
			rewrite(t, p.db, key(chargePrefix, 3), append(bytes.Clone(r[3]), 0))
		}},
		"record of another version": {"version 2, want 1", func(t *testing.T, p *place, r [][]byte) {
			bad := bytes.Clone(r[2])
			bad[0] = 2
			rewrite(t, p.db, key(chargePrefix, 2), bad)
		}},
		"record cut": {"a record of 10 bytes, want 105", func(t *testing.T, p *place, r [][]byte) {
			rewrite(t, p.db, key(chargePrefix, 2), r[2][:10])
		}},
		"anchor missing": {"is missing while the ledger holds 4 charges", func(t *testing.T, p *place, _ [][]byte) {
			if err := os.Remove(p.anchor()); err != nil {
				t.Fatal(err)
			}
		}},
		"anchor empty": {"has 0 bytes, want 8192", func(t *testing.T, p *place, _ [][]byte) {
			if err := os.Truncate(p.anchor(), 0); err != nil {
				t.Fatal(err)
			}
		}},
		"anchor of zeros": {"neither slot", func(t *testing.T, p *place, _ [][]byte) {
			if err := os.WriteFile(p.anchor(), make([]byte, anchorSize), 0o600); err != nil {
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
				b, _, err := get(p.db, key(chargePrefix, epoch))
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
	for n := range storedHead {
		b := bytes.Repeat([]byte{recordVersion}, n)
		sum := digest(storedDomain, b)
		rewrite(t, p.db, key(storedPrefix, 1), append(b, sum[:]...))
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
	foreign, _, err := get(q.db, key(storedPrefix, 1))
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, p.db, key(storedPrefix, 1), foreign)
	_, _, err = l.Stored(t.Context(), 1)
	wantError(t, err, ErrCorrupt, "belongs to another charge")
	rewrite(t, p.db, key(storedPrefix, 2), foreign)
	_, _, err = l.Stored(t.Context(), 2)
	wantError(t, err, ErrCorrupt, "belongs to another charge")
}

// TestTornAnchor: damage to one slot is what a power cut within its write leaves. The other slot is one charge behind and enough.
func TestTornAnchor(t *testing.T) {
	for name, damaged := range map[string]int64{"newest slot": 1, "older slot": 0} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			l := p.ledger(t)
			for epoch := range uint64(3) {
				report(t, l, epoch)
			}
			l.Close()
			file, err := os.OpenFile(p.anchor(), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if _, err := file.WriteAt([]byte("torn"), damaged*slotStride+20); err != nil {
				t.Fatal(err)
			}
			l = p.ledger(t)
			if got := l.Summary(0).Releases; got != 3 {
				t.Fatalf("%d releases, want 3", got)
			}
			report(t, l, 3)
			l.Close()
			p.ledger(t)
		})
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

func FuzzDecodeCharge(f *testing.F) {
	c := charge{index: 1, epoch: 2, cost: week, nano: 3}
	c.hash = c.digest()
	f.Add(c.encode())
	f.Add([]byte{})
	f.Add(make([]byte, recordSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCharge(b)
		if err == nil && !bytes.Equal(c.encode(), b) {
			t.Fatalf("%x decodes and encodes as %x", b, c.encode())
		}
	})
}
