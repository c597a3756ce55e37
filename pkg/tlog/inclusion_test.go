package tlog

import (
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// TestInclusion proves entries of a log in trees of its own size and of sizes that it had before, on both sides of the tiles' edges.
func TestInclusion(t *testing.T) {
	const total = 700
	dir, k := t.TempDir(), newKey(t, "example/log")
	l := open(t, t.Context(), dir, k)
	defer l.Close()
	for _, n := range []uint64{1, 300, total} {
		fill(t, l, n)
	}
	r, err := OpenReader(dir, k.verifier)
	if err != nil {
		t.Fatal(err)
	}
	tree := (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	for size := uint64(1); size <= total; size++ {
		if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(entry(size-1)), nil); err != nil {
			t.Fatal(err)
		}
		if edge := size % 256; edge > 2 && edge < 255 && size != 300 && size != total {
			continue
		}
		root, err := tree.GetRootHash(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, number := range []uint64{0, size / 3, 255, 256, 511, 512, size - 1} {
			path, err := r.Inclusion(number, size)
			if number >= size {
				if err == nil {
					t.Errorf("entry %d is proven in a tree of %d", number, size)
				}
				continue
			}
			if err != nil {
				t.Fatalf("entry %d in a tree of %d: %v", number, size, err)
			}
			list := make([][]byte, len(path))
			for i := range path {
				list[i] = path[i][:]
			}
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, number, size, rfc6962.DefaultHasher.HashLeaf(entry(number)), list, root); err != nil {
				t.Fatalf("entry %d in a tree of %d: %v", number, size, err)
			}
		}
	}
	if _, err := r.Inclusion(0, total+1); err == nil {
		t.Error("a tree is proven that the log does not have yet")
	}
	// The log goes on: a reader's partial tiles may be gone, the full ones have what it needs.
	fill(t, l, 1100)
	if _, err := r.Inclusion(total-1, total); err != nil {
		t.Error(err)
	}
}
