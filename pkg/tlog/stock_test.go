package tlog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"
	xtlog "golang.org/x/mod/sumdb/tlog"
)

// What stock clients of C2SP make of a log directory. Of C2SP's documents, tlog-tiles, tlog-checkpoint and signed-note hold for the log as
// Tessera writes it. Its checkpoint carries the log's signature alone; CosignCheckpoint makes the lines of tlog-cosignature with which those
// who watch the log say the same on a copy that is served. The protocol tlog-witness, by which a log would ask strangers for them, is not
// spoken.

// grown writes a log in two steps and returns its directory and the checkpoint after the first.
func grown(t *testing.T, k key, first, then uint64) (dir string, old []byte) {
	t.Helper()
	dir = t.TempDir()
	l := open(t, t.Context(), dir, k)
	fill(t, l, first)
	old, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, then)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, old
}

// TestTesseraClient has Tessera's client verify inclusion and consistency.
func TestTesseraClient(t *testing.T) {
	const first, size = 300, 600
	k := newKey(t, "log.example")
	dir, old := grown(t, k, first, size)
	v, err := note.NewVerifier(k.verifier)
	if err != nil {
		t.Fatal(err)
	}
	f := client.FileFetcher{Root: dir}
	c, _, _, err := client.FetchCheckpoint(t.Context(), f.ReadCheckpoint, v, v.Name())
	if err != nil {
		t.Fatal(err)
	}
	before, _, _, err := client.FetchCheckpoint(t.Context(), func(context.Context) ([]byte, error) { return old, nil }, v, v.Name())
	if err != nil {
		t.Fatal(err)
	}
	if c.Size != size || before.Size != first {
		t.Fatalf("checkpoints are of %d and %d entries", before.Size, c.Size)
	}
	b, err := client.NewProofBuilder(t.Context(), c.Size, f.ReadTile)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []uint64{0, 1, 255, 256, 511, 512, size - 1} {
		bundle, err := client.GetEntryBundle(t.Context(), f.ReadEntryBundle, i/256, c.Size)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bundle.Entries[i%256], entry(i)) {
			t.Errorf("entry %d is %q", i, bundle.Entries[i%256])
		}
		path, err := b.InclusionProof(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, i, c.Size, rfc6962.DefaultHasher.HashLeaf(entry(i)), path, c.Hash); err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, i, c.Size, rfc6962.DefaultHasher.HashLeaf(entry(i+1)), path, c.Hash); err == nil {
			t.Errorf("another entry is included as %d", i)
		}
	}
	path, err := b.ConsistencyProof(t.Context(), before.Size, c.Size)
	if err != nil {
		t.Fatal(err)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, before.Size, c.Size, path, before.Hash, c.Hash); err != nil {
		t.Error(err)
	}
	// Its tracker does the same whenever the log grows.
	tracker, err := client.NewLogStateTracker(t.Context(), f.ReadTile, old, v, v.Name(), client.UnilateralConsensus(f.ReadCheckpoint))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := tracker.Update(t.Context()); err != nil || tracker.Latest().Size != size {
		t.Errorf("the tracker came to %d entries: %v", tracker.Latest().Size, err)
	}
	// A log that rewrote its history under its own key is caught.
	fork := t.TempDir()
	l := open(t, t.Context(), fork, k)
	rewritten := [][]byte{[]byte("another first entry")}
	for n := uint64(1); n < size; n++ {
		rewritten = append(rewritten, entry(n))
	}
	if err := l.Append(t.Context(), 0, rewritten...); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	forked := client.FileFetcher{Root: fork}
	tracker, err = client.NewLogStateTracker(t.Context(), forked.ReadTile, old, v, v.Name(), client.UnilateralConsensus(forked.ReadCheckpoint))
	if err == nil {
		_, _, _, err = tracker.Update(t.Context())
	}
	if err == nil {
		t.Error("the tracker follows a rewritten log")
	}
}

// sumdbTiles gives the checksum database's client the tiles of a log: its own paths name the height, which C2SP's leave out.
type sumdbTiles struct{ dir string }

func (sumdbTiles) Height() int                      { return 8 }
func (sumdbTiles) SaveTiles([]xtlog.Tile, [][]byte) {}
func (s sumdbTiles) path(tile xtlog.Tile) string {
	return strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
}
func (s sumdbTiles) ReadTiles(tiles []xtlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		b, err := os.ReadFile(filepath.Join(s.dir, s.path(tile)))
		if err != nil {
			return nil, err
		}
		data = append(data, b)
	}
	return data, nil
}

// TestSumDB has the Go checksum database's client verify inclusion and consistency from the log's tiles.
func TestSumDB(t *testing.T) {
	const first, size = 300, 600
	k := newKey(t, "log.example")
	dir, old := grown(t, k, first, size)
	v, err := note.NewVerifier(k.verifier)
	if err != nil {
		t.Fatal(err)
	}
	tree := func(checkpoint []byte) (tree xtlog.Tree) {
		n, err := note.Open(checkpoint, note.VerifierList(v))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(n.Text, "\n") // origin, size, root
		if _, err := fmt.Sscan(lines[1], &tree.N); err != nil {
			t.Fatal(err)
		}
		if tree.Hash, err = xtlog.ParseHash(lines[2]); err != nil {
			t.Fatal(err)
		}
		return tree
	}
	now, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	before, after := tree(old), tree(now)
	if before.N != first || after.N != size {
		t.Fatalf("trees are of %d and %d entries", before.N, after.N)
	}
	reader := xtlog.TileHashReader(after, sumdbTiles{dir})
	for _, i := range []int64{0, 255, 256, 512, size - 1} {
		p, err := xtlog.ProveRecord(after.N, i, reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := xtlog.CheckRecord(p, after.N, after.Hash, i, xtlog.RecordHash(entry(uint64(i)))); err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
		if err := xtlog.CheckRecord(p, after.N, after.Hash, i, xtlog.RecordHash(entry(uint64(i+1)))); err == nil {
			t.Errorf("another entry is included as %d", i)
		}
	}
	p, err := xtlog.ProveTree(after.N, before.N, reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := xtlog.CheckTree(p, after.N, after.Hash, before.N, before.Hash); err != nil {
		t.Error(err)
	}
	before.Hash[0] ^= 1
	if err := xtlog.CheckTree(p, after.N, after.Hash, before.N, before.Hash); err == nil {
		t.Error("a tree with another root is a prefix")
	}
	// A tile that was changed is found by its hash.
	path := filepath.Join(dir, "tile/0/000")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[40] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := xtlog.ProveRecord(after.N, 0, xtlog.TileHashReader(after, sumdbTiles{dir})); err == nil {
		t.Error("a changed tile is believed")
	}
}

// TestCosign makes cosignatures that stock code verifies, and verifies them.
func TestCosign(t *testing.T) {
	k := newKey(t, "log.example")
	dir, checkpoint := grown(t, k, 3, 5)
	later, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 5)
	var cosigners []Cosigner
	var lines [][]byte
	var stock []note.Verifier
	for _, name := range []string{"one.example", "two.example"} {
		public, secret, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		line, err := CosignCheckpoint(secret, name, checkpoint, at)
		if err != nil {
			t.Fatal(err)
		}
		lines, cosigners = append(lines, line), append(cosigners, Cosigner{name, [32]byte(public)})
		text, err := note.NewEd25519VerifierKey(name, public)
		if err != nil {
			t.Fatal(err)
		}
		v, err := fnote.NewVerifierForCosignatureV1(text)
		if err != nil {
			t.Fatal(err)
		}
		stock = append(stock, v)
	}
	all := AddCosignatures(AddCosignatures(checkpoint, lines...), lines[1])
	if n := bytes.Count(all, lines[1]); n != 1 {
		t.Errorf("a cosignature that is added twice stands there %d times", n)
	}
	n, err := note.Open(all, note.VerifierList(stock...))
	if err != nil || len(n.Sigs) != 2 {
		t.Fatalf("stock code finds %d cosignatures: %v", len(n.Sigs), err)
	}
	if got, err := fnote.CoSigV1Timestamp(n.Sigs[0]); err != nil || !got.Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("stock code reads the time %v, %v", got, err)
	}
	c, by, err := VerifyCosignatures(k.verifier, cosigners, all)
	if err != nil {
		t.Fatal(err)
	}
	if c.Size != 3 || len(by) != 2 || by[0].Name != "one.example" || by[1].Name != "two.example" || !by[1].At.Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("checkpoint %v is cosigned by %v", c, by)
	}
	// A reader of the log takes the cosigned checkpoint as it is.
	if err := os.WriteFile(filepath.Join(dir, "checkpoint"), AddCosignatures(later, bytes.Clone(lines[0])), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(t, dir, k.verifier); err != nil || got != 5 {
		t.Errorf("a reader reads %d entries: %v", got, err)
	}
	if _, by, err := VerifyCosignatures(k.verifier, cosigners[1:], all); err != nil || len(by) != 1 {
		t.Errorf("a strange cosigner's line: by %v, %v", by, err)
	}
	long := bytes.Clone(all)
	for i := range 90 {
		_, secret, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		line, err := CosignCheckpoint(secret, strings.Repeat("x", 100)+fmt.Sprint(i), checkpoint, at)
		if err != nil {
			t.Fatal(err)
		}
		long = append(long, line...)
	}
	for what, bad := range map[string][]byte{
		"another checkpoint's line":                AddCosignatures(later, lines[0]),
		"another time":                             AddCosignatures(checkpoint, retimed(t, lines[0])),
		"a checkpoint without the log's signature": append([]byte(strings.SplitAfter(string(checkpoint), "\n\n")[0]), lines[0]...),
		"a line too many bytes":                    long,
		"no note":                                  []byte("log.example\n3\n"),
	} {
		if _, _, err := VerifyCosignatures(k.verifier, cosigners, bad); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
	_, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]func() ([]byte, error){
		"a name with a space":   func() ([]byte, error) { return CosignCheckpoint(secret, "a b", checkpoint, at) },
		"a name with a plus":    func() ([]byte, error) { return CosignCheckpoint(secret, "a+b", checkpoint, at) },
		"no name":               func() ([]byte, error) { return CosignCheckpoint(secret, "", checkpoint, at) },
		"what is no note":       func() ([]byte, error) { return CosignCheckpoint(secret, "a", []byte("rawstone"), at) },
		"what is no checkpoint": func() ([]byte, error) { return CosignCheckpoint(secret, "a", []byte("rawstone\nx\n\n"), at) },
		"a time before 1970":    func() ([]byte, error) { return CosignCheckpoint(secret, "a", checkpoint, time.Unix(-1, 0)) },
		"what is too long": func() ([]byte, error) {
			return CosignCheckpoint(secret, "a", append(checkpoint, make([]byte, MaxCheckpointLen)...), at)
		},
	} {
		if line, err := f(); err == nil {
			t.Errorf("%s is cosigned: %s", what, line)
		}
	}
}

// retimed changes the time in a line.
func retimed(t *testing.T, line []byte) []byte {
	t.Helper()
	fields := strings.Fields(string(line))
	b := []byte(fields[2])
	b[10] ^= 2 // of the time's bytes, 4 to 11
	return fmt.Appendf(nil, "— %s %s\n", fields[1], b)
}
