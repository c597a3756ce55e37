package tlog

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	xtlog "golang.org/x/mod/sumdb/tlog"
)

type key struct {
	signer   note.Signer
	verifier string
}

func newKey(t testing.TB, name string) key {
	t.Helper()
	secret, verifier, err := GenerateKey(name)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := Verifier(secret); err != nil || v != verifier {
		t.Fatalf("verifier of the secret is %q, %v, want %q", v, err, verifier)
	}
	s, err := note.NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	return key{s, verifier}
}

func open(t testing.TB, ctx context.Context, dir string, k key) *Log {
	t.Helper()
	l, err := Open(ctx, Config{Dir: dir, Signer: k.signer, Verifier: k.verifier, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func entry(i uint64) []byte { return fmt.Appendf(nil, "entry %d", i) }

func fill(t testing.TB, l *Log, n uint64) {
	t.Helper()
	var b [][]byte
	for i := l.Size(); i < n; i++ {
		b = append(b, entry(i))
	}
	if err := l.Append(t.Context(), l.Size(), b...); err != nil {
		t.Fatal(err)
	}
}

// readAll returns how many entries were read before the iteration ended.
func readAll(t *testing.T, dir, verifier string) (n uint64, err error) {
	t.Helper()
	r, err := OpenReader(dir, verifier)
	if err != nil {
		return 0, err
	}
	for e, err := range r.Entries(t.Context()) {
		if err != nil {
			return n, err
		}
		if !bytes.Equal(e, entry(n)) {
			t.Fatalf("entry %d is %q", n, e)
		}
		n++
	}
	if n != r.Checkpoint().Size {
		t.Fatalf("read %d entries of %d", n, r.Checkpoint().Size)
	}
	return n, nil
}

func TestAppendAndRead(t *testing.T) {
	dir, k := t.TempDir(), newKey(t, "log.example")
	l := open(t, t.Context(), dir, k)
	if _, err := FirstOf(t.Context(), Dir(dir)); err == nil {
		t.Error("the empty log has a first entry")
	}
	for _, n := range []uint64{0, 1, 2, 255, 256, 257, 700} {
		fill(t, l, n)
		if c, err := l.Checkpoint(); err != nil || c.Size != n || l.Size() != n {
			t.Fatalf("checkpoint covers %d entries, %v, and the log has %d, want %d", c.Size, err, l.Size(), n)
		}
		if got, err := readAll(t, dir, k.verifier); err != nil || got != n {
			t.Fatalf("read %d entries, %v, want %d", got, err, n)
		}
	}
	if first, err := FirstOf(t.Context(), Dir(dir)); err != nil || !bytes.Equal(first, entry(0)) {
		t.Errorf("first entry is %q, %v", first, err)
	}
	if err := l.Append(t.Context(), 699, entry(699)); err == nil || !strings.Contains(err.Error(), "goes on with 700") {
		t.Errorf("a number that is taken: %v", err)
	}
	if err := l.Append(t.Context(), 700, make([]byte, MaxEntryLen+1)); err == nil {
		t.Error("an entry that the format cannot hold is accepted")
	}
	if _, err := Open(t.Context(), Config{Dir: dir, Signer: k.signer, Verifier: k.verifier, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second writer: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, t.Context(), dir, k)
	fill(t, l, 701)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(t, dir, k.verifier); err != nil || got != 701 {
		t.Fatalf("read %d entries, %v, want 701", got, err)
	}
	if _, err := OpenReader(dir, newKey(t, "log.example").verifier); err == nil {
		t.Error("a checkpoint of another key is accepted by the reader")
	}
	other := newKey(t, "log.example")
	if _, err := Open(t.Context(), Config{Dir: dir, Signer: other.signer, Verifier: other.verifier, Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a checkpoint of another key is accepted by the writer")
	}
	if _, err := Open(t.Context(), Config{Dir: t.TempDir(), Signer: k.signer, Verifier: other.verifier, Logger: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a verifier that does not belong to the signer is accepted")
	}
}

// TestAbandoned cancels the log's context in the middle, as a crash would end it, and opens it again.
func TestAbandoned(t *testing.T) {
	dir, k := t.TempDir(), newKey(t, "log.example")
	ctx, cancel := context.WithCancel(t.Context())
	l := open(t, ctx, dir, k)
	fill(t, l, 10)
	cancel()
	short, stop := context.WithCancel(t.Context())
	stop()
	if err := l.Append(short, 10, entry(10)); err == nil {
		t.Error("an append to an abandoned log succeeds")
	}
	if err := l.Append(t.Context(), 10, entry(10)); err == nil || !strings.Contains(err.Error(), "reopen") {
		t.Errorf("an append after a failed one: %v", err)
	}
	l.lock.Close()
	l = open(t, t.Context(), dir, k)
	fill(t, l, 20)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := readAll(t, dir, k.verifier); err != nil || n != 20 {
		t.Errorf("read %d entries, %v, want 20", n, err)
	}
}

// TestCloseWaits gives up an append and closes: what was under way is in the log, and nothing is written afterwards.
func TestCloseWaits(t *testing.T) {
	dir, k := t.TempDir(), newKey(t, "log.example")
	l := open(t, t.Context(), dir, k)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var b [][]byte
	for i := range uint64(300) {
		b = append(b, entry(i))
	}
	if err := l.Append(ctx, 0, b...); err == nil {
		t.Error("an append without time succeeds")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, t.Context(), dir, k)
	if n := l.Size(); n != 300 {
		t.Errorf("the log has %d entries, want 300", n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDamage flips a bit of, shortens and removes every file that the checkpoint implies: each is found, and named.
func TestDamage(t *testing.T) {
	dir, k := t.TempDir(), newKey(t, "log.example")
	l := open(t, t.Context(), dir, k)
	fill(t, l, 600) // two full tiles and a part of a third, and a part of a tile above them
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, f := range []string{"tile/entries/000", "tile/entries/001", "tile/entries/002.p/88", "tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2", "checkpoint"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	damages := map[string]func(path string, b []byte) error{
		"flipped": func(path string, b []byte) error {
			b[len(b)/2] ^= 0x10
			return os.WriteFile(path, b, 0o600)
		},
		"shortened": func(path string, b []byte) error { return os.WriteFile(path, b[:len(b)-1], 0o600) },
		"removed":   func(path string, b []byte) error { return os.Remove(path) },
	}
	for _, f := range files {
		for what, damage := range damages {
			copied := t.TempDir()
			if err := os.CopyFS(copied, skipDot{os.DirFS(dir)}); err != nil {
				t.Fatal(err)
			}
			if _, err := readAll(t, copied, k.verifier); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(copied, f)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(path, b); err != nil {
				t.Fatal(err)
			}
			_, err = readAllQuiet(t, copied, k.verifier)
			name := f
			if what == "flipped" && strings.Contains(f, "entries") {
				name = "entry " // an entry's bytes are not the ones that were hashed
			}
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s %s: %v", f, what, err)
			}
		}
	}
}

// TestRewritten puts other entries with their tiles under an old checkpoint, and changes one letter of one entry.
func TestRewritten(t *testing.T) {
	dir, other, k := t.TempDir(), t.TempDir(), newKey(t, "log.example")
	l := open(t, t.Context(), dir, k)
	fill(t, l, 5)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, t.Context(), other, newKey(t, "log.example"))
	if err := l.Append(t.Context(), 0, entry(0), entry(1), entry(2), entry(3), entry(7)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, "checkpoint"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := readAllQuiet(t, other, k.verifier); n != 5 || err == nil || !strings.Contains(err.Error(), "its checkpoint says") {
		t.Errorf("a rewritten log: %d entries, %v", n, err)
	}
	bundle := filepath.Join(dir, "tile/entries/000.p/5")
	b, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1-10] ^= 1 // the digit of the last but one
	if err := os.WriteFile(bundle, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := readAllQuiet(t, dir, k.verifier); n != 3 || err == nil || !strings.Contains(err.Error(), "cannot accept entry 3:") {
		t.Errorf("a changed letter: %d entries, %v", n, err)
	}
}

// readAllQuiet does not compare the entries, which may be damaged.
func readAllQuiet(t *testing.T, dir, verifier string) (n int, err error) {
	r, err := OpenReader(dir, verifier)
	if err != nil {
		return 0, err
	}
	for _, err := range r.Entries(t.Context()) {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// skipDot hides the writer's own files.
type skipDot struct{ fs.FS }

func (s skipDot) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(s.FS, name)
	var kept []fs.DirEntry
	for _, e := range all {
		if !strings.HasPrefix(e.Name(), ".") {
			kept = append(kept, e)
		}
	}
	return kept, err
}

// TestStockClient checks the log's tree with the Go checksum database's own code.
func TestStockClient(t *testing.T) {
	dir, k := t.TempDir(), newKey(t, "log.example")
	l := open(t, t.Context(), dir, k)
	fill(t, l, 300)
	c, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var stored []xtlog.Hash
	reader := xtlog.HashReaderFunc(func(indexes []int64) (out []xtlog.Hash, err error) {
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for i := range uint64(300) {
		h, err := xtlog.StoredHashes(int64(i), entry(i), reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, h...)
	}
	want, err := xtlog.TreeHash(300, reader)
	if err != nil {
		t.Fatal(err)
	}
	if [32]byte(want) != [32]byte(c.Root) {
		t.Errorf("root is %s, the checksum database's code says %x", c.Root, want)
	}
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, rest, err := split(b)
		if err == nil && 2+len(e)+len(rest) != len(b) {
			t.Errorf("split %d bytes into %d and %d", len(b), len(e), len(rest))
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l := open(b, b.Context(), b.TempDir(), newKey(b, "log.example"))
			for b.Loop() {
				fill(b, l, l.Size()+uint64(n))
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
