package counter

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"rawstone/agent/internal/budget/internal/chain"
	"rawstone/agent/internal/budget/internal/charge"
	"rawstone/agent/internal/flash"
)

// memory is a counter that stands at n.
type memory struct{ n uint64 }

func (m *memory) Value() (uint64, bool, error) { return m.n, m.n == 0, nil }

func (m *memory) Increment() error {
	m.n++
	return nil
}

// TestSettle holds what is recorded against what the counter and the chain say, at each edge.
func TestSettle(t *testing.T) {
	db, err := flash.Open(flash.Config{Dir: filepath.Join(t.TempDir(), "store"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, c := range map[string]struct {
		recorded binding
		last, n  uint64
		after    uint64 // the count afterwards
		older    bool
		corrupt  bool
	}{
		"agrees":                          {recorded: binding{true, 3, 43}, last: 7, n: 47, after: 47},
		"agrees at the beginning":         {recorded: binding{true, 3, 43}, last: 3, n: 43, after: 43},
		"one behind":                      {recorded: binding{true, 3, 43}, last: 7, n: 46, after: 47},
		"one behind the first":            {recorded: binding{true, 3, 43}, last: 4, n: 43, after: 44},
		"below what it began with":        {recorded: binding{true, 3, 43}, last: 3, n: 42, after: 42, corrupt: true},
		"two behind":                      {recorded: binding{true, 3, 43}, last: 7, n: 45, after: 45, corrupt: true},
		"ahead":                           {recorded: binding{true, 3, 43}, last: 7, n: 48, after: 48, older: true},
		"made anew":                       {recorded: binding{true, 3, 43}, last: 7, n: 0, after: 0, corrupt: true},
		"chain shorter than at beginning": {recorded: binding{true, 5, 45}, last: 3, n: 45, after: 45, corrupt: true},
		"about to begin":                  {recorded: binding{index: 3}, last: 3, n: 0, after: 1},
		"began and died":                  {recorded: binding{index: 3}, last: 3, n: 41, after: 41},
		"charged before it began":         {recorded: binding{index: 3}, last: 4, n: 41, after: 41, corrupt: true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.recorded.write(db); err != nil {
				t.Fatal(err)
			}
			m := &memory{c.n}
			older, err := Settle(db, m, c.last)
			if (older != "") != c.older || errors.Is(err, charge.ErrCorrupt) != c.corrupt || err != nil && !c.corrupt || m.n != c.after {
				t.Fatalf("older %q, error %v, count %d", older, err, m.n)
			}
			if c.older || c.corrupt {
				return
			}
			// Whatever was caught up with is settled, and the next charge counts from there.
			for last := c.last; last < c.last+2; last++ {
				if older, err := Settle(db, m, last); older != "" || err != nil || m.n != c.after+last-c.last {
					t.Errorf("charge %d: older %q, error %v, count %d", last, older, err, m.n)
				}
			}
		})
	}
	if err := chain.Put(db, []byte(Key), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Settle(db, &memory{1}, 1); !errors.Is(err, charge.ErrCorrupt) {
		t.Errorf("an empty record: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(binding{true, 3, 43}.encode())
	f.Add(binding{index: 3}.encode())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, e []byte) {
		if b, err := decode(e); err == nil && !bytes.Equal(b.encode(), e) {
			t.Fatalf("%x decodes and encodes as %x", e, b.encode())
		}
	})
}
