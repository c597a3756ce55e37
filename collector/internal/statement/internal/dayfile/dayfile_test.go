package dayfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"rawstone/pkg/reward"
	"rawstone/pkg/wire"
)

func newShelf(t *testing.T, cfg Config) *Shelf {
	t.Helper()
	cfg.Dir, cfg.Logger = t.TempDir(), slog.New(slog.DiscardHandler)
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func pseudonym(i int) (h wire.Hash) {
	binary.BigEndian.PutUint64(h[:], uint64(i)*0x9e3779b97f4a7c15)
	h[31] = 1
	return h
}

// newDay returns a day of count leaves, of which the weights are 1, 2, ….
func newDay(t testing.TB, number uint32, count int) (Day, []reward.Leaf, *reward.Tree) {
	t.Helper()
	leaves := make([]reward.Leaf, count)
	for i := range leaves {
		leaves[i] = reward.Leaf{Pseudonym: pseudonym(i), Weight: uint64(i + 1)}
	}
	d := Day{Number: number, Order: wire.Hash{9, byte(number)}}
	ordered := reward.Order(d.Order, leaves)
	tree, err := reward.NewTree(ordered)
	if err != nil {
		t.Fatal(err)
	}
	d.Root = tree.Root()
	return d, ordered, tree
}

func of(leaves []reward.Leaf) func(context.Context) ([]reward.Leaf, error) {
	return func(context.Context) ([]reward.Leaf, error) { return leaves, nil }
}

func never(context.Context) ([]reward.Leaf, error) { return nil, errors.New("leaves are asked for") }

// TestFind: a place out of a file is that in the tree, for every leaf of trees of all shapes, and what is no leaf has none.
func TestFind(t *testing.T) {
	s := newShelf(t, Config{})
	for number, count := range []int{1, 2, 3, chunkLeaves - 1, chunkLeaves, chunkLeaves + 1, 2*chunkLeaves + 3, 3 * chunkLeaves, 5*chunkLeaves + 129} {
		d, ordered, tree := newDay(t, uint32(number), count)
		if p, err := s.Find(t.Context(), d, wire.Hash{1}, of(ordered)); p != nil || err != nil {
			t.Fatalf("%d leaves: %+v, %v", count, p, err)
		}
		for i, l := range ordered {
			p, err := s.Find(t.Context(), d, l.Pseudonym, never)
			if err != nil || p == nil {
				t.Fatalf("leaf %d of %d: %v, %v", i, count, p, err)
			}
			want, err := tree.Path(i)
			if err != nil {
				t.Fatal(err)
			}
			if p.Weight != l.Weight || p.Interval != tree.Interval(i) || p.Path.Index != want.Index || !slices.Equal(p.Path.Steps, want.Steps) {
				t.Fatalf("leaf %d of %d: %+v, want %+v", i, count, p, want)
			}
		}
		for i := range 50 {
			if p, err := s.Find(t.Context(), d, wire.Hash{byte(i), 7}, never); p != nil || err != nil {
				t.Fatalf("none of %d leaves: %+v, %v", count, p, err)
			}
		}
	}
	if p, err := s.Find(t.Context(), Day{}, wire.Hash{1}, never); p != nil || err != nil {
		t.Errorf("an empty day: %+v, %v", p, err)
	}
}

// TestDamage: whatever byte of a file is another, and wherever it ends, it is made anew, and nobody is told anything else.
func TestDamage(t *testing.T) {
	s := newShelf(t, Config{})
	d, ordered, _ := newDay(t, 7, 2*chunkLeaves+3)
	at := 2*chunkLeaves + 1 // in the last chunk
	want, err := s.Find(t.Context(), d, ordered[at].Pseudonym, of(ordered))
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(s.path(7))
	if err != nil {
		t.Fatal(err)
	}
	other := func(i int) (b []byte) { b = bytes.Clone(good); b[i] ^= 4; return b }
	length := (len(good) - headerLen) / 3
	swapped := slices.Concat(good[:headerLen], good[headerLen+length:headerLen+2*length], good[headerLen:headerLen+length], good[headerLen+2*length:])
	bad := [][]byte{nil, good[:10], good[:headerLen], good[:len(good)-1], swapped}
	for i := 0; i < headerLen; i++ {
		bad = append(bad, other(i))
	}
	for i := headerLen + 2*length; i < len(good); i += 97 {
		bad = append(bad, other(i))
	}
	for i, b := range bad {
		if err := os.WriteFile(s.path(7), b, 0o600); err != nil {
			t.Fatal(err)
		}
		made := 0
		p, err := s.Find(t.Context(), d, ordered[at].Pseudonym, func(context.Context) ([]reward.Leaf, error) { made++; return ordered, nil })
		if err != nil || made != 1 || p.Interval != want.Interval {
			t.Errorf("case %d: made %d times: %+v, %v", i, made, p, err)
		}
		if now, err := os.ReadFile(s.path(7)); err != nil || !bytes.Equal(now, good) {
			t.Fatalf("case %d: %d bytes, want %d, %v", i, len(now), len(good), err)
		}
	}
	// A file whose checksums are right and whose leaves are not is found out by the root, also by who is left out.
	_, _, tree := newDay(t, 7, len(ordered))
	forged := slices.Clone(ordered)
	for _, change := range []func(*reward.Leaf){func(l *reward.Leaf) { l.Weight++ }, func(l *reward.Leaf) { l.Pseudonym[31]++ }} {
		change(&forged[at])
		var b bytes.Buffer
		if err := write(&b, &d, forged, tree); err != nil {
			t.Fatal(err)
		}
		if p, err := find(bytes.NewReader(b.Bytes()), &d, ordered[at].Pseudonym); !errors.Is(err, errDamaged) {
			t.Errorf("%+v, %v", p, err)
		}
	}
	// A chunk in another's place leads nobody astray.
	if p, err := find(bytes.NewReader(swapped), &d, ordered[chunkLeaves/2].Pseudonym); !errors.Is(err, errDamaged) {
		t.Errorf("%+v, %v", p, err)
	}
	if err := os.Remove(s.path(7)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(t.Context(), d, ordered[at].Pseudonym, of(forged)); err == nil || errors.Is(err, errDamaged) {
		t.Error("leaves that do not make the root are taken")
	}
}

// TestBounds: the oldest days go, the newest stays, and a day that is not kept is found all the same.
func TestBounds(t *testing.T) {
	s := newShelf(t, Config{Days: 3})
	kept := func() (names []string) {
		list, err := os.ReadDir(s.cfg.Dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			names = append(names, e.Name())
		}
		return names
	}
	for _, n := range []uint32{8, 9, 10, 11, 3} {
		d, ordered, _ := newDay(t, n, 5)
		if p, err := s.Find(t.Context(), d, ordered[4].Pseudonym, of(ordered)); err != nil || p == nil {
			t.Errorf("day %d: %v, %v", n, p, err)
		}
	}
	if got := fmt.Sprint(kept()); got != "[10.tree 11.tree 9.tree]" {
		t.Error(got)
	}
	info, err := os.Stat(s.path(9))
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.Bytes = 2 * info.Size()
	d, ordered, _ := newDay(t, 12, 5)
	if _, err := s.Find(t.Context(), d, wire.Hash{1}, of(ordered)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(kept()); got != "[11.tree 12.tree]" {
		t.Error(got)
	}
	s.cfg.Bytes = 1
	if err := s.prune(); err != nil || fmt.Sprint(kept()) != "[12.tree]" {
		t.Error(kept(), err)
	}
	left := filepath.Join(s.cfg.Dir, "123"+partial)
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.cfg); err != nil || fmt.Sprint(kept()) != "[12.tree]" {
		t.Error(kept(), err)
	}
	for _, bad := range []Config{{}, {Dir: s.cfg.Dir}, {Dir: s.cfg.Dir, Logger: s.cfg.Logger, Days: -1}, {Dir: left + "\x00", Logger: s.cfg.Logger}} {
		if _, err := Open(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestTogether: several that miss a day make it once; who gives up leaves the day to the others, and what was begun is finished.
func TestTogether(t *testing.T) {
	s := newShelf(t, Config{})
	d, ordered, _ := newDay(t, 7, 9)
	ctx, cancel := context.WithCancel(t.Context())
	begun, end, made := make(chan struct{}), make(chan struct{}), 0
	var group sync.WaitGroup
	leaves := func(ctx context.Context) ([]reward.Leaf, error) {
		made++
		close(begun)
		<-end
		return ordered, ctx.Err()
	}
	group.Go(func() {
		if p, err := s.Find(ctx, d, ordered[0].Pseudonym, leaves); err != nil || p == nil {
			t.Errorf("the first: %v, %v", p, err)
		}
	})
	<-begun
	cancel()
	if _, err := s.Find(ctx, d, ordered[1].Pseudonym, leaves); !errors.Is(err, context.Canceled) {
		t.Errorf("who gives up: %v", err)
	}
	for i := range 3 {
		group.Go(func() {
			if p, err := s.Find(t.Context(), d, ordered[i].Pseudonym, leaves); err != nil || p == nil {
				t.Errorf("another: %v, %v", p, err)
			}
		})
	}
	close(end)
	group.Wait()
	if made != 1 {
		t.Errorf("made %d times", made)
	}
}

// BenchmarkFind compares reading a place with making the tree for it.
func BenchmarkFind(b *testing.B) {
	s, err := Open(Config{Dir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	d, ordered, _ := newDay(b, 7, 1_000_000)
	if _, err := s.Find(b.Context(), d, wire.Hash{1}, of(ordered)); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(s.path(7))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(info.Size())/float64(len(ordered)), "bytes/leaf")
	for i := 0; b.Loop(); i++ {
		if p, err := s.Find(b.Context(), d, ordered[i*7919%len(ordered)].Pseudonym, never); err != nil || p == nil {
			b.Fatal(p, err)
		}
	}
}
