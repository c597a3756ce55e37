package tally

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rawstone/pkg/wire"
)

func parts() (out []Part) {
	for _, l := range wire.Layouts() {
		out = append(out, Part{l.Family, l.Offset, l.Offset + l.Len})
	}
	return out
}

func empty(t testing.TB) *Tally {
	t.Helper()
	out, err := New(parts())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func position() Position {
	return Position{Charter: wire.Hash{1}, Cursor: 77, Mark: wire.Hash{2}, Today: 900, Ahead: true, Erasures: 3}
}

func text(t testing.TB, of *Tally) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := of.Write(&b, position()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type report struct {
	day      uint32
	model    string
	families wire.Family
	vector   []int64
}

func reports(t *rapid.T) []report {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) report {
		return report{
			rapid.Uint32Range(100, 104).Draw(t, "day"), rapid.SampledFrom([]string{"", "A", "B 2"}).Draw(t, "model"),
			wire.Family(rapid.Uint16Range(1, uint16(wire.AllFamilies)).Draw(t, "families")),
			rapid.SliceOfN(rapid.Int64Range(-1<<20, 1<<20), wire.VectorLen, wire.VectorLen).Draw(t, "vector"),
		}
	}), 1, 12).Draw(t, "reports")
}

// TestAnyOrderGivesTheSameFile: in one piece, backwards in two, and through a file.
func TestAnyOrderGivesTheSameFile(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		list := reports(rt)
		whole, first, second := empty(t), empty(t), empty(t)
		add := func(to *Tally, r report) {
			if err := to.Add(r.day, r.model, r.families, r.vector); err != nil {
				rt.Fatal(err)
			}
		}
		cut := rapid.IntRange(0, len(list)).Draw(rt, "cut")
		for i := range list {
			add(whole, list[i])
			if back := list[len(list)-1-i]; i < cut {
				add(first, back)
			} else {
				add(second, back)
			}
		}
		if err := first.Merge(second); err != nil {
			rt.Fatal(err)
		}
		want := text(t, whole)
		if !bytes.Equal(want, text(t, first)) {
			rt.Fatal("the order shows")
		}
		path := filepath.Join(dir, "f")
		if err := whole.Save(path, position()); err != nil {
			rt.Fatal(err)
		}
		loaded, p, err := Load(path, parts())
		if err != nil || p != position() || !bytes.Equal(want, text(t, loaded)) {
			rt.Fatalf("read back: %+v, %v", p, err)
		}
		// What was pooled goes on to be as it was.
		if _, err := whole.Pool(0, 1000, nil); err != nil || !bytes.Equal(want, text(t, whole)) {
			rt.Fatal("pooling changed the tally")
		}
	})
}

// TestPool: the days and models that are asked for, and no others.
func TestPool(t *testing.T) {
	all := empty(t)
	for day := uint32(10); day < 14; day++ {
		for _, model := range []string{"", "A", "B"} {
			v := make([]int64, wire.VectorLen)
			v[0], v[24] = int64(day), 1
			families := wire.FamilyHours
			if model == "A" {
				families |= wire.FamilySpeed
			}
			if err := all.Add(day, model, families, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	c, err := all.Pool(11, 12, map[string]bool{"A": true, "B": true})
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := c.Moments[0].Total(0); err != nil || c.N(0) != 4 || sum != 46 || c.N(1) != 2 || c.Both != 2 || c.Moments[2] != nil || c.N(2) != 0 {
		t.Errorf("%d and %d reports, both %d, sum %g (%v)", c.N(0), c.N(1), c.Both, sum, err)
	}
	want := Counts{Days: 2, Models: map[string][]uint64{"": {2, 0, 0, 0, 0}, "A": {2, 2, 0, 0, 0}, "B": {2, 0, 0, 0, 0}}}
	if d := cmp.Diff(want, all.Count(12, 99)); d != "" {
		t.Error(d)
	}
	all.Forget(13)
	if all.Days() != 1 || all.Count(0, 99).Days != 1 {
		t.Errorf("%d days after forgetting", all.Days())
	}
}

// TestModelsAreBounded: those beyond count for the fleet and are not told apart, whatever order they come in and also from a file.
func TestModelsAreBounded(t *testing.T) {
	all := empty(t)
	v := make([]int64, wire.VectorLen)
	for i := range MaxModels + 9 {
		if err := all.Add(uint32(i%3), fmt.Sprint("M", i), wire.FamilyHours, v); err != nil {
			t.Fatal(err)
		}
	}
	loaded, _, err := Read(bytes.NewReader(text(t, all)), parts())
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []*Tally{all, loaded} {
		c := one.Count(0, 9)
		if len(c.Models) != MaxModels+1 || c.Models[Other][0] != 9 {
			t.Errorf("%d models, %v others", len(c.Models), c.Models[Other])
		}
		fresh := one.Empty()
		if err := fresh.Add(1, "new", wire.FamilyHours, v); err != nil {
			t.Fatal(err)
		}
		if err := one.Merge(fresh); err != nil {
			t.Fatal(err)
		}
		if n := one.Count(0, 9).Models[Other][0]; n != 10 {
			t.Errorf("%d others after one more", n)
		}
	}
}

// TestDamage: no byte of a file may be another, and none may lack.
func TestDamage(t *testing.T) {
	all := empty(t)
	v := make([]int64, wire.VectorLen)
	for i := range 3 {
		if err := all.Add(uint32(i), "A", wire.AllFamilies, v); err != nil {
			t.Fatal(err)
		}
	}
	good := text(t, all)
	refused := func(b []byte) {
		t.Helper()
		if _, _, err := Read(bytes.NewReader(b), parts()); !errors.Is(err, errDamaged) {
			t.Fatalf("got %v", err)
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1 << (i % 8)
		refused(b)
	}
	for i := 0; i < len(good); i += 7 {
		refused(good[:i])
	}
	refused(append(bytes.Clone(good), 0))
	if _, _, err := Read(bytes.NewReader(good), parts()[:4]); err == nil {
		t.Error("a tally of other parts is read")
	}
	dir := t.TempDir()
	if _, _, err := Load(dir, parts()); !errors.Is(err, errDamaged) {
		t.Errorf("a directory: %v", err)
	}
	if _, _, err := Load(filepath.Join(dir, "none"), parts()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := all.Save(filepath.Join(dir, "none", "f"), position()); err == nil {
		t.Error("saved into no directory")
	}
	// What a crash left behind is in nobody's way.
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path+".new", make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := all.Save(path, position()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, good) {
		t.Errorf("the file is another (%v)", err)
	}
}

func TestRefusals(t *testing.T) {
	for _, bad := range [][]Part{nil, {{1, 3, 3}}, {{1, -1, 3}}, {{1, 0, 65}}, make([]Part, 9)} {
		if _, err := New(bad); err == nil {
			t.Errorf("made of %v", bad)
		}
	}
	all := empty(t)
	if all.Add(1, "A", wire.AllFamilies, make([]int64, 63)) == nil {
		t.Error("63 values")
	}
	if all.Add(1, "A", 1<<9, make([]int64, wire.VectorLen)) == nil || all.Days() != 0 {
		t.Error("a report of no family")
	}
	one, err := New(parts()[:1])
	if err != nil {
		t.Fatal(err)
	}
	if all.Merge(one) == nil {
		t.Error("tallies of other parts merge")
	}
}

// FuzzRead: what is accepted, under a checksum that holds, is what Write writes.
func FuzzRead(f *testing.F) {
	all := empty(f)
	rng := rand.New(rand.NewPCG(1, 2))
	body := func() []byte { b := text(f, all); return b[:len(b)-sha256.Size] }
	f.Add(body())
	for i := range 5 {
		v := make([]int64, wire.VectorLen)
		for j := range v {
			v[j] = rng.Int64N(2000) - 500
		}
		if err := all.Add(uint32(i/2), []string{"", "A", Other}[i%3], wire.Family(1+i*5), v); err != nil {
			f.Fatal(err)
		}
		f.Add(body())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := sha256.Sum256(b)
		b = append(bytes.Clone(b), sum[:]...)
		got, p, err := Read(bytes.NewReader(b), parts())
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := got.Write(&again, p); err != nil || !bytes.Equal(b, again.Bytes()) {
			t.Fatalf("accepted in another encoding (%v)", err)
		}
	})
}

// BenchmarkAdd tallies reports of all families.
func BenchmarkAdd(b *testing.B) {
	all := empty(b)
	v := make([]int64, wire.VectorLen)
	for i := range v {
		v[i] = int64(i*37) - 500
	}
	for b.Loop() {
		if err := all.Add(7, "A", wire.AllFamilies, v); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
}
