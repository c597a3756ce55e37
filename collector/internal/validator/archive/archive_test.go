package archive

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"rawstone/collector/internal/disclosure"
	"rawstone/pkg/codec"
	"rawstone/pkg/ledger"
	"rawstone/pkg/tlog"
	"rawstone/pkg/wire"
)

func config(t *testing.T) Config {
	t.Helper()
	secret, verifier, err := tlog.GenerateKey("validator.example")
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	return Config{Dir: filepath.Join(t.TempDir(), "state"), Signer: s, Verifier: verifier, Logger: slog.New(slog.DiscardHandler)}
}

func open(t *testing.T, c Config) *Archive {
	t.Helper()
	a, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// entry is a credit with a claim of its own; every second is for the claim of the one before, too.
func entry(t *testing.T, n uint64) disclosure.Entry {
	t.Helper()
	body, err := codec.Encode(ledger.Credit{Blind: wire.Hash{byte(n)}, Km: uint32(n), Effective: 3})
	if err != nil {
		t.Fatal(err)
	}
	e := disclosure.Entry{Number: n, Type: ledger.TypeCredit, Body: body, Claim: fmt.Append(nil, "claim ", n/2)}
	// Every third claim's spans are those of the claim before.
	claim := n / 2
	if claim%3 == 2 {
		claim--
	}
	if err := e.Open(&ledger.CreditOpening{ECU: wire.KeyID{byte(claim)}, ToSeq: claim}); err != nil {
		t.Fatal(err)
	}
	return e
}

func fill(t *testing.T, a *Archive, from, to uint64) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := a.Append(entry(t, n)); err != nil {
			t.Fatal(err)
		}
	}
}

func holds(t *testing.T, a *Archive, want uint64) {
	t.Helper()
	n := uint64(0)
	err := a.Each(t.Context(), func(e disclosure.Entry) error {
		if w := entry(t, n); string(e.Claim) != string(w.Claim) || string(e.Opening) != string(w.Opening) || string(e.Body) != string(w.Body) {
			t.Errorf("entry %d is %+v", n, e)
		}
		n++
		return nil
	})
	if err != nil || n != want || a.Size() != want || a.Durable() != want {
		t.Errorf("%d entries, %v; log of %d, %d on disk, want %d", n, err, a.Size(), a.Durable(), want)
	}
}

func TestArchive(t *testing.T) {
	c := config(t)
	a := open(t, c)
	holds(t, a, 0)
	fill(t, a, 0, 700)
	if err := a.Append(entry(t, 701)); err == nil {
		t.Error("a gap is accepted")
	}
	if err := a.Published(t.Context()); err != nil {
		t.Fatal(err)
	}
	holds(t, a, 700)
	roots := make(map[uint64]wire.Hash)
	for _, n := range []uint64{1, 2, 255, 256, 257, 699, 700} {
		var err error
		if roots[n], err = a.Root(n); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []uint64{0, 701} {
		if _, err := a.Root(n); err == nil {
			t.Errorf("there is a root of %d entries", n)
		}
	}
	fill(t, a, 700, 800)
	if err := a.Close(); err != nil { // writes what waits
		t.Fatal(err)
	}
	a = open(t, c)
	holds(t, a, 800)
	for n, want := range roots {
		if got, err := a.Root(n); err != nil || got != want {
			t.Errorf("root of %d entries is %s, %v, was %s", n, got, err, want)
		}
	}
	credits, err := a.Claimed(wire.ID(fmt.Append(nil, "claim ", 3)))
	if err != nil || len(credits) != 2 || credits[0].Km != 6 || credits[1].Km != 7 {
		t.Errorf("a claim's credits are %v, %v", credits, err)
	}
	for claim, want := range map[int][]uint32{3: {6, 7}, 4: {8, 9, 10, 11}, 5: {8, 9, 10, 11}} {
		credits, err := a.Span(wire.Hash{1}, wire.ID(fmt.Append(nil, "claim ", claim)))
		var km []uint32
		for _, c := range credits {
			km = append(km, c.Km)
		}
		if err != nil || !slices.Equal(km, want) {
			t.Errorf("the credits of the span of claim %d are %v, %v, want %v", claim, km, err, want)
		}
	}
	if credits, err := a.Span(wire.Hash{1}); err != nil || len(credits) != 0 {
		t.Errorf("credits of no span: %v, %v", credits, err)
	}
	if credits, err := a.Claimed(wire.Hash{1}); err != nil || len(credits) != 0 {
		t.Errorf("credits of no claim: %v, %v", credits, err)
	}
	text, err := a.Checkpoint()
	if err != nil || !strings.HasPrefix(string(text), "validator.example\n800\n"+base64.StdEncoding.EncodeToString(rootOf(t, a, 800))) {
		t.Errorf("checkpoint %s, %v", text, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

func rootOf(t *testing.T, a *Archive, n uint64) []byte {
	r, err := a.Root(n)
	if err != nil {
		t.Fatal(err)
	}
	return r[:]
}

// TestCrash loses the log's part of what was on disk, as a crash between the two does: the log gets it, and no number is left out.
func TestCrash(t *testing.T) {
	c := config(t)
	a := open(t, c)
	fill(t, a, 0, 300)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	before := c.Dir + "-before"
	if err := os.CopyFS(before, os.DirFS(filepath.Join(c.Dir, logDir))); err != nil {
		t.Fatal(err)
	}
	a = open(t, c)
	fill(t, a, 300, 2000)
	want := func() wire.Hash {
		if err := a.Published(t.Context()); err != nil {
			t.Fatal(err)
		}
		return wire.Hash(rootOf(t, a, 2000))
	}()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(c.Dir, logDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(c.Dir, logDir), os.DirFS(before)); err != nil {
		t.Fatal(err)
	}
	a = open(t, c)
	holds(t, a, 2000)
	if got := wire.Hash(rootOf(t, a, 2000)); got != want {
		t.Errorf("root %s, want %s", got, want)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	// A log of another copy does not fit what is kept beside it.
	other := config(t)
	other.Signer, other.Verifier = c.Signer, c.Verifier
	b := open(t, other)
	if err := b.Append(disclosure.Entry{Type: ledger.TypeProgram, Body: []byte("other")}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(c.Dir, logDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(c.Dir, logDir), os.DirFS(filepath.Join(other.Dir, logDir))); err != nil {
		t.Fatal(err)
	}
	a = open(t, c)
	if err := a.Each(t.Context(), func(disclosure.Entry) error { return nil }); err == nil || !strings.Contains(err.Error(), "is not the log's") {
		t.Errorf("a foreign log: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}
