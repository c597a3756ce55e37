package anchor

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"rawstone/agent/internal/budget/internal/charge"
)

// TestKeepsTwo: after each charge the anchor has it and the one before, so that the chain may be at either.
func TestKeepsTwo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "anchor")
	a, err := Open(path, charge.Charge{})
	if err != nil {
		t.Fatal(err)
	}
	chain := []charge.Charge{{}}
	for epoch := range uint64(5) {
		last := chain[len(chain)-1]
		if got, err := a.Reconcile(last); err != nil || got != last {
			t.Fatalf("%+v, %v; want %+v", got, err, last)
		}
		next := charge.Charge{Epoch: epoch, Nano: 1}.Follow(last)
		if err := a.Set(next); err != nil {
			t.Fatal(err)
		}
		if got, err := a.Reconcile(last); err != nil || got != next {
			t.Fatalf("one behind: %+v, %v; want %+v", got, err, next)
		}
		if len(chain) > 1 {
			if _, err := a.Reconcile(chain[len(chain)-2]); !errors.Is(err, charge.ErrCorrupt) {
				t.Fatalf("two behind: %v", err)
			}
		}
		chain = append(chain, next)
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if a, err = Open(path, next); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(a.Close(), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, chain[1]); !errors.Is(err, charge.ErrCorrupt) {
		t.Errorf("an anchor that is gone: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(charge.Charge{Epoch: 2, MicroEpsilon: 1_000_000, Nano: 3}.Follow(charge.Charge{}).Encode())
	f.Add(charge.Charge{}.Encode())
	f.Add(make([]byte, charge.Size))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decode(b); err == nil && !bytes.Equal(c.Encode(), b) {
			t.Fatalf("%x decodes and encodes as %x", b, c.Encode())
		}
	})
}
