package backup

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"rawstone/pkg/tlog"
)

// TestLedger copies a log of several tiles that has grown meanwhile, and makes it anew.
func TestLedger(t *testing.T) {
	secret, verifier, err := tlog.GenerateKey("log.example")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l, err := tlog.Open(t.Context(), tlog.Config{Dir: dir, Signer: signer, Verifier: verifier, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	fill := func(n uint64) tlog.Checkpoint {
		var b [][]byte
		for i := l.Size(); i < n; i++ {
			b = append(b, fmt.Appendf(nil, "entry %d", i))
		}
		if err := l.Append(t.Context(), l.Size(), b...); err != nil {
			t.Fatal(err)
		}
		c, err := l.Checkpoint()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const size = 600 // two full tiles, a part of a third, a part of one above them
	want := fill(size)
	old, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	fill(800)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// The backup has seen the old checkpoint; then the parts of tiles that are whole by now went.
	if err := os.WriteFile(filepath.Join(dir, "checkpoint"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"tile/0/002.p", "tile/entries/002.p"} {
		if _, err := os.Stat(filepath.Join(dir, part, "88")); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, part)); err != nil {
			t.Fatal(err)
		}
	}
	b := &Backup{dir: t.TempDir()}
	if err := copyLedger(t.Context(), &b.Manifest, Config{Dir: b.dir, Place: Place{Ledger: dir}, LogKey: verifier}); err != nil {
		t.Fatal(err)
	}
	if b.Entries != size || len(b.Files) != 8 { // the checkpoint, three bundles, three tiles and one above
		t.Errorf("%d entries in %v", b.Entries, b.Files)
	}
	made := filepath.Join(t.TempDir(), "ledger")
	if err := b.rebuild(t.Context(), made, signer, verifier, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	r, err := tlog.OpenReader(made, verifier)
	if err != nil || r.Checkpoint() != want {
		t.Fatalf("%+v, %v, want %+v", r, err, want)
	}
	n := uint64(0)
	for e, err := range r.Entries(t.Context()) {
		if err != nil || string(e) != fmt.Sprintf("entry %d", n) {
			t.Fatalf("entry %d is %q, %v", n, e, err)
		}
		n++
	}
}
