package archive

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"rawstone/collector/internal/disclosure"
	"rawstone/collector/internal/erasure"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

// largest is what an account of a lifetime has: forget.MaxEntries entries, and leaves of as many days as a program may have.
const largest, lifetime = 1 << 17, 40_000

// whole returns an erasure of n credits, which fillPlain puts into a copy.
func whole(n, days int) Erasure {
	var e Erasure
	for i := range n {
		e.Numbers = append(e.Numbers, uint64(i))
	}
	for i := range days {
		l := erasure.Leaf{Day: uint32(i), Leaf: reward.Leaf{Weight: uint64(i + 1)}}
		binary.BigEndian.PutUint32(l.Pseudonym[:], uint32(i))
		e.Leaves = append(e.Leaves, l)
	}
	e.Keys = []ledger.ErasedKey{{Mark: wire.Hash{7}, Since: uint64(n), Cut: 9}}
	return e
}

func fillPlain(t *testing.T, a *Archive, n int) {
	t.Helper()
	body, err := codec.Encode(ledger.Credit{Blind: wire.Hash{1}, Km: 40, Effective: 3})
	if err != nil {
		t.Fatal(err)
	}
	entries := make([]disclosure.Entry, n)
	for i := range entries {
		// Each two credits are of one span.
		entries[i] = disclosure.Entry{Number: uint64(i), Type: ledger.TypeCredit, Body: body, Claim: binary.BigEndian.AppendUint64(nil, uint64(i))}
		if err := entries[i].Open(&ledger.CreditOpening{Account: "anna", ECU: wire.KeyID{1}, ToSeq: uint64(i / 2)}); err != nil {
			t.Fatal(err)
		}
	}
	// All at once: more than may wait.
	if err := errors.Join(a.Append(entries...), a.Wait(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// erased looks at what is left of an erasure.
func erased(t *testing.T, a *Archive, e *Erasure) {
	t.Helper()
	for _, n := range e.Numbers {
		got, err := a.Entry(n)
		if err != nil || !got.Erased || !got.Seen || len(got.Opening)+len(got.Claim) > 0 {
			t.Fatalf("entry %d is %+v, %v", n, got, err)
		}
		if n%4096 == 1 { // its claim knows both credits of the span
			credits, err := a.Span(wire.ID(binary.BigEndian.AppendUint64(nil, n)))
			if err != nil || len(credits) != 2 {
				t.Fatalf("the claim of entry %d has %d credits, %v", n, len(credits), err)
			}
		}
	}
	leaves := 0
	keys := make(map[wire.Hash]ledger.ErasedKey)
	if err := errors.Join(a.Leaves(func(erasure.Leaf) { leaves++ }), a.ErasedKeys(func(k ledger.ErasedKey) { keys[k.Mark] = k })); err != nil {
		t.Fatal(err)
	}
	if leaves != len(e.Leaves) || len(keys) != len(e.Keys) {
		t.Errorf("%d leaves and %d keys, want %d and %d", leaves, len(keys), len(e.Leaves), len(e.Keys))
	}
	for _, k := range e.Keys {
		if keys[k.Mark] != k {
			t.Errorf("key %+v, want %+v", keys[k.Mark], k)
		}
	}
	if _, err := os.Stat(filepath.Join(a.c.Dir, erasingFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the erasure is not over: %v", err)
	}
}

// TestEraseLargest erases as much as an account may have, in a copy whose transactions hold far less.
func TestEraseLargest(t *testing.T) {
	n := largest
	if testing.Short() {
		n = 20_000
	}
	ctx, abandon := context.WithCancel(context.Background())
	a, err := Open(ctx, config(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { abandon(); a.Close() }()
	fillPlain(t, a, n)
	e := whole(n, lifetime)
	if err := a.Erase(e); err != nil {
		t.Fatal(err)
	}
	erased(t, a, &e)
}

// TestEraseResumed breaks an erasure off at each of its steps: the next life finishes it.
func TestEraseResumed(t *testing.T) {
	for name, steps := range map[string]func(*Archive, *Erasure) error{
		"at its beginning": func(*Archive, *Erasure) error { return nil },
		"after the leaves": func(a *Archive, e *Erasure) error { return a.keepErased(e) },
		"in the middle": func(a *Archive, e *Erasure) error {
			return errors.Join(a.keepErased(e), a.destroy(e.Numbers[:1500]))
		},
		"before its end": func(a *Archive, e *Erasure) error {
			return errors.Join(a.keepErased(e), a.destroy(e.Numbers))
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			a := open(t, c)
			fillPlain(t, a, 3000)
			e := whole(3000, 10)
			text, err := json.Marshal(e)
			if err := errors.Join(err, Keep(filepath.Join(c.Dir, erasingFile), text), steps(a, &e), a.Close()); err != nil {
				t.Fatal(err)
			}
			a = open(t, c)
			defer a.Close()
			erased(t, a, &e)
			// What is kept of a key is joined with what a later erasure says of it.
			again := Erasure{Keys: []ledger.ErasedKey{{Mark: wire.Hash{7}, Since: 4000, Cut: 8, Revoked: true}}}
			if err := a.Erase(again); err != nil {
				t.Fatal(err)
			}
			e.Keys[0] = ledger.ErasedKey{Mark: wire.Hash{7}, Since: 4000, Cut: 9, Revoked: true}
			erased(t, a, &e)
		})
	}
	c := config(t)
	a := open(t, c)
	if err := errors.Join(Keep(filepath.Join(c.Dir, erasingFile), []byte("{")), a.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), c); err == nil {
		t.Error("a damaged record of an erasure is passed over")
	}
}

func TestMaxLeaves(t *testing.T) {
	if erasure.MaxLeaves != disclosure.MaxLeaves {
		t.Errorf("%d leaves may be erased, validators are told %d", erasure.MaxLeaves, disclosure.MaxLeaves)
	}
}
